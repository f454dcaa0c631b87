"""RunTally: how many tasks each run on a bus has, how many are done, and how long it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    NodesPlanned,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskFinished,
    TaskSkipped,
)


@dataclass(slots=True)
class RunFigures:
    """The figures of one run, as far as it has come."""

    run_id: str
    #: Name of what the run computes.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str
    #: Calls of tasks that are known so far; grows where maps expand.
    planned: int = 0
    #: How many of them have ended: finished, failed or skipped.
    done: int = 0
    #: ``"running"``, then ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    status: str = "running"
    #: How long the run took; 0 while it is running.
    seconds: float = 0.0


class RunTally:
    """Counts the runs of a bus while it is entered, and not a moment longer.

    Args:
        bus: Where to listen.
        changed: Called after each event that changed a run's figures.

    Attributes:
        runs: The figures of all runs that started meanwhile, in that order.

    >>> from cascade.runtime.events import RunStarted, RunFinished
    >>> bus = MessageBus()
    >>> with RunTally(bus) as tally:
    ...     bus.publish(RunStarted("1", "report", "graph"))
    ...     bus.publish(RunFinished("1", "succeeded", 0.5))
    >>> tally.runs[0].target, tally.runs[0].seconds
    ('report', 0.5)
    """

    def __init__(
        self, bus: MessageBus, changed: Callable[[RunFigures, Event], object] | None = None
    ) -> None:
        self.runs: list[RunFigures] = []
        self._bus = bus
        self._changed = changed
        self._by_id: dict[str, RunFigures] = {}
        self._cancels: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        for event_type in (
            RunStarted,
            NodesPlanned,
            TaskFinished,
            TaskFailed,
            TaskSkipped,
            RunFinished,
        ):
            self._cancels.append(self._bus.subscribe(event_type, self._count))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._cancels:
            self._cancels.pop()()

    def _count(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            run = RunFigures(event.run_id, event.target, event.strategy)
            self._by_id[event.run_id] = run
            self.runs.append(run)
        elif event.run_id not in self._by_id:
            return  # it started before we listened
        run = self._by_id[event.run_id]
        if isinstance(event, NodesPlanned):
            run.planned += event.count
        elif isinstance(event, TaskFinished | TaskFailed | TaskSkipped):
            run.done += 1
        elif isinstance(event, RunFinished):
            run.status, run.seconds = event.status, event.duration
        if self._changed is not None:
            self._changed(run, event)
