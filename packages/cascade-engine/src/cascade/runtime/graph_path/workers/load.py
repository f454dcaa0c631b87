"""The load of a run's threads: whether they wait or compute (M11).

More threads help those that wait, and disturb those that compute (M11). Two signs tell them apart.
If a look comes late, a thread is computing in Python: the loop had to wait for the interpreter's
lock. If the process uses all cores, threads compute outside of the lock. Then a thread is added
only while fewer threads than cores compute, according to the threads' CPU clocks.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

#: Seconds between two looks at the progress of the awake threads.
LOOK_EVERY = 0.001
#: A look that is later than this waited for the interpreter's lock, which changes hands after 5 ms.
_LATE = 0.002
#: Seconds over which threads are sorted into computing and waiting: several turns of that lock.
_WINDOW = 0.025
#: A thread with this share of the window computes; of many computing threads, each has a small one.
_COMPUTES = 0.05
_HAS_CLOCKS = hasattr(time, "pthread_getcpuclockid")
#: Of a clock that was not read yet.
_UNREAD = -1.0
_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


class Load:
    """Tells whether the awake threads wait or compute. Used in the event loop's thread."""

    def __init__(self) -> None:
        #: Determined at first use: most runs end before the first look.
        self._cores = 0
        #: Thread → (its CPU clock, the clock's value at the start of the window).
        self._clocks: dict[int, tuple[int, float]] = {}
        #: Threads whose clocks are unread.
        self._new: list[int] = []
        self._looked = self._window = self._used = 0.0

    def start(self) -> None:
        """Take the first readings; before the first look."""
        self._looked = self._window = time.monotonic()
        self._used = time.process_time()

    def enter(self) -> None:
        """The calling thread is now awake."""
        if _HAS_CLOCKS:
            me = threading.get_ident()
            # Read at the next look: most runs end before that, and reading it takes microseconds.
            self._clocks[me] = time.pthread_getcpuclockid(me), _UNREAD
            self._new.append(me)

    def leave(self, thread: int) -> None:
        """``thread`` is no longer awake."""
        self._clocks.pop(thread, None)

    def helpful(self, awake: int) -> int:
        """The number of further threads that would probably help; called at every look."""
        if not self._cores:
            self._cores = len(os.sched_getaffinity(0)) if _HAS_AFFINITY else os.cpu_count() or 1
        self._read_new()
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

    def _read_new(self) -> None:
        """Read the clocks of the threads that have come since the last look."""
        while self._new:
            thread = self._new.pop()
            clock, _ = self._clocks.get(thread, (None, 0.0))
            if clock is None:
                continue
            with contextlib.suppress(OSError):  # the thread has just ended
                now = time.clock_gettime(clock)
                if thread in self._clocks:
                    self._clocks[thread] = clock, now

    def _computing(self, now: float) -> int:
        """The number of threads that have computed since the last call."""
        window, self._window = now - self._window, now
        count = 0
        # Copied in one step: while ``list`` makes the items, the collector may let threads go on.
        for thread, (clock, before) in self._clocks.copy().items():
            if before == _UNREAD:
                continue
            try:
                after = time.clock_gettime(clock)
            except OSError:  # the thread has just ended
                continue
            if thread in self._clocks:
                self._clocks[thread] = (clock, after)
            count += after - before > _COMPUTES * window
        return count
