"""The methods of an engine that show its runs, without changing them."""

from __future__ import annotations

from cascade.runtime.engine_runs import EngineRuns, RunInfo
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.lending import Lending


class EngineViews:
    """Inherited by Engine, which has the rest."""

    # Of Engine:
    _runs: EngineRuns
    _lending: Lending

    def runs(self) -> list[RunInfo]:
        """The active runs, and the progress of their loops. From any thread."""
        return self._runs.infos()

    def waiting(self, *, inputs: bool = True) -> list[Waiting]:
        """The nodes of all active runs that do not run now, and the reasons.

        They wait for inputs, for their next attempt, or for a capacity, a constraint, a worker
        thread or a worker process, which is named together with the tasks that hold it. Waits for a
        thread are listed once they have lasted for a tenth of a second. From any thread.

        Args:
            inputs: Include nodes that wait for inputs, which needs a visit to every node; and all
                nodes of a run that wait for a thread, instead of the first 1000.
        """
        return [waiting for run in list(self._runs.active) for waiting in run.waiting(inputs)]

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
