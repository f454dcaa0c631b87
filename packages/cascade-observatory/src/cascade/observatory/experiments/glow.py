"""A grid of lights for a terminal: two rows of them in each line, by half blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

#: Dark, glowing, bright: red, green and blue of brightness 0, a half and 1.
NIGHT, GLOW, LIGHT = (16, 24, 32), (122, 128, 30), (255, 246, 170)
#: Number of brightness levels.
LEVELS = 24
_BARS = "▁▂▃▄▅▆▇█"


class Glow:
    """The lights of a square grid, as rich shows them; one cell is half a character high.

    Args:
        levels: Brightness of each cell, row by row, 0 to ``LEVELS - 1``.
        side: Cells in a row.
        most: Most rows and columns that are shown; of a larger grid, the brightest cell of each
            square block.
    """

    def __init__(self, levels: Sequence[int], side: int, most: int = 60) -> None:
        block = -(-side // most)
        rows = [levels[row * side : (row + 1) * side] for row in range(side)]
        if block > 1:
            rows = [_brightest(rows[top : top + block], block) for top in range(0, side, block)]
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number in range(0, len(self.rows), 2):
            upper = self.rows[number]
            lower = self.rows[number + 1] if number + 1 < len(self.rows) else [-1] * len(upper)
            yield from _line(upper, lower)
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> object:
        from rich.measure import Measurement

        return Measurement(len(self.rows[0]), len(self.rows[0]))


def _line(upper: Sequence[int], lower: Sequence[int]) -> Iterator[Segment]:
    start = 0
    pairs = [*zip(upper, lower, strict=True)]
    for place in range(1, len(pairs) + 1):
        if place == len(pairs) or pairs[place] != pairs[start]:
            yield Segment("▀" * (place - start), _style(*pairs[start]))
            start = place


def _brightest(rows: Sequence[Sequence[int]], block: int) -> list[int]:
    return [
        max(max(row[left : left + block]) for row in rows) for left in range(0, len(rows[0]), block)
    ]


@cache
def _style(upper: int, lower: int) -> Style:
    below = None if lower < 0 else Color.from_triplet(ColorTriplet(*colour(lower)))
    return Style(color=Color.from_triplet(ColorTriplet(*colour(upper))), bgcolor=below)


def colour(level: int) -> tuple[int, int, int]:
    """Red, green and blue of a brightness."""
    share = 2 * level / (LEVELS - 1)
    low, high = (NIGHT, GLOW) if share <= 1 else (GLOW, LIGHT)
    share -= share > 1
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def sparkline(values: Iterable[float]) -> str:
    """A line of bars for values from 0 to 1.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    return "".join(_BARS[min(max(int(value * 8), 0), 7)] for value in values)
