"""WorkerPool: threads that drain one queue of things to do (rule R9's no leftovers, M11, M12).

Policy. A thread that is awake pops from the queue, works, and pops again: while things to do are
short, one thread does them all, with no hop through the event loop in between. When that thread
sits in one of them (it sleeps, reads a file) while others are ready, more are woken: the event loop
looks once in a millisecond, and each time nothing was finished since, the number awake doubles.
So trivial work costs about a function call, and blocking work overlaps up to the executor's size.

More threads help those that wait and only get in the way of those that compute (M11). Two signs
tell them apart. A look that comes late says that somebody computes in Python: the loop had to wait
for the interpreter's lock. A process that uses all cores says that somebody computes outside of it.
Then a thread is added only while fewer than there are cores compute, by the threads' CPU clocks.

State vocabulary:

- *ready*: what could be worked on now;
- *awake*: threads that are inside of ``drain``; each leaves when it finds nothing ready;
- *current*: a cell for each of them, where it puts what it works on. That something else is there
  than before is the sign of life that the look at progress asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import operator
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from cascade.runtime.execution.worker_calls import WorkerCall, not_begun
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.run import Run

#: Seconds between two looks at whether the awake threads get on.
LOOK_EVERY = 0.001
#: A look that is later than this waited for the interpreter's lock, which changes hands after 5 ms.
_LATE = 0.002
#: Seconds over which threads are sorted into computing and waiting, several turns of that lock.
_WINDOW = 0.025
#: A thread that used this share of the window computes; of many that do, each gets a small one.
_COMPUTES = 0.05
_DEFAULT_WORKERS = 32
_HAS_CLOCKS = hasattr(time, "pthread_getcpuclockid")
_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


class Ready(Protocol):
    """A queue whose methods are atomic: they run in C while the thread holds the GIL."""

    def append(self, item: Any, /) -> None: ...
    def popleft(self) -> Any: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...


class ByPriority:
    """Ready things by priority, lowest number first, in order of arrival among equals."""

    def __init__(self, priority: Callable[[Any], int]) -> None:
        self._priority = priority
        self._heap: list[tuple[int, int, Any]] = []
        self._arrival = itertools.count()

    def append(self, item: Any) -> None:
        heapq.heappush(self._heap, (self._priority(item), next(self._arrival), item))

    def popleft(self) -> Any:
        return heapq.heappop(self._heap)[2]

    def clear(self) -> None:
        self._heap.clear()

    def __len__(self) -> int:
        return len(self._heap)


class WorkerPool:
    """The threads of one run. Made, woken and stopped in the event loop's thread.

    Args:
        run: Lends the executor.
        drain: The body of a thread. It calls ``enter``, pops from ``ready`` and puts what it popped
            into the cell that it was given, again and again; when nothing is ready it calls
            ``leave``, and returns if that says so.
        lock: Guards all that ``drain`` changes; owned by the thread as long as there is only one.
        is_alone: Asked in the loop's thread: whether nobody but the workers uses ``lock``.
        on_idle: Called in the loop's thread when the last awake thread has left.
        on_refusal: Called in the loop's thread when the executor lends no thread, or ``drain``
            raises, which it should not.
        ready: The queue; ordered by arrival if left out.
    """

    def __init__(
        self,
        run: Run,
        drain: Callable[[WorkerPool], None],
        lock: BiasedLock,
        is_alone: Callable[[], bool],
        on_idle: Callable[[], None],
        on_refusal: Callable[[BaseException], None],
        ready: Ready | None = None,
    ) -> None:
        self._run = run
        self._drain = drain
        self._biased_lock = lock
        self._is_alone = is_alone
        self._on_idle = on_idle
        self._on_refusal = on_refusal
        self.ready: Ready = deque() if ready is None else ready
        self._lock = threading.Lock()
        self._awake = 0
        #: Awake thread → what it works on.
        self._current: dict[int, list[Any]] = {}
        self._seen: list[Any] = []
        #: The call of each thread, until it has ended, and the cell for its current item.
        self._calls: dict[Future[None], tuple[WorkerCall[None], list[Any]]] = {}
        self._looking = False
        self._next_look: asyncio.TimerHandle | None = None
        self._stopped = False
        self._quiet: asyncio.Future[None] | None = None
        #: Called in the loop's thread at each look at those that are awake.
        self.on_look: Callable[[], None] = _nothing
        self._most = getattr(run.executor, "max_workers", _DEFAULT_WORKERS)
        self._load = _Load()

    @property
    def busy(self) -> bool:
        """Whether anything is ready or being worked on."""
        return bool(self._awake) or bool(self.ready)

    def push(self, item: Any) -> None:
        """Have ``item`` worked on, without waking anybody: for a thread that is awake itself."""
        if not self._stopped:
            self.ready.append(item)

    def wake(self) -> None:
        """See to it that somebody works on what is ready. In the loop's thread."""
        if not self.ready or self._stopped:
            return
        with self._lock:
            if self._awake:
                return
        self._start(1)
        self._keep_looking()

    def wake_another(self) -> None:
        """Have one more thread, if there may be one: for what is known to block."""
        with self._lock:
            if self._awake >= self._most or not self.ready or self._stopped:
                return
        self._start(1)
        self._keep_looking()

    def stop(self) -> None:
        """Drop what is ready; threads leave after the call that they are in."""
        self._stopped = True
        self.ready.clear()

    async def quiet(self) -> None:
        """Wait until no thread is awake; after ``stop``, in the loop's thread."""
        self._call_off()
        with self._lock:
            if not self._awake:
                return
            self._quiet = self._run.loop.create_future()
        await self._quiet

    def working(self) -> list[tuple[Future[None], Any]]:
        """The calls of awake threads, and what each works on; to abandon them, after ``stop``."""
        self._call_off()
        awake = set(map(id, list(self._current.values())))
        calls = list(self._calls.items())
        return [(call, cell[0]) for call, (_, cell) in calls if id(cell) in awake]

    def worked_on(self) -> list[Any]:
        """What the awake threads work on."""
        return [cell[0] for cell in list(self._current.values())]

    def enter(self) -> list[Any]:
        """The calling thread is awake from now on; the cell for what it works on."""
        self._load.enter()
        return self._current[threading.get_ident()]

    def leave(self) -> bool:
        """Stop being awake, unless something became ready just now."""
        with self._lock:
            if self.ready and not self._stopped:
                return False
            self._awake -= 1
            last = not self._awake
            self._current.pop(threading.get_ident(), None)
            self._load.leave()
        if last:
            self._tell(self._idle)
        return True

    def _work(self, cell: list[Any]) -> None:
        """What a thread is lent for."""
        self._current[threading.get_ident()] = cell
        try:
            self._drain(self)
        except BaseException as error:  # a run must end also where the fault is ours
            self.stop()
            self._tell(self._on_refusal, error)
            self.leave()

    def _tell(self, function: Callable[..., None], *details: Any) -> None:
        with contextlib.suppress(RuntimeError):  # an abandoned run, its loop is closed
            self._run.loop.call_soon_threadsafe(function, *details)

    def _call_off(self) -> None:
        """Do without the threads that were asked for and have not begun, and look no more."""
        self._seen = []
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None  # it has a context, and that what the run was given
        for call, (work, _) in list(self._calls.items()):
            # Its future is the executor's: pools whose threads cannot begin fail what is in their
            # queue, and break off where one of these was cancelled.
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
            if first and self._is_alone():
                self._biased_lock.give()
            else:
                self._biased_lock.share()
            cell: list[Any] = [None]
            work = WorkerCall(self._work, cell)
            try:
                call = self._run.submit(self._run.executor, "plain tasks", work)
            except Exception as error:  # it was shut down, or has no thread
                if work.withdrawn:
                    with self._lock:
                        self._awake -= 1
                    self._on_refusal(error)
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
            self._tell(self._on_refusal, not_begun(self._run.executor, "plain tasks", call))

    def _keep_looking(self) -> None:
        if not self._looking:
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
            return
        self.on_look()
        may_help = self._load.helpful(awake)
        if stuck and self.ready:
            self._start(min(may_help, len(self.ready), self._most - awake))
        self._next_look = self._run.loop.call_later(LOOK_EVERY, self._look)

    def _idle(self) -> None:
        if self._quiet is not None and not self._awake and not self._quiet.done():
            self._quiet.set_result(None)
        self._on_idle()


def _nothing() -> None:
    """What is done at a look where nobody wants more."""


class _Load:
    """What the awake threads do: wait, or compute. Asked in the event loop's thread."""

    def __init__(self) -> None:
        #: Found out when first asked for: most runs end before anybody looks.
        self._cores = 0
        #: Thread → (its CPU clock, what that showed at the start of the window).
        self._clocks: dict[int, tuple[int, float]] = {}
        self._looked = self._window = self._used = 0.0

    def start(self) -> None:
        """Take the first readings; before the first look."""
        self._looked = self._window = time.monotonic()
        self._used = time.process_time()

    def enter(self) -> None:
        """The calling thread is awake from now on."""
        if _HAS_CLOCKS:
            clock = time.pthread_getcpuclockid(threading.get_ident())
            self._clocks[threading.get_ident()] = (clock, time.clock_gettime(clock))

    def leave(self) -> None:
        """The calling thread is not awake any more."""
        self._clocks.pop(threading.get_ident(), None)

    def helpful(self, awake: int) -> int:
        """How many more threads are likely to get more done; called at every look."""
        if not self._cores:
            self._cores = len(os.sched_getaffinity(0)) if _HAS_AFFINITY else os.cpu_count() or 1
        now, used = time.monotonic(), time.process_time()
        elapsed = now - self._looked
        busy = (used - self._used) / elapsed if elapsed else 0.0
        self._looked, self._used = now, used
        if elapsed < LOOK_EVERY + _LATE and busy < 0.8 * self._cores:
            return awake
        if now - self._window < _WINDOW:
            return 0
        computing = self._computing(now) if _HAS_CLOCKS else awake
        return 1 if computing < self._cores else 0

    def _computing(self, now: float) -> int:
        """How many threads computed since the last time that this was asked."""
        window, self._window = now - self._window, now
        count = 0
        for thread, (clock, before) in list(self._clocks.items()):
            try:
                after = time.clock_gettime(clock)
            except OSError:  # the thread ended just now
                continue
            if thread in self._clocks:
                self._clocks[thread] = (clock, after)
            count += after - before > _COMPUTES * window
        return count
