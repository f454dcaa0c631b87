"""Pictures in Graphviz' language, and as SVG, which Graphviz makes of it."""

from __future__ import annotations

from typing import Final

from cascade.graph.model import EdgeKind, NodeKind
from cascade.graph.pictures.colours import COLOURS, LOOP
from cascade.graph.pictures.picture import CALLS, CONTINUATION, LEFT_OUT, TAIL, Arrow, Picture
from cascade.spec.wording import visible

_SHAPES: Final = {
    NodeKind.TASK: "shape=box",
    NodeKind.CONTAINER: "shape=oval",
    NodeKind.MAP: "shape=box3d",
    NodeKind.OPERATOR: "shape=circle",
    NodeKind.ROUTER: "shape=diamond",
    NodeKind.FALLBACK: "shape=hexagon",
    NodeKind.SOURCE: "shape=parallelogram",
    CONTINUATION: "shape=box style=rounded",
    LEFT_OUT: "shape=plain",
}
#: The look of each kind of arrow; ``{}`` takes its label.
_LOOKS: Final = {
    EdgeKind.DATA: 'label="{}"',
    EdgeKind.CONDITION: 'style=dashed label="if"',
    EdgeKind.ORDER: 'style=dotted arrowhead=odot label="after"',
    EdgeKind.ROUTER: 'style=bold label="{}"',
    EdgeKind.FALLBACK: 'style=dashed label="if {}"',
    EdgeKind.CONSTRAINT: 'color=firebrick arrowhead=tee label="amount"',
    TAIL: f'style=dashed color="{LOOP}" label="tail"',
    CALLS: f'style=dashed color="{LOOP}" label="calls"',
}


def dot(picture: Picture) -> str:
    """The text of a digraph."""
    # Quoted, because a bare word of DOT cannot have a hyphen.
    fonts = '    node [fontname="sans-serif"]; edge [fontname="sans-serif" fontsize=11];'
    lines = ["digraph cascade {", fonts]
    for box in picture.boxes:
        tooltip = ""
        if box.lazy is not None:
            tooltip = f' tooltip="{_escape(visible(str(box.lazy.callsite)))}"'
        lines.append(
            f'    {box.key} [label="{_escape(box.label)}" '
            f"{_SHAPES[box.kind]}{tooltip}{_colour(box.state)}];"
        )
    for arrow in picture.arrows:
        look = _look(arrow)
        lines.append(f"    {arrow.source} -> {arrow.target}{f' [{look}]' * bool(look)};")
    return "\n".join([*lines, "}"])


def _look(arrow: Arrow) -> str:
    if arrow.kind is EdgeKind.DATA and not arrow.label:
        return ""
    return _LOOKS[arrow.kind].format(_escape(arrow.label))


def _colour(state: str | None) -> str:
    if state not in COLOURS:
        return ""
    colour = COLOURS[state]
    style = "filled,dashed" if colour.dashed else "filled"
    return (
        f' style="{style}" fillcolor="{colour.fill}" color="{colour.stroke}" '
        f'fontcolor="{colour.text}"'
    )


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
