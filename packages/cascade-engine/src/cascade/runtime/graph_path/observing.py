"""Observing: the nodes of a run under way and their states, for a view of it in another process.

Nothing is prepared for it: it reads the tables that a run keeps anyway. Nodes that no view asks for
cost nothing, and no shortcut is left out. A state is found by looking, so one that lasts for less
time than passes between two looks is not seen.

In the loop's thread, without the lock of the run: each read is atomic, and the nodes of a segment
are taken from their lazy values, which do not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, get_type_hints

from cascade.graph.build import inputs_of
from cascade.graph.model import Node
from cascade.graph.wiring import users_of
from cascade.runtime.execution.waiting import held_by
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import PENDING, Address, Resume, Segment, node_of
from cascade.runtime.graph_path.small_runs.lone_loops import LoneLoop
from cascade.runtime.graph_path.small_runs.small_run import SmallRun
from cascade.runtime.graph_path.streams import is_list_of_items
from cascade.runtime.semantics.outcomes import Failed, Missing
from cascade.spec.callables import function_of
from cascade.spec.lazy_types import LazyResult
from cascade.spec.map_items import MapItem, item_of
from cascade.spec.task import Task

#: States of nodes that do not change any more.
ENDED = frozenset({"finished", "failed", "skipped"})


class FoundNode(NamedTuple):
    """A node, as it was found."""

    #: ``LazyResult.number``
    number: int
    name: str
    #: The value of its ``NodeKind``.
    kind: str
    callsite: str
    #: The number of its segment among those of this run.
    segment: int
    #: The number of the node that has continued as its graph, or of its map; 0 for none.
    owner: int
    #: Its place in a map, and its arguments from the lists; empty for other nodes.
    item: str
    #: The numbers of the nodes that it waits for.
    inputs: tuple[int, ...]


class NodeChange(NamedTuple):
    """A node is in another state than at the last look."""

    number: int
    #: ``"planned"`` (it waits for its inputs), ``"ready"``, ``"running"``, ``"waiting"``,
    #: ``"retrying"``, or one of ENDED.
    state: str
    #: What it waits for.
    note: str = ""


class _Seen:
    """A node that has not ended, as it was seen last."""

    __slots__ = ("lacks", "lazy", "note", "segment", "state")

    def __init__(self, lazy: LazyResult[Any], segment: Segment) -> None:
        self.lazy = lazy
        self.segment = segment
        self.state = self.note = ""
        #: An input that had no value.
        self.lacks: LazyResult[Any] | None = None


def observed(inside: object, most: int) -> Observed | FewObserved:
    """The nodes of a run, from its ``Run.inside``.

    Args:
        inside: The parts of the run.
        most: Most nodes that are observed at the same time; the others are left out.
    """
    if isinstance(inside, LoneLoop):
        return FewObserved([inside.work.node], lambda: (), lambda: inside.work.node)
    if isinstance(inside, SmallRun):
        return FewObserved(inside.lazies, inside.settled, lambda: inside.waiting)
    assert isinstance(inside, RunParts)
    return Observed(inside, most)


class Awaited(NamedTuple):
    """A node that waits for a signal."""

    number: int
    #: The name of the signal.
    name: str
    #: The annotation of the parameter that gets its value; None if there is none.
    annotation: Any


def awaited(inside: object) -> list[Awaited]:
    """The nodes of a run that wait for signals, from its ``Run.inside``."""
    waits = inside.made("waits") if isinstance(inside, RunParts) else None
    return [
        Awaited(node.number, name, _annotation(segment, node))
        for segment, node, name in ([] if waits is None else waits.awaited())
    ]


def _annotation(segment: Segment, node: LazyResult[Any]) -> Any:
    """What the first task that uses the value of a node says about it."""
    for user in users_of(segment.slots.get(node)):
        task = user.task
        if not isinstance(task, Task):
            continue
        named = dict(zip(task.parameters.positional, user.args, strict=False)) | dict(user.kwargs)
        name = next((name for name, value in named.items() if value is node), "")
        try:
            return get_type_hints(function_of(task.func)).get(name)
        except Exception:  # names that are not defined, or not any more
            return None
    return None


class FewObserved:
    """The nodes of a run without a graph.

    Args:
        nodes: All of them.
        settled: Gives those that have a value.
        waiting: Gives the one whose call is under way.
    """

    left_out = False

    def __init__(
        self,
        nodes: Sequence[LazyResult[Any]],
        settled: Callable[[], Collection[LazyResult[Any]]],
        waiting: Callable[[], LazyResult[Any]],
    ) -> None:
        self._nodes = nodes
        self._settled = settled
        self._waiting = waiting
        self._told: dict[int, str] = {}
        self._left = list(nodes)

    def find(self, count: int) -> list[FoundNode]:
        """See ``Observed``."""
        found, self._left = self._left[:count], self._left[count:]
        return [_found(lazy, 1, 0) for lazy in found]

    def gone(self) -> list[int]:
        """See ``Observed``."""
        return []

    def sweep(self, _count: int) -> Iterator[list[NodeChange]]:
        """See ``Observed``."""
        settled, waiting = self._settled(), self._waiting()
        changes = []
        for lazy in self._nodes:
            state = "running" if lazy is waiting else "planned"
            if lazy in settled:
                state = "finished"
            if self._told.get(lazy.number) != state:
                self._told[lazy.number] = state
                changes.append(NodeChange(lazy.number, state))
        yield changes


class Observed:
    """The nodes of one run that is executed as a graph.

    Args:
        parts: The parts of the run.
        most: Most nodes that are observed at the same time; the others are left out.

    Attributes:
        left_out: Whether there are nodes that are not observed.
    """

    def __init__(self, parts: RunParts, most: int) -> None:
        self._parts = parts
        self._most = most
        #: Live segment → its number, and the nodes in it that were found.
        self._segments: dict[Segment, tuple[int, int]] = {}
        self._walks: list[Iterator[tuple[Segment, LazyResult[Any]]]] = []
        self._open: list[_Seen] = []
        self._found = self._number = 0
        self.left_out = False

    def find(self, count: int) -> list[FoundNode]:
        """Some nodes that were not found before; at most ``count``, none if there are no more."""
        self._add_segments()
        found: list[FoundNode] = []
        while self._walks and len(found) < count:
            step = next(self._walks[-1], None)
            if step is None:
                self._walks.pop()
                continue
            if self._found >= self._most:
                self.left_out = True
                self._walks.clear()
                break
            segment, lazy = step
            if segment in self._segments:
                found.append(self._add(segment, lazy))
        return found

    def gone(self) -> list[int]:
        """The numbers of segments whose nodes have all ended since the last call."""
        nodes = self._parts.made("nodes")
        live = () if nodes is None else nodes.live
        over = [segment for segment in self._segments if segment not in live]
        numbers = []
        for segment in over:
            number, count = self._segments.pop(segment)
            self._found -= count
            numbers.append(number)
        if over:
            self._open = [seen for seen in self._open if seen.segment in self._segments]
        return numbers

    def sweep(self, count: int) -> Iterator[list[NodeChange]]:
        """The nodes that have changed since the last sweep, after each ``count`` of them."""
        at_work = _AtWork(self._parts, {_owner(s, s.target) for s in self._segments})
        nodes, self._open = self._open, []
        for at in range(0, len(nodes), count):
            changes = []
            for seen in nodes[at : at + count]:
                state, note = at_work.state(seen)
                if (state, note) != (seen.state, seen.note):
                    seen.state, seen.note = state, note
                    changes.append(NodeChange(seen.lazy.number, state, note))
                if state not in ENDED:
                    self._open.append(seen)
            yield changes

    def _add_segments(self) -> None:
        nodes = self._parts.made("nodes")
        for segment in [] if nodes is None else nodes.live:
            if segment not in self._segments:
                self._number += 1
                self._segments[segment] = self._number, 0
                self._walks.append(_walk(segment))

    def _add(self, segment: Segment, lazy: LazyResult[Any]) -> FoundNode:
        number, count = self._segments[segment]
        self._segments[segment] = number, count + 1
        self._found += 1
        self._open.append(_Seen(lazy, segment))
        return _found(lazy, number, _owner(segment, lazy))


def _walk(segment: Segment) -> Iterator[tuple[Segment, LazyResult[Any]]]:
    """The nodes of a segment; for the first one, from the target down."""
    if not segment.first:
        skipped = segment.target if is_list_of_items(segment.target) else None
        for lazy in list(segment.nodes):
            if lazy is not skipped:
                yield segment, lazy
        return
    reached, stack = {segment.target}, [segment.target]
    while stack:
        lazy = stack.pop()
        yield segment, lazy
        for source in inputs_of(lazy):
            if source not in reached:
                reached.add(source)
                stack.append(source)


def _found(lazy: LazyResult[Any], segment: int, owner: int) -> FoundNode:
    node, item = Node(0, lazy), item_of(lazy)
    return FoundNode(
        lazy.number,
        node.label,
        node.kind.value,
        str(lazy.callsite),
        segment,
        owner,
        "" if item is None else str(item),
        tuple(dict.fromkeys(source.number for source in inputs_of(lazy))),
    )


def _owner(segment: Segment, lazy: LazyResult[Any]) -> int:
    if isinstance(lazy, MapItem):
        return lazy._plan.number
    onward = segment.continuation
    if isinstance(onward, Resume):
        return onward.work.node.number
    if isinstance(onward, Address) and onward.node is not None:
        return onward.node.number
    return 0


class _AtWork:
    """What the lanes of a run do at one moment."""

    def __init__(self, parts: RunParts, continued: Collection[int]) -> None:
        run = parts.run
        #: The numbers of nodes that have continued as graphs.
        self._continued = continued
        self._waits = {wait.node: wait for wait in run.waiting(inputs=False)}
        self._working = {id(node) for node in _worked_on(parts)}
        #: Names of the calls under way whose nodes are not known → how many.
        self._calls = Counter(run.under_way())
        for node in _worked_on(parts):
            self._calls[node.name] -= 1

    def state(self, seen: _Seen) -> tuple[str, str]:
        """The state of a node, and the reason of its wait."""
        segment, lazy = seen.segment, seen.lazy
        value = segment.value(lazy)
        if value is not PENDING:
            kind = type(value)
            if not issubclass(kind, Missing):
                return "finished", ""
            return ("failed" if kind is Failed else "skipped"), value.reason[0]
        if seen.state in ("", "planned") and self._lacks(seen):
            return "planned", ""
        wait = self._waits.get(lazy.number)
        if wait is not None:
            state = "retrying" if wait.reason == "retry delay" else "waiting"
            return state, f"{wait.reason}{held_by(wait.holders)}"
        is_begun = lazy.task.is_async or lazy.number in self._continued
        if is_begun or id(lazy) in self._working:
            return "running", ""
        if self._calls[lazy.name] > 0:
            self._calls[lazy.name] -= 1
            return "running", ""
        # What had begun still runs, in another lane.
        return ("running" if seen.state == "running" else "ready"), ""

    def _lacks(self, seen: _Seen) -> bool:
        """Whether a node lacks an input; most often the one that it lacked before."""
        value = seen.segment.value
        if seen.lacks is not None and value(seen.lacks) is PENDING:
            return True
        seen.lacks = next((s for s in inputs_of(seen.lazy) if value(s) is PENDING), None)
        return seen.lacks is not None


def _worked_on(parts: RunParts) -> Iterator[LazyResult[Any]]:
    dispatch, lane = parts.made("dispatch"), parts.made("event_loop_lane")
    workers = None if dispatch is None else dispatch.workers
    for item in [] if workers is None else workers.worked_on():
        node = node_of(item)
        if node is not None:
            yield node
    for work in [] if lane is None else list(lane.working.values()):
        yield work.node
