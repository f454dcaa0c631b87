"""Sharing: a lazy value is computed once in a run, however many mention it (M14)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from cascade.runtime.outcomes import RELEASED, released
from cascade.runtime.vm.frame import Cell, Frame
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import LazyResult


class Shared:
    """The lazy values that one run has met, and where their values are. Weak: a loop that makes new
    ones for ever must not be remembered for ever.

    Attributes:
        newest: The number of the youngest of them.
    """

    def __init__(self) -> None:
        self._cells: WeakKeyDictionary[LazyResult[Any], Cell] = WeakKeyDictionary()
        self.newest = 0

    def find(self, lazy: LazyResult[Any]) -> Cell | None:
        """Where the value of ``lazy`` is, or will be; None if it is new.

        Raises:
            ReleasedValueError: Straight-line code has released it after its last use (M21).
        """
        cell = self._cells.get(lazy)
        if cell is not None and cell.value is RELEASED:
            raise released(lazy)
        return cell

    def know(self, lazy: LazyResult[Any], cell: Cell) -> None:
        """Remember where the value of ``lazy`` is, for whoever mentions it again (M14)."""
        self._cells[lazy] = cell
        self.newest = max(self.newest, lazy.number)

    def clear(self) -> None:
        """Forget all of them: the execution is over."""
        self._cells.clear()

    def waiter(self, frame: Frame, cell: Cell, own: Cell | None = None) -> asyncio.Future[Any]:
        """What gives the value of ``cell``, which another asyncio task computes.

        Raises:
            CycleError: It waits for this frame.
        """
        waiting = set(_cells_of(frame))
        if own is not None:
            waiting.add(own)
        _refuse_cycle(cell, waiting)
        for waiter in waiting:
            waiter.blocked_on.add(cell)

        def released(_done: object) -> None:
            for waiter in waiting:
                waiter.blocked_on.discard(cell)

        cell.waiter.add_done_callback(released)
        return cell.waiter


def _cells_of(frame: Frame | None) -> Iterator[Cell]:
    while frame is not None:
        if frame.cell is not None:
            yield frame.cell
        frame = frame.parent


def _refuse_cycle(cell: Cell, waiting: set[Cell]) -> None:
    seen: set[Cell] = set()
    todo = [cell]
    while todo:
        reached = todo.pop()
        if reached in waiting:
            raise CycleError(
                f"'{cell.name}' is asked for by what it waits for itself, so neither can end",
                [cell.name, reached.name, cell.name],
            )
        if reached not in seen:
            seen.add(reached)
            todo.extend(reached.blocked_on)
