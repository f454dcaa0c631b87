"""Pauses by the garbage collector, which are no fault of the call in which they come.

The collector runs in whichever thread makes one object too many, for as long as the heap takes:
half a second in a service with some million objects. ``gc.callbacks`` tells of each collection.

Not on CPython 3.11, where a collection may come in the midst of C code that relies on the
interpreter's lock: a callback in Python may give the lock away there, and two threads that parse
source fail with "AST constructor recursion depth mismatch" (gh-106905). There pauses are not known.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections import deque
from collections.abc import Mapping
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

#: Shorter pauses are not remembered.
_LEAST = 0.0005
#: Seconds of a pause that is told of.
_LONG = 0.1

_log = logging.getLogger("cascade.blocking")


class Pause(NamedTuple):
    """A collection."""

    thread: int
    began: float
    seconds: float


#: Since then collections come between two instructions only.
_MAY_LISTEN = sys.version_info >= (3, 12)


class Pauses:
    """The last pauses of this process.

    Args:
        listens: Whether to be called at each collection; if not, no pause is known.
    """

    def __init__(self, listens: bool = _MAY_LISTEN) -> None:
        self._listens = listens
        self._last: deque[Pause] = deque(maxlen=64)
        #: Thread and beginning of the collection under way.
        self._under_way: tuple[int, float] | None = None
        self._longest = _LONG / 2
        self._is_listening = False

    def listen(self) -> None:
        """Know of collections from now on."""
        if self._is_listening:
            return
        self._is_listening = True
        if self._listens:
            gc.callbacks.append(self._told)

    def since(self, began: float, thread: int) -> float:
        """Seconds of pauses of a thread since then, by ``perf_counter``."""
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


#: Those of the process.
pauses = Pauses()
