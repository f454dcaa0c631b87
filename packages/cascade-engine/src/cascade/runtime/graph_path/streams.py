"""Streams: maps whose items other maps take over one by one (R8).

A map waits for the values of its columns. A column that is itself a map counts as known when its
items are: the outer map then makes its own items, each of which needs one item of the inner map. So
the node of the inner map has no list, unless something else needs that.

- If an outer map is the only user, and ready at once, nothing of the inner map is wired before the
  outer one has made its items, which need those of the inner map as ordinary inputs.
- Otherwise the items of the inner map begin at once, and their values are kept until the outer
  maps, which wait for other columns, have taken them over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade.graph.wiring import Several, Wiring, users_of
from cascade.runtime.graph_path.segments import Segment, Taker
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult
from cascade.spec.mapping import takes_over
from cascade.spec.operation import FallbackOperation


class _Opened:
    """The items of a map that is used as a column."""

    __slots__ = ("items", "lasting", "pending")

    def __init__(self, items: Sequence[LazyResult[Any]], lasting: bool) -> None:
        self.items = items
        #: Whether the run keeps the values, for maps that it meets later (M21).
        self.lasting = lasting
        #: Number of outer maps that have not taken the items over.
        self.pending = 0


class Streams:
    """The maps of one run that hand over their items. Call it under the lock."""

    def __init__(self) -> None:
        #: Inner maps whose items are known, as long as these may be taken over.
        self._opened: dict[LazyResult[Any], _Opened] = {}
        #: Outer map → its columns whose items are known.
        self._columns: dict[Taker, list[LazyResult[Any]]] = {}

    def is_taker(self, segment: Segment, node: LazyResult[Any]) -> bool:
        """Whether a node is an outer map with columns whose items it takes over."""
        return bool(self._columns) and (segment, node) in self._columns

    def lists_of(self, wiring: Wiring) -> list[LazyResult[Any]]:
        """The nodes outside of a new graph whose values it needs: not only their items."""
        if not self._opened:
            return wiring.outside
        return [
            lazy
            for lazy in wiring.outside
            if lazy not in self._opened
            or not all(takes_over(user, lazy) for user in users_of(wiring.users[lazy]))
        ]

    def attach_known(self, segment: Segment, wiring: Wiring) -> list[LazyResult[Any]]:
        """Attach the outer maps of a new graph; those that wait for nothing else."""
        if not self._opened:
            return []
        return [
            taker[1]
            for lazy in wiring.outside
            if lazy in self._opened
            for taker in self.takers(segment, lazy)
            if self.attach(taker, lazy)
        ]

    def open(
        self, column: LazyResult[Any], items: Sequence[LazyResult[Any]], lasting: bool
    ) -> None:
        """Let other maps take over the items of ``column``."""
        self._opened[column] = _Opened(items, lasting)

    def takers(self, segment: Segment, column: LazyResult[Any]) -> list[Taker]:
        """The maps in a segment that take over the items of ``column``."""
        users = dict.fromkeys(users_of(segment.slots.get(column)))
        return [(segment, user) for user in users if takes_over(user, column)]

    def is_ready(self, taker: Taker, column: LazyResult[Any]) -> bool:
        """Whether an outer map waits for nothing but ``column``."""
        segment, outer = taker
        times = sum(user is outer for user in users_of(segment.slots.get(column)))
        return segment.waits.get(outer, 1) == times

    def attach(self, taker: Taker, column: LazyResult[Any]) -> bool:
        """Let an outer map wait for ``column`` no longer; whether it waits for nothing else."""
        segment, outer = taker
        users = users_of(segment.slots.pop(column))
        rest = [user for user in users if user is not outer]
        if rest or column in segment.kept:
            segment.slots[column] = Several(rest)
        self._columns.setdefault(taker, []).append(column)
        self._opened[column].pending += 1
        outer._plain = False  # it must not be called by the fast lane
        left = segment.waits.get(outer, 1) - (len(users) - len(rest))
        if left:
            segment.waits[outer] = left
        else:
            segment.waits.pop(outer, None)
        return not left

    def take(self, taker: Taker) -> dict[LazyResult[Any], list[LazyResult[Any]]]:
        """The items of the columns of an outer map, which begins."""
        found = {}
        for column in self._columns.pop(taker, ()):
            opened = self._opened[column]
            found[column] = list(opened.items)
            opened.pending -= 1
            if not (opened.pending or opened.lasting):
                del self._opened[column]
        return found

    def close(self) -> None:
        """Forget all maps."""
        self._opened.clear()
        self._columns.clear()


def is_list_of_items(target: LazyResult[Any]) -> bool:
    """Whether a map has continued as ``target``."""
    if target.task is not GATHER or not target._dependencies:
        return False
    first = target._dependencies[0]
    while type(first.task) is FallbackOperation:
        first = first.args[1]
    return first._index is not None
