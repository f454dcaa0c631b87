"""Abandoned calls: plain functions that still run though nobody waits for them (M8)."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from cascade.spec.protocols import Executor


class AbandonedCalls:
    """Calls that nobody waits for any more, until they end. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[Future[Any], str] = {}

    def add(self, call: Future[Any], name: str, executor: Executor) -> int:
        """Count ``call`` as long as it runs, and have its thread replaced; how many there are."""
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
        """What still runs, in the order in which it was abandoned."""
        with self._lock:
            return tuple(self._names.values())

    def _ended(self, call: Future[Any]) -> None:
        with self._lock:
            self._names.pop(call, None)
