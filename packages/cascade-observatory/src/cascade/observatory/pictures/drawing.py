"""A graph as inline SVG: circles by size, groups as tinted areas, labels that do not collide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt

from cascade.observatory.pictures.layout import Box, Point, Pull, extent, place
from cascade.observatory.pictures.marking import escape

#: Radius of the heaviest and of the lightest circle, in the units of the drawing.
LARGEST, SMALLEST = 46.0, 4.5
#: Colours that the page's style has for groups, ``--group-1`` and so on; after these, grey.
GROUP_COLOURS = 12
_MARGIN = 34.0
_CHARACTER = 0.61  # width of a character in em, on average over names, in sans-serif
_FEWEST_IN_A_GROUP = 3
_LONGEST = 24  # characters of a label


@dataclass(frozen=True, slots=True)
class Dot:
    """A node as it is to be drawn."""

    key: str
    #: The area of its circle is in proportion to this.
    weight: float
    #: Shown when the pointer rests on it.
    title: str
    #: Dots of one group are drawn together; the empty string is no group.
    group: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge as it is to be drawn."""

    source: str
    target: str
    #: 0 to 1: how visible it is, and how strongly it pulls the two together.
    strength: float
    #: Drawn always; the others appear when one of their ends is chosen.
    always: bool = True


def draw(dots: Sequence[Dot], arrows: Sequence[Arrow], *, title: str) -> str:
    """The graph as one ``<svg>`` element, styled by ``page.css``.

    Args:
        dots: Heaviest first.
        arrows: Between the keys of ``dots``.
        title: What it shows, for those who do not see it.

    Guarantees: deterministic; refers to nothing outside.
    """
    groups = _groups(dots)
    radii = _radii(dots)
    labels = [_label(dot, groups) for dot in dots]
    fonts = [_font(radius) for radius in radii]
    index = {dot.key: i for i, dot in enumerate(dots)}
    heaviest = max((dot.weight for dot in dots), default=1.0) or 1.0
    boxes = [
        Box(
            max(2 * radius, _width(label, font)),
            2 * radius + (0 if _fits(label, font, radius) else font * 1.15),
            dot.group if dot.group in groups else "",
            dot.weight / heaviest,
        )
        for dot, radius, label, font in zip(dots, radii, labels, fonts, strict=True)
    ]
    pulls = [Pull(index[a.source], index[a.target], a.strength) for a in arrows if a.always]
    points = place(boxes, pulls)
    # A box is centred, its circle is at the box's upper end.
    centres = [
        Point(point.x, point.y - box.height / 2 + radius)
        for point, box, radius in zip(points, boxes, radii, strict=True)
    ]
    left, top, right, bottom = extent(boxes, points)
    view = (left - _MARGIN, top - _MARGIN, right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN)
    parts = [
        f'<svg class="graph" role="img" viewBox="{" ".join(f"{v:.1f}" for v in view)}">',
        f"<title>{escape(title)}</title>",
        *_areas(dots, centres, radii, groups),
        *_arrows(arrows, centres, radii, index),
        *_dots(dots, centres, radii, labels, fonts, groups),
        *_names(dots, centres, radii, groups),
        "</svg>",
    ]
    return "\n".join(parts)


def _groups(dots: Sequence[Dot]) -> dict[str, int]:
    """Groups that are drawn as such → the number of their colour; 0 is grey."""
    counts: dict[str, int] = {}
    for dot in dots:
        if dot.group:
            counts[dot.group] = counts.get(dot.group, 0) + 1
    large = [group for group, count in counts.items() if count >= _FEWEST_IN_A_GROUP]
    return {group: i if i <= GROUP_COLOURS else 0 for i, group in enumerate(large, 1)}


def _radii(dots: Sequence[Dot]) -> list[float]:
    heaviest = max((dot.weight for dot in dots), default=1.0) or 1.0
    return [max(SMALLEST, LARGEST * sqrt(dot.weight / heaviest)) for dot in dots]


def _label(dot: Dot, groups: dict[str, int]) -> str:
    """The key, without the group's name, which its area shows; of a long one the end."""
    label = dot.key
    if dot.group in groups:
        label = label.removeprefix(f"{dot.group}.")
    return label if len(label) <= _LONGEST else f"…{label[1 - _LONGEST :]}"


def _font(radius: float) -> float:
    return min(17.0, max(11.0, 8 + radius / 4))


def _width(label: str, font: float) -> float:
    return len(label) * font * _CHARACTER


def _fits(label: str, font: float, radius: float) -> bool:
    return _width(label, font) < 1.7 * radius


def _areas(
    dots: Sequence[Dot],
    centres: Sequence[Point],
    radii: Sequence[float],
    groups: dict[str, int],
) -> list[str]:
    """The areas behind the groups: their convex hulls, with a wide round border."""
    parts = []
    for group, colour in groups.items():
        members = [i for i, dot in enumerate(dots) if dot.group == group]
        hull = convex_hull(
            [
                (centres[i][0] + sign * radii[i], centres[i][1] + tall * radii[i])
                for i in members
                for sign, tall in ((-1, 0), (1, 0), (0, -1), (0, 1))
            ]
        )
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in hull)
        parts.append(f'<polygon class="area" style="--c:var(--group-{colour})" points="{points}"/>')
    return parts


def _names(
    dots: Sequence[Dot],
    centres: Sequence[Point],
    radii: Sequence[float],
    groups: dict[str, int],
) -> list[str]:
    """The names of the groups, over their areas."""
    parts = ['<g class="names">']
    for group, colour in groups.items():
        members = [i for i, dot in enumerate(dots) if dot.group == group]
        x = sum(centres[i][0] for i in members) / len(members)
        y = min(centres[i][1] - radii[i] for i in members)
        parts.append(
            f'<text x="{x:.1f}" y="{y - 7:.1f}" style="--c:var(--group-{colour})">'
            f"{escape(group)}</text>"
        )
    return [*parts, "</g>"]


def convex_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the smallest convex polygon around ``points`` (Andrew 1979).

    >>> convex_hull([(0, 0), (2, 0), (1, 1), (2, 2), (0, 2)])
    [(0, 0), (2, 0), (2, 2), (0, 2)]
    """
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered
    return [*_half_hull(ordered), *_half_hull(ordered[::-1])]


def _half_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (ax, ay), (bx, by) = hull[-2:]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull[:-1]


def _arrows(
    arrows: Sequence[Arrow],
    centres: Sequence[Point],
    radii: Sequence[float],
    index: dict[str, int],
) -> list[str]:
    """Curved wedges from rim to rim, thick at the source; there and back are bent apart."""
    parts = ["<g>"]
    for arrow in sorted(arrows, key=lambda a: a.strength):
        a, b = index[arrow.source], index[arrow.target]
        shape = wedge(centres[a], radii[a], centres[b], radii[b], 1.2 + 1.6 * arrow.strength)
        parts.append(
            f'<path class="{"edge" if arrow.always else "edge faint"}" '
            f'data-a="{escape(arrow.source)}" data-b="{escape(arrow.target)}" '
            f'style="--s:{arrow.strength:.2f}" d="{shape}"/>'
        )
    return [*parts, "</g>"]


def wedge(
    source: Point, source_radius: float, target: Point, target_radius: float, half: float
) -> str:
    """The outline of a curve between two circles that is ``2 * half`` wide at the source's rim."""
    x, y = target.x - source.x, target.y - source.y
    length = hypot(x, y) or 1.0
    x, y = x / length, y / length
    sx, sy = source.x + x * source_radius, source.y + y * source_radius
    tx, ty = target.x - x * target_radius, target.y - y * target_radius
    bend = 0.1 * length
    cx, cy = (sx + tx) / 2 - y * bend, (sy + ty) / 2 + x * bend
    wx, wy = -y * half, x * half
    return (
        f"M{sx + wx:.1f},{sy + wy:.1f}Q{cx + wx / 2:.1f},{cy + wy / 2:.1f} {tx:.1f},{ty:.1f}"
        f"Q{cx - wx / 2:.1f},{cy - wy / 2:.1f} {sx - wx:.1f},{sy - wy:.1f}Z"
    )


def _dots(
    dots: Sequence[Dot],
    centres: Sequence[Point],
    radii: Sequence[float],
    labels: Sequence[str],
    fonts: Sequence[float],
    groups: dict[str, int],
) -> list[str]:
    parts = []
    for i, dot in enumerate(dots):
        (x, y), radius, font = centres[i], radii[i], fonts[i]
        inside = _fits(labels[i], font, radius)
        below = y + (font * 0.35 if inside else radius + font)
        parts.append(
            f'<g class="dot" data-key="{escape(dot.key)}" tabindex="0" '
            f'style="--c:var(--group-{groups.get(dot.group, 0)})">'
            f"<title>{escape(dot.title)}</title>"
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
            f'<text class="{"inside" if inside else "below"}" x="{x:.1f}" y="{below:.1f}" '
            f'font-size="{font:.1f}">{escape(labels[i])}</text></g>'
        )
    return parts
