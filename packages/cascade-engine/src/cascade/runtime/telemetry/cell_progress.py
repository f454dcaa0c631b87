"""CellProgress: the progress of runs in the output of a notebook's cell, as bars that change.

One output of the cell is replaced again and again, which every front end of Jupyter can do; no
widgets are needed. Front ends without HTML show a line per run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Self

from cascade.graph.durations import duration_text
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Notice
from cascade.runtime.telemetry.html_tables import html_text
from cascade.runtime.telemetry.tally import RunFigures, RunTally
from cascade.spec.shown import kernel
from cascade.spec.wording import visible

#: Most seconds between two changes of the output, on the clock of the events.
_EVERY: Final = 0.1
#: Most runs that are shown, the last ones.
_MOST_RUNS: Final = 20


class CellProgress:
    """Shows the progress of the runs on ``bus`` while it is entered. ``tally`` has the figures.

    Only in the kernel of a notebook.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._shell = kernel()
        #: Names the output, so that it can be replaced.
        self._id = os.urandom(16).hex()
        self._is_shown = False
        self.tally = RunTally(bus, self._changed, every=_EVERY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.tally.close()

    def _changed(self, run: RunFigures, event: Notice) -> None:
        bundle = bundle_of(self.tally.runs, {run.run_id: event.at - run.began})
        output = {"display_id": self._id}
        self._shell.display_pub.publish(bundle, transient=output, update=self._is_shown)
        self._is_shown = True


def bundle_of(runs: Sequence[RunFigures], so_far: dict[str, float]) -> dict[str, str]:
    """The output for ``runs``; ``so_far`` are the seconds of runs that have not ended."""
    shown = runs[-_MOST_RUNS:]
    left = len(runs) - len(shown)
    said = [(run, _said(run, so_far)) for run in shown]
    lines = [f"{run.title}: {text}" for run, text in said]
    rows = [
        f"<tr><td>{html_text(run.title)}</td><td>{_bar(run)}</td><td>{html_text(text)}</td></tr>"
        for run, text in said
    ]
    if left:
        lines.insert(0, f"{left:,} more")
        rows.insert(0, f"<tr><td>{left:,} more</td></tr>")
    return {
        "text/plain": "\n".join(map(visible, lines)),
        "text/html": f"<table>{''.join(rows)}</table>",
    }


def _said(run: RunFigures, so_far: dict[str, float]) -> str:
    """Its status, counts, seconds and remarks."""
    seconds = so_far.get(run.run_id) if run.status == "running" else run.seconds
    counts = f"{run.done:,}/{run.planned:,}"
    if seconds is not None:
        counts += f" in {duration_text(seconds)}"
    status = [run.status] if run.status not in ("running", "succeeded") else []
    return ", ".join([*status, counts, *run.remarks])


def _bar(run: RunFigures) -> str:
    ended = run.status != "running"
    most = max(run.planned, 1)
    done = most if ended and run.status == "succeeded" else min(run.done, most)
    return f'<progress value="{done}" max="{most}"></progress>'
