"""Warnings about values that have no stored form: one for each task, as its nodes may be many."""

from __future__ import annotations

import logging

from cascade.spec.lazy_types import LazyResult

_log = logging.getLogger("cascade.durable")


class WarningsOnce:
    """Logs a text for each task once.

    Args:
        text: Has a place for the name of the task, and one for the error.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._warned: set[str] = set()

    def warn(self, node: LazyResult[object], error: Exception) -> None:
        """Log the text for the task of a node."""
        if node.name not in self._warned:
            self._warned.add(node.name)
            _log.warning(self._text, node.name, error)
