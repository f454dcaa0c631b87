"""Dispatch: sends each node of a graph run to its lane.

Plain functions go to the workers, which use the fast lane if possible. Coroutine functions, and
calls that need resources of their own or bound ones, have a timeout or ask for the event loop, get
an asyncio task each. Work whose attempt failed rests until the next one, without holding a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from itertools import islice
from time import monotonic
from typing import Any, Protocol

from cascade.runtime.execution.cancels import Cancels
from cascade.runtime.execution.placement import belongs_on_loop
from cascade.runtime.execution.thread_waits import LASTING
from cascade.runtime.graph_path.admission import Admission
from cascade.runtime.graph_path.openings import Openings
from cascade.runtime.graph_path.ranks import by_rank
from cascade.runtime.graph_path.segments import Item, Queued, Segment, Work
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.runtime.graph_path.worker_pool import ByPriority, WorkerPool
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import RESOURCES
from cascade.spec.operation import Operation


class Lanes(Protocol):
    """The handlers of the items that a Dispatch sends."""

    def drain(self, pool: WorkerPool) -> None:
        """The body of a worker's thread; see ``PoolHost``."""

    def work_on(self, item: Item) -> Coroutine[Any, Any, None]:
        """Work on an item in the event loop's thread; ends with ``Dispatch.left``."""

    def not_opened(self, item: Item, error: BaseException) -> None:
        """Called when a resource of an item could not be opened. In the loop's thread."""

    def idle(self) -> None:
        """Called when there may be no work left. In the loop's thread."""

    def refused(self, error: BaseException) -> None:
        """Called when the executor lends no thread. In the loop's thread."""


class Dispatch:
    """Sends nodes of one run to their lanes. Made and stopped in the event loop's thread.

    Args:
        surroundings: The shared parts of the run.
        stages: Orders nodes; None if any order will do.

    Attributes:
        lanes: Handles the items; set before the first is sent, and None once the run has ended.
    """

    lanes: Lanes | None = None

    def __init__(self, surroundings: Surroundings, stages: Stages | None) -> None:
        self._run, self._lock, self._reports, self._end = surroundings
        run = self._run
        self._thread = threading.get_ident()
        self._cancels = Cancels()
        self._stages = stages
        ready = None if stages is None else ByPriority(stages.of)
        self.pool = WorkerPool(run, self._lock, self, ready)
        #: Number of items sent to the loop's lane, counted under the lock, and number of these that
        #: have left it, counted in the loop's thread.
        self._sent_in_all = self._left = 0
        #: Items sent there by workers, not yet started.
        self._sent: deque[Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Work that waits for its next attempt → the timer that resumes it.
        self._resting: dict[Work, asyncio.TimerHandle | None] = {}
        #: Work that waits for capacities and constraints.
        self.admission = Admission(run, self._go_on)
        #: Items that wait for resources to open.
        self.openings = Openings(run, self._start, self._push_back, self._not_opened)
        run.watch_work(self.holding)
        run.thread_waits.watch(self)
        self.pool.on_short = self._report_wait
        #: The last node that was reported to wait for a thread, and the time of that look.
        self._reported: tuple[LazyResult[Any] | None, float] = (None, 0.0)
        self._end.at_stop(self.pool.stop)
        self._resources = run.resources
        self._need_attempt = run.resources.need_attempt

    @property
    def busy(self) -> bool:
        """Whether work is active, or will start by itself."""
        # The workers first: the places where they leave items are checked after them.
        return bool(
            self.pool.busy
            or self._on_loop_now
            or self._resting
            or self.admission.busy
            or self.openings.busy
        )

    def begin_in_place(self) -> None:
        """Count an item that the run's own asyncio task works on. Under the lock."""
        self._sent_in_all += 1

    @property
    def has_one(self) -> bool:
        """Whether the loop's lane has exactly one item, or one on its way."""
        return self._on_loop_now == 1

    def rank(self) -> None:
        """Order ready nodes by priority from now on (M24). From any thread."""
        if not self.pool.is_ranked:
            stage = None if self._stages is None else self._stages.of
            self.pool.reorder(ByPriority(by_rank(self._run.loop.time, stage)))

    def activate(self, segment: Segment, node: LazyResult[Any]) -> None:
        """Send a node with all its inputs to its lane. Under the lock."""
        if node._plain or (
            node.task.plain  # the answer of ``belongs_on_loop``, far quicker
            and not (node._special & RESOURCES and self._resources.has_unshared)
            and (node._policies is None or node._policies.calls.timeout is None)
        ):
            if segment.deep:
                self.pool.push_first((segment, node))
            else:
                self.pool.push(node if segment.first else (segment, node))
        elif belongs_on_loop(node.task, node.args, node.kwargs, node._calls, self._need_attempt):
            if not (node._special & RESOURCES and self._waits_for_resource(segment, node)):
                self.to_loop((segment, node))
        else:
            self._to_workers((segment, node), node.task, segment.deep)

    def send(self, work: Work) -> None:
        """Send active work to the lane of its next operation. Under the lock."""
        if self.is_for_loop(work):
            self.to_loop((work.segment, work))
        else:
            self._to_workers((work.segment, work), work.operation)
            self.wake_later()

    def is_for_loop(self, work: Work) -> bool:
        """Whether the next call of ``work`` belongs to the event loop's lane."""
        policies, need_attempt = work.policies, self._need_attempt
        return belongs_on_loop(work.operation, work.args, work.kwargs, policies, need_attempt)

    def wake_later(self) -> None:
        """Have pushed items worked on. A worker does so itself, without a hop to the loop."""
        if threading.get_ident() == self._thread:
            self._run.loop.call_soon(self.pool.wake)

    def rest(self, work: Work, seconds: float) -> None:
        """Resume ``work`` after a delay, during which it holds no thread."""
        self._resting[work] = None  # at once: the run must not seem to be idle
        self._run.call_in_loop(self._rest, work, seconds)

    def _go_on(self, work: Work) -> None:
        """Resume admitted work. From any thread."""
        self.pool.push((work.segment, work))
        with suppress(RuntimeError):  # the run was abandoned, and its loop is closed
            self._run.call_in_loop(self.pool.wake)

    def _waits_for_resource(self, segment: Segment, node: LazyResult[Any]) -> bool:
        """Whether a coroutine goes on when a shared resource is open, and has no task until then.

        So it is where nothing else has to be done, or told, before that opens.
        """
        args, kwargs = node.args, node.kwargs
        if not node.task.is_async or node._policies is not None or self._reports.wanted:
            return False
        if self._end.gaps or self._run.gate.constraints.any or self._need_attempt(args, kwargs):
            return False
        wanted = self._resources.unopened(args, kwargs)
        return wanted is not None and self.openings.opened(wanted, (segment, node), 0) is None

    def _push_back(self, items: Iterable[Item]) -> None:
        """Put items that waited for a resource back to their places. In the loop's thread."""
        coroutines = []
        for item in reversed([*items]):
            node = _node_of(item)
            if node is not None and node.task.is_async:
                coroutines.append(item)
            else:
                self.pool.push_first(item)
        with self._lock if coroutines else nullcontext():
            for item in reversed(coroutines):
                self.to_loop(item)
        self.pool.wake()

    def _not_opened(self, items: Iterable[Item], error: BaseException) -> None:
        """A resource of some items could not be opened. In the loop's thread."""
        is_cancel = isinstance(error, asyncio.CancelledError)
        if self._end.stopping and not (is_cancel or isinstance(error, Exception)):
            raise error  # an interrupt while the run ends is for the event loop
        if self.lanes is None or (is_cancel and self._end.is_cancelled(1)):
            return
        for item in items:
            self.lanes.not_opened(item, error)
        self.pool.wake()
        self.idle()

    @property
    def _on_loop_now(self) -> int:
        return self._sent_in_all - self._left

    # -- called by the pool -------------------------------------------------------------------

    @property
    def is_alone(self) -> bool:
        """Whether only the workers use the lock."""
        return not self._on_loop_now

    def drain(self, pool: WorkerPool) -> None:
        """The body of a worker's thread."""
        assert self.lanes is not None
        self.lanes.drain(pool)

    def idle(self) -> None:
        """There may be no work left. In the loop's thread."""
        if self.lanes is not None:
            self.lanes.idle()

    def refused(self, error: BaseException) -> None:
        """The executor lends no thread. In the loop's thread."""
        if self.lanes is not None:
            self.lanes.refused(error)

    # -- the loop's lane ----------------------------------------------------------------------

    def _to_workers(self, item: Item, operation: Operation, first: bool = False) -> None:
        if first:
            self.pool.push_first(item)
        else:
            self.pool.push(item)
        if operation.mode == "blocking":
            self._run.call_in_loop(self.pool.wake_another)

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
        if not self._end.stopping:
            assert self.lanes is not None
            lane = self.lanes.work_on(item)
            self._tasks.add(self._run.loop.create_task(lane, context=self._run.context.copy()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin an asyncio task that the end of the run cancels and awaits."""
        task = self._run.loop.create_task(work, context=self._run.context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def left(self) -> None:
        """The current asyncio task has handled its item, and ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.discard(task)
        self._left += 1
        self.pool.wake()
        if self._left == self._sent_in_all:
            self.idle()

    def _rest(self, work: Work, seconds: float) -> None:
        if self._end.stopping:
            return
        waiting = self._run.begin_rest(work.operation.name, work.source, seconds)

        def wake_up() -> None:
            self._run.end_rest(waiting)
            del self._resting[work]
            if self.is_for_loop(work):
                with self._lock:
                    self.to_loop((work.segment, work))
            else:
                self.pool.push((work.segment, work))
                self.pool.wake()

        self._resting[work] = self._run.loop.call_later(seconds, wake_up)

    # -- the end ------------------------------------------------------------------------------

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

    def close(self) -> None:
        """Drop the references to other parts of the run, so that no cycle needs the collector."""
        if not self._run.abandons:  # abandoned calls use them
            self.lanes = None
            self.pool.let_go()
            self.admission.let_go()
            self.openings.let_go()

    def _abandon(self) -> None:
        self.admission.abandon()
        for call, item, thread in self.pool.working():
            node = _node_of(item)
            self._resources.leave_in_use(call, thread, node)
            name = "plain tasks" if node is None else node.name
            self._run.abandon(call, name, node)

    # -- waits for threads --------------------------------------------------------------------

    def holding(self) -> list[str]:
        """The names of the nodes on threads. From any thread."""
        return [node.name for node in _called(self.pool.worked_on())]

    def short(self, most: int | None) -> tuple[float, Iterable[LazyResult[Any]]]:
        """The nodes that wait for a thread, and since when; see ``thread_waits.Crowd``."""
        since = self.pool.short_since
        nodes = _called(self.pool.next_items()) if since else ()
        return since, islice(nodes, most)

    def _report_wait(self) -> None:
        """Report the next node while no thread becomes free, each once."""
        now = monotonic()
        told, looked = self._reported
        if now - self.pool.short_since < LASTING or now - looked < LASTING:
            return
        with suppress(IndexError):  # a thread has taken it
            node = next(_called([self.pool.ready[0]]), None)
            self._reported = node, now
            if node is not None:
                self._run.thread_waits.report(node, node is not told)


def _called(items: Iterable[Any]) -> Iterator[LazyResult[Any]]:
    """The nodes of a pool's items that call tasks."""
    nodes = map(_node_of, items)
    return (node for node in nodes if node is not None and not node.task.structural)


def _node_of(item: Any) -> LazyResult[Any] | None:
    """The node of a worker's item, if the thread has begun one."""
    node = item[1] if isinstance(item, tuple) else item
    return node.source if isinstance(node, Work) else node


class Stages:
    """The stages of nodes in the solver's plan; 0 for nodes outside the plan.

    Attributes:
        of_first: Stages of the first segment's nodes, which are queued without their segment.
    """

    def __init__(self) -> None:
        self.of_first: Mapping[LazyResult[Any], int] = {}

    def of(self, item: Queued) -> int:
        """The stage of an item in the queue."""
        if not isinstance(item, tuple):
            return self.of_first.get(item, 0)
        segment, node = item
        node = node.node if isinstance(node, Work) else node
        return segment.priority.get(node, 0)
