"""The error for a run at a standstill: which nodes wait for each other.

A lazy value that a task makes during the run may wait for the task's own node. No graph shows that.
It is detected when nothing runs, nothing is ready, and the target has no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    feeds = _feeds(live)
    place: _Place | None = (first, first.target)
    steps: dict[_Place, int] = {}
    while place is not None and place not in steps:
        steps[place] = len(steps)
        place = feeds.get(place) or _pending_input(place)
    path = [*steps] if place is None else [*steps, place]
    cycle = _calls_on(path[steps[place] :] if place is not None else path)
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


def _pending_input(place: _Place) -> _Place | None:
    segment, node = place
    waiting = (lazy for lazy in inputs_of(node) if segment.value(lazy) is PENDING)
    lazy = next(waiting, None)
    return None if lazy is None else (segment, lazy)


def _calls_on(path: list[_Place]) -> list[LazyResult[object]]:
    """The nodes without those that Cascade added; a node in two segments appears once."""
    lazies = [lazy for _, lazy in path if not lazy.task.structural]
    return [lazy for at, lazy in enumerate(lazies) if at == 0 or lazy is not lazies[at - 1]]
