"""Curves over two axes, both logarithmic or both linear, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.observatory.pictures.axes import Axis, LinearAxis, LogAxis
from cascade.observatory.pictures.marking import escape
from cascade.observatory.pictures.page import asset, colours

WIDTH, HEIGHT = 480.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 30.0, 16.0, 48.0
_CHARACTER = 7.2  # width of a character of the legend, on average, in sans-serif
_LINE = 20.0  # height of a line of the legend
_GAP, _HEADING = 16.0, 36.0  # between drawings side by side, and above them
_MARKERS = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True, slots=True)
class Measured:
    """A point of a curve, with the range that a line through it shows.

    On logarithmic axes all are positive.
    """

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points that belong together.

    Attributes:
        name: In the legend.
        points: By ascending ``x``.
        colour: Number of one of the page's group colours.
        bold: Whether it is what the drawing is about.
        dots: Whether its points are marked, with their ranges.
        line: Whether a line leads through them.
    """

    name: str
    points: Sequence[Measured]
    colour: int
    bold: bool = False
    dots: bool = True
    line: bool = True


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    linear: bool = False,
) -> str:
    """The curves as one ``<svg>`` element, styled by ``curves.css``.

    Args:
        curves: At least one point among them.
        title: What it shows, for those who do not see it.
        x_label: What is on the horizontal axis, with its unit.
        y_label: What is on the vertical axis, with its unit.
        y_range: Values that the vertical axis has to span, for drawings side by side; that of the
            points if left out.
        linear: Whether the axes are linear.

    Raises:
        ValueError: There is no point, or a value that has no logarithm.

    Guarantees: deterministic; refers to nothing outside.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        raise ValueError("there is no point to draw")
    smallest = min(min(point.x, point.low, point.y) for point in points)
    if not linear and smallest <= 0:
        raise ValueError(f"a logarithmic axis cannot show {smallest}")
    axis: type[LinearAxis | LogAxis] = LinearAxis if linear else LogAxis
    x: Axis = axis(min(p.x for p in points), max(p.x for p in points), _LEFT, WIDTH - _RIGHT)
    low, high = y_range or spans(points)
    y: Axis = axis(low, high, HEIGHT - _BOTTOM, _TOP)
    legend, rows = _legend(curves)
    parts = [
        f'<svg class="curves" role="img" viewBox="0 0 {WIDTH:.0f} {HEIGHT + rows * _LINE:.0f}">',
        f"<title>{escape(title)}</title>",
        *_grid(x, y),
        f'<text class="label" x="{(_LEFT + WIDTH - _RIGHT) / 2:.1f}" y="{HEIGHT - 8:.1f}">'
        f"{escape(x_label)}</text>",
        f'<text class="label" transform="translate(15 {(_TOP + HEIGHT - _BOTTOM) / 2:.1f}) '
        f'rotate(-90)">{escape(y_label)}</text>',
    ]
    # What the drawing is about lies on top.
    for number, curve in sorted(enumerate(curves), key=lambda pair: pair[1].bold):
        parts += _curve(curve, _MARKERS[number % len(_MARKERS)], x, y)
    return "\n".join([*parts, *legend, "</svg>"])


def draw_side_by_side(panels: Sequence[tuple[str, str]]) -> str:
    """Drawings of ``draw_curves`` as one picture file, with headings, in light and in dark.

    Args:
        panels: (heading, drawing), from left to right.
    """
    width = WIDTH + _GAP
    height = max(_height(drawing) for _, drawing in panels) + _HEADING
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(panels):.0f} '
        f'{height:.0f}" font-family="system-ui, sans-serif">',
        f"<style>{colours()}\n{asset('curves.css')}</style>",
        '<rect width="100%" height="100%" fill="var(--card)"/>',
    ]
    for number, (heading, drawing) in enumerate(panels):
        left = number * width
        parts.append(
            f'<text x="{left + _LEFT:.0f}" y="26" font-size="17" font-weight="600" '
            f'fill="var(--ink)">{escape(heading)}</text>'
        )
        place = f'<svg x="{left:.0f}" y="{_HEADING:.0f}" width="{WIDTH:.0f}" '
        place += f'height="{_height(drawing):.0f}" '
        parts.append(drawing.replace("<svg ", place, 1))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _height(drawing: str) -> float:
    """The height of what ``draw_curves`` made."""
    return float(drawing.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split()[1])


def spans(points: Sequence[Measured]) -> tuple[float, float]:
    """The least and the greatest value of the vertical axis, ranges included."""
    return min(min(p.low, p.y) for p in points), max(max(p.high, p.y) for p in points)


def _grid(x: Axis, y: Axis) -> list[str]:
    left, right, bottom, top = x.start, x.end, y.start, y.end
    parts = ['<g class="grid">']
    for value in y.between():
        parts.append(_line("faint", left, y(value), right, y(value)))
    for value, label in y.labelled():
        at = y(value)
        parts.append(_line("", left, at, right, at))
        parts.append(f'<text class="y" x="{left - 8:.1f}" y="{at + 4:.1f}">{label}</text>')
    for value, label in x.labelled():
        at = x(value)
        parts.append(_line("", at, bottom, at, top))
        parts.append(f'<text class="x" x="{at:.1f}" y="{bottom + 18:.1f}">{label}</text>')
    return [*parts, "</g>"]


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    named = f' class="{style}"' if style else ""
    return f'<line{named} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _curve(curve: Curve, marker: str, x: Axis, y: Axis) -> list[str]:
    places = [(x(point.x), y(point.y)) for point in curve.points]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    style = "curve bold" if curve.bold else "curve"
    parts = [f'<g class="{style}" style="--c:var(--group-{curve.colour})">']
    if curve.dots:
        parts += [_line("range", x(p.x), y(p.low), x(p.x), y(p.high)) for p in curve.points]
    if curve.line:
        parts.append(f'<polyline points="{path}"/>')
    for point, (px, py) in zip(curve.points if curve.dots else (), places, strict=False):
        at = f"{point.x:,.0f}" if point.x == round(point.x) else f"{point.x:g}"
        told = f"{curve.name}, {at}: {point.y:.3g} ({point.low:.3g} to {point.high:.3g})"
        parts.append(f"<g><title>{escape(told)}</title>{_marker(marker, px, py)}</g>")
    return [*parts, "</g>"]


def _marker(shape: str, x: float, y: float) -> str:
    r = 4.2
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'
    corners = {
        "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "triangle": ((0, -1.25), (1.2, 0.95), (-1.2, 0.95)),
        "diamond": ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    }[shape]
    points = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}"/>'


def _legend(curves: Sequence[Curve]) -> tuple[list[str], int]:
    """The legend under the axes, and how many lines it takes."""
    parts = []
    x, row = _LEFT, 0
    for number, curve in enumerate(curves):
        width = 44 + len(curve.name) * _CHARACTER * (1.1 if curve.bold else 1)
        if x > _LEFT and x + width > WIDTH - _RIGHT:
            x, row = _LEFT, row + 1
        y = HEIGHT + row * _LINE + 8
        style = "curve bold" if curve.bold else "curve"
        marker = _marker(_MARKERS[number % len(_MARKERS)], x + 9, y) if curve.dots else ""
        if curve.line:
            marker = f'<polyline points="{x:.1f},{y:.1f} {x + 18:.1f},{y:.1f}"/>{marker}'
        parts.append(
            f'<g class="{style}" style="--c:var(--group-{curve.colour})">{marker}'
            f'<text x="{x + 24:.1f}" y="{y + 4:.1f}">{escape(curve.name)}</text></g>'
        )
        x += width
    return parts, row + 1
