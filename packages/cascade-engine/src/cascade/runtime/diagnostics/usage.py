"""What a thread did while a call took long: it computed, it waited, or others had the processor.

A busy machine, and threads that hold the interpreter's lock, make any call take long now and then,
which says nothing about its function. Clocks of the thread tell: one that was ready to run all the
time has not waited of its own accord, and what it has computed is what it is to blame for. Reading
them costs more than a short call does, so they are read once in a millisecond at most.
"""

from __future__ import annotations

import threading
from time import process_time, thread_time
from typing import NamedTuple

from cascade.runtime.diagnostics.collections import pauses

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # not on Linux: a call is to blame for all the time that passes
    getrusage = None  # type: ignore[assignment]

#: Seconds for which a reading will do.
_FRESH = 0.001
#: A call that takes as long as this has not just waited for the interpreter's lock.
_LONG = 0.05


class _Reading(NamedTuple):
    at: float
    thread: int
    computed: float
    process: float
    waits: int


class Usage:
    """The last reading of the clocks of any thread that asked for one.

    Attributes:
        stale: When the next one is due, by ``perf_counter``.
        disturbed: When another thread of ours got the interpreter's lock after it had waited for
            it, so that no thread was asleep in a call without the lock.
        waited: How long that had waited.
    """

    __slots__ = ("_last", "disturbed", "stale", "waited")

    def __init__(self) -> None:
        self.stale = self.disturbed = self.waited = 0.0
        self._last: _Reading | None = None

    def read(self, now: float) -> None:
        """Read the clocks of this thread; to be called before a call if ``now > stale``."""
        self.stale = now + _FRESH
        if getrusage is not None:
            pauses.check(now)
            waits = getrusage(RUSAGE_THREAD).ru_nvcsw
            thread = threading.get_ident()
            self._last = _Reading(now, thread, thread_time(), process_time(), waits)

    def blame(self, began: float, seconds: float) -> float:
        """Seconds that a call is to blame for, of those that have passed since it began."""
        before = self._last
        if before is None or before.thread != threading.get_ident() or before.at > began:
            return seconds
        paused = pauses.since(before.at, before.thread)
        computed = thread_time() - before.computed - paused
        seconds -= paused
        others = process_time() - before.process - computed
        if getrusage(RUSAGE_THREAD).ru_nvcsw == before.waits:
            return min(computed, seconds)
        was_late = self.disturbed >= began
        if was_late and self.waited > seconds / 2:
            return min(computed, seconds)
        if seconds < _LONG and (others > seconds / 2 or was_late):
            return min(computed, seconds)  # it waited for the interpreter's lock
        return seconds


#: That of the process.
usage = Usage()
