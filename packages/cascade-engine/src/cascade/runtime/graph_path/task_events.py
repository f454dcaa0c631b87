"""Reports: the events of a graph run's nodes, built only if they have subscribers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from cascade.runtime.events import (
    InputsAwaited,
    NodesPlanned,
    TaskCached,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TasksFinished,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.graph_path.segments import Segment, Work
from cascade.runtime.run import Run
from cascade.runtime.semantics.outcomes import Missing
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.map_items import MapItem, item_of


class Reports:
    """The events of one run's nodes, without those that Cascade added.

    Attributes:
        wanted: Whether times must be measured, or plans published, for subscribers.
        silent: Whether there are no subscribers to any event of nodes.
    """

    wanted = False
    silent = True
    _starts = _ends = False
    #: Counts a finished task, if sums have subscribers.
    _count: Callable[[], None] | None = None

    def __init__(self, run: Run) -> None:
        self._publish, self._bus = run.publish, run.bus
        if run.bus.is_silent:
            return
        wants = run.bus.wants
        self.wanted = run.watches_tasks or wants(NodesPlanned) or wants(TasksFinished)
        self.silent = not (self.wanted or wants(InputsAwaited))
        self._starts = wants(TaskStarted)
        self._ends = wants(TaskFinished)
        if wants(TasksFinished):
            self._count = run.count_finished()

    def started(self, work: Work) -> None:
        """Start the clock of a node. ``goes_on`` publishes its start, after limits admit it."""
        work.started = perf_counter()
        work.start_told = False

    def _tell_start(self, work: Work) -> None:
        if not work.start_told:
            work.start_told = True
            if self._starts and not work.operation.structural:
                self._tell(TaskStarted, work.source, work.given)

    def waits(self, work: Work) -> None:
        """Stop the clock of a node whose next call must wait (M19)."""
        work.waits_since = perf_counter()

    def goes_on(self, work: Work) -> None:
        """Restart the clock when a call begins; before the first, publish the start."""
        if work.waits_since:
            waited, work.waits_since = perf_counter() - work.waits_since, 0.0
            work.waited += waited
            work.started += waited
        self._tell_start(work)

    def begun(self, lazy: LazyResult[Any], segment: Segment) -> float:
        """Publish the start of a node on the fast lane; returns the time."""
        if self._starts and not lazy.task.structural:
            if lazy._index is None:  # most nodes: without a call of another function
                self._publish(TaskStarted, lazy.task.name, lazy.number)
            else:
                self._tell(TaskStarted, lazy, segment.values_of(lazy.kwargs))
        return perf_counter()

    def passed(self, lazy: LazyResult[Any], started: float) -> None:
        """Publish the end of a node on the fast lane."""
        if self._count is not None and not lazy.task.structural:
            self._count()
        if self._ends and not lazy.task.structural:
            taken = perf_counter() - started
            if lazy._index is None:
                self._publish(TaskFinished, lazy.task.name, lazy.number, taken)
            else:
                self._tell_end(lazy, taken)

    def finished(self, work: Work) -> None:
        self._tell_start(work)
        if self._count is not None and not work.source.task.structural:
            self._count()
        if self._ends and not work.source.task.structural:
            self._tell_end(work.source, perf_counter() - work.started, work.waited)
        work.started = work.waited = 0.0  # a later failure is not one of a call

    def retrying(self, work: Work, attempt: int, pause: float, error: BaseException) -> None:
        self._tell(TaskRetrying, work.source, work.given, attempt, pause, error)

    def failed(self, work: Work, error: BaseException) -> None:
        if self.wanted and work.started and not work.source.task.structural:
            self._tell_start(work)
            taken = perf_counter() - work.started
            self._tell(TaskFailed, work.source, work.given, taken, error, work.waited)

    def skipped(self, lazy: LazyResult[Any], missing: Missing) -> None:
        if not (self._bus.is_silent or lazy.task.structural) and self._bus.wants(TaskSkipped):
            self._tell(TaskSkipped, lazy, NO_KWARGS, *missing.reason)

    def taken_over(self, work: Work, outcome: Any) -> Any:
        """Publish that a node gets its value from elsewhere, without a call; returns the value."""
        if isinstance(outcome, Missing):
            self.skipped(work.source, outcome)
        else:
            self._tell(TaskCached, work.source, work.given)
        return outcome

    def found(self, lazy: LazyResult[Any]) -> None:
        """Publish that the value of a node was in a cache before the run began."""
        if not self._bus.is_silent:
            self._tell(TaskCached, lazy)

    def _tell(
        self,
        kind: type[TaskEvent],
        lazy: LazyResult[Any],
        given: Mapping[str, Any] = NO_KWARGS,
        *details: Any,
    ) -> None:
        if lazy._index is None:
            self._publish(kind, lazy.task.name, lazy.number, *details)
        elif self._bus.wants(kind):
            item = item_of(lazy, given)
            self._publish(kind, lazy.task.name, lazy.number, *details, item=item)

    def _tell_end(self, lazy: LazyResult[Any], *details: float) -> None:
        """The same for TaskFinished, without arguments: bars need none, and texts take time."""
        if isinstance(lazy, MapItem):
            item = lazy.place
            self._publish(TaskFinished, lazy.task.name, lazy.number, *details, item=item)
        else:
            self._publish(TaskFinished, lazy.task.name, lazy.number, *details)
