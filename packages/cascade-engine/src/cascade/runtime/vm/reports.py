"""What the virtual machine tells of its nodes: events, and outcomes for the state backend."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakSet

from cascade.runtime.events import (
    InputsAwaited,
    NodesPlanned,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.outcomes import Missing, Skipped
from cascade.runtime.run import Run
from cascade.runtime.vm.frame import Frame
from cascade.runtime.vm.operands import node_of
from cascade.spec.blueprint import Blueprint, Call
from cascade.spec.lazy_types import LazyResult
from cascade.spec.wording import short


class Reports:
    """What one run tells of its nodes. Those that Cascade added are not told of.

    Attributes:
        watched: Whether somebody wants to know of tasks, so that times must be taken.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.watched = run.watches_tasks
        #: What was told of as planned, where somebody wants to know.
        self._planned: WeakSet[LazyResult[Any]] = WeakSet()

    def keep(self, lazy: LazyResult[Any], value: Any) -> None:
        """Keep the outcome of a node for later, where somebody reads it."""
        state = self._run.state
        if state is None:
            return
        if issubclass(type(value), Skipped):
            state.put_skip_reason(lazy.id, short(value))
        elif not issubclass(type(value), Missing):
            state.put_result(lazy.id, value)

    def plan(
        self, blueprint: Blueprint, *root: LazyResult[Any], dead: frozenset[int] = frozenset()
    ) -> None:
        """Tell what ``blueprint``, but for its ``dead`` part, adds to what the run has to do."""
        added = self.newly_planned(blueprint, *root, dead=dead)
        if added:
            self._run.report_plan(lambda: added)

    def newly_planned(
        self, blueprint: Blueprint, *root: LazyResult[Any], dead: frozenset[int] = frozenset()
    ) -> list[LazyResult[Any]]:
        """What the run has to do from now on; nothing, where nobody wants to know."""
        wants = self._run.bus.wants
        if not (wants(NodesPlanned) or wants(InputsAwaited)):
            return []
        inner = enumerate(blueprint.instructions[:-1])
        sources = (call.source for place, call in inner if place not in dead)
        added = [s for s in (*sources, *root) if s is not None and s not in self._planned]
        self._planned.update(added)
        return added

    def start(self, frame: Frame, call: Call) -> None:
        """Start the clock of the call that ``frame`` is at.

        ``frame.goes_on`` publishes the start, once limits let the call in.
        """
        frame.started = perf_counter()
        frame.waited = frame.waits_since = 0.0
        if call.task is None or not call.task.structural:
            frame.start = partial(self._run.publish, TaskStarted, *node_of(frame, call))

    def end(self, frame: Frame, call: Call) -> None:
        """Tell of its end."""
        frame.tell_start()
        if call.task is None or not call.task.structural:
            taken = perf_counter() - (frame.started or perf_counter())
            self._run.publish(TaskFinished, *node_of(frame, call), taken, frame.waited)
        frame.started = None  # what fails now is no call

    def taken_over(self, name: str, number: int, done: asyncio.Future[Any]) -> None:
        """Tell of the end of a node whose equal call was under way."""
        if done.cancelled():
            return
        outcome = done.result()
        if issubclass(type(outcome), Missing):
            self._run.publish(TaskSkipped, name, number, *outcome.reason)
        else:
            self._run.publish(TaskCached, name, number)

    def retry(
        self, frame: Frame, call: Call, attempt: int, pause: float, error: BaseException
    ) -> None:
        """Tell of an attempt that failed and is followed by another."""
        self._run.publish(TaskRetrying, *node_of(frame, call), attempt, pause, error)

    def failed(self, frame: Frame, call: Call, error: BaseException) -> None:
        """Tell of a failure of the call that ``frame`` is at, if that has been told of."""
        structural = call.task is not None and call.task.structural
        if self.watched and frame.started is not None and not structural:
            frame.tell_start()
            taken = perf_counter() - frame.started
            self._run.publish(TaskFailed, *node_of(frame, call), taken, error, frame.waited)
