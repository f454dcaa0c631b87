"""Places for the boxes of a graph: linked ones near each other, none on top of another.

Two levels: the boxes of a group are arranged among themselves and become one box, with a margin
and room for a name; these and the boxes without a group are arranged together. So nothing foreign
lies in a group's area. An arrangement has two phases, both without chance, so that equal graphs
have equal pictures:

1. *Forces* (Fruchterman, Reingold 1991): boxes push each other away, edges pull together, and
   gravity holds all of it in the middle, the heaviest most. What one step may move shrinks from
   step to step, so it comes to rest.
2. *Separation*: boxes that overlap are pushed apart along the axis where that takes least.

Cost: O(n²) a step; a fraction of a second for 120 boxes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin, sqrt
from typing import NamedTuple

#: Each is this angle further round than the last: no two directions coincide (a sunflower).
_GOLDEN_ANGLE = pi * (3 - sqrt(5))
_STEPS = 260
_ROUNDS = 600
#: Gravity on a box without weight, and what weight adds to it. With them repulsion decides how
#: dense the whole is; at this value boxes take about half of the area.
_GRAVITY, _WEIGHT_GRAVITY, _REPULSION = 0.4, 0.5, 0.16


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """What needs a place: a rectangle, in the units of the drawing."""

    width: float
    height: float
    #: Boxes of one group stay together; the empty string is no group.
    group: str = ""
    #: How strongly it is drawn to the middle, 0 to 1.
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Pull:
    """An edge between two boxes, by their indices."""

    a: int
    b: int
    #: 0 to 1.
    strength: float


def place(
    boxes: Sequence[Box],
    pulls: Sequence[Pull],
    *,
    aspect: float = 1.5,
    gap: float = 6.0,
    margin: float = 18.0,
    heading: float = 16.0,
) -> list[Point]:
    """The centre of each box, around (0, 0).

    Args:
        boxes: In order of importance: the first start in the middle.
        pulls: A box that pulls at itself is ignored.
        aspect: Width of the whole through its height, about.
        gap: Least distance between two boxes.
        margin: Room around a group.
        heading: Room for a name above a group, besides the margin.

    Guarantees: deterministic; boxes do not overlap, and no box lies in the area of a group that
    is not its own. Where a crowd cannot be separated in 600 rounds, some may still touch.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, box in enumerate(boxes):
        members[box.group or f"\0{i}"].append(i)  # without a group: alone in one of its own
    block_of = {i: n for n, inside in enumerate(members.values()) for i in inside}
    blocks: list[Box] = []
    inner: list[Point] = [Point(0, 0)] * len(boxes)
    for inside in members.values():
        blocks.append(_block(boxes, inside, pulls, inner, gap, margin, heading))
    between: defaultdict[tuple[int, int], float] = defaultdict(float)
    for pull in pulls:
        between[block_of[pull.a], block_of[pull.b]] += pull.strength
    outer = _arrange(blocks, [Pull(a, b, s) for (a, b), s in between.items()], aspect, gap)
    return [
        Point(outer[block_of[i]].x + own.x, outer[block_of[i]].y + own.y)
        for i, own in enumerate(inner)
    ]


def _block(
    boxes: Sequence[Box],
    inside: Sequence[int],
    pulls: Sequence[Pull],
    inner: list[Point],
    gap: float,
    margin: float,
    heading: float,
) -> Box:
    """Arrange the boxes of one group; fills their places in ``inner``, around its own centre."""
    if not boxes[inside[0]].group:
        return boxes[inside[0]]
    position = {i: n for n, i in enumerate(inside)}
    own = [
        Pull(position[p.a], position[p.b], p.strength)
        for p in pulls
        if p.a in position and p.b in position
    ]
    chosen = [boxes[i] for i in inside]
    points = _arrange(chosen, own, 1.2, gap)
    left, top, right, bottom = extent(chosen, points)
    top -= heading
    for i, point in zip(inside, points, strict=True):
        inner[i] = Point(point.x - (left + right) / 2, point.y - (top + bottom) / 2)
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    return Box(width, height, weight=max(box.weight for box in chosen))


def extent(boxes: Sequence[Box], points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of all boxes together; 0 of none."""
    both = list(zip(boxes, points, strict=True))
    return (
        min((p.x - b.width / 2 for b, p in both), default=0.0),
        min((p.y - b.height / 2 for b, p in both), default=0.0),
        max((p.x + b.width / 2 for b, p in both), default=0.0),
        max((p.y + b.height / 2 for b, p in both), default=0.0),
    )


def _arrange(boxes: Sequence[Box], pulls: Sequence[Pull], aspect: float, gap: float) -> list[Point]:
    if not boxes:
        return []
    # Everything is done as if for a square, and stretched at the end of the first phase.
    spread = sqrt(aspect)
    reach = [sqrt((box.width + gap) * (box.height + gap)) / 2 for box in boxes]
    unit = 2 * sum(reach) / len(reach)
    xs = [unit * sqrt(i + 0.5) * cos(i * _GOLDEN_ANGLE) / 2 for i in range(len(boxes))]
    ys = [unit * sqrt(i + 0.5) * sin(i * _GOLDEN_ANGLE) / 2 for i in range(len(boxes))]
    springs = _springs(pulls, len(boxes))
    gravity = [_GRAVITY + _WEIGHT_GRAVITY * box.weight for box in boxes]
    for step in range(_STEPS):
        most = unit * (1 - step / _STEPS)
        _move(xs, ys, reach, springs, gravity, most)
    xs = [x * spread for x in xs]
    ys = [y / spread for y in ys]
    _separate(xs, ys, boxes, gap)
    return [Point(x, y) for x, y in zip(xs, ys, strict=True)]


def _springs(pulls: Sequence[Pull], count: int) -> list[Pull]:
    """The pulls, weaker where many are at one box, so that hubs do not drag all onto themselves."""
    degree = [0.0] * count
    for pull in pulls:
        degree[pull.a] += pull.strength
        degree[pull.b] += pull.strength
    return [
        Pull(p.a, p.b, p.strength / sqrt(1 + degree[p.a] * degree[p.b]))
        for p in pulls
        if p.a != p.b
    ]


def _move(
    xs: list[float],
    ys: list[float],
    reach: Sequence[float],
    springs: Sequence[Pull],
    gravity: Sequence[float],
    most: float,
) -> None:
    """One step of the first phase, in place; nothing moves further than ``most``."""
    dx, dy = _repulsion(xs, ys, reach)
    for spring in springs:
        a, b = spring.a, spring.b
        x, y = (xs[a] - xs[b]) * spring.strength, (ys[a] - ys[b]) * spring.strength
        dx[a] -= x
        dx[b] += x
        dy[a] -= y
        dy[b] += y
    for i, strength in enumerate(gravity):
        x, y = dx[i] - xs[i] * strength, dy[i] - ys[i] * strength
        length = hypot(x, y)
        scale = min(length, most) / length if length else 0.0
        xs[i] += x * scale
        ys[i] += y * scale


def _repulsion(
    xs: Sequence[float], ys: Sequence[float], reach: Sequence[float]
) -> tuple[list[float], list[float]]:
    """How far the others push each box. Large ones push more and are not pushed more."""
    count = len(xs)
    dx, dy = [0.0] * count, [0.0] * count
    force = 4 * _REPULSION * sum(reach) / count
    for a in range(count):
        xa, ya, reach_a = xs[a], ys[a], reach[a]
        for b in range(a):
            x, y = xa - xs[b], ya - ys[b]
            push = force / (x * x + y * y + 1)
            x *= push
            y *= push
            dx[a] += x * reach[b]
            dx[b] -= x * reach_a
            dy[a] += y * reach[b]
            dy[b] -= y * reach_a
    return dx, dy


def _separate(xs: list[float], ys: list[float], boxes: Sequence[Box], gap: float) -> None:
    """The second phase, in place."""
    widths = [box.width + gap for box in boxes]
    heights = [box.height + gap for box in boxes]
    for _ in range(_ROUNDS):
        touched = False
        for a in range(len(boxes)):
            for b in range(a):
                across = (widths[a] + widths[b]) / 2 - abs(xs[a] - xs[b])
                if across <= 1e-6:
                    continue
                down = (heights[a] + heights[b]) / 2 - abs(ys[a] - ys[b])
                if down <= 1e-6:
                    continue
                touched = True
                axis, overlap = (xs, across) if across < down else (ys, down)
                push = overlap / 2 if axis[a] >= axis[b] else -overlap / 2
                axis[a] += push
                axis[b] -= push
        if not touched:
            return
