"""Segments: graphs in execution, and the work on their nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from cascade.graph.model import Graph
from cascade.spec.blueprint import Blueprint
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

    def __init__(self, graph: Graph, continuation: Resume | Address | None) -> None:
        self.lazies = graph.lazies
        self.index = graph.index
        self.waits = graph.waits
        self.successors = graph.successors
        self.root = len(graph.lazies) - 1
        self.values: list[Any] = [PENDING] * len(graph.lazies)
        #: What happens with the root's value: nothing more (None: it is the run's), hand it on to
        #: another address, or go on with work that waits for it.
        self.continuation = continuation
        #: Index → addresses in other segments that take over that node's value.
        self.foreign: dict[int, list[Address]] = {}
        #: Stage of each node in the solver's plan; None where the graph's own order will do.
        self.priority: list[int] | None = None

    def let_go(self) -> None:
        """Forget the lazy values, once all nodes have started: a run remembers them weakly."""
        self.lazies, self.index, self.successors = (), {}, []


class Address:
    """Where the value of a node goes; a segment's root hands it on to another one."""

    __slots__ = ("index", "segment")

    def __init__(self, segment: Segment, index: int) -> None:
        self.segment = segment
        self.index = index


class Work:
    """One node being computed."""

    __slots__ = (
        "args",
        "blueprint",
        "index",
        "kwargs",
        "named",
        "operation",
        "retry",
        "segment",
        "source",
        "started",
    )

    def __init__(self, segment: Segment, index: int, source: LazyResult[Any]) -> None:
        self.segment = segment
        self.index = index
        #: The lazy value whose call this is; the last one, where it continued as others.
        self.source = source
        self.operation: Operation = source.task
        #: The node's, which it keeps whatever tasks it continues as by tail calls (R10).
        self.retry = None if source.policies is None else source.retry
        self.args: Sequence[Any] = ()
        self.kwargs: dict[str, Any] = {}
        #: The arguments by name, once a tail call has asked for them.
        self.named: dict[str, Any] | None = None
        #: The blueprint by whose id the operation was entered, if it was.
        self.blueprint: Blueprint | None = None
        self.started = 0.0


class Resume:
    """What to do with the values that a tail call of some work waits for (M2)."""

    __slots__ = ("go_on", "work")

    def __init__(self, work: Work, go_on: Callable[[Any], None]) -> None:
        self.work = work
        self.go_on = go_on


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


def path_to(segment: Segment, index: int, name: str, source: LazyResult[Any]) -> list[str]:
    """Names from the target down to a node, leaving out what Cascade added.

    Args:
        segment: Where the node is.
        index: Its place there.
        name: What runs for it now.
        source: The lazy value that it is now; another one than at first if it continued as that.
    """
    return [*reversed(list(_users(segment, index, source))), name]


def _users(segment: Segment, index: int, source: LazyResult[Any]) -> Iterator[str]:
    own = segment.lazies[index] if segment.lazies else source
    handed_on = index == segment.root and isinstance(segment.continuation, Address)
    if own is not source and not handed_on and not own.task.structural:
        yield own.name
    while True:
        onward = segment.continuation
        if index != segment.root and segment.successors[index]:
            index = segment.successors[index][0]
        elif isinstance(onward, Address):
            segment, index = onward.segment, onward.index
        elif onward is not None:
            segment, index = onward.work.segment, onward.work.index
        else:
            return
        if segment.lazies and not segment.lazies[index].task.structural:
            yield segment.lazies[index].name
