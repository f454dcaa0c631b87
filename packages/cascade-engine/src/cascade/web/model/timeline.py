"""The timeline of a run: when its nodes were seen at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cascade.web.model.nodes import Stretch

#: Most rows of a picture; the nodes that have worked longest are kept.
MOST_ROWS: Final = 60
#: A second of waiting counts as so much of a second of work, in the choice of rows.
_WAITED: Final = 0.01


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch in a row, in seconds from the beginning of the picture."""

    row: int
    began: float
    seconds: float
    state: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bars in rows, one for each node.

    Attributes:
        rows: The names of the nodes, as ``fetch #12``.
        bars: When they were at work.
        seconds: The length of the picture.
        left_out: Nodes that are not shown, because there are too many.
    """

    rows: tuple[str, ...]
    bars: tuple[Bar, ...]
    seconds: float
    left_out: int


def timeline(stretches: Sequence[Stretch], now: float, most: int = MOST_ROWS) -> Timeline:
    """The picture of some stretches.

    Args:
        stretches: In the order in which they began.
        now: Until when open ones last.
        most: Most rows.
    """
    length: dict[int, float] = {}
    for stretch in stretches:
        seconds = max(0.0, (now if stretch.ended is None else stretch.ended) - stretch.began)
        weight = 1.0 if stretch.state == "running" else _WAITED
        length[stretch.number] = length.get(stretch.number, 0.0) + seconds * weight
    longest = sorted(length, key=lambda number: -length[number])[:most]
    kept = set(longest)
    shown = [stretch for stretch in stretches if stretch.number in kept]
    if not shown:
        return Timeline((), (), 0.0, 0)
    zero = min(stretch.began for stretch in shown)
    rows: dict[int, int] = {}
    bars = []
    for stretch in shown:
        row = rows.setdefault(stretch.number, len(rows))
        end = now if stretch.ended is None else stretch.ended
        bars.append(Bar(row, stretch.began - zero, max(0.0, end - stretch.began), stretch.state))
    names = {stretch.number: f"{stretch.name} #{stretch.number}" for stretch in shown}
    seconds = max(bar.began + bar.seconds for bar in bars)
    labels = tuple(names[number] for number in rows)
    return Timeline(labels, tuple(bars), seconds, len(length) - len(rows))
