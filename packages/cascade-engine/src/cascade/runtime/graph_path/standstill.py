"""The error for a run at a standstill: which nodes wait for each other.

A lazy value that a task makes during the run may wait for the task's own node. No graph shows that.
It is detected when nothing runs, nothing is ready, and the target has no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cascade.graph.build import inputs_of
from cascade.runtime.diagnostics.error_notes import annotate
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.segments import PENDING, Address, Resume, Segment
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.map_items import item_of

#: A node in the segment that computes it, or that waits for its value.
_Place = tuple[Segment, "LazyResult[object]"]


def standstill(first: Segment, live: Iterable[Segment]) -> CycleError:
    """The error, with the cycle in ``.cycle`` and the path from the target in its note.

    Args:
        first: The segment of the run's target.
        live: All segments that are not done.

    Cost: linear in the number of waiting nodes.
    """
    path, start = _to_cycle((first, first.target), _feeds(live))
    cycle = _calls_on(path[start:])
    names = [lazy.name for lazy in cycle]
    quoted = " ← ".join(f"'{name}'" for name in names)
    error = CycleError(f"the run stands still, because tasks wait for each other: {quoted}", names)
    if cycle:
        annotate(error, cycle[-1].name, cycle[-1], [lazy.name for lazy in _calls_on(path)])
    return error


def lacking(live: Iterable[Segment]) -> Iterator[Waiting]:
    """The nodes that wait for inputs, without those that Cascade added."""
    for segment in live:
        for lazy in [*segment.slots, segment.target]:
            if segment.value(lazy) is PENDING and not lazy.task.structural:
                lacks = [i.name for i in inputs_of(lazy) if segment.value(i) is PENDING]
                if lacks:
                    names = tuple(dict.fromkeys(lacks))
                    yield Waiting(lazy.name, lazy.number, "inputs", names, item=item_of(lazy))


def _feeds(live: Iterable[Segment]) -> dict[_Place, _Place]:
    """Place → the place that computes its value, for values that come from another segment."""
    feeds: dict[_Place, _Place] = {}
    for segment in live:
        onward = segment.continuation
        if isinstance(onward, Address):
            feeds[onward.place] = segment, segment.target
        elif isinstance(onward, Resume):
            feeds[onward.work.segment, onward.work.node] = segment, segment.target
        for node, addresses in segment.foreign.items():
            feeds.update({address.place: (segment, node) for address in addresses})
    return feeds


def _to_cycle(start: _Place, feeds: Mapping[_Place, _Place]) -> tuple[list[_Place], int]:
    """A path from ``start`` to a place that it has passed before, and the position of that.

    A path may end without one, at a coroutine that waits for its turn; then another is looked for.
    """
    path, ways = [start], [_waits_for(start, feeds)]
    on_path, seen = {start: 0}, {start}
    first_end: list[_Place] = []
    while path:
        place = next(ways[-1], None)
        if place is None:
            first_end = first_end or [*path]
            del on_path[path.pop()], ways[-1]
        elif place in on_path:
            return [*path, place], on_path[place]
        elif place not in seen:
            seen.add(place)
            on_path[place] = len(path)
            path.append(place)
            ways.append(_waits_for(place, feeds))
    return first_end, 0


def _waits_for(place: _Place, feeds: Mapping[_Place, _Place]) -> Iterator[_Place]:
    """The places that a place without a value waits for."""
    segment, node = place
    if place in feeds:
        return iter((feeds[place],))
    return ((segment, lazy) for lazy in inputs_of(node) if segment.value(lazy) is PENDING)


def _calls_on(path: list[_Place]) -> list[LazyResult[object]]:
    """The nodes without those that Cascade added; a node in two segments appears once."""
    lazies = [lazy for _, lazy in path if not lazy.task.structural]
    return [lazy for at, lazy in enumerate(lazies) if at == 0 or lazy is not lazies[at - 1]]
