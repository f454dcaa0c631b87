"""The display of a running field of fireflies: a picture, or lines without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from time import perf_counter

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cascade.observatory.agents.medium import Medium
from cascade.observatory.agents.swarm import SYNCHRONOUS, Recording, Settings
from cascade.observatory.experiments.glow import LEVELS, Glow, sparkline

#: Share of the period in which a flash fades to a third.
FADE = 0.12
#: Real seconds between two pictures, and between two lines.
_PICTURE_EVERY, _LINE_EVERY = 0.1, 1.0
#: Lines above and below the grid if the figures stand there; otherwise columns beside it.
_AROUND, _BESIDE = 12, 46


def brightness(medium: Medium, period: float) -> list[int]:
    """How bright each firefly is now, in levels."""
    now, fade, top = medium.now, FADE * period, LEVELS - 1
    return [round(top * exp((last - now) / fade)) for last in medium.last]


class FieldView:
    """Shows a field. Use it as a context manager, and ``watch`` as a watcher.

    Args:
        settings: The field.
        console: The output: a changing picture on a terminal, otherwise lines.
        delay: Returns the event loop's recent delay in seconds; None if not measured.
    """

    def __init__(
        self, settings: Settings, console: Console, delay: Callable[[], float | None]
    ) -> None:
        self._settings = settings
        self._console = console
        self._delay = delay
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._shown = self._began = perf_counter()
        self._counts = (0, 0)
        #: Flashes and steps per real second, over the last while.
        self._rates = (0.0, 0.0)

    def __enter__(self) -> FieldView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, recording: Recording, medium: Medium) -> None:
        """Show the field, if it is time."""
        now = perf_counter()
        elapsed = now - self._shown
        if elapsed < (_LINE_EVERY if self._live is None else _PICTURE_EVERY):
            return
        counts = (recording.flashed, recording.steps)
        flashes, steps = (n - m for n, m in zip(counts, self._counts, strict=True))
        self._rates = (flashes / elapsed, steps / elapsed)
        self._counts, self._shown = counts, now
        if self._live is None:
            self._console.print(self.line(recording), soft_wrap=True, highlight=False)
        else:
            self._live.update(self.picture(recording, medium), refresh=True)

    def line(self, recording: Recording) -> str:
        """Its state, in a line."""
        figures = [f"{name} {value}" for name, value in self._figures(recording)]
        return "  ".join(figures)

    def picture(self, recording: Recording, medium: Medium) -> Group:
        """Its state, as a picture."""
        settings = self._settings
        width, height = self._console.size
        beside = width >= _BESIDE + settings.side and height > 8
        free = (width - _BESIDE, 2 * (height - 4)) if beside else (width, 2 * (height - _AROUND))
        most = max(8, min(free))
        glow = Glow(brightness(medium, settings.period), settings.side, most)
        table = Table.grid(padding=(0, 2))
        for name, value in self._figures(recording):
            table.add_row(Text(name, style="dim"), Text(value, style="bold"))
        r = recording.order[-1]
        bar = Text(sparkline(recording.order[-40:]), style=_style_of(r))
        title = Text(f"{settings.fireflies:,} fireflies, {settings.topology}", style="bold")
        if not beside:
            return Group(title, glow, bar, table)
        both = Table.grid(padding=(0, 3))
        both.add_row(glow, Group(table, "", bar))
        return Group(title, "", both)

    def _figures(self, recording: Recording) -> Sequence[tuple[str, str]]:
        flashes, steps = self._rates
        figures = [
            ("t", f"{recording.times[-1]:.1f} of {self._settings.duration:g} s"),
            ("R", f"{recording.order[-1]:.3f}"),
            ("flashes/s", f"{flashes:,.0f}"),
            ("steps/s", f"{steps:,.0f}"),
        ]
        delay = self._delay()
        if delay is not None:
            figures.append(("loop delay", f"{1000 * delay:.1f} ms"))
        if recording.lag > self._settings.period:
            figures.append(("late by up to", f"{recording.lag:.1f} s"))
        return figures


def _style_of(order: float) -> str:
    return "green" if order > SYNCHRONOUS else "yellow"
