"""Clerk: the thread that speaks with a store of shared limits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from weakref import WeakMethod

from cascade.runtime.limits.ledger import Ledger
from cascade.spec.errors import StoreError
from cascade.spec.limit_store import Clock, LimitStore, Revised

#: The name of the document.
DOCUMENT: Final = "limits"
#: Seconds for which the end of a program waits for its last word to the store.
_LAST_WORD_WITHIN: Final = 2.0


#: Seconds until the next round after one that failed unexpectedly.
_AFTER_A_FAULT: Final = 1.0

_log = logging.getLogger("cascade.stores")


def clock() -> float:
    """Seconds that pass also while the machine sleeps, where the system counts them.

    No setting of the time moves it, and it goes on while the process is stopped.
    """
    return _clock()


def _best_clock() -> Callable[[], float]:
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    if boot_time is None:
        return time.monotonic
    return lambda: time.clock_gettime(boot_time)


_clock = _best_clock()


class Clerk:
    """Makes rounds to a store, each when the last one has said, or when it is woken.

    It does not keep the owner of its rounds alive.

    Args:
        limits: The store, which it closes.
        member: The name that leaves the ledger at the end.
    """

    def __init__(self, limits: LimitStore, member: str) -> None:
        self._limits = limits
        self._member = member
        self._due = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def start(self, make_round: Callable[[], float]) -> None:
        """Make rounds from now on, on a thread.

        Args:
            make_round: A bound method: makes one, and returns the seconds until the next.
        """
        self._thread = threading.Thread(
            target=self._work, args=(WeakMethod(make_round),), daemon=True
        )
        self._thread.name = "cascade-shared-limits"
        self._thread.start()

    def wake(self) -> None:
        """Have a round made at once."""
        if not self._due.is_set():
            self._due.set()

    def end(self) -> None:
        """Make no more rounds, and leave the ledger. May be repeated."""
        self._ended = True
        self._due.set()
        if self._thread is None:
            self._leave()
        elif self._thread is not threading.current_thread():
            self._thread.join(_LAST_WORD_WITHIN)

    def _work(self, method: WeakMethod[Callable[[], float]]) -> None:
        pause = 0.0
        while True:
            self._due.wait(pause)
            self._due.clear()
            make_round = method()
            if self._ended or make_round is None:
                break
            try:
                pause = make_round()
            except Exception:  # without rounds, all that wait would do so for ever
                _log.exception("a round to the store of shared limits failed")
                pause = _AFTER_A_FAULT
            del make_round
        self._leave()

    def _leave(self) -> None:
        def leave(body: bytes | None, _now: Clock) -> Revised | None:
            ledger = Ledger.read(body)
            return Revised(ledger.write()) if ledger.forget([self._member]) else None

        with suppress(StoreError):  # its lease ends by itself
            self._limits.revise(DOCUMENT, leave)
        self._limits.close()
