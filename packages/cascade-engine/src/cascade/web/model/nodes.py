"""RunNodes: the nodes of one run under way, put together from the messages of its engine.

Nodes belong to each other: the items of a map to the map, the graph that a task has returned to
that task. A drawing shows one *level* at a time, and counts what is below its nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: The states of nodes, in the order in which people look for them.
STATES: Final = (
    "failed",
    "retrying",
    "waiting",
    "running",
    "ready",
    "planned",
    "skipped",
    "cancelled",
    "finished",
)
ENDED: Final = frozenset({"finished", "failed", "skipped", "cancelled"})
#: States in which a call is made, or is to be made again.
_AT_WORK: Final = frozenset({"running", "retrying", "waiting"})
#: Most stretches of time that are kept.
_MOST_STRETCHES = 5000


@dataclass(slots=True)
class RunNode:
    """A node."""

    number: int
    name: str
    kind: str
    callsite: str
    segment: int
    #: The number of the node that it belongs to; 0 for none.
    owner: int
    #: Its place in a map, and its arguments from the lists.
    item: str
    inputs: tuple[int, ...]
    state: str = "planned"
    note: str = ""


@dataclass(slots=True)
class Stretch:
    """A time in which a node was seen in one state."""

    number: int
    name: str
    state: str
    began: float
    #: None if it is still so.
    ended: float | None = None


@dataclass(slots=True)
class Ended:
    """How a run has ended."""

    run: str
    target: str
    status: str
    seconds: float
    steps: int
    time: float
    error: str = ""
    traceback: str = ""
    engine: str = ""


@dataclass(slots=True)
class RunNodes:
    """The nodes of one run.

    Attributes:
        nodes: Number → node.
        below: Number of a node → the states of what belongs to it, with what has ended and gone.
        signals: Number of a node → the name of the signal that it waits for.
        forms: Name of a signal → the form for its value.
        stretches: When nodes were seen at work.
        left_out: Whether the run has more nodes than are shown.
        ended: How the run has ended; None if it has not.
        shape: Changes whenever nodes come or go.
    """

    nodes: dict[int, RunNode] = field(default_factory=dict)
    below: dict[int, Counter[str]] = field(default_factory=dict)
    signals: dict[int, str] = field(default_factory=dict)
    forms: dict[str, Any] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    left_out: bool = False
    ended: Ended | None = None
    shape: int = 0
    #: Nodes whose state has changed since ``take_changes``.
    _changed: set[int] = field(default_factory=set)
    _open: dict[int, Stretch] = field(default_factory=dict)
    _segments: dict[int, list[int]] = field(default_factory=dict)

    def add(self, body: Mapping[str, Any]) -> None:
        """Take over a part ``graph``: new nodes, and segments that are over."""
        for row in body["nodes"]:
            number, name, kind, site, segment, owner, item, inputs = row
            known = self.nodes.get(number)
            node = RunNode(number, name, kind, site, segment, owner, item, tuple(inputs))
            if known is not None:
                node.state, node.note = known.state, known.note
            else:
                self._segments.setdefault(segment, []).append(number)
                self._count(owner, node.state, 1)
                self.shape += 1
            self.nodes[number] = node
        for segment in body["gone"]:
            self._drop(segment, body["time"])
        self.left_out = bool(body["left_out"])

    def change(self, body: Mapping[str, Any]) -> None:
        """Take over a part ``states``."""
        for number, state, note in body["changes"]:
            node = self.nodes.get(number)
            if node is not None and (state in STATES):
                self._set(node, state, note, body["time"])

    def end(self, ended: Ended) -> None:
        """The run is over: its open nodes are finished, or were cancelled."""
        self.ended = ended
        rest = "finished" if ended.status == "succeeded" else "cancelled"
        failed = self._failed(ended)
        for node in self.nodes.values():
            if node.state not in ENDED:
                self._set(node, "failed" if node is failed else rest, "", ended.time)
        self.signals.clear()

    def state(self, node: RunNode) -> str:
        """The state of a node; one whose items or graph are at work has not ended."""
        below = self.below.get(node.number)
        if node.state != "finished" or below is None:
            return node.state
        return "running" if any(below[s] > 0 for s in STATES if s not in ENDED) else "finished"

    def level(self, owner: int = 0) -> list[RunNode]:
        """The nodes that belong to ``owner``; for 0, those that belong to none."""
        if owner:
            return [node for node in self.nodes.values() if node.owner == owner]
        return [node for node in self.nodes.values() if node.owner not in self.nodes]

    def counts(self) -> Counter[str]:
        """State → number of nodes."""
        return Counter(node.state for node in self.nodes.values())

    def path(self, number: int) -> list[RunNode]:
        """The nodes that a node belongs to, from the outermost to the node itself."""
        found: list[RunNode] = []
        while (node := self.nodes.get(number)) is not None and node not in found:
            found.append(node)
            number = node.owner
        return found[::-1]

    def take_changes(self) -> set[int]:
        """The nodes that look different than at the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def _set(self, node: RunNode, state: str, note: str, now: float) -> None:
        if state != node.state:
            self._count(node.owner, node.state, -1)
            self._count(node.owner, state, 1)
            self._time(node, state, now)
        node.state, node.note = state, note
        self._changed.add(node.number)

    def _time(self, node: RunNode, state: str, now: float) -> None:
        running = self._open.pop(node.number, None)
        if running is not None:
            running.ended = now
        if state in _AT_WORK and len(self.stretches) < _MOST_STRETCHES:
            stretch = Stretch(node.number, node.name, state, now)
            self._open[node.number] = stretch
            self.stretches.append(stretch)

    def _count(self, owner: int, state: str, by: int) -> None:
        if owner:
            self.below.setdefault(owner, Counter())[state] += by
            self._changed.add(owner)

    def _drop(self, segment: int, now: float) -> None:
        """Forget the nodes of a segment, all of which have ended; their counts stay."""
        for number in self._segments.pop(segment, ()):
            node = self.nodes.get(number)
            if node is None or not node.owner:
                continue
            if node.state not in ENDED:
                self._set(node, "finished", "", now)
            del self.nodes[number]
            self.shape += 1

    def _failed(self, ended: Ended) -> RunNode | None:
        """The node that has failed: the one under way that the note of the error names."""
        at_work = [node for node in self.nodes.values() if node.state in ("running", "retrying")]
        named = [
            node
            for node in at_work
            if f"in task '{node.name}'" in ended.traceback
            and f"called at {node.callsite}" in ended.traceback
        ]
        return named[0] if ended.status == "failed" and named else None


def worst(states: Iterable[str]) -> str:
    """The state that matters most."""
    present = set(states)
    return next((state for state in STATES if state in present), "planned")
