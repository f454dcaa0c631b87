"""attach: the output of a script about its runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TextIO

from cascade.runtime.bus import MessageBus
from cascade.runtime.console import terminal
from cascade.runtime.context_managers import around
from cascade.runtime.telemetry.bars import Bars
from cascade.runtime.telemetry.cell_progress import CellProgress
from cascade.runtime.telemetry.levels import LogLevel
from cascade.runtime.telemetry.lines import LineWriter, LogFormat
from cascade.runtime.telemetry.progress import progress_lines
from cascade.spec.shown import kernel


@around
def attach(
    bus: MessageBus,
    log_format: LogFormat | None = None,
    progress: bool | None = None,
    stream: TextIO | None = None,
    log_level: LogLevel | None = None,
) -> Iterator[None]:
    """Report the runs on ``bus`` to people or programs, for the duration of the block.

    Args:
        bus: The engine's bus.
        log_format: Write a line per event, as a LineWriter does; None for no such lines.
        progress: Show progress, as ``show_progress`` does. None: only if there is no other output
            and a terminal can show bars. In a terminal, lines appear above the bars; in a notebook
            the bars are an output of the cell. Plain lines of progress are never mixed with JSON.
        stream: The output; standard error by default.
        log_level: Leave out lines for events below this level; alone, it turns on lines for people.

    Raises:
        ValueError: ``log_format`` is neither "human" nor "json", or ``log_level`` is unknown.
    """
    if log_level is not None and log_format is None:
        log_format = "human"
    with ExitStack() as stack:
        console = None
        if progress or (progress is None and log_format is None):
            console = terminal(stream)
        if console is not None:
            stream = stack.enter_context(Bars(bus, console)).above
        elif progress and stream is None and kernel() is not None:
            stack.enter_context(CellProgress(bus))
        elif progress and log_format != "json":
            stack.enter_context(progress_lines(bus, stream))
        if log_format is not None:
            stack.enter_context(
                LineWriter(bus, stream, log_format=log_format, level=log_level or "debug")
            )
        yield
