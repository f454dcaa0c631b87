"""The colours of states in drawings."""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """The colours of a state; readable (WCAG AA) on their own and on a white or a dark page."""

    fill: str
    text: str = "#ffffff"
    dashed: bool = False

    @property
    def stroke(self) -> str:
        return self.text if self.dashed else self.fill


COLOURS = {
    "waiting": Colour("#b8860b", "#000000"),
    "running": Colour("#1f6feb"),
    "retrying": Colour("#bc4c00"),
    "finished": Colour("#2d7d46"),
    "cached": Colour("#0e7c86"),
    "failed": Colour("#cf222e"),
    "skipped": Colour("#6e7781", dashed=True),
    "cancelled": Colour("#8250df", dashed=True),
}
#: The colour of the arrows of tail calls, and of calls that make a loop.
LOOP = "#8250df"
