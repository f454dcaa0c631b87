"""MemoryLimits: the limits that engines of one process share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from cascade.adapters.stores import checks
from cascade.adapters.stores.listeners import Listeners
from cascade.spec.limit_store import Revision
from cascade.spec.run_store import Unsubscribe


class MemoryLimits:
    """A LimitStore that is gone with its process.

    Args:
        now: Its clock, in seconds.
    """

    local = True

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._documents: dict[str, bytes] = {}
        self._listeners = Listeners()
        self._opened_by = os.getpid()

    def __repr__(self) -> str:
        return "MemoryLimits()"

    def read(self, name: str) -> tuple[bytes | None, float]:
        with self._lock:
            self._check_usable()
            return self._documents.get(name), self._now()

    def revise(self, name: str, revision: Revision) -> None:
        with self._lock:
            self._check_usable()
            new = revision(self._documents.get(name), self._now)
            if new is None:
                return
            self._documents[name] = new.body
        self._listeners.tell()

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        return self._listeners.add(listener)

    def close(self) -> None:
        """Nothing: others may use it."""

    def _check_usable(self) -> None:
        checks.check_usable(self, False, self._opened_by)
