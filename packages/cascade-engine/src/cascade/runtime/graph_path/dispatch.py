"""Dispatch: sends each node of a graph run to its lane.

Plain functions go to the workers, which use the fast lane if possible. Coroutine functions, and
calls that need async or bound resources of their own, or ask for the event loop, go to the queue of
the pump. Nodes that have to wait for something else do so in ``queues``, which send them on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from cascade.runtime.execution.event_loop_calls import MOMENT
from cascade.runtime.execution.placement import belongs_on_loop
from cascade.runtime.graph_path.lane_protocol import Lanes
from cascade.runtime.graph_path.loop_queue import LoopQueue
from cascade.runtime.graph_path.queues.limit_waits import LimitWaits
from cascade.runtime.graph_path.queues.ranks import by_rank
from cascade.runtime.graph_path.queues.ready import ByPriority
from cascade.runtime.graph_path.queues.resource_waits import PATIENCE, ResourceWaits
from cascade.runtime.graph_path.queues.retry_delays import RetryDelays
from cascade.runtime.graph_path.queues.stages import Stages
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Item, Queued, Segment, Work
from cascade.runtime.graph_path.workers.thread_wait_reports import ThreadWaitReports
from cascade.runtime.graph_path.workers.winding_down import wind_down
from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
from cascade.runtime.lazily import lazily
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import RESOURCES
from cascade.spec.operation import Operation

#: Most values in a container that the event loop's thread fills, as that takes microseconds: of any
#: container, whose other parts may be many; and of a list or tuple of nothing but these values,
#: which is filled in C, at 0.06 µs for each.
_MOST_FILLED, _MOST_LISTED = 200, 5_000
_LISTS = (list, tuple)


class Dispatch(LoopQueue):
    """Sends nodes of one run to their lanes. Made and stopped in the event loop's thread.

    Args:
        parts: The other parts of the run.
        stages: Orders nodes; None if any order will do.

    Attributes:
        lanes: Handles the items; set before the first is sent, and None once the run has ended.
        sent: Items for the event loop's lane that have not begun.
        is_pumping: Whether they are being begun, or will be soon. Code that sets it to False has
            to look at ``sent`` again after that.
        workers: The pool, if it was used.
    """

    lanes: Lanes | None = None

    def __init__(self, parts: RunParts, stages: Stages | None) -> None:
        self._parts = parts
        self._run, self._lock, self._end = parts.run, parts.lock, parts.end
        self._thread = threading.get_ident()
        self._stages = stages
        #: Called in the loop's thread at each look at the workers.
        self._on_look: list[Callable[[], object]] = []
        self._drain: Callable[[WorkerPool], object] = _nothing
        #: Items that were sent to the loop's lane; counted under the lock. Those that have left it.
        self._sent_in_all = self._left = 0
        self.sent: deque[Queued] = deque()
        self.is_pumping = False
        self.workers: WorkerPool | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Notes that an item is handled in a task, which then calls ``left``.
        self.goes_on_in: Callable[[asyncio.Task[Any]], object] = self._tasks.add

    @lazily
    def pool(self) -> WorkerPool:
        """The workers. First used in the event loop's thread."""
        ready = None if self._stages is None else ByPriority(self._stages.of)
        # Here, because a worker that makes it would end the bias of the lock.
        self._drain = self._parts.fast_lane.drain
        pool = WorkerPool(self._run, self._lock, self, ready)
        self._pool_reports = ThreadWaitReports(self._run, pool)
        self._run.watch_work(self._pool_reports.holding)
        self._run.pool_reports = self._pool_reports
        self._end.at_stop(pool.stop)
        self._end.leaves_next = pool.leaves_next
        if self._end.stopping:
            pool.stop()
        self.workers = pool
        return pool

    def at_look(self, look: Callable[[], object]) -> None:
        """Call ``look`` in the loop's thread at each look at the awake workers."""
        self._on_look.append(look)

    @lazily
    def limit_waits(self) -> LimitWaits:
        """Work that waits for capacities and constraints."""
        return LimitWaits(self._run, self._go_on)

    @lazily
    def retry_delays(self) -> RetryDelays:
        """Work that waits for its next attempt. From any thread."""
        return RetryDelays(self._run, self._end, self._resume)

    @lazily
    def resource_waits(self) -> ResourceWaits:
        """Items that wait for resources to open."""
        waits = ResourceWaits(self._run, self._push_back, self._not_opened)
        self._end.at_stop(waits.end)
        if self._end.stopping:
            waits.end()
        return waits

    @property
    def busy(self) -> bool:
        """Whether work is active, or will start by itself."""
        if self._run.journal is not None and self._parts.commits.held:
            return True
        # The workers first: the places where they leave items are checked after them. Calls in
        # other processes leave theirs to the workers, at any time.
        before = getattr(self._remote, "landings", 0)
        made = self.__dict__
        pool, delays, waits = self.workers, made.get("retry_delays"), made.get("resource_waits")
        return bool(
            (pool is not None and pool.busy)
            or self._on_loop_now
            or (delays is not None and delays.any)
            or self._run.admissions.permits
            or ((equal := self._parts.made("cache_waits")) is not None and equal.any)
            or (waits is not None and waits.busy)
            or ((held := self._parts.made("held_calls")) is not None and held.busy)
            or getattr(self._remote, "busy", False)
            or getattr(self._parts.made("staying"), "fetching", 0)
            or before != getattr(self._remote, "landings", 0)
        )

    @property
    def _remote(self) -> Any:
        """The calls in other processes; None if there were none."""
        return self._parts.made("remote_lane")

    @property
    def has_more(self) -> bool:
        """Whether any item is ready."""
        pool = self.workers
        return bool(self.sent or (pool is not None and pool.ready))

    def rank(self) -> None:
        """Order ready nodes by priority from now on (M24). From any thread."""
        if not self.pool.is_ranked:
            stage = None if self._stages is None else self._stages.of
            self.pool.reorder(ByPriority(by_rank(self._run.loop.time, stage)))

    def activate(self, segment: Segment, node: LazyResult[Any]) -> None:
        """Send a node with all its inputs to its lane. Under the lock."""
        task = node.task
        if node._plain or (  # the answer of ``belongs_on_loop``, far quicker
            task.plain and not (node._special & RESOURCES and self._needs_loop(node))
        ):
            if task is GATHER and self._is_gathered_here(node):
                self.to_loop((segment, node))
            elif segment.deep:
                self.pool.push_first((segment, node))
            else:
                self.pool.push(node if segment.first else (segment, node))
        elif task.is_async and not node._special:  # inlined ``to_loop``
            self._sent_in_all += 1
            self.sent.append(node if segment.first else (segment, node))
            if not self.is_pumping:
                self.pump_soon()
        elif task.is_async or belongs_on_loop(
            task, node.args, node.kwargs, node._calls, self._asks_for_loop
        ):
            if not (node._special & RESOURCES and self._waits_for_resource(segment, node)):
                self.to_loop((segment, node))
        else:
            self._to_workers((segment, node), task, segment.deep)

    def _is_gathered_here(self, node: LazyResult[Any]) -> bool:
        """Whether a container is filled in the event loop's thread: no hop to a thread and back.

        So it is if that thread has made the last of its values, and it is small.
        """
        pool = self.workers
        if not (self._end.smooth and (pool is None or pool.is_asleep)):
            return False
        count = len(node._dependencies)
        if count <= _MOST_FILLED:
            return True
        recipe = node.args[0]
        return count <= _MOST_LISTED and not recipe.steps and recipe.kind in _LISTS

    def send(self, work: Work, first: bool = False) -> None:
        """Send active work to the lane of its next operation. Under the lock.

        For a worker, ``first`` puts it before all others of its priority.
        """
        if self.is_for_loop(work):
            self.to_loop((work.segment, work))
        else:
            self._to_workers((work.segment, work), work.operation, first)
            self.wake_later()

    def send_handed(self, work: Work) -> None:
        """Have a worker go on with work whose call has its result already. Under the lock."""
        self.pool.push((work.segment, work))
        self.wake_later()

    def is_for_loop(self, work: Work) -> bool:
        """Whether the next call of ``work`` belongs to the event loop's lane."""
        policies, asks = work.policies, self._asks_for_loop
        return belongs_on_loop(work.operation, work.args, work.kwargs, policies, asks)

    def wake_later(self) -> None:
        """Have pushed items worked on. A worker does so itself, without a hop to the loop."""
        if threading.get_ident() == self._thread:
            pool = self.workers
            if pool is not None:
                self._run.loop.call_soon(pool.wake)

    def _go_on(self, work: Work) -> None:
        """Resume admitted work. From any thread."""
        self.pool.push((work.segment, work))
        with suppress(RuntimeError):  # the run was abandoned, and its loop is closed
            self._run.call_in_loop(self.pool.wake)

    def _resume(self, work: Work) -> None:
        """Resume work whose delay is over. In the loop's thread."""
        if self.is_for_loop(work):
            with self._lock:
                self.to_loop((work.segment, work))
        else:
            self.pool.push((work.segment, work))
            self.pool.wake()

    def _asks_for_loop(self, operation: Operation, args: Any, kwargs: Any, is_timed: bool) -> bool:
        """Whether the resources of a call, which has some, are opened or awaited in the loop."""
        resources = self._run.resources
        if self._run.elsewhere.takes_call(operation, args, kwargs, resources):
            return False
        return is_timed or resources.needs_event_loop(args, kwargs)

    def _needs_loop(self, node: LazyResult[Any]) -> bool:
        """Whether the event loop has to look at the resources of a plain function's node."""
        if node._policies is not None and node._calls.timeout is not None:
            return True
        return self._run.resources.needs_loop

    def _waits_for_resource(self, segment: Segment, node: LazyResult[Any]) -> bool:
        """Whether a coroutine goes on when a shared resource is open, and has no task until then.

        So it is where nothing else has to be done, or told, before that opens.
        """
        args, kwargs = node.args, node.kwargs
        if not node.task.is_async or node._policies is not None or self._parts.reports.wanted:
            return False
        if self._end.any_missing or self._run.constraints.any:
            return False
        resources = self._run.resources
        if resources.has_unshared and resources.need_attempt(args, kwargs):
            return False
        if self.resource_waits.joins(segment, node):
            return True
        if resources.need_attempt(args, kwargs):
            return False
        wanted = resources.unopened(args, kwargs)
        return wanted is not None and self.resource_waits.awaits(wanted, segment, node)

    def _push_back(self, items: Iterable[Item]) -> None:
        """Put items that waited for a resource back to their places. In the loop's thread."""
        coroutines = []
        for item in reversed([*items]):
            node = item[1].source if isinstance(item[1], Work) else item[1]
            if node.task.is_async:
                coroutines.append(item)
            else:
                self.pool.push_first(item)
        if coroutines:
            with self._lock:
                self._sent_in_all += len(coroutines)
                self.sent.extend(reversed(coroutines))
                if not self.is_pumping:
                    self.pump_soon()
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

    def begin(self, target: Operation) -> None:
        """Have the first items worked on, all of which were pushed or sent.

        If only workers can go on, this may wait a moment for them: most short runs need no more,
        and end in this turn of the event loop. ``target`` is the operation of the run's target.
        """
        pool, patience = self.workers, self._run.patience
        if pool is None:
            return
        if self._opens_early(pool):
            pool.wake_after(PATIENCE)
            return
        if patience is None or self._on_loop_now or not patience.is_worth_it(target):
            pool.wake()
            return
        wait, seconds = self._run.event_loop_calls.expect(), 0.0
        try:
            pool.wake_first()
            if pool.busy and not getattr(self._run.threads, "is_short", True):
                seconds = MOMENT
        finally:
            came = wait(seconds)
        if seconds:
            patience.note(target, came)
        pool.keep_looking()

    def _opens_early(self, pool: WorkerPool) -> bool:
        """Begin to open what the first item needs, which a worker would ask for; whether it does.

        That saves a hop from the worker to the loop, and the worker, which would only wait. Only
        the first item: another may not be called at all if an earlier one fails.
        """
        item = pool.next_item()
        node = item[1] if type(item) is tuple else item
        if not (isinstance(node, LazyResult) and node._special & RESOURCES):
            return False
        if node._policies is not None or self._parts.reports.wanted or not self._end.smooth:
            return False  # more is done, or told, before the opening
        resources = self._run.resources
        if self._run.constraints.any or not node.task.is_light:
            return False
        if resources.need_attempt(node.args, node.kwargs):
            return False
        wanted = resources.unopened(node.args, node.kwargs)
        return wanted is not None and self.resource_waits.begin_early(wanted)

    # -- called by the pool -------------------------------------------------------------------

    @property
    def is_alone(self) -> bool:
        """Whether only the workers use the lock."""
        return not self._on_loop_now

    def drain(self, pool: WorkerPool) -> None:
        """The body of a worker's thread."""
        self._drain(pool)

    def looked(self) -> None:
        """A look at the workers. In the loop's thread."""
        for look in self._on_look:
            look()

    def short_of_threads(self) -> None:
        """No thread becomes free for the ready items. In the loop's thread."""
        self._pool_reports.report()

    def idle(self) -> None:
        """There may be no work left. In the loop's thread."""
        if self.lanes is not None:
            self.lanes.idle()

    def released(self, pumps: bool = False) -> None:
        """Go on with items that have waited for a commit. In the loop's thread.

        Args:
            pumps: Begin those of the loop's lane here, and not in another turn of the loop.
        """
        if self.workers is not None:
            self.workers.wake()
        if pumps:
            self._run.context.copy().run(self._pump)
        if not self.busy:
            self.idle()

    def refused(self, error: BaseException) -> None:
        """The executor lends no thread. In the loop's thread."""
        if self.lanes is not None:
            self.lanes.refused(error)

    # -- sending ------------------------------------------------------------------------------

    def _to_workers(self, item: Item, operation: Operation, first: bool = False) -> None:
        if first:
            self.pool.push_first(item)
        else:
            self.pool.push(item)
        if operation.mode == "blocking":
            self._run.call_in_loop(self.pool.wake_another)

    # -- the end ------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Wait until nothing runs; a second cancel, or the deadline, abandons plain calls (M8).

        Raises:
            CancelledError: This was cancelled.
        """
        self._run.admit_no_more()
        pool = self.workers
        delays: RetryDelays | None = self.__dict__.get("retry_delays")
        if delays is not None:
            delays.end()
        remote = self._remote
        if (
            self._tasks
            or (remote is not None and remote.busy)
            or not (pool is None or pool.is_over())
        ):
            held = self._parts.made("held_calls")
            await wind_down(self._run, self._tasks, pool, held, remote)

    def let_go(self) -> None:
        """Drop the references to other parts of the run, so that no cycle needs the collector."""
        self.lanes, self._drain = None, _nothing
        self._on_look.clear()
        for name in ("pool", "limit_waits", "retry_delays", "resource_waits"):
            part = self.__dict__.get(name)
            if part is not None:
                part.let_go()


def _nothing(*_details: object) -> None:
    """The default action at a look, and the work of a pool without a run."""
