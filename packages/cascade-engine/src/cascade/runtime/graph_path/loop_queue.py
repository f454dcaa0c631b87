"""Loop queue: the items of a graph run that are handled in the event loop.

They wait for the pump, which makes their first steps, or have an asyncio task of their own. All are
counted, so that a run knows when it has nothing left to do there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from cascade.runtime.graph_path.lane_protocol import Lanes
from cascade.runtime.graph_path.record_intervals import RENEWAL
from cascade.runtime.graph_path.segments import Item, Queued

if TYPE_CHECKING:
    from cascade.runtime.graph_path.biased_lock import BiasedLock
    from cascade.runtime.graph_path.run_end import RunEnd
    from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
    from cascade.runtime.run import Run


class LoopQueue:
    """Inherited by Dispatch, which sets the attributes.

    Attributes:
        lanes: Handles the items; None once the run has ended.
        sent: Items that have not begun.
        is_pumping: Whether they are being begun, or will be soon. Code that sets it to False has
            to look at ``sent`` again after that.
        goes_on_in: Notes that an item is handled in a task, which then calls ``left``.
        workers: The pool, if it was used.
    """

    lanes: Lanes | None
    sent: deque[Queued]
    is_pumping: bool
    #: Items that were sent; counted under the lock. Those that have left.
    _sent_in_all: int
    _left: int
    _tasks: set[asyncio.Task[None]]
    _thread: int
    _run: Run
    _end: RunEnd
    _lock: BiasedLock
    goes_on_in: Callable[[asyncio.Task[Any]], object]
    workers: WorkerPool | None
    if TYPE_CHECKING:

        def idle(self) -> None:
            """There may be no work left. In the loop's thread."""

    @property
    def _on_loop_now(self) -> int:
        return self._sent_in_all - self._left

    @property
    def has_one(self) -> bool:
        """Whether there is exactly one item, begun or not."""
        return self._on_loop_now == 1

    def begin_in_place(self) -> None:
        """Count an item that the run's own asyncio task works on. Under the lock."""
        self._sent_in_all += 1

    def to_loop(self, item: Item) -> None:
        """Send an item to the event loop. Under the lock."""
        self._sent_in_all += 1
        self.sent.append(item)
        if not self.is_pumping:
            self.pump_soon()

    def pump_soon(self) -> None:
        """Have sent items begun in a turn of the event loop. From any thread."""
        self.is_pumping = True
        loop, context = self._run.loop, self._run.context.copy()
        if threading.get_ident() == self._thread:
            loop.call_soon(self._pump, context=context)
        else:
            loop.call_soon_threadsafe(self._pump, context=context)

    def _pump(self) -> None:
        if self.lanes is None:
            return
        journal = self._run.journal
        if journal is not None and journal.desk.is_overdue:
            journal.desk.hurry()
            self._run.loop.call_later(RENEWAL, self._pump)  # in the same context
        else:
            self.lanes.pump()

    def start_task(self, item: Item) -> None:
        """Give an item an asyncio task of its own. In the loop's thread."""
        if not self._end.stopping:
            assert self.lanes is not None
            lane = self.lanes.work_on(item)
            self.goes_on_in(self._run.loop.create_task(lane, context=self._run.context.copy()))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin an asyncio task that the end of the run cancels and awaits."""
        task = self._run.loop.create_task(work, context=self._run.context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def left(self, task: asyncio.Task[Any]) -> None:
        """The current asyncio task, which is ``task``, has handled its item, and ends."""
        self._tasks.discard(task)
        self._left += 1  # inlined ``ended``
        pool = self.workers
        if pool is not None and pool.ready:
            pool.wake()
        if self._left == self._sent_in_all:
            self.idle()

    def ended(self, count: int) -> None:
        """So many items were handled. In the loop's thread."""
        self._left += count
        pool = self.workers
        if pool is not None:
            pool.wake()
        if self._left == self._sent_in_all:
            self.idle()

    def rest(self) -> None:
        """An item waits for other nodes only. In the loop's thread."""
        self.ended(1)

    def go_on(self) -> None:
        """An item that has rested goes on, so that the run is busy. From any thread."""
        with self._lock:
            self._sent_in_all += 1
