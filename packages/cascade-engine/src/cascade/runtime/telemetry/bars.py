"""Bars: a bar in the terminal per active run, and a line per ended one.

rich is imported when bars are shown: it is an extra, and slow to import.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Self, TextIO, cast

from cascade.graph.durations import duration_text
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Notice, RunFinished
from cascade.runtime.telemetry.tally import RunFigures, RunTally
from cascade.spec.wording import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PER_SECOND = 10


class Bars:
    """Shows bars while it is entered. ``tally`` has the figures.

    A thread of rich draws the figures; the event loop's thread only counts tasks. Output of the
    program appears above the bars.
    """

    def __init__(self, bus: MessageBus, console: Console) -> None:
        from rich.file_proxy import FileProxy
        from rich.live import Live

        self._console = console
        # Between a run's start and its end nothing needs a call from the tally.
        self.tally = RunTally(bus, self._changed, every=float("inf"))
        # Runs that outlive the display: their bars become lines that stay.
        self._left: list[RunFigures] | None = None
        self._live = Live(
            console=console,
            get_renderable=self._under_way,
            refresh_per_second=_PER_SECOND,
            transient=True,
            # Redirected output, as in `program > file`, must not end up in the terminal.
            redirect_stdout=_is_terminal(sys.stdout),
            redirect_stderr=_is_terminal(sys.stderr),
        )
        #: A stream for lines that appear above the bars.
        self.above = cast(TextIO, FileProxy(console, console.file))

    def __enter__(self) -> Self:
        try:
            self._live.start()
        except RuntimeError:  # the system refuses a thread: bars change only when runs do
            self._live.auto_refresh = False
        return self

    def __exit__(self, *_error: object) -> None:
        self.tally.close()
        self._left = self.tally.under_way
        try:
            self._live.refresh()
            if self._left:
                self._console.print(_rows(self._left))
        finally:
            self._live.stop()

    def _under_way(self) -> Table:
        return _rows(self.tally.under_way if self._left is None else [])

    def _changed(self, run: RunFigures, event: Notice) -> None:
        if isinstance(event, RunFinished):
            self._live.refresh()  # removes the run's bar at once, so that it is not shown twice
            self._console.print(_rows([run]))


def _rows(runs: list[RunFigures]) -> Table:
    """A row per run: its target, a bar, counts, remarks, and its duration."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(ratio=1, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=8)
    for run in runs:
        ended = run.status != "running"
        said = [run.status] if run.status not in ("running", "succeeded") else []
        colour = {"failed": "red", "cancelled": "yellow"}.get(run.status, "green")
        bar = ProgressBar(
            total=run.planned or (1 if ended else None),
            completed=run.done if run.planned or not ended else 1,
            complete_style="bar.complete" if not ended else colour,
            finished_style=colour,
        )
        table.add_row(
            Text(visible(run.title)),
            bar,
            f"{run.done}/{run.planned}",
            Text(", ".join(said + run.remarks), style=colour),
            duration_text(run.seconds) if ended else _so_far(monotonic() - run.began),
        )
    return table


def _so_far(seconds: float) -> str:
    """A growing duration, without flickering digits."""
    return f"{seconds:.1f} s" if seconds < 10 else duration_text(seconds)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
