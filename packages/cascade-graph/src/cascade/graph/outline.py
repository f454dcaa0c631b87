"""``dry_run``: the plan of a run as an indented tree, without running anything.

Inputs stand under the node that uses them. A node with several users is drawn once; its other
places refer to that one. Below ``_NESTED`` levels the deepest input, and any other with inputs of
its own, continues at the same indentation (``↳``), so that a chain of 100 000 nodes takes 100 000
lines and not their square.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from cascade.graph.build import build_graph
from cascade.graph.model import Edge, EdgeKind, Graph, Node
from cascade.spec.lazy_types import MappedLazyResult, as_lazy
from cascade.spec.protocols import TaskExecutor
from cascade.spec.remote_calls import goes_elsewhere
from cascade.spec.shown import Shown
from cascade.spec.wording import visible

_NESTED = 24
_LABELS = {
    EdgeKind.DATA: "",
    EdgeKind.CONDITION: "if ",
    EdgeKind.ORDER: "after ",
    EdgeKind.CONSTRAINT: "amount ",
}


class Plan(Shown):
    """The plan of a run; ``str`` returns it as an indented tree.

    Attributes:
        graph: All nodes, with those of every route.
    """

    def __init__(
        self, graph: Graph, limit: int | None, lines: int | None, elsewhere: str | None = None
    ) -> None:
        self.graph = graph
        self._elsewhere = elsewhere
        self._limit = len(graph) if limit is None else limit
        self._lines = lines

    def lines(self) -> Iterator[str]:
        """The tree, line by line; the last line counts those left out."""
        drawn = outline(self.graph, limit=self._limit, elsewhere=self._elsewhere)
        yield from drawn if self._lines is None else islice(drawn, self._lines)
        left = sum(1 for _ in drawn)
        if left:
            yield f"… {_count(left, 'more line')}; lines=None shows all"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return f"<plan of {self.graph.target.name}: {_count(len(self.graph), 'node')}>"


def dry_run(
    target: Any,
    *,
    limit: int | None = 50,
    lines: int | None = 1000,
    executor: object = None,
) -> Plan:
    """The plan of a run of ``target``, without running it: ``print(dry_run(target))``.

    Args:
        target: A lazy value, or a container of them.
        limit: Most inputs shown per node; the rest are counted. None for all.
        lines: Most lines of its text; None for all.
        executor: That of the engine, or its name. Calls that are made in other processes are marked
            with ``[process]``, or the name of the cluster; without one, those of tasks with
            ``mode="process"``.

    >>> from cascade.spec.task import task
    >>> @task
    ... def load(): ...
    >>> @task
    ... def join(a, b): ...
    >>> data = load()
    >>> print(dry_run(join(data, data.after(load()))))  # doctest: +ELLIPSIS
    3 nodes, 3 tasks
    join  (...)
    └─ load  (...)
       └─ after load  (...)
    """
    frame = sys._getframe(1)
    graph = build_graph(as_lazy(target, frame.f_code, frame.f_lasti), routes=True)
    mark = executor.partition("://")[0] if isinstance(executor, str) else None
    if isinstance(executor, TaskExecutor) and not isinstance(executor, type):
        mark = executor.capabilities.mark
    return Plan(graph, limit, lines, mark)


def outline(graph: Graph, *, limit: int = 50, elsewhere: str | None = None) -> Iterator[str]:
    """The lines of a plan, one by one; ``elsewhere``: the mark of plain functions' calls there."""
    tasks = sum(not lazy.task.structural for lazy in graph.lazies)
    yield f"{_count(len(graph), 'node')}, {_count(tasks, 'task')}"
    yield from map(visible, _tree(graph, limit, elsewhere))


def _tree(graph: Graph, limit: int, elsewhere: str | None) -> Iterator[str]:
    inputs = _inputs(graph)
    depth = _depths(inputs)
    users = [0] * len(graph)
    for edge in graph.edges:
        users[edge.source] += 1
    drawn: set[int] = set()
    # (text or edge to print, prefix of this line, prefix of the lines below it, level)
    stack: list[tuple[Edge | str, str, str, int]] = [
        (Edge(len(graph) - 1, -1, EdgeKind.DATA), "", "", 0)
    ]
    while stack:
        item, first, below, level = stack.pop()
        if isinstance(item, str):
            yield first + item
            continue
        node = graph.nodes[item.source]
        text = first + _label(item) + _describe(node)
        if node.index in drawn:
            yield text + "  [shown above]"
            continue
        drawn.add(node.index)
        text += f"  [shared by {users[node.index]}]" * (users[node.index] > 1)
        lazy = graph.lazies[node.index]
        task: Any = lazy.factory if isinstance(lazy, MappedLazyResult) else lazy.task
        if getattr(task, "mode", None) == "process" or (elsewhere and goes_elsewhere(task)):
            text += f"  [{elsewhere or 'process'}]"
        yield text
        stack.extend(reversed(_under(inputs[node.index], depth, below, level, limit)))


def _under(
    inputs: list[Edge], depth: list[int], prefix: str, level: int, limit: int
) -> list[tuple[Edge | str, str, str, int]]:
    """The lines under one node: the deepest input last, because it may continue flat."""
    if not inputs:
        return []
    deepest = max(inputs, key=lambda edge: depth[edge.source])
    rest = [edge for edge in inputs if edge is not deepest]
    shown = max(limit - 1, 0)
    lines: list[tuple[Edge | str, str, str, int]] = [
        (edge, f"{prefix}├─ ", f"{prefix}│  ", level + 1)
        if level < _NESTED or depth[edge.source] == 1
        else (edge, f"{prefix}↳ ", prefix, level)
        for edge in rest[:shown]
    ]
    if len(rest) > shown:
        lines.append((f"… {len(rest) - shown} more", f"{prefix}├─ ", "", level))
    if level < _NESTED:
        lines.append((deepest, f"{prefix}└─ ", f"{prefix}   ", level + 1))
    else:
        lines.append((deepest, f"{prefix}↳ ", prefix, level))
    return lines


def _inputs(graph: Graph) -> list[list[Edge]]:
    inputs: list[list[Edge]] = [[] for _ in graph.lazies]
    for edge in graph.edges:
        inputs[edge.target].append(edge)
    return inputs


def _depths(inputs: list[list[Edge]]) -> list[int]:
    depth: list[int] = []
    for edges in inputs:
        depth.append(1 + max((depth[edge.source] for edge in edges), default=0))
    return depth


def _label(edge: Edge) -> str:
    if edge.kind is EdgeKind.ROUTER:
        return f"route {edge.label}: "
    if edge.kind is EdgeKind.FALLBACK:
        return f"if {edge.label}: "
    return _LABELS[edge.kind]


def _describe(node: Node) -> str:
    return f"{node.label}  ({node.callsite})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
