"""A graph as inline SVG, laid out by networkx: circles by weight, groups by colour, labels apart.

networkx is in the extra ``cascade-observatory[plots]``; it is imported when a graph is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot, sqrt
from typing import NamedTuple

from cascade.observatory.pictures.assets import needs_plots
from cascade.observatory.pictures.marking import escape

#: Radius of the largest and of the smallest circle, and margins, in units of the drawing.
LARGEST, SMALLEST = 46.0, 4.5
_MARGIN, _GAP = 34.0, 5.0
#: Approximate ratio of width to height of the drawing.
_ASPECT = 1.5
_CHARACTER = 0.61  # width of a character in em, on average over names, in sans-serif
_LONGEST = 24  # characters of a label
_FEWEST_IN_A_GROUP = 3
#: Weights of edges that the layout adds: from each node to the middle, and within a group.
_GRAVITY, _GROUPING = 0.15, 0.6
_CENTRE = "\0centre"
#: Most rounds in which overlapping boxes are moved apart.
_ROUNDS = 600
#: Group colours of ``colours.css``; further groups are grey.
_COLOURS = 12


@dataclass(frozen=True, slots=True)
class Dot:
    """A node of the drawing.

    Attributes:
        key: Its name, and label.
        weight: The area of its circle is in proportion to this.
        title: Shown as a tooltip.
        group: Groups of three or more have a colour; the empty string is no group.
    """

    key: str
    weight: float
    title: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge of the drawing.

    Attributes:
        source: Key of a dot.
        target: Key of a dot.
        strength: 0 to 1: how visible it is, and how strongly it pulls the two together.
        always: Whether it is drawn always; otherwise only while one of its ends is chosen.
    """

    source: str
    target: str
    strength: float
    always: bool = True


class _Placed(NamedTuple):
    """A dot with its measures: ``x``, ``y`` are the centre of the circle."""

    dot: Dot
    x: float
    y: float
    radius: float
    font: float
    colour: int

    @property
    def label(self) -> str:
        key = self.dot.key
        return key if len(key) <= _LONGEST else f"…{key[1 - _LONGEST :]}"

    @property
    def width(self) -> float:
        return len(self.label) * self.font * _CHARACTER

    @property
    def is_inside(self) -> bool:
        """Whether the label fits into the circle; otherwise it is below."""
        return self.width < 1.7 * self.radius

    @property
    def box(self) -> tuple[float, float]:
        """Width and height with the label."""
        below = 0 if self.is_inside else 1.15 * self.font
        return max(2 * self.radius, self.width), 2 * self.radius + below


def draw_graph(dots: Sequence[Dot], arrows: Sequence[Arrow], *, title: str) -> str:
    """The graph as one ``<svg>`` element, styled by ``page.css``.

    Args:
        dots: With different keys.
        arrows: Between the keys of ``dots``.
        title: A description for screen readers.

    Raises:
        ModuleNotFoundError: networkx is not installed; the message names the extra.

    Guarantees: deterministic; refers to nothing outside.
    """
    placed = _placed(dots, arrows)
    nodes = placed.values()
    half = max((max(node.box) for node in nodes), default=0) / 2 + _MARGIN
    left, right = (end((node.x for node in nodes), default=0.0) for end in (min, max))
    top, bottom = (end((node.y for node in nodes), default=0.0) for end in (min, max))
    view = (left - half, top - half, right - left + 2 * half, bottom - top + 2 * half)
    parts = [
        f'<svg class="graph" role="img" viewBox="{" ".join(f"{v:.1f}" for v in view)}">',
        f"<title>{escape(title)}</title>",
        *(_arrow(arrow, placed) for arrow in sorted(arrows, key=lambda one: one.strength)),
        *map(_dot, nodes),
        "</svg>",
    ]
    return "\n".join(parts)


def _placed(dots: Sequence[Dot], arrows: Sequence[Arrow]) -> Mapping[str, _Placed]:
    """Key → its place, so that no circle or label lies on another."""
    heaviest = max((dot.weight for dot in dots), default=1.0) or 1.0
    counts = Counter(dot.group for dot in dots if dot.group)
    groups = [group for group, count in counts.items() if count >= _FEWEST_IN_A_GROUP]
    colours = {group: number for number, group in enumerate(groups, 1) if number <= _COLOURS}
    nodes = []
    for dot in dots:
        radius = max(SMALLEST, LARGEST * sqrt(dot.weight / heaviest))
        font = min(17.0, max(11.0, 8 + radius / 4))
        nodes.append(_Placed(dot, 0.0, 0.0, radius, font, colours.get(dot.group, 0)))
    centres = _separated([node.box for node in nodes], _layout(nodes, arrows))
    return {
        node.dot.key: node._replace(x=x, y=y - node.box[1] / 2 + node.radius)
        for node, (x, y) in zip(nodes, centres, strict=True)
    }


def _layout(nodes: Sequence[_Placed], arrows: Sequence[Arrow]) -> list[tuple[float, float]]:
    """The centre of each node's box, by networkx (Fruchterman, Reingold); boxes may overlap."""
    with needs_plots():
        import networkx
    graph = networkx.Graph()
    for node in nodes:
        graph.add_edge(_CENTRE, node.dot.key, weight=_GRAVITY)
    for one, other in combinations(nodes, 2):
        if one.colour and one.colour == other.colour:
            graph.add_edge(one.dot.key, other.dot.key, weight=_GROUPING)
    for arrow in arrows:
        if arrow.always and arrow.source != arrow.target:
            graph.add_edge(arrow.source, arrow.target, weight=arrow.strength)
    places = networkx.spring_layout(graph, iterations=200, seed=1)
    scale = sqrt(sum(width * height for width, height in (node.box for node in nodes)))
    across = scale * sqrt(_ASPECT)
    down = scale / sqrt(_ASPECT)
    found = (places[node.dot.key] for node in nodes)
    return [(across * float(x), down * float(y)) for x, y in found]


def _separated(
    boxes: Sequence[tuple[float, float]], centres: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The centres, moved apart where boxes overlap: along the axis on which that takes least."""
    xs, ys = ([centre[axis] for centre in centres] for axis in (0, 1))
    pairs = [
        (a, b, (boxes[a][0] + boxes[b][0]) / 2 + _GAP, (boxes[a][1] + boxes[b][1]) / 2 + _GAP)
        for a, b in combinations(range(len(boxes)), 2)
    ]
    for _ in range(_ROUNDS):
        is_done = True
        for a, b, width, height in pairs:
            across, down = width - abs(xs[a] - xs[b]), height - abs(ys[a] - ys[b])
            if across <= 1e-6 or down <= 1e-6:
                continue
            is_done = False
            axis, push = (xs, across / 2) if across < down else (ys, down / 2)
            if axis[a] < axis[b]:
                push = -push
            axis[a] += push
            axis[b] -= push
        if is_done:
            break
    return [*zip(xs, ys, strict=True)]


def _arrow(arrow: Arrow, placed: Mapping[str, _Placed]) -> str:
    """A curved wedge from rim to rim, thick at the source."""
    source, target = placed[arrow.source], placed[arrow.target]
    x, y = target.x - source.x, target.y - source.y
    length = hypot(x, y) or 1.0
    x, y = x / length, y / length
    sx, sy = source.x + x * source.radius, source.y + y * source.radius
    tx, ty = target.x - x * target.radius, target.y - y * target.radius
    bend, half = 0.1 * length, 1.2 + 1.6 * arrow.strength
    cx, cy = (sx + tx) / 2 - y * bend, (sy + ty) / 2 + x * bend
    wx, wy = -y * half, x * half
    shape = (
        f"M{sx + wx:.1f},{sy + wy:.1f}Q{cx + wx / 2:.1f},{cy + wy / 2:.1f} {tx:.1f},{ty:.1f}"
        f"Q{cx - wx / 2:.1f},{cy - wy / 2:.1f} {sx - wx:.1f},{sy - wy:.1f}Z"
    )
    return (
        f'<path class="{"edge" if arrow.always else "edge faint"}" '
        f'data-a="{escape(arrow.source)}" data-b="{escape(arrow.target)}" '
        f'style="--s:{arrow.strength:.2f}" d="{shape}"/>'
    )


def _dot(node: _Placed) -> str:
    key, x, font = escape(node.dot.key), node.x, node.font
    below = node.y + (font * 0.35 if node.is_inside else node.radius + font)
    return (
        f'<g class="dot" data-key="{key}" tabindex="0" style="--c:var(--group-{node.colour})">'
        f"<title>{escape(node.dot.title)}</title>"
        f'<circle cx="{x:.1f}" cy="{node.y:.1f}" r="{node.radius:.1f}"/>'
        f'<text class="{"inside" if node.is_inside else "below"}" x="{x:.1f}" y="{below:.1f}" '
        f'font-size="{font:.1f}">{escape(node.label)}</text></g>'
    )
