"""Groups of alike nodes: calls from one place in the source, with alike inputs and users.

``[clean(load(path)) for path in paths]`` gives two groups, however many paths there are. Three
passes over the nodes and edges, so linear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cascade.graph.model import Edge, Graph, Node


def groups_of(graph: Graph, limit: int | None) -> list[int]:
    """For each node the first node of its group; for a node without a group, the node itself.

    Args:
        graph: The graph.
        limit: Most alike nodes that are no group; None for no groups.
    """
    alone = list(range(len(graph)))
    if limit is None or not _may_have_groups(graph.nodes, limit):
        return alone
    into: list[list[Edge]] = [[] for _ in alone]
    out: list[list[Edge]] = [[] for _ in alone]
    for edge in graph.edges:
        into[edge.target].append(edge)
        out[edge.source].append(edge)
    own = _numbered(_place(node) for node in graph.nodes)
    by_inputs = _refined(own, into, alone, "source")
    by_users = _refined(by_inputs, out, alone[::-1], "target")
    # Nodes of one class may have inputs that the second pass has told apart.
    classes = _refined(by_users, into, alone, "source")
    sizes = Counter(classes)
    first: dict[int, int] = {}
    return [
        first.setdefault(cls, node) if sizes[cls] > limit else node
        for node, cls in enumerate(classes)
    ]


def _place(node: Node) -> tuple[Any, ...]:
    lazy = node.lazy
    return lazy._code, lazy._lasti, node.label, node.kind


def _may_have_groups(nodes: Sequence[Node], limit: int) -> bool:
    if len(nodes) <= limit:
        return False
    places = Counter((node.lazy._code, node.lazy._lasti) for node in nodes)
    return max(places.values()) > limit


def _numbered(values: Iterable[Any]) -> list[int]:
    """A number for each value, the same for equal ones."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _refined(
    classes: Sequence[int], edges: Sequence[Sequence[Edge]], order: Iterable[int], end: str
) -> list[int]:
    """``classes``, told apart by the classes of the nodes at the ``end`` of their edges.

    Args:
        classes: A number for each node.
        edges: The edges to look at, for each node.
        order: The nodes, those at the ends of edges before the others.
        end: ``"source"`` or ``"target"``.
    """
    refined = [0] * len(classes)
    numbers: dict[Any, int] = {}
    for node in order:
        beside = frozenset((e.kind, e.label, refined[getattr(e, end)]) for e in edges[node])
        refined[node] = numbers.setdefault((classes[node], beside), len(numbers))
    return refined
