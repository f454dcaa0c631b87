"""The methods of an engine that show its runs, without changing them."""

from __future__ import annotations

from cascade.graph.durations import duration_text
from cascade.runtime.engine_base import EngineBase
from cascade.runtime.engine_runs import EngineRuns, RunInfo
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.telemetry.html_tables import html_lines, html_table

#: Most runs that notebooks show.
_MOST_RUNS = 50


class EngineViews(EngineBase):
    """Inherited by Engine."""

    def runs(self) -> list[RunInfo]:
        """The active runs, and the progress of their loops. From any thread.

        Runs in other processes come last, with their progress as of the last half second.
        """
        return self._runs.infos()

    def __repr__(self) -> str:
        count = len(self._runs.active)
        return f"<Engine with {count} active run{'s' * (count != 1)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The active runs, for notebooks."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        runs = self.runs()
        rows = [
            (run.target, run.run_id, duration_text(run.seconds), f"{run.steps:,}", run.task or "")
            for run in runs[:_MOST_RUNS]
        ]
        left = len(runs) - len(rows)
        lines = [f"{left:,} more"] if left else [] if runs else ["no active run"]
        return html_table(
            ("target", "run", "duration", "steps", "task"), rows, (0, 1, 4)
        ) + html_lines(lines)

    def waiting(self, *, inputs: bool = True) -> list[Waiting]:
        """The nodes of all active runs that do not run now, and the reasons.

        They wait for inputs, for their next attempt, or for a capacity, a constraint, a worker
        thread or a worker process, which is named together with the tasks that hold it. Waits for a
        thread are listed once they have lasted for a tenth of a second. From any thread.

        Those of runs that other processes execute follow, without inputs and as of the last half
        second: most 1000 of each run, with 0 as the number of the node.

        Args:
            inputs: Include nodes that wait for inputs, which needs a visit to every node; and all
                nodes of a run that wait for a thread, instead of the first 1000.
        """
        found = [waiting for run in list(self._runs.active) for waiting in run.waiting(inputs)]
        hosted = self._runs.hosted
        return found if hosted is None else [*found, *hosted.waiting()]

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The names of abandoned plain functions that still run.

        They were abandoned after a timeout, a deadline, or a second Ctrl-C, because a function
        cannot be stopped (M8). Their threads are daemons, and do not delay the end of the program.
        """
        return self._lending.abandoned.names

    @property
    def engine_runs(self) -> EngineRuns:
        """The active runs themselves, for views of them."""
        return self._runs
