"""Maps over maps: a map takes over the items of another map one by one (R8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from cascade.graph.build import inputs_of
from cascade.graph.wiring import Wiring, users_of, wire
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import (
    Address,
    Handed,
    Segment,
    Taker,
    Work,
)
from cascade.runtime.semantics.outcomes import Failed, Missing, worst
from cascade.spec.lazy_types import LazyResult, gathered

#: The items of columns, which outer maps take over.
_Items = Mapping["LazyResult[Any]", Sequence["LazyResult[Any]"]]


class MapOverMap(Part):
    """Hands over the items of maps to maps of one run. ``streams`` explains the two ways.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._streams = parts.nodes.streams

    def has_takers(self, work: Work) -> bool:
        """Whether other maps take over the items of a map, or may do so later."""
        segment, node, column = work.segment, work.node, work.source
        with self._lock:
            kept = self._nodes.is_kept(segment, node, column)
            return kept or bool(self._takers(segment, node, column))

    def hand_over(self, work: Work, items: LazyResult[Any]) -> None:
        """Hand over the items of a map, whose list is ``items``.

        What may fail comes first: until then nothing has changed.
        """
        segment, node, column = work.segment, work.node, work.source
        with self._lock:
            takers = self._takers(segment, node, column)
            kept = self._nodes.is_kept(segment, node, column)
            used = not takers or self._is_used(segment, node, column, takers)
            alone = len(takers) == 1 and self._streams.is_ready(takers[0], column)
            wiring = None if alone and not (used or kept) else self._wired(node, items)
            self._streams.open(column, items._dependencies, kept)
            ready = [taker for taker in takers if self._streams.attach(taker, column)]
            self._forget_places(segment, node, column)
            if not used:
                segment.taken = {**segment.taken, node: takers}
            if wiring is not None:
                keep = partial(self._nodes.settle, segment, node) if kept else None
                address = self._nodes.address(segment, node) if used else Handed(takers, keep)
                self._nodes.add(wiring, address, items._dependencies)
            if node is segment.target and isinstance(segment.continuation, Address):
                self._nodes.let_go(segment)  # nothing else of it is left
            for taker in ready:
                self._dispatch.activate(*taker)
        self._dispatch.wake_later()

    def begin(self, segment: Segment, outer: LazyResult[Any]) -> Work | None:
        """The work of an outer map that has all its inputs; None if it makes no items."""
        work = Work(segment, outer)
        with self._lock:
            items = self._streams.take((segment, outer))
            lack = self._parts.missing_inputs.of(segment, outer, items)
            if lack is None:
                work.take_inputs(items)
            for source in inputs_of(outer):
                if source not in items:
                    segment.take_any(source)
        if lack is not None:
            self._end_without_items(work, items, lack)
            return None
        if self._reports.wanted:
            self._reports.started(work)
        try:
            work.handed = work.operation.func(*work.args, **work.kwargs)
        except Exception as error:
            self._end_without_items(work, items, error)
            return None
        return work

    def _takers(
        self, segment: Segment, node: LazyResult[Any], column: LazyResult[Any]
    ) -> list[Taker]:
        takers = self._streams.takers(segment, column) if node is column else []
        for address in segment.foreign.get(node, ()):
            other, lazy = address.place
            if lazy is column:
                takers += self._streams.takers(other, lazy)
        return takers

    def _forget_places(
        self, segment: Segment, node: LazyResult[Any], column: LazyResult[Any]
    ) -> None:
        """Forget the segments that need no list."""
        for address in segment.take_foreign(node):
            if address.node is not column or column in address.place[0].slots:
                segment.pass_on(node, address)

    def _is_used(
        self,
        segment: Segment,
        node: LazyResult[Any],
        column: LazyResult[Any],
        takers: Sequence[Taker],
    ) -> bool:
        """Whether anything but the takers needs the list."""
        if node is not column or node is segment.target:
            return True
        places = [(segment, node), *(a.place for a in segment.foreign.get(node, ()))]
        known = set(takers)
        return any(
            lazy is not column or any((at, u) not in known for u in users_of(at.slots.get(lazy)))
            for at, lazy in places
        )

    def _wired(self, node: LazyResult[Any], items: LazyResult[Any]) -> Wiring:
        """The graph of the items of a map ``node``.

        Raises:
            Exception: It cannot be added to the run.
        """
        if self._run.journal is None:
            wiring = wire(items, self._is_known)
        else:
            wiring = self._parts.commits.add(node, items, self._is_known)
        self._run.check(wiring.special)
        for lazy in self._streams.lists_of(wiring):
            if self._is_known(lazy):  # otherwise an earlier process has computed it
                self._nodes.look_up(lazy)
        self._run.report_plan(wiring.nodes)
        return wiring

    def _is_known(self, lazy: LazyResult[Any]) -> bool:
        return self._nodes.known(lazy) is not None

    def _end_without_items(self, work: Work, items: _Items, why: Missing | Exception) -> None:
        """Settle an outer map that makes no items, when those of its columns have ended."""
        segment, outer = work.segment, work.node
        if isinstance(why, Exception):
            failed = Failed(work.operation.name, why)
            with self._lock:
                is_last = self._parts.missing_inputs.would_end_run(segment, outer, failed)
            if is_last:
                self._parts.failures.fail(why, work)
                return

        def go_on(values: Any) -> None:
            if isinstance(why, Exception):
                self._parts.failures.fail(why, work)
                return
            lacks = [why, values] if isinstance(values, Missing) else [why]
            self._parts.failures.leave_out_rest(work, worst(lacks) or why)

        inner = [item for some in items.values() for item in some]
        with self._lock:
            together = gathered(inner, outer._code, outer._lasti)
            wiring = self._wired(outer, together)
            self._nodes.add(wiring, Handed([(segment, outer)], go_on), inner)
        self._dispatch.wake_later()
