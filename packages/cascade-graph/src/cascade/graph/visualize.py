"""Drawings of a graph as text that other tools render: Mermaid and Graphviz DOT."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

from cascade.graph.build import build_graph
from cascade.graph.durations import duration_text
from cascade.graph.model import EdgeKind, Graph, Node, NodeKind
from cascade.graph.states import NodeState
from cascade.spec.lazy_types import as_lazy
from cascade.spec.shown import Shown
from cascade.spec.wording import short, visible

_MERMAID_SHAPES = {
    NodeKind.TASK: ('["', '"]'),
    NodeKind.CONTAINER: ('(["', '"])'),
    NodeKind.MAP: ('[["', '"]]'),
    NodeKind.OPERATOR: ('(("', '"))'),
    NodeKind.ROUTER: ('{"', '"}'),
    NodeKind.FALLBACK: ('{{"', '"}}'),
    NodeKind.SOURCE: ('[/"', '"/]'),
}
_DOT_SHAPES = {
    NodeKind.TASK: "box",
    NodeKind.CONTAINER: "oval",
    NodeKind.MAP: "box3d",
    NodeKind.OPERATOR: "circle",
    NodeKind.ROUTER: "diamond",
    NodeKind.FALLBACK: "hexagon",
    NodeKind.SOURCE: "parallelogram",
}
#: The arrow of each kind of edge; ``{}`` takes the key of a route, or when a fallback is used.
_MERMAID_ARROWS = {
    EdgeKind.DATA: "-->",
    EdgeKind.CONDITION: "-. if .->",
    EdgeKind.ORDER: "--o|after|",
    EdgeKind.ROUTER: '==>|"{}"|',
    EdgeKind.FALLBACK: '-.->|"if {}"|',
    EdgeKind.CONSTRAINT: "--x|amount|",
}
_DOT_LOOKS = {
    EdgeKind.DATA: "",
    EdgeKind.CONDITION: 'style=dashed label="if"',
    EdgeKind.ORDER: 'style=dotted arrowhead=odot label="after"',
    EdgeKind.ROUTER: 'style=bold label="{}"',
    EdgeKind.FALLBACK: 'style=dashed label="if {}"',
    EdgeKind.CONSTRAINT: 'color=firebrick arrowhead=tee label="amount"',
}


class _Colour(NamedTuple):
    """The colours of a state; readable (WCAG AA) on their own and on a white or a dark page."""

    fill: str
    text: str = "#ffffff"
    dashed: bool = False


_COLOURS = {
    "waiting": _Colour("#b8860b", "#000000"),
    "running": _Colour("#1f6feb"),
    "retrying": _Colour("#bc4c00"),
    "finished": _Colour("#2d7d46"),
    "cached": _Colour("#0e7c86"),
    "failed": _Colour("#cf222e"),
    "skipped": _Colour("#6e7781", dashed=True),
    "cancelled": _Colour("#8250df", dashed=True),
}
_SHOWN_OF_A_NOTE = 60
#: Characters that Mermaid interprets inside a quoted label: entities and HTML, its end, directives
#: (``%%{init: …}%%``, anywhere), Markdown, formulas, and ``\\n`` as a line break.
_MERMAID_ESCAPES = {
    ord("#"): "#35;",
    ord("&"): "#amp;",
    ord('"'): "#quot;",
    ord("<"): "#lt;",
    ord("%"): "#37;",
    ord("`"): "#96;",
    ord("$"): "#36;",
    ord("\\"): "#92;",
    ord("\n"): "<br/>",
}
_NOTHING_KNOWN: Mapping[int, NodeState] = {}


class Drawing(Shown, str):
    """A drawing as text in Mermaid's or Graphviz' language.

    Attributes:
        language: ``"mermaid"`` or ``"dot"``.
    """

    language: str

    def __new__(cls, text: str, language: str) -> Self:
        self = super().__new__(cls, text)
        self.language = language
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Drawing, (str(self), self.language)

    def __repr__(self) -> str:
        return f"<{self.language} drawing of {self.count(chr(10)) + 1} lines; print() shows it>"

    def __str__(self) -> str:
        return str.__str__(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The drawing for notebooks: JupyterLab reads Mermaid, other notebooks the Markdown."""
        text = str(self)
        if self.language == "dot":
            return {"text/plain": text, "text/vnd.graphviz": text}
        return {
            "text/plain": text,
            "text/vnd.mermaid": text,
            "text/markdown": f"```mermaid\n{text}\n```",
        }

    def _repr_html_(self) -> None:
        """None, because notebooks would prefer HTML to the picture."""


def visualize(
    target: Any,
    format: Literal["mermaid", "dot"] = "mermaid",
    *,
    states: Mapping[int, NodeState] | None = None,
) -> Drawing:
    """Draw ``target`` and its inputs, with arrows from inputs to users.

    Args:
        target: A lazy value, a container of them, or a Graph.
        format: ``"mermaid"`` (rendered by most forges and note books) or ``"dot"`` (Graphviz).
        states: The progress of nodes in a run, by ``LazyResult.number``; ``History.states`` is such
            a mapping. Nodes that are not in it are drawn plain.

    Returns:
        The drawing, which is its text; notebooks show it as a picture. Data, conditions, order,
        routes, fallbacks and constraints have their own arrows; tasks, containers, maps, operators,
        routers, fallbacks and sources have their own boxes. A state is shown by a colour and in
        words, with the duration.

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
    >>> lazy = load()
    >>> print(visualize(lazy, states={lazy.number: NodeState("failed", 0.25, "OSError: no disk")}))
    flowchart TD
        n0["load<br/>failed, 250 ms<br/>OSError: no disk"]
        classDef failed fill:#cf222e,stroke:#cf222e,color:#ffffff
        class n0 failed
    """
    frame = sys._getframe(1)
    if not isinstance(target, Graph):
        target = build_graph(as_lazy(target, frame.f_code, frame.f_lasti), routes=True)
    known = _NOTHING_KNOWN if states is None else states
    if format == "mermaid":
        return Drawing(_mermaid(target, known), format)
    if format == "dot":
        return Drawing(_dot(target, known), format)
    raise ValueError(f"format must be 'mermaid' or 'dot', but is {short(format)}")


def _mermaid(graph: Graph, states: Mapping[int, NodeState]) -> str:
    lines = ["flowchart TD"]
    coloured: dict[str, list[str]] = {}
    for node in graph.nodes:
        opening, closing = _MERMAID_SHAPES[node.kind]
        state = states.get(node.lazy.number)
        lines.append(f"    n{node.index}{opening}{_escape_mermaid(_label(node, state))}{closing}")
        if state is not None and state.state in _COLOURS:
            coloured.setdefault(state.state, []).append(f"n{node.index}")
    for edge in graph.edges:
        arrow = _MERMAID_ARROWS[edge.kind].format(_escape_mermaid(visible(edge.label, lines=True)))
        lines.append(f"    n{edge.source} {arrow} n{edge.target}")
    for name, nodes in coloured.items():
        colour = _COLOURS[name]
        dashes = ",stroke-dasharray:4" * colour.dashed
        stroke = colour.text if colour.dashed else colour.fill
        lines.append(
            f"    classDef {name} fill:{colour.fill},stroke:{stroke},color:{colour.text}{dashes}"
        )
        lines.append(f"    class {','.join(nodes)} {name}")
    return "\n".join(lines)


def _dot(graph: Graph, states: Mapping[int, NodeState]) -> str:
    # Quoted, because a bare word of DOT cannot have a hyphen.
    fonts = '    node [fontname="sans-serif"]; edge [fontname="sans-serif"];'
    lines = ["digraph cascade {", fonts]
    for node in graph.nodes:
        state = states.get(node.lazy.number)
        lines.append(
            f'    n{node.index} [label="{_escape_dot(_label(node, state))}" '
            f'shape={_DOT_SHAPES[node.kind]} tooltip="{_escape_dot(visible(str(node.callsite)))}"'
            f"{_dot_colour(state)}];"
        )
    for edge in graph.edges:
        look = _DOT_LOOKS[edge.kind].format(_escape_dot(visible(edge.label, lines=True)))
        lines.append(f"    n{edge.source} -> n{edge.target}{f' [{look}]' * bool(look)};")
    return "\n".join([*lines, "}"])


def _dot_colour(state: NodeState | None) -> str:
    if state is None or state.state not in _COLOURS:
        return ""
    colour = _COLOURS[state.state]
    style = "filled,dashed" if colour.dashed else "filled"
    edge = colour.text if colour.dashed else colour.fill
    return f' style="{style}" fillcolor="{colour.fill}" color="{edge}" fontcolor="{colour.text}"'


def _label(node: Node, state: NodeState | None) -> str:
    """The node's name, below it its state if known, then the note."""
    if state is None:
        return visible(node.label, lines=True)
    # The duration already says that a node finished.
    said = [state.state] if state.state != "finished" or state.seconds is None else []
    if state.seconds is not None:
        said.append(duration_text(state.seconds))
    note = visible(" ".join(state.note.split()))
    if len(note) > _SHOWN_OF_A_NOTE:
        note = f"{note[: _SHOWN_OF_A_NOTE - 1]}…"
    return "\n".join([visible(node.label, lines=True), ", ".join(said), *([note] if note else [])])


def _escape_mermaid(text: str) -> str:
    """``text`` shown literally inside a quoted label: no directive, markup or formula."""
    return text.translate(_MERMAID_ESCAPES)


def _escape_dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
