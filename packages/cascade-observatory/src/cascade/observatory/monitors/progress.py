"""Progress of the runs on a bus: a bar each in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from cascade.observatory.monitors.tally import RunFigures, RunTally
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Event, RunFinished, RunStarted


@contextmanager
def show_progress(
    bus: MessageBus, console: Console | None = None, *, every: float = 1.0
) -> Iterator[RunTally]:
    """Show how far the runs on ``bus`` are, as long as the block lasts.

    Totals grow as runs find out what they have to do.

    Args:
        bus: That of the engine.
        console: Where to show it; standard error if left out. One that is no terminal gets plain
            lines: at the start of a run, while it lasts, and at its end.
        every: Seconds between two such lines of one run, by the clock of the events.

    Yields:
        The tally of these runs.

    Guarantees: however the block ends, the terminal is restored and nothing stays subscribed.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        with RunTally(bus, _Lines(console, every).show) as tally:
            yield tally
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        Progress(*columns, console=console, expand=True) as progress,
        RunTally(bus, _Bars(progress).show) as tally,
    ):
        yield tally


class _Bars:
    """A bar for each run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def show(self, run: RunFigures, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._bars[run.run_id] = self._progress.add_task(escape(_title(run)), total=None)
            return
        bar = self._bars[run.run_id]
        self._progress.update(bar, total=run.planned, completed=run.done)
        if isinstance(event, RunFinished) and run.status != "succeeded":
            self._progress.update(bar, description=f"{escape(_title(run))} [red]{run.status}[/]")
            self._progress.stop_task(bar)


class _Lines:
    """A line when there is something to say, and time since the last one."""

    def __init__(self, console: Console, every: float) -> None:
        self._console = console
        self._every = every
        self._next: dict[str, float] = {}

    def show(self, run: RunFigures, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._next[run.run_id] = event.at + self._every
            self._print(f"{_title(run)}: started")
        elif isinstance(event, RunFinished):
            counts = f"{run.done} of {run.planned} tasks in {run.seconds:.2f} s"
            self._print(f"{_title(run)}: {run.status}, {counts}")
        elif event.at >= self._next[run.run_id]:
            self._next[run.run_id] = event.at + self._every
            self._print(f"{_title(run)}: {run.done} of {run.planned} tasks")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _title(run: RunFigures) -> str:
    return f"{run.target}, {run.strategy} path"
