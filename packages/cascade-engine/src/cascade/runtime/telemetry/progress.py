"""show_progress: the progress of the runs on a bus, as bars in a terminal or as lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from cascade.graph.durations import duration_text
from cascade.runtime.bus import MessageBus
from cascade.runtime.console import flush, stream_of, terminal, write_line
from cascade.runtime.context_managers import around
from cascade.runtime.events import Notice, RunFinished, RunStarted
from cascade.runtime.telemetry.bars import Bars
from cascade.runtime.telemetry.cell_progress import CellProgress
from cascade.runtime.telemetry.tally import RunFigures, RunTally
from cascade.spec.shown import kernel
from cascade.spec.wording import visible

if TYPE_CHECKING:
    from rich.console import Console


@around
def show_progress(
    bus: MessageBus, to: TextIO | Console | None = None, *, every: float = 1.0
) -> Iterator[RunTally]:
    """Show the progress of the runs on ``bus``, for the duration of the block.

    In a terminal, if rich is installed (``pip install "cascade-engine[cli]"``): a bar per run. In a
    notebook, without ``to``: a bar per run in the output of the cell. Elsewhere plain lines: at the
    start of a run, at intervals while its tasks end, and at its end.
    Totals grow as runs discover more work.

    Args:
        bus: The engine's bus.
        to: A stream or a rich Console; standard error by default.
        every: Seconds between two plain lines of one run, on the clock of the events.

    Yields:
        The tally of these runs.

    Guarantees: however the block ends, the terminal is restored and nothing stays subscribed.

    Cost: that of a RunTally. A separate thread draws bars ten times a second.
    """
    console = terminal(to)
    if to is None and kernel() is not None:
        with CellProgress(bus) as bars:
            yield bars.tally
    elif console is None:
        with progress_lines(bus, stream_of(to), every=every) as tally:
            yield tally
    else:
        with Bars(bus, console) as drawn:
            yield drawn.tally


def progress_lines(bus: MessageBus, stream: TextIO | None, *, every: float = 1.0) -> RunTally:
    """Plain lines on ``stream``, terminal or not, until the tally is closed."""

    def show(run: RunFigures, event: Notice) -> None:
        write_line(stream, visible(f"{run.title}: {_how_far(run, event)}"))
        flush(stream)

    return RunTally(bus, show, every=every)


def _how_far(run: RunFigures, event: Notice) -> str:
    if isinstance(event, RunStarted):
        return "started"
    remarks = f" ({', '.join(run.remarks)})" if run.remarks else ""
    counts = f"{run.done} of {run.planned} tasks{remarks}"
    if isinstance(event, RunFinished):
        return f"{run.status}, {counts} in {duration_text(run.seconds)}"
    return counts
