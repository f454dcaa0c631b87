"""Reports of a host to its driver: the progress and the waits of its runs, where they changed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from cascade.runtime.elsewhere.host_messages import Progress, Told, Waits, sent
from cascade.runtime.execution.waiting import Waiting

if TYPE_CHECKING:
    from cascade.runtime.engine_views import EngineViews

#: Most waits of a run that are told of.
_MOST_WAITS: Final = 1000


class Reports:
    """The reports of one host, for its driver.

    Args:
        engine: Executes the runs.
    """

    def __init__(self, engine: EngineViews) -> None:
        self._engine = engine
        #: Id → what was told last.
        self._told: dict[str, Progress] = {}
        self._waits: dict[str, list[Waiting]] = {}

    def next(self) -> Told | None:
        """What has changed since the last report; None if nothing has. In the loop's thread."""
        progress, waits = list(self._progress()), list(self._changed_waits())
        return Told(progress=progress, waits=waits) if progress or waits else None

    def _progress(self) -> Iterator[Progress]:
        last, self._told = self._told, {}
        for run in self._engine.runs():
            progress = Progress(run.run_id, run.steps, run.steps_per_second, run.task)
            self._told[run.run_id] = progress
            if last.get(run.run_id) != progress:
                yield progress

    def _changed_waits(self) -> Iterator[Waits]:
        last, self._waits = self._waits, {}
        for run in list(self._engine.engine_runs.active):
            waits = [*islice(run.waiting(inputs=False), _MOST_WAITS)]
            self._waits[run.id] = waits
            if last.get(run.id, []) != waits:
                yield Waits(run.id, [sent(wait) for wait in waits])
