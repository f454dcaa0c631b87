"""WorkerPool: threads that drain one queue of items (rule R9's no leftovers, M11, M12).

Policy. An awake thread pops an item, works on it, and pops again: while items are short, one thread
does them all, without a hop through the event loop in between. If that thread is blocked in an item
(it sleeps, reads a file) while others are ready, more threads are woken: the event loop looks once
per millisecond, and if nothing was finished since, it doubles the number of awake threads. Trivial
work therefore costs about a function call, and blocking work overlaps up to the executor's size.

More threads help calls that wait, and disturb those that compute (M11); see ``load``.

Terms:

- *ready*: items that could be worked on now;
- *awake*: threads inside ``drain``; each leaves when it finds nothing ready;
- *current*: a cell for each of them with its present item. A changed item is the sign of life that
  the look at progress needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.execution.worker_calls import WorkerCall, not_begun
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.queues.ranks import GIVE_WAY, SWITCH, priority_of
from cascade.runtime.graph_path.queues.ready import ByPriority, Ready
from cascade.runtime.graph_path.workers.load import LOOK_EVERY, Load
from cascade.runtime.graph_path.workers.pool_host import NO_HOST, PoolHost
from cascade.runtime.run import Run

_DEFAULT_WORKERS = 32


class WorkerPool:
    """The threads of one run. Made, woken and stopped in the event loop's thread.

    Args:
        run: Has the executor.
        lock: Guards all that ``drain`` changes; owned by the thread while it is the only one.
        host: Gives the threads their work.
        ready: The queue; in order of arrival by default.
    """

    def __init__(
        self, run: Run, lock: BiasedLock, host: PoolHost, ready: Ready | None = None
    ) -> None:
        self._run = run
        self._biased_lock = lock
        self._host = host
        self.ready: Ready = deque() if ready is None else ready
        #: The queue before ``reorder``; threads may still use it.
        self._former: Ready | None = None
        self._lock = threading.Lock()
        self._awake = 0
        #: Awake thread → its current item.
        self._current: dict[int, list[Any]] = {}
        self._seen: list[Any] = []
        #: The call of each thread, until it has ended, and the cell for its current item.
        self._calls: dict[Future[None], tuple[WorkerCall[None], list[Any]]] = {}
        self._looking = False
        self._next_look: asyncio.TimerHandle | None = None
        self._late_wake: asyncio.TimerHandle | None = None
        self._stopped = False
        self._quiet: asyncio.Future[None] | None = None
        #: Since when no thread has become free for the ready items, by ``time.monotonic``; 0 if
        #: threads come and go, or nothing is ready.
        self.short_since = 0.0
        self._most = getattr(run.threads, "max_workers", _DEFAULT_WORKERS)
        self._load = Load()

    @property
    def is_asleep(self) -> bool:
        """Whether no thread is awake. In the loop's thread, which wakes them."""
        return not self._awake

    @property
    def busy(self) -> bool:
        """Whether items are ready or being worked on."""
        return bool(self._awake) or bool(self.ready)

    def push(self, item: Any) -> None:
        """Add ``item`` without waking a thread; for a thread that is awake itself."""
        if self._stopped:
            return
        ready = self.ready
        ready.append(item)
        if ready is not self.ready:  # it was replaced meanwhile
            self.queue()

    def push_first(self, item: Any) -> None:
        """The same, before all others of its priority."""
        if self._stopped:
            return
        ready = self.ready
        ready.appendleft(item)
        if ready is not self.ready:  # as above
            self.queue()

    @property
    def is_ranked(self) -> bool:
        """Whether ``reorder`` was called."""
        return self._former is not None

    def reorder(self, ready: ByPriority) -> None:
        """Keep ready items in this queue from now on; later calls change nothing. Any thread."""
        with self._lock:
            if self._former is None:
                self._former, self.ready = self.ready, ready
        self.queue()

    def queue(self) -> Ready:
        """The present queue, with all ready items; for a thread that begins to use it."""
        former = self._former
        if former is None:
            return self.ready
        with self._lock:
            items = []
            with contextlib.suppress(IndexError):
                while True:
                    items.append(former.popleft())
            for item in items:
                if not (item is SWITCH or self._stopped):
                    self.ready.append(item)
            for _ in range(self._awake):
                former.append(SWITCH)
        return self.ready

    def wake(self) -> None:
        """Make sure that a thread works on ready items. In the loop's thread."""
        self.wake_first()
        self.keep_looking()

    def wake_after(self, seconds: float) -> None:
        """The same after so long, unless that is asked for earlier. In the loop's thread.

        In virtual time at once: the time of a node must not depend on this.
        """
        if isinstance(self._run.loop, VirtualLoop):
            self.wake()
        else:
            self._late_wake = self._run.loop.call_later(seconds, self.wake)

    def wake_first(self) -> None:
        """The same, but the caller calls ``keep_looking`` soon."""
        self._forget_late_wake()
        if not self.ready or self._stopped:
            return
        with self._lock:
            if self._awake:
                return
        self._start(1)

    def _forget_late_wake(self) -> None:
        if self._late_wake is not None:
            self._late_wake.cancel()
            self._late_wake = None  # its context holds the inputs of the run

    def wake_another(self) -> None:
        """Wake one more thread, if the limit allows it: for an item that is known to block."""
        with self._lock:
            if self._awake >= self._most or not self.ready or self._stopped:
                return
        self._start(1)
        self.keep_looking()

    def leaves_next(self) -> bool:
        """Whether the calling thread is the only one awake, and has nothing more to do."""
        return self._awake == 1 and not self.ready and threading.get_ident() in self._current

    def stop(self) -> None:
        """Drop ready items; threads leave after their present call."""
        self._stopped = True
        self.ready.clear()
        if self._former is not None:
            self._former.clear()

    def is_over(self) -> bool:
        """Whether no thread is awake; after ``stop``, in the loop's thread."""
        if self._awake:
            return False
        self._look_no_more()
        return True

    async def quiet(self) -> None:
        """Wait until no thread is awake; after ``stop``, in the loop's thread."""
        self._call_off()
        with self._lock:
            if not self._awake:
                return
            self._quiet = self._run.loop.create_future()
        await self._quiet

    def let_go(self) -> None:
        """Drop the host; no thread is awake, and none will wake."""
        self._host = NO_HOST

    def working(self) -> list[tuple[Future[None], Any, int]]:
        """The calls of awake threads, their items and threads, to abandon them after ``stop``."""
        self._call_off()
        awake = {id(cell): thread for thread, cell in list(self._current.items())}
        calls = list(self._calls.items())
        return [(call, cell[0], awake[id(cell)]) for call, (_, cell) in calls if id(cell) in awake]

    def worked_on(self) -> list[Any]:
        """The items of the awake threads."""
        return [cell[0] for cell in list(self._current.values())]

    def next_items(self) -> Iterable[Any]:
        """The ready items, in their order. From any thread."""
        while True:
            try:
                return self.ready.copy()
            except RuntimeError:  # a thread has taken one meanwhile
                continue

    def next_item(self) -> Any:
        """The first ready item; None if there is none. Before a thread is awake."""
        ready = self.ready
        if isinstance(ready, ByPriority):
            first = ready.first()
            return None if first is None else first[1]
        return ready[0] if ready else None

    def enter(self) -> list[Any]:
        """Make the calling thread awake; returns the cell for its item."""
        self._load.enter()
        return self._current[threading.get_ident()]

    def item_of(self, thread: int) -> Any:
        """The item that a thread works on; None if it is not awake."""
        cell = self._current.get(thread)
        return None if cell is None else cell[0]

    def cell(self, thread: int | None = None) -> list[Any]:
        """The cell of a thread, which is awake; of the calling one by default."""
        return self._current[threading.get_ident() if thread is None else thread]

    def give_up(self, thread: int, cell: list[Any]) -> Future[None] | None:
        """Let a thread no longer be awake, which has to end its ``drain``. In the loop's thread.

        Returns:
            Its call; None if that has ended.
        """
        with self._lock:
            self._awake -= 1
            if self._current.get(thread) is cell:
                del self._current[thread]
                self._load.leave(thread)
        if self._quiet is not None and not self._awake and not self._quiet.done():
            self._quiet.set_result(None)
        calls = list(self._calls.items())
        return next((call for call, (_, own) in calls if own is cell and not call.done()), None)

    def give_way(self) -> None:
        """End being awake although items are ready, and ask for a thread again (M24)."""
        self.leave(although_ready=True)
        self._tell(self._resume)

    def leave(self, although_ready: bool = False) -> bool:
        """End being awake, unless an item has just become ready."""
        with self._lock:
            if self.ready and not (self._stopped or although_ready):
                return False
            self._awake -= 1
            last = not self._awake
            self._current.pop(threading.get_ident(), None)
            self._load.leave(threading.get_ident())
        if last:
            self._tell(self._idle)
        return True

    def _work(self, cell: list[Any]) -> None:
        """The work of a lent thread."""
        self._current[threading.get_ident()] = cell
        self.work_on()

    def adopt(
        self, thread: int, item: Any, work: WorkerCall[None], call: Future[None] | None
    ) -> None:
        """Let a thread be awake that works on ``item`` already. In the loop's thread.

        The thread then calls ``work_on``.

        Args:
            thread: Its id.
            item: Its item.
            work: Its call.
            call: The same for the executor, if that has not raised an error.
        """
        cell = [item]
        with self._lock:
            self._awake += 1
            self._current[thread] = cell
        self._biased_lock.share()
        if call is not None:
            self._calls[call] = work, cell
            call.add_done_callback(partial(self._ended, work))

    def work_on(self, first: Callable[[], bool] | None = None) -> None:
        """Work in a thread that is awake.

        Args:
            first: Settles its first item; tells whether the thread has to leave at once.
        """
        try:
            if first is None or not first():
                self._host.drain(self)
        except BaseException as error:  # the run must end even if Cascade itself is at fault
            self.stop()
            self._tell(self._host.refused, error)
            self.leave()

    def _tell(self, function: Callable[..., None], *details: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of an abandoned run is closed
            self._run.event_loop_calls.add(function, *details)

    def _look_no_more(self) -> None:
        self._forget_late_wake()
        self._seen = []
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None  # its context holds the inputs of the run

    def _call_off(self) -> None:
        """Withdraw requested threads that have not begun, and look no more."""
        self._look_no_more()
        for call, (work, _) in list(self._calls.items()):
            # The future belongs to the executor: pools whose threads cannot start fail the items of
            # their queue, and stop doing so at a cancelled one.
            if work.withdraw():
                self._calls.pop(call, None)
                with self._lock:
                    self._awake -= 1
                self._tell(self._idle)

    def _start(self, count: int) -> None:
        for _ in range(count):
            with self._lock:
                self._awake += 1
                first = self._awake == 1
            if first and self._host.is_alone:
                self._biased_lock.give()
            else:
                self._biased_lock.share()
            cell: list[Any] = [None]
            work = WorkerCall(self._work, cell)
            work.cascade_priority = self._priority
            try:
                call = self._run.submit(self._run.threads, "plain tasks", work)
            except Exception as error:  # the pool was shut down, or has no thread
                if work.withdrawn:
                    with self._lock:
                        self._awake -= 1
                    self._host.refused(error)
                return
            self._calls[call] = work, cell
            call.add_done_callback(partial(self._ended, work))

    def _ended(self, work: WorkerCall[None], call: Future[None]) -> None:
        """The call of a thread has ended, perhaps without having begun. In any thread."""
        self._calls.pop(call, None)
        if not work.withdraw():
            return  # the thread has left by itself
        with self._lock:
            self._awake -= 1
        if self._stopped:
            self._tell(self._idle)
        else:
            self._tell(self._host.refused, not_begun(self._run.threads, "plain tasks", call))

    def keep_looking(self) -> None:
        """Look at the threads while any is awake. In the loop's thread."""
        if self._awake and not self._looking:
            self._looking = True
            self._load.start()
            self._next_look = self._run.loop.call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        with self._lock:
            awake = self._awake
        now = [cell[0] for cell in list(self._current.values())]
        stuck = len(now) == len(self._seen) and all(map(operator.is_, now, self._seen))
        self._seen = now
        if not awake or self._stopped:
            self._looking = False
            self._seen = []
            self.short_since = 0.0
            return
        self._host.looked()
        if self.ready and self._is_less_urgent():
            self.ready.append(GIVE_WAY)
        may_help = self._load.helpful(awake)
        if stuck and self.ready:
            self._start(min(may_help, len(self.ready), self._most - awake))
            self.short_since = self.short_since or time.monotonic()
            self._host.short_of_threads()
        else:
            self.short_since = 0.0
        self._next_look = self._run.loop.call_later(LOOK_EVERY, self._look)

    @property
    def _priority(self) -> int:
        """The priority of the next ready item among those of all runs."""
        first = self.ready.first() if isinstance(self.ready, ByPriority) else None
        own = 0 if first is None or not self.is_ranked else priority_of(first[1])
        return self._run.priority + own

    def _is_less_urgent(self) -> bool:
        """Whether another run waits for a thread, with a node that comes before all of this one."""
        waiting = getattr(self._run.threads, "most_urgent", None)
        if waiting is None or isinstance(self._run.loop, VirtualLoop):
            return False
        rank, call = waiting
        if any(work is call for work, _ in list(self._calls.values())):
            return False
        self._host.rank()
        first = self.ready.first() if isinstance(self.ready, ByPriority) else None
        if first is None or first[1] is GIVE_WAY:
            return False
        own = first[0][-1] if isinstance(first[0], tuple) else first[0]
        return bool(rank < own - self._run.priority)

    def _resume(self) -> None:
        """Ask for a thread again, after one has given way. In the loop's thread."""
        if self.ready and not self._stopped and self._awake < self._most:
            self._start(1)
            self.keep_looking()

    def _idle(self) -> None:
        if self._quiet is not None and not self._awake and not self._quiet.done():
            self._quiet.set_result(None)
        self._host.idle()
