"""Segments: graphs in execution, and the work on their nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from cascade.graph.model import Graph
from cascade.spec.lazy_types import LazyResult, Operation
from cascade.spec.protocols import ExecutionPlan


class _Pending:
    def __repr__(self) -> str:
        return "(pending)"


PENDING: Final = _Pending()


class Segment:
    """A graph in execution; its arrays are changed under the run's lock only."""

    __slots__ = (
        "continuation",
        "foreign",
        "index",
        "lazies",
        "priority",
        "root",
        "successors",
        "values",
        "waits",
    )

    def __init__(self, graph: Graph, continuation: Callable[[Any], None] | Address | None) -> None:
        self.lazies = graph.lazies
        self.index = graph.index
        self.waits = graph.waits
        self.successors = graph.successors
        self.root = len(graph.lazies) - 1
        self.values: list[Any] = [PENDING] * len(graph.lazies)
        #: What happens with the root's value: nothing more (None: it is the run's), hand it on to
        #: another address, or call a function with it.
        self.continuation = continuation
        #: Index → addresses in other segments that take over that node's value.
        self.foreign: dict[int, list[Address]] = {}
        #: Stage of each node in the solver's plan; None where the graph's own order will do.
        self.priority: list[int] | None = None


class Address:
    """Where the value of a node goes; a segment's root hands it on to another one."""

    __slots__ = ("index", "segment")

    def __init__(self, segment: Segment, index: int) -> None:
        self.segment = segment
        self.index = index


class Work:
    """One node being computed."""

    __slots__ = ("args", "index", "kwargs", "named", "operation", "segment", "source", "started")

    def __init__(self, segment: Segment, index: int, source: LazyResult[Any]) -> None:
        self.segment = segment
        self.index = index
        #: The lazy value whose call this is; the last one, where it continued as others.
        self.source = source
        self.operation: Operation = source.task
        self.args: Sequence[Any] = ()
        self.kwargs: dict[str, Any] = {}
        #: The arguments by name, once a tail call has asked for them.
        self.named: dict[str, Any] | None = None
        self.started = 0.0


def priorities(plan: ExecutionPlan, graph: Graph) -> list[int]:
    """The stage of each node.

    Raises:
        ValueError: The plan leaves a node out.
    """
    priority = [-1] * len(graph)
    for stage, nodes in enumerate(plan):
        for node in nodes:
            priority[node.index] = stage
    if -1 in priority:
        left_out = graph.lazies[priority.index(-1)].name
        raise ValueError(f"the solver's plan leaves out the node '{left_out}'")
    return priority


def path_to(segment: Segment, index: int, name: str) -> list[str]:
    """Names from the target down to a node, leaving out what Cascade added."""
    return [*reversed(list(_users(segment, index))), name]


def _users(segment: Segment, index: int) -> Iterator[str]:
    while True:
        onward = segment.continuation
        if index != segment.root and segment.successors[index]:
            index = segment.successors[index][0]
        elif isinstance(onward, Address):
            segment, index = onward.segment, onward.index
        else:
            return
        if segment.lazies and not segment.lazies[index].task.structural:
            yield segment.lazies[index].name
