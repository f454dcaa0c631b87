"""Abandoned calls: plain functions that still run after the run has given them up (M8)."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from cascade.spec.protocols import Executor


class AbandonedCalls:
    """The abandoned calls, until they end. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[Future[Any], str] = {}

    def add(self, call: Future[Any], name: str, executor: Executor) -> int:
        """Record ``call`` while it runs, and have its thread replaced; the number of calls."""
        with self._lock:
            self._names[call] = name
            count = len(self._names)
        call.add_done_callback(self._ended)
        replace = getattr(executor, "replace_thread", None)
        if replace is not None:
            replace(call)
        return count

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the calls that still run, in the order in which they were abandoned."""
        with self._lock:
            return tuple(self._names.values())

    def _ended(self, call: Future[Any]) -> None:
        with self._lock:
            self._names.pop(call, None)
