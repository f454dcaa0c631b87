"""RunTally: the number of tasks of each run on a bus, how many are done, and its duration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    NodesPlanned,
    Notice,
    RunFinished,
    RunStarted,
    TaskCached,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TasksFinished,
    TaskSkipped,
)
from cascade.runtime.telemetry.base import Subscriber


@dataclass(slots=True)
class RunFigures:
    """The figures of one run so far."""

    run_id: str
    #: Name of the run's target.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str
    #: Calls of tasks known so far; grows when maps expand.
    planned: int = 0
    #: Calls that have ended: finished, failed, skipped or found in the cache.
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cached: int = 0
    #: Attempts that failed and were followed by another.
    retries: int = 0
    #: ``"running"``, then ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    status: str = "running"
    #: Duration of the run; 0 while it is running.
    seconds: float = 0.0
    #: Time of its start, on the clock of the events.
    began: float = 0.0
    _told: float = field(default=0.0, repr=False)

    @property
    def title(self) -> str:
        """The target of the run, and its path."""
        return f"{self.target}, {self.strategy} path"

    @property
    def remarks(self) -> list[str]:
        """Remarks about its tasks besides the number done: ``["2 skipped"]``."""
        # One failure of a failed run need not be mentioned.
        failed = 0 if self.status == "failed" and self.failed == 1 else self.failed
        counts = {
            "failed": failed,
            "skipped": self.skipped,
            "cached": self.cached,
            "retried": self.retries,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


class RunTally(Subscriber):
    """Counts the runs that start on a bus, until it is closed or its block ends.

    Args:
        bus: The bus to listen on.
        changed: Called after events that changed a run's figures, in the publishing thread: at
            a run's start and end, and at intervals in between.
        every: The interval in seconds, on the clock of the events; 0 for a call after each event
            and each ``TasksFinished``.

    Attributes:
        runs: The figures of these runs, in the order of their start.

    Cost: 0.3 µs per task: it counts ``TasksFinished``, of which one speaks of many tasks.

    >>> from cascade.runtime.events import RunStarted, RunFinished
    >>> bus = MessageBus()
    >>> with RunTally(bus) as tally:
    ...     bus.publish(RunStarted("1", "report", "graph"))
    ...     bus.publish(RunFinished("1", "succeeded", 0.5))
    >>> tally.runs[0].target, tally.runs[0].seconds
    ('report', 0.5)
    """

    def __init__(
        self,
        bus: MessageBus,
        changed: Callable[[RunFigures, Notice], object] | None = None,
        *,
        every: float = 0.0,
    ) -> None:
        super().__init__(bus)
        self.runs: list[RunFigures] = []
        self._changed = changed
        self._every = every if changed is not None else float("inf")
        # Only active runs.
        self._by_id: dict[str, RunFigures] = {}
        self._listen(RunStarted, self._started)
        self._listen(NodesPlanned, self._planned)
        self._listen(TasksFinished, self._went_on)
        for event_type in (TaskFailed, TaskSkipped, TaskCached, TaskRetrying):
            self._listen(event_type, self._out_of_the_ordinary)
        self._listen(RunFinished, self._finished)

    def __repr__(self) -> str:
        under_way = len(self._by_id)
        return f"<RunTally: {len(self.runs)} runs, {under_way} under way>"

    @property
    def under_way(self) -> list[RunFigures]:
        """The figures of the runs that have not ended. From any thread."""
        return list(self._by_id.values())

    def _started(self, event: RunStarted) -> None:
        run = RunFigures(event.run_id, event.target, event.strategy, began=event.at)
        run._told = event.at
        self._by_id[event.run_id] = run
        self.runs.append(run)
        if self._changed is not None:
            self._changed(run, event)

    def _planned(self, event: NodesPlanned) -> None:
        run = self._by_id.get(event.run_id)
        if run is not None:  # otherwise it started before we listened
            run.planned += event.count
            self._tell(run, event)

    def _went_on(self, event: TasksFinished) -> None:
        run = self._by_id.get(event.run_id)
        if run is not None:
            run.done += event.count
            self._tell(run, event)

    def _out_of_the_ordinary(self, event: TaskEvent) -> None:
        run = self._by_id.get(event.run_id)
        if run is None:
            return
        if isinstance(event, TaskRetrying):
            run.retries += 1
            self._tell(run, event)
            return
        run.failed += isinstance(event, TaskFailed)
        run.skipped += isinstance(event, TaskSkipped)
        run.cached += isinstance(event, TaskCached)
        run.done += 1
        self._tell(run, event)

    def _finished(self, event: RunFinished) -> None:
        run = self._by_id.pop(event.run_id, None)
        if run is not None:
            run.status, run.seconds = event.status, event.duration
            if self._changed is not None:
                self._changed(run, event)

    def _tell(self, run: RunFigures, event: Notice) -> None:
        if self._changed is not None and event.at - run._told >= self._every:
            run._told = event.at
            self._changed(run, event)
