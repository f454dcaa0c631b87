"""Pictures in Mermaid's language."""

from __future__ import annotations

from typing import Final

from cascade.graph.model import EdgeKind, NodeKind
from cascade.graph.pictures.colours import COLOURS, LOOP
from cascade.graph.pictures.picture import CALLS, CONTINUATION, LEFT_OUT, TAIL, Arrow, Picture

_SHAPES: Final = {
    NodeKind.TASK: ('["', '"]'),
    NodeKind.CONTAINER: ('(["', '"])'),
    NodeKind.MAP: ('[["', '"]]'),
    NodeKind.OPERATOR: ('(("', '"))'),
    NodeKind.ROUTER: ('{"', '"}'),
    NodeKind.FALLBACK: ('{{"', '"}}'),
    NodeKind.SOURCE: ('[/"', '"/]'),
    CONTINUATION: ('("', '")'),
    LEFT_OUT: ('>"', '"]'),
}
#: The arrow of each kind; ``{}`` takes its label.
_ARROWS: Final = {
    EdgeKind.DATA: '-->|"{}"|',
    EdgeKind.CONDITION: "-. if .->",
    EdgeKind.ORDER: "--o|after|",
    EdgeKind.ROUTER: '==>|"{}"|',
    EdgeKind.FALLBACK: '-.->|"if {}"|',
    EdgeKind.CONSTRAINT: "--x|amount|",
    TAIL: "-. tail .->",
    CALLS: "-. calls .->",
}
_LOOPS: Final = (TAIL, CALLS)
#: Characters that Mermaid interprets inside a quoted label: entities and HTML, its end, directives
#: (``%%{init: …}%%``, anywhere), Markdown, formulas, and ``\\n`` as a line break.
_ESCAPES: Final = {
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


def mermaid(picture: Picture) -> str:
    """The text of a flowchart."""
    lines = ["flowchart TD"]
    coloured: dict[str, list[str]] = {}
    for box in picture.boxes:
        opening, closing = _SHAPES[box.kind]
        lines.append(f"    {box.key}{opening}{_escape(box.label)}{closing}")
        if box.state in COLOURS:
            coloured.setdefault(box.state, []).append(box.key)
    lines += [f"    {arrow.source} {_shaft(arrow)} {arrow.target}" for arrow in picture.arrows]
    for name, keys in coloured.items():
        colour = COLOURS[name]
        dashes = ",stroke-dasharray:4" * colour.dashed
        lines.append(
            f"    classDef {name} fill:{colour.fill},stroke:{colour.stroke},"
            f"color:{colour.text}{dashes}"
        )
        lines.append(f"    class {','.join(keys)} {name}")
    loops = [str(place) for place, arrow in enumerate(picture.arrows) if arrow.kind in _LOOPS]
    if loops:
        lines.append(f"    linkStyle {','.join(loops)} stroke:{LOOP}")
    return "\n".join(lines)


def _shaft(arrow: Arrow) -> str:
    if arrow.kind is EdgeKind.DATA and not arrow.label:
        return "-->"
    return _ARROWS[arrow.kind].format(_escape(arrow.label))


def _escape(text: str) -> str:
    """``text`` shown literally inside a quoted label: no directive, markup or formula."""
    return text.translate(_ESCAPES)
