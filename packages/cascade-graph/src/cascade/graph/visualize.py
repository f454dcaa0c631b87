"""Drawings of a graph as text that other tools render: Mermaid and Graphviz DOT."""

from __future__ import annotations

import sys
from typing import Any, Literal

from cascade.graph.build import build_graph
from cascade.graph.model import EdgeKind, Graph, NodeKind
from cascade.spec.containers import as_lazy

_MERMAID_SHAPES = {
    NodeKind.TASK: ('["', '"]'),
    NodeKind.CONTAINER: ('(["', '"])'),
    NodeKind.MAP: ('[["', '"]]'),
    NodeKind.OPERATOR: ('(("', '"))'),
    NodeKind.ROUTER: ('{"', '"}'),
    NodeKind.SOURCE: ('[/"', '"/]'),
}
_DOT_SHAPES = {
    NodeKind.TASK: "box",
    NodeKind.CONTAINER: "oval",
    NodeKind.MAP: "box3d",
    NodeKind.OPERATOR: "circle",
    NodeKind.ROUTER: "diamond",
    NodeKind.SOURCE: "parallelogram",
}
#: One look for each kind of edge; ``{}`` takes the key of a route.
_MERMAID_ARROWS = {
    EdgeKind.DATA: "-->",
    EdgeKind.CONDITION: "-. if .->",
    EdgeKind.ORDER: "--o|after|",
    EdgeKind.ROUTER: '==>|"{}"|',
    EdgeKind.CONSTRAINT: "--x|amount|",
}
_DOT_LOOKS = {
    EdgeKind.DATA: "",
    EdgeKind.CONDITION: 'style=dashed label="if"',
    EdgeKind.ORDER: 'style=dotted arrowhead=odot label="after"',
    EdgeKind.ROUTER: 'style=bold label="{}"',
    EdgeKind.CONSTRAINT: 'color=firebrick arrowhead=tee label="amount"',
}


def visualize(target: Any, format: Literal["mermaid", "dot"] = "mermaid") -> str:
    """Draw what ``target`` needs, arrows from inputs to users.

    Args:
        target: A lazy value, a container of them, or a Graph.
        format: ``"mermaid"`` (rendered by most forges and note books) or ``"dot"`` (Graphviz).

    Returns:
        The drawing as text. Data, conditions, order, routes and constraints have arrows of their
        own; tasks, containers, maps, operators, routers and sources boxes of their own.

    >>> from cascade.spec.task import task
    >>> @task
    ... def load(): ...
    >>> @task
    ... def clean(rows): ...
    >>> print(visualize(clean(load())))
    flowchart TD
        n0["load"]
        n1["clean"]
        n0 --> n1
    """
    frame = sys._getframe(1)
    if not isinstance(target, Graph):
        target = build_graph(as_lazy(target, frame.f_code, frame.f_lasti), routes=True)
    if format == "mermaid":
        return _mermaid(target)
    if format == "dot":
        return _dot(target)
    raise ValueError(f"format must be 'mermaid' or 'dot', but is {format!r}")


def _mermaid(graph: Graph) -> str:
    lines = ["flowchart TD"]
    for node in graph.nodes:
        opening, closing = _MERMAID_SHAPES[node.kind]
        lines.append(f"    n{node.index}{opening}{_escape_mermaid(node.name)}{closing}")
    for edge in graph.edges:
        arrow = _MERMAID_ARROWS[edge.kind].format(_escape_mermaid(edge.label))
        lines.append(f"    n{edge.source} {arrow} n{edge.target}")
    return "\n".join(lines)


def _dot(graph: Graph) -> str:
    lines = ["digraph cascade {", "    node [fontname=sans-serif]; edge [fontname=sans-serif];"]
    for node in graph.nodes:
        lines.append(
            f'    n{node.index} [label="{_escape_dot(node.name)}" '
            f'shape={_DOT_SHAPES[node.kind]} tooltip="{_escape_dot(str(node.callsite))}"];'
        )
    for edge in graph.edges:
        look = _DOT_LOOKS[edge.kind].format(_escape_dot(edge.label))
        lines.append(f"    n{edge.source} -> n{edge.target}{f' [{look}]' * bool(look)};")
    return "\n".join([*lines, "}"])


def _escape_mermaid(text: str) -> str:
    text = text.replace("#", "#35;").replace("&", "#amp;").replace('"', "#quot;")
    return text.replace("<", "#lt;").replace("\n", "<br/>")


def _escape_dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
