"""A running field of fireflies: its display, its files and its measurements."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import inf
from pathlib import Path
from time import process_time
from typing import TextIO

from rich.console import Console

from cascade.observatory.agents.medium import Medium
from cascade.observatory.agents.swarm import Recording, Settings, simulate
from cascade.observatory.benchmarks.delays import LoopDelays
from cascade.observatory.experiments.field_view import FieldView
from cascade.observatory.pictures.fireflies import draw_field, told
from cascade.runtime.clock import run_virtually
from cascade.runtime.engine import Engine
from cascade.spec.errors import ArgumentError

#: Times of the pictures of the grid, as shares of the time until synchrony; one more shows
#: synchrony.
STILLS = (0.0, 0.5)


def engine_with(rate: str | None) -> Engine:
    """An engine that starts steps of fireflies at most at this rate; None for no limit.

    Raises:
        ValueError: ``rate`` is not a rate; the text is for the user.
    """
    engine = Engine()
    if rate is not None:
        try:
            engine.constraints.limit_rate("task:firefly", rate)
        except ArgumentError as error:
            raise ValueError(f"--rate: {error}") from None
    return engine


class Field:
    """A running field, and its records.

    Args:
        settings: The settings of the field.
        virtual: Whether its time is simulated.
        lines: Gets a line of JSON per look.
        console: Where it is shown; None for no display.
        rate: Highest rate of fireflies' steps.

    Attributes:
        recording: The observations so far.
        cpu: Seconds of processor time that it has taken.
    """

    def __init__(
        self,
        settings: Settings,
        virtual: bool,
        lines: TextIO,
        console: Console | None,
        rate: str | None,
    ) -> None:
        self.recording = Recording(settings)
        self.cpu = 0.0
        self._rate = rate
        self._virtual = virtual
        self._lines = lines
        self._delays = None if virtual else LoopDelays()
        #: The time of each look, on the clock of ``_delays``.
        self._looked: list[float] = []
        lately = self._delays.lately if self._delays else lambda: None
        self._view = None if console is None else FieldView(settings, console, lately)

    def run(self) -> None:
        """Run it from its beginning to its end.

        Raises:
            KeyboardInterrupt: Ctrl-C ended it; the recording has everything up to then.
        """
        began = process_time()
        try:
            if self._virtual:
                run_virtually(self._live)
            else:
                asyncio.run(self._live())
        finally:
            self.cpu = process_time() - began

    async def _live(self) -> None:
        async with engine_with(self._rate) as engine:
            with without_collector(), self._view or nullcontext(), self._delays or nullcontext():
                await simulate(self.recording.settings, engine, self.recording, self._look)

    def _look(self, recording: Recording, medium: Medium) -> None:
        if self._delays is not None:
            self._looked.append(self._delays.now)
        write_line(
            self._lines,
            t=recording.times[-1],
            R=recording.order[-1],
            flashes=recording.flashed,
            steps=recording.steps,
        )
        if self._view is not None:
            self._view.watch(recording, medium)

    def figures(self) -> dict[str, str]:
        """Name → measured value."""
        seen = self.recording
        return {
            "fireflies": f"{seen.settings.fireflies:,}",
            "topology": seen.settings.topology,
            "seed": str(seen.settings.seed),
            "in step": told(seen),
            "flashes": f"{seen.flashed:,}",
            "agent steps": f"{seen.steps:,}",
            "steps/s": f"{seen.steps / seen.seconds:,.0f}" if seen.seconds else "",
            "steps per CPU second": f"{seen.steps / self.cpu:,.0f}" if self.cpu else "",
            "time": "simulated" if self._virtual else "real",
            **self._delay_figures(),
        }

    def _delay_figures(self) -> dict[str, str]:
        if self._delays is None or not self._looked:
            return {}
        first, since = self._looked[0], self.recording.synchronous_since
        parts = {"loop delay p99": (first, inf)}
        if since is not None:
            middle = self._looked[self.recording.times.index(since)]
            parts = {"p99 before": (first, middle), "p99 in step": (middle, inf)}
        found = {name: self._delays.quantile(0.99, *span) for name, span in parts.items()}
        figures = {n: f"{1000 * d:.1f} ms" for n, d in found.items() if d is not None}
        return figures | {"late by up to": f"{1000 * self.recording.lag:.1f} ms"}


def write_line(lines: TextIO, **values: object) -> None:
    """Write a line of JSON."""
    lines.write(json.dumps(values) + "\n")


@contextmanager
def without_collector() -> Iterator[None]:
    """Turns off the garbage collector.

    Running agents leave no garbage, but are many objects to search: each collection blocks the
    event loop, a quarter of a second for ten thousand agents, and all of them together take a third
    of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def write_picture(recording: Recording, path: Path) -> None:
    """The picture of the gallery: the beginning, half-way, and synchrony."""
    period = recording.settings.period
    until = recording.synchronous_since or recording.times[-1]
    times = [max(share * until, period) for share in STILLS]
    # At the end, a moment at which as many fireflies as possible flash.
    together = Counter(time for time, _ in recording.flashes if until <= time <= until + 2 * period)
    times.append(max(together, key=together.__getitem__) if together else recording.times[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    captions = [f"after {time:.1f} s" for time in times]
    path.write_text(draw_field(recording, times, captions), encoding="utf-8")
