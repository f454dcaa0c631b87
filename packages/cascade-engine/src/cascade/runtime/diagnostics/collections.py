"""Pauses by the garbage collector, which are no fault of the call in which they come.

The collector runs in whichever thread makes one object too many, for as long as the heap takes:
half a second in a service with some million objects. ``gc.callbacks`` tells of each collection.

Not on CPython 3.11, where a collection may come in the midst of C code that relies on the
interpreter's lock: a callback in Python may give the lock away there, and two threads that parse
source fail with "AST constructor recursion depth mismatch" (gh-106905). There, full collections are
counted, and the size of the heap says how long they may have taken.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from time import perf_counter
from typing import Any, NamedTuple, Protocol

#: Shorter pauses are not remembered.
_LEAST = 0.0005
#: Seconds of a pause that is told of.
_LONG = 0.1
#: Seconds that a full collection takes for each block of memory, at most: 20 to 90 ns were measured
#: for lists, dicts and instances. Tuples and lists scattered over memory took 187 and 274: a call
#: in which such a heap is collected may be blamed.
_PER_BLOCK = 1e-7

_log = logging.getLogger("cascade.blocking")


class Pauses(Protocol):
    """The last pauses of this process. Times are those of ``perf_counter``."""

    def listen(self) -> None:
        """Know of collections from now on."""

    def check(self, now: float) -> None:
        """Ignore pauses that ended by ``now`` for a call that begins now."""

    def since(self, began: float, thread: int) -> float:
        """Seconds of pauses of a thread since then."""


class Pause(NamedTuple):
    """A collection."""

    thread: int
    began: float
    seconds: float


class HeardPauses:
    """Is called at the beginning and the end of each collection."""

    def __init__(self) -> None:
        self._last: deque[Pause] = deque(maxlen=64)
        #: Thread and beginning of the collection under way.
        self._under_way: tuple[int, float] | None = None
        self._longest = _LONG / 2
        self._is_listening = False

    def listen(self) -> None:
        if not self._is_listening:
            self._is_listening = True
            gc.callbacks.append(self._told)

    def check(self, now: float) -> None:
        """Nothing to do: beginning and end of each are known."""

    def since(self, began: float, thread: int) -> float:
        seconds, until = 0.0, inf
        under_way = self._under_way  # looked at first, as it is among the last when it has ended
        if under_way is not None and under_way[0] == thread and under_way[1] >= began:
            until = under_way[1]
            seconds = perf_counter() - until
        for pause in list(self._last):
            if pause.thread == thread and began <= pause.began < until:
                seconds += pause.seconds
        return seconds

    def _told(self, phase: str, info: Mapping[str, Any]) -> None:
        thread, now = threading.get_ident(), perf_counter()
        if phase == "start":
            self._under_way = thread, now
            return
        if self._under_way is None or self._under_way[0] != thread:
            return
        began = self._under_way[1]
        seconds = now - began
        if seconds >= _LEAST:
            self._last.append(Pause(thread, began, seconds))
        self._under_way = None
        if seconds >= 2 * self._longest:  # warn again only about a much longer pause
            self._longest = seconds
            _log.info(
                "the garbage collector has paused the program for %.1f s (generation %s); "
                "gc.freeze() after the start of a program leaves out what it has made by then",
                seconds,
                info.get("generation"),
            )


class Counted(NamedTuple):
    """Full collections between two checks, which have paused all threads."""

    after: float
    until: float
    #: What they have taken at most.
    seconds: float


class CountedPauses:
    """Compares the number of full collections at each check, which takes 2 µs.

    Those of the younger generations take less than a millisecond. Two threads that check at the
    same time may both remember the same collections: one excuse too many, which the next look at
    the call makes good.

    Args:
        collections: How many full collections there were in this process.
        blocks: How many blocks of memory the heap has now.
    """

    def __init__(
        self,
        collections: Callable[[], int] = lambda: int(gc.get_stats()[-1]["collections"]),
        blocks: Callable[[], int] = sys.getallocatedblocks,
    ) -> None:
        self._collections = collections
        self._blocks = blocks
        #: How many there were at the last check, and when that was.
        self._checked: tuple[int, float] | None = None
        self._last: deque[Counted] = deque(maxlen=64)

    def listen(self) -> None:
        if self._checked is None:
            self._checked = self._collections(), perf_counter()

    def check(self, now: float) -> None:
        if self._checked is None:
            return
        before, after = self._checked
        count = self._collections()
        self._checked = count, now
        if count > before:
            seconds = (count - before) * self._blocks() * _PER_BLOCK
            if seconds >= _LEAST:
                self._last.append(Counted(after, now, seconds))

    def since(self, began: float, thread: int) -> float:
        now = perf_counter()
        self.check(now)
        return sum(
            min(counted.seconds, counted.until - max(counted.after, began))
            for counted in list(self._last)
            if counted.until > began
        )


#: Those of the process. From 3.12 on, collections come between two instructions only.
pauses: Pauses = HeardPauses() if sys.version_info >= (3, 12) else CountedPauses()
