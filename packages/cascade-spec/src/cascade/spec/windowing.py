"""Windowing: how a map with a window reads its columns, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Taker(Protocol):
    """Takes the values of the items of a map, in the order in which they come."""

    def put(self, index: int, value: Any) -> None:
        """Take the value of an item of a map without a window. From any thread."""

    async def take(self, index: int, value: Any, run: Resting | None) -> None:
        """``put`` for a map with a window, whose item is under way until this returns.

        ``run`` is told if it returns only after other items have been taken.
        """


class Resting(Protocol):
    """A run, as its coroutines see it that wait for other nodes; see ``turns``."""

    def rest(self) -> None:
        """One more of them waits for other nodes only. In the event loop's thread."""

    def go_on(self) -> None:
        """One of them no longer does. From any thread."""


@dataclass(slots=True, eq=False)
class Windowing:
    """How a map reads its columns, and what becomes of the values: a list, or a fold."""

    #: Most items under way.
    size: int
    #: A task or another function, ``reducer(so_far, value)``.
    reducer: Any = None
    #: Whether the fold begins with a value of its own, the last argument of ``expand_window``.
    begins: bool = False
    #: Whether a run has read an iterator among the columns.
    is_spent: bool = False
