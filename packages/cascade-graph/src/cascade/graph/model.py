"""The graph of a program: its nodes, and the edges between them."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cascade.graph.fed_arguments import fed_arguments
from cascade.spec.callsite import CallSite
from cascade.spec.containers import GATHER
from cascade.spec.fallbacks import Catch
from cascade.spec.lazy_types import FallbackResult, LazyResult, MappedLazyResult
from cascade.spec.operation import Operation
from cascade.spec.params import Source
from cascade.spec.routing import Router
from cascade.spec.shown import notebook_view
from cascade.spec.task import Task


class EdgeKind(enum.Enum):
    """The reason why a node waits for another."""

    DATA = "data"
    CONDITION = "condition"
    ORDER = "order"
    ROUTER = "router"
    FALLBACK = "fallback"
    CONSTRAINT = "constraint"


class NodeKind(enum.Enum):
    """The kind of a node, which drawings show."""

    TASK = "task"
    CONTAINER = "container"
    MAP = "map"
    OPERATOR = "operator"
    ROUTER = "router"
    FALLBACK = "fallback"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Node:
    """One lazy value in a graph."""

    #: Position in the graph's topological order.
    index: int
    lazy: LazyResult[Any]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return self.index == other.index and self.lazy is other.lazy

    def __hash__(self) -> int:
        return hash((self.index, self.lazy))

    @property
    def id(self) -> str:
        """The lazy value's id, the same in every graph that contains it."""
        return self.lazy.id

    @property
    def name(self) -> str:
        return self.lazy.name

    @property
    def label(self) -> str:
        """The name in plans and drawings; that of a catch has its errors and its handler."""
        if isinstance(self.lazy, FallbackResult) and isinstance(self.lazy.args[0], Catch):
            caught: Catch = self.lazy.args[0]
            handler = f" → {caught.instead.name}" if isinstance(caught.instead, Task) else ""
            return f"{self.lazy.name} {caught.label}{handler}"
        return self.lazy.name

    @property
    def task(self) -> Operation:
        return self.lazy.task

    @property
    def callable_obj(self) -> Callable[..., Any]:
        """The function that the node calls."""
        return self.lazy.task.func

    @property
    def signature(self) -> inspect.Signature | None:
        """The task's signature; None for nodes that Cascade adds."""
        task = self.lazy.task
        return task.parameters.signature if isinstance(task, Task) else None

    @property
    def literal_inputs(self) -> dict[str, Any]:
        """The arguments known before the run, by position ("0") or name."""
        arguments = {**{str(i): v for i, v in enumerate(self.lazy.args)}, **self.lazy.kwargs}
        return {k: v for k, v in arguments.items() if not isinstance(v, LazyResult)}

    @property
    def callsite(self) -> CallSite:
        return self.lazy.callsite

    @property
    def kind(self) -> NodeKind:
        if isinstance(self.lazy, Router):
            return NodeKind.ROUTER
        if isinstance(self.lazy, FallbackResult):
            return NodeKind.FALLBACK
        if isinstance(self.lazy, Source):
            return NodeKind.SOURCE
        if not self.lazy.task.structural:
            return NodeKind.TASK
        if isinstance(self.lazy, MappedLazyResult):
            return NodeKind.MAP
        return NodeKind.CONTAINER if self.lazy.task is GATHER else NodeKind.OPERATOR


@dataclass(frozen=True, slots=True)
class Edge:
    """``target`` waits for ``source``; both are indices of nodes."""

    source: int
    target: int
    kind: EdgeKind
    #: The arguments that data feeds, the key of a route, or when a fallback is used; else empty.
    label: str = ""


@dataclass(eq=False, repr=False)
class Graph:
    """The work of a run, as arrays over node indices.

    Attributes:
        lazies: The lazy values in topological order; the target is the last.
        waits: Number of edges into each node; an input used twice counts twice.
        successors: For each node, the nodes at the other ends of its outgoing edges.
        index: The inverse of ``lazies``.
        outside: (node, lazy value) for inputs that ``build_graph`` was told not to enter.
        routes: Whether routers wait for their routes, and other nodes for their fallbacks, as in
            drawings; in a run they do not.
    """

    lazies: Sequence[LazyResult[Any]]
    waits: list[int]
    successors: list[list[int]]
    index: Mapping[LazyResult[Any], int]
    outside: Sequence[tuple[int, LazyResult[Any]]] = ()
    routes: bool = False

    def __len__(self) -> int:
        return len(self.lazies)

    def __repr__(self) -> str:
        return f"<graph of '{self.target.name}': {len(self)} node{'s' * (len(self) != 1)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Its picture, for notebooks."""
        return notebook_view(self)

    @property
    def target(self) -> LazyResult[Any]:
        """The lazy value that the graph was built for."""
        return self.lazies[-1]

    @cached_property
    def nodes(self) -> list[Node]:
        """The nodes in topological order; made at first use."""
        return [Node(i, lazy) for i, lazy in enumerate(self.lazies)]

    @cached_property
    def edges(self) -> list[Edge]:
        """The edges, grouped by the node they lead into; made at first use."""
        return [edge for i, lazy in enumerate(self.lazies) for edge in self._edges_into(i, lazy)]

    def _edges_into(self, target: int, lazy: LazyResult[Any]) -> list[Edge]:
        fed = fed_arguments(lazy)
        kinds = (
            (EdgeKind.CONDITION, dict.fromkeys(lazy._conditions)),
            (EdgeKind.ORDER, dict.fromkeys(lazy._predecessors)),
            (EdgeKind.CONSTRAINT, dict.fromkeys(lazy._amounts.values())),
        )
        found = [
            Edge(self.index[source], target, EdgeKind.DATA, fed.get(source, ""))
            for source in dict.fromkeys(lazy._dependencies)
            if source in self.index
        ]
        found += [
            Edge(self.index[source], target, kind)
            for kind, sources in kinds
            for source in sources
            if source in self.index
        ]
        if self.routes:
            choice = EdgeKind.ROUTER if isinstance(lazy, Router) else EdgeKind.FALLBACK
            found += [
                Edge(self.index[other], target, choice, str(label))
                for label, other in lazy._choices
                if other in self.index
            ]
        return found
