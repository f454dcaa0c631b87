"""Pauses of the garbage collector: a call that lasted long because of one is not reported.

The collector runs in the thread whose allocation triggers it, for a time that depends on the heap:
half a second in a service with some million objects. ``gc.callbacks`` reports each collection.

Not on CPython 3.11, where a collection may start in the middle of C code that relies on the
interpreter's lock: a Python callback may release the lock there, and two threads that parse source
then fail with "AST constructor recursion depth mismatch" (gh-106905). There, full collections are
counted, and the size of the heap gives an estimate of their duration.
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
#: Seconds of a pause that is worth a warning.
_LONG = 0.1
#: Most seconds of a full collection per block of memory: 20 to 90 ns were measured for lists, dicts
#: and instances. Tuples and lists scattered over memory took 187 and 274: a call in which such a
#: heap is collected may be blamed.
_PER_BLOCK = 1e-7

_log = logging.getLogger("cascade.blocking")


class Pauses(Protocol):
    """The latest pauses of this process. Times are those of ``perf_counter``."""

    def listen(self) -> None:
        """Record collections from now on."""

    def check(self, now: float) -> None:
        """Ignore pauses that ended by ``now`` for a call that begins now."""

    def since(self, began: float, thread: int) -> float:
        """Seconds of a thread's pauses since ``began``."""


class Pause(NamedTuple):
    """A collection."""

    thread: int
    began: float
    seconds: float


class HeardPauses:
    """Records pauses from callbacks at the beginning and the end of each collection."""

    def __init__(self) -> None:
        self._last: deque[Pause] = deque(maxlen=64)
        #: Thread and beginning of the running collection.
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
        under_way = self._under_way  # read first: when it has ended, it is among the latest
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
    """Full collections between two checks, which paused all threads."""

    after: float
    until: float
    #: Their longest possible duration.
    seconds: float


class CountedPauses:
    """Compares the number of full collections at each check, which takes 2 µs.

    Collections of the younger generations take less than a millisecond. Two threads that check at
    the same time may both record the same collections. A call is then excused once too often, which
    the next look at it corrects.

    Args:
        collections: Returns the number of full collections in this process.
        blocks: Returns the present number of memory blocks of the heap.
    """

    def __init__(
        self,
        collections: Callable[[], int] = lambda: int(gc.get_stats()[-1]["collections"]),
        blocks: Callable[[], int] = sys.getallocatedblocks,
    ) -> None:
        self._collections = collections
        self._blocks = blocks
        #: Number of collections at the last check, and its time.
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


#: The pauses of the process. From 3.12 on, collections start only between two instructions.
pauses: Pauses = HeardPauses() if sys.version_info >= (3, 12) else CountedPauses()
