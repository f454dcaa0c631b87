"""Reports of a host: how far its runs are, and what they wait for, as far as that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

from cascade.runtime.elsewhere.host_messages import Progress, Told, Waits
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
        #: Id → steps, and waits, as they were told last.
        self._steps: dict[str, int] = {}
        self._waits: dict[str, list[Waiting]] = {}

    def next(self) -> Told | None:
        """What has changed since the last report; None if nothing has. In the loop's thread."""
        progress, waits = list(self._progress()), list(self._changed_waits())
        return Told(progress=progress, waits=waits) if progress or waits else None

    def _progress(self) -> Iterator[Progress]:
        last, self._steps = self._steps, {}
        for run in self._engine.runs():
            self._steps[run.run_id] = run.steps
            if last.get(run.run_id) != run.steps:
                yield Progress(run.run_id, run.steps, run.steps_per_second, run.task)

    def _changed_waits(self) -> Iterator[Waits]:
        last, self._waits = self._waits, {}
        for run in list(self._engine.engine_runs.active):
            waits = [*islice(run.waiting(inputs=False), _MOST_WAITS)]
            self._waits[run.id] = waits
            if last.get(run.id, []) != waits:
                yield Waits(run.id, [_sent(wait) for wait in waits])


def _sent(wait: Waiting) -> Waiting:
    """A wait for another process: its clock and the numbers of its nodes are its own."""
    item = None if wait.item is None else replace(wait.item, map=0)
    age = None if wait.since is None else monotonic() - wait.since
    return wait._replace(node=0, since=age, item=item)


def received(wait: Waiting) -> Waiting:
    """A wait of another process, by the clock of this one."""
    return wait._replace(since=None if wait.since is None else monotonic() - wait.since)
