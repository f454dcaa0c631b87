"""Dispatch: sends each node of a graph run to its lane.

Plain functions go to the workers, which use the fast lane if possible. Coroutine functions, and
calls that need resources, have a timeout or ask for the event loop, get an asyncio task each. Work
whose attempt failed rests until the next one, without holding a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from cascade.runtime.attempts import NodeCall
from cascade.runtime.execution.cancels import Cancels
from cascade.runtime.execution.placement import belongs_on_loop
from cascade.runtime.graph_path.admission import Admission
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.segments import Item, Queued, Segment, Work
from cascade.runtime.graph_path.worker_pool import ByPriority, WorkerPool
from cascade.runtime.run import Run
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation


class Dispatch:
    """Sends nodes of one run to their lanes. Made and stopped in the event loop's thread.

    Args:
        run: Provides threads and the loop.
        lock: Guards the bookkeeping of the lanes.
        drain: The body of a worker's thread, see ``WorkerPool``.
        on_loop: Handles an item in the loop's thread; ends with ``left``.
        on_idle: Called in the loop's thread when there may be no work left.
        on_refusal: Called in the loop's thread when the executor lends no thread.
        first: Returns the first segment, if nodes go by the priorities of their segment; None if
            any order will do.
    """

    def __init__(
        self,
        run: Run,
        lock: BiasedLock,
        drain: Callable[[WorkerPool], None],
        on_loop: Callable[[Item], Coroutine[Any, Any, None]],
        on_idle: Callable[[], None],
        on_refusal: Callable[[BaseException], None],
        first: Callable[[], Segment | None] | None,
    ) -> None:
        self._run = run
        self._lock = lock
        self._on_loop = on_loop
        self._on_idle = on_idle
        self._thread = threading.get_ident()
        self._cancels = Cancels()
        ready = None if first is None else _by_priority(first)
        self.pool = WorkerPool(run, drain, lock, self._is_alone, on_idle, on_refusal, ready)
        #: Whether nothing new may start.
        self.stopping = False
        #: Number of items sent to the loop's lane, counted under the lock, and number of those that
        #: have left it, counted in the loop's thread.
        self._sent_in_all = self._left = 0
        #: Items sent there by workers, not yet started.
        self._sent: deque[Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Work that waits for its next attempt → the timer that resumes it.
        self._resting: dict[Work, asyncio.TimerHandle | None] = {}
        #: Work that waits for capacities and constraints.
        self.admission = Admission(run, self._go_on)
        run.watch_work(self._worked_on)

    @property
    def busy(self) -> bool:
        """Whether work is active, or will start by itself."""
        # The workers first: the places where they leave items are checked after them.
        return bool(self.pool.busy or self._on_loop_now or self._resting or self.admission.busy)

    def begin_in_place(self) -> None:
        """Count an item that the run's own asyncio task works on. Under the lock."""
        self._sent_in_all += 1

    @property
    def has_one(self) -> bool:
        """Whether the loop's lane has exactly one item, or one on its way."""
        return self._on_loop_now == 1

    def activate(self, segment: Segment, node: LazyResult[Any]) -> None:
        """Send a node with all its inputs to its lane. Under the lock."""
        if node._plain:
            self.pool.push(node if segment.first else (segment, node))
        elif belongs_on_loop(node.task, node.args, node.kwargs, node._calls):
            self.to_loop((segment, node))
        else:
            self._to_workers((segment, node), node.task)

    def send(self, work: Work) -> None:
        """Send active work to the lane of its next operation. Under the lock."""
        if belongs_on_loop(work.operation, work.args, work.kwargs, work.policies):
            self.to_loop((work.segment, work))
        else:
            self._to_workers((work.segment, work), work.operation)
            self.wake_later()

    def wake_later(self) -> None:
        """Have pushed items worked on. A worker does so itself, without a hop to the loop."""
        if threading.get_ident() == self._thread:
            self._run.loop.call_soon(self.pool.wake)

    def call_in_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function`` in the loop's thread, soon."""
        if threading.get_ident() == self._thread:
            self._run.loop.call_soon(function, *args)
        else:
            self._run.loop.call_soon_threadsafe(function, *args)

    def rest(self, work: Work, seconds: float) -> None:
        """Resume ``work`` after a delay, during which it holds no thread."""
        self._resting[work] = None  # at once, so that the next check sees that there is more
        self.call_in_loop(self._rest, work, seconds)

    def _go_on(self, work: Work) -> None:
        """Resume admitted work. From any thread."""
        self.pool.push((work.segment, work))
        with suppress(RuntimeError):  # the loop of an abandoned run is closed
            self.call_in_loop(self.pool.wake)

    @property
    def _on_loop_now(self) -> int:
        return self._sent_in_all - self._left

    def _is_alone(self) -> bool:
        return not self._on_loop_now

    def _to_workers(self, item: Item, operation: Operation) -> None:
        self.pool.push(item)
        if operation.mode == "blocking":
            self.call_in_loop(self.pool.wake_another)

    def to_loop(self, item: Item) -> None:
        """Send an item to the loop's lane. Under the lock."""
        self._sent_in_all += 1
        if threading.get_ident() == self._thread:
            self._start_task(item)
            return
        self._sent.append(item)
        if len(self._sent) == 1:  # otherwise the loop was called already
            self._run.loop.call_soon_threadsafe(self._start_tasks)

    def _start_tasks(self) -> None:
        with self._lock:
            items = list(self._sent)
            self._sent.clear()
        for item in items:
            self._start_task(item)

    def _start_task(self, item: Item) -> None:
        if not self.stopping:
            lane = self._on_loop(item)
            self._tasks.add(self._run.loop.create_task(lane, context=self._run.context.copy()))

    def left(self) -> None:
        """The current asyncio task has handled its item, and ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.discard(task)
        self._left += 1
        self.pool.wake()
        if self._left == self._sent_in_all:
            self._on_idle()

    def _rest(self, work: Work, seconds: float) -> None:
        if self.stopping:
            return
        waiting = self._run.begin_rest(work.operation.name, work.source.number, seconds)

        def wake_up() -> None:
            self._run.end_rest(waiting)
            del self._resting[work]
            self.pool.push((work.segment, work))
            self.pool.wake()

        self._resting[work] = self._run.loop.call_later(seconds, wake_up)

    # -- the end ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start nothing new."""
        self.stopping = True
        self.pool.stop()

    async def ended(self) -> None:
        """Wait until nothing runs; a second cancel, or the deadline, abandons plain calls (M8).

        Raises:
            CancelledError: This was cancelled.
        """
        self.admission.close()
        for timer in list(self._resting.values()):  # workers may be about to add some
            if timer is not None:
                timer.cancel()
        again: asyncio.CancelledError | None = None
        passed_on = 0
        while pending := [task for task in self._tasks if not task.done()]:
            # As often as the run, and once for its end: nested runs also count their cancels.
            cancels = max(self._cancels.count, 2 if self._run.abandons else 1)
            for task in pending:
                for _ in range(cancels - passed_on):
                    task.cancel()
            passed_on = max(passed_on, cancels)
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as request:
                again = request
            for task in pending:
                if task.done() and not task.cancelled():
                    task.exception()  # retrieved: an interrupt that the event loop has raised
        is_quiet = False
        while not (is_quiet or self._run.abandons):
            try:
                await self.pool.quiet()
                is_quiet = True
            except asyncio.CancelledError as request:
                again = request
        if self._run.abandons:
            self._abandon()
        if again is not None:
            raise again

    def _abandon(self) -> None:
        self.admission.abandon()
        for call, item in self.pool.working():
            node = _node_of(item)
            name = "plain tasks" if node is None else node.name
            self._run.abandon(call, name, 0 if node is None else node.number)

    def _worked_on(self) -> list[str]:
        nodes = map(_node_of, self.pool.worked_on())
        return [node.name for node in nodes if node is not None and not node.task.structural]


def _node_of(item: Any) -> LazyResult[Any] | None:
    """The node of a worker's item, if the thread has begun one."""
    node = item[1] if isinstance(item, tuple) else item
    return node.source if isinstance(node, Work) else node


def call_of(work: Work) -> NodeCall:
    """The next call of ``work``, for a processor."""
    operation = work.operation
    return NodeCall(
        operation,
        work.args,
        work.kwargs,
        work.policies,
        work.source.number,
    )


def _by_priority(first: Callable[[], Segment | None]) -> ByPriority:
    """A queue in the order of the solver's stages."""

    def priority_of(item: Queued) -> int:
        segment, node = item if isinstance(item, tuple) else (first(), item)
        node = node.node if isinstance(node, Work) else node
        return 0 if segment is None else segment.priority.get(node, 0)

    return ByPriority(priority_of)
