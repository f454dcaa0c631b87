"""Overriding: tests replace functions, and record calls, in the runs of all engines of a process.

Replacements stand for the functions of tasks and nodes (``cascade.testing.override``); watches are
middlewares that record calls. Both are in force for runs that begin from then on. Such runs
take no short cuts, so that each call is made by itself, and they use no cache, so that no value
that a test has made up is found later. Other runs pay one comparison each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from cascade.spec.operation import Operation


class Replacement:
    """A function in the place of that of a task, of all tasks of a name, or of a node.

    Args:
        by: Gives the function for an operation.
        func: The function of the task; None for any.
        name: The name of the task; None for any.
        node: ``LazyResult.number`` of the node; None for any.
    """

    def __init__(
        self,
        by: Callable[[Operation], Callable[..., Any]],
        *,
        func: Callable[..., Any] | None = None,
        name: str | None = None,
        node: int | None = None,
    ) -> None:
        self._by = by
        self._func, self._name, self._node = func, name, node

    def function(self, operation: Operation, node: int) -> Callable[..., Any] | None:
        """The function for a call; None if the replacement is not meant for it."""
        if self._node is not None:
            return self._by(operation) if self._node == node else None
        if operation.structural:
            return None
        meant = operation.func is self._func if self._name is None else operation.name == self._name
        return self._by(operation) if meant else None


class Watch:
    """A middleware in all runs."""

    def __init__(self, middleware: Callable[..., Any]) -> None:
        self.middleware = middleware


class Overrides:
    """The parts in force; of several replacements for a call the last one counts. Immutable.

    Attributes:
        middleware: The functions around all calls, outside of those of the engine.
    """

    def __init__(self, parts: Sequence[Replacement | Watch]) -> None:
        self._latest_first = tuple(p for p in reversed(parts) if isinstance(p, Replacement))
        self.middleware = tuple(part.middleware for part in parts if isinstance(part, Watch))

    def function(self, operation: Operation, node: int) -> Callable[..., Any] | None:
        """The function for a call of ``operation``; None for its own."""
        for replacement in self._latest_first:
            found = replacement.function(operation, node)
            if found is not None:
                return found
        return None


class _InForce:
    """The parts in force in this process. Thread-safe; they may end in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: list[Replacement | Watch] = []
        self.now: Overrides | None = None

    def add(self, part: Replacement | Watch) -> None:
        with self._lock:
            self._set([*self._parts, part])

    def remove(self, part: Replacement | Watch) -> None:
        with self._lock:
            self._set([one for one in self._parts if one is not part])

    def _set(self, parts: list[Replacement | Watch]) -> None:
        self._parts = parts
        self.now = Overrides(parts) if parts else None


in_force: Final = _InForce()


def overrides_now() -> Overrides | None:
    """The replacements for a run that begins now; None if there are none."""
    return in_force.now
