"""Reasons why a call took long: it computed, it waited, or other threads had the processor.

On a busy machine, and beside threads that hold the interpreter's lock, any call takes long now and
then; that tells nothing about its function. Clocks of the thread help: a thread that was ready to
run all the time has not waited by itself, and is to blame only for the time that it has computed.
Reading the clocks costs more than a short call, so they are read at most once per millisecond.
"""

from __future__ import annotations

import threading
from time import process_time, thread_time
from typing import NamedTuple

from cascade.runtime.diagnostics.gc_pauses import pauses

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # not on Linux: a call is to blame for all the time that passes
    getrusage = None  # type: ignore[assignment]

#: Seconds for which a reading is valid.
_FRESH = 0.001
#: A call that takes this long, in seconds, has not just waited for the interpreter's lock.
_LONG = 0.05


class _Reading(NamedTuple):
    at: float
    thread: int
    computed: float
    process: float
    waits: int


class Usage:
    """The last reading of the clocks, by any thread.

    Attributes:
        stale: When the next reading is due, by ``perf_counter``.
        disturbed: Last time at which another of our threads got the interpreter's lock after a
            wait; no thread was then asleep in a call without the lock.
        waited: Duration of that wait.
    """

    __slots__ = ("_last", "disturbed", "stale", "waited")

    def __init__(self) -> None:
        self.stale = self.disturbed = self.waited = 0.0
        self._last: _Reading | None = None

    def read(self, now: float) -> None:
        """Read the clocks of this thread; call it before a call if ``now > stale``."""
        self.stale = now + _FRESH
        if getrusage is not None:
            pauses.check(now)
            waits = getrusage(RUSAGE_THREAD).ru_nvcsw
            thread = threading.get_ident()
            self._last = _Reading(now, thread, thread_time(), process_time(), waits)

    def blame(self, began: float, seconds: float) -> float:
        """The part of the seconds since ``began`` that a call is to blame for."""
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


#: The instance of this process.
usage = Usage()
