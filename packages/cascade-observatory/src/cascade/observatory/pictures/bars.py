"""Horizontal bars from zero, one below the other, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.observatory.pictures.axes import LinearAxis
from cascade.observatory.pictures.marking import escape

WIDTH = 480.0
_RIGHT, _TOP, _BOTTOM = 74.0, 10.0, 46.0
_ROW, _THICK = 30.0, 16.0
_CHARACTER, _MOST_LEFT = 7.4, 220.0  # of names, left of the bars


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, not negative, and what is written beside it.

    Attributes:
        name: Left of the bar.
        value: How long it is.
        told: Right of it.
        spread: From where to where a line goes over its end; None without one.
        bold: Whether the drawing is about it.
    """

    name: str
    value: float
    told: str
    spread: tuple[float, float] | None = None
    bold: bool = False


def draw_bars(bars: Sequence[Bar], *, title: str, label: str, bound: float | None = None) -> str:
    """The bars as one ``<svg>`` element, styled by ``curves.css`` and ``bars.css``.

    Args:
        bars: From top to bottom; one at least.
        title: What they show, for those who do not see it.
        label: What is on the axis, with its unit.
        bound: Where a dashed line goes, for what is not to be passed.

    Raises:
        ValueError: There is no bar, or one below zero.

    Guarantees: deterministic; refers to nothing outside.
    """
    if not bars:
        raise ValueError("there is no bar to draw")
    for bar in bars:
        if bar.value < 0:
            raise ValueError(f"a bar begins at zero, but '{bar.name}' is {bar.value}")
    left = min(max(len(bar.name) for bar in bars) * _CHARACTER + 18, _MOST_LEFT)
    bottom = _TOP + len(bars) * _ROW
    ends = [bar.spread[1] if bar.spread else bar.value for bar in bars]
    longest = max(max(bar.value for bar in bars), *ends, bound or 0.0)
    x = LinearAxis(0.0, longest, left, WIDTH - _RIGHT)
    parts = [
        f'<svg class="curves bars" role="img" viewBox="0 0 {WIDTH:.0f} {bottom + _BOTTOM:.0f}">',
        f"<title>{escape(title)}</title>",
        *_grid(x, bottom),
        f'<text class="label" x="{(left + WIDTH - _RIGHT) / 2:.1f}" y="{bottom + 38:.1f}">'
        f"{escape(label)}</text>",
    ]
    for number, bar in enumerate(bars):
        parts += _bar(bar, x, _TOP + number * _ROW + _ROW / 2)
    if bound is not None:
        parts.append(
            f'<line class="bound" x1="{x(bound):.1f}" y1="{_TOP:.1f}" x2="{x(bound):.1f}" '
            f'y2="{bottom:.1f}"/>'
        )
    return "\n".join([*parts, "</svg>"])


def _grid(x: LinearAxis, bottom: float) -> list[str]:
    parts = ['<g class="grid">']
    # Half of the lines of a curve's axis: there is less room.
    for number, (value, label) in enumerate(x.labelled()):
        at = x(value)
        faint = ' class="faint"' if number % 2 else ""
        parts.append(
            f'<line{faint} x1="{at:.1f}" y1="{_TOP:.1f}" x2="{at:.1f}" y2="{bottom:.1f}"/>'
        )
        if not number % 2:
            parts.append(f'<text class="x" x="{at:.1f}" y="{bottom + 17:.1f}">{label}</text>')
    return [*parts, "</g>"]


def _bar(bar: Bar, x: LinearAxis, middle: float) -> list[str]:
    end = x(bar.value)
    style = "bar bold" if bar.bold else "bar"
    parts = [
        f'<g class="{style}"><text class="name" x="{x.start - 8:.1f}" y="{middle + 4:.1f}">'
        f"{escape(bar.name)}</text>",
        f'<rect x="{x.start:.1f}" y="{middle - _THICK / 2:.1f}" '
        f'width="{max(end - x.start, 1):.1f}" height="{_THICK:.0f}" rx="2"/>',
    ]
    if bar.spread is not None:
        low, high = (x(max(value, 0.0)) for value in bar.spread)
        parts.append(
            f'<line class="range" x1="{low:.1f}" y1="{middle:.1f}" x2="{high:.1f}" '
            f'y2="{middle:.1f}"/>'
        )
        end = max(end, high)
    told = f'<text x="{end + 7:.1f}" y="{middle + 4:.1f}">{escape(bar.told)}</text></g>'
    return [*parts, told]
