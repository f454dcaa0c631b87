"""Awaited loops: the batches of steps of one coroutine loop, awaited one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any, Final

from cascade.runtime.bus import MessageBus
from cascade.runtime.diagnostics.blocking_calls import Watch
from cascade.runtime.execution.awaited_call import AwaitedCall
from cascade.runtime.execution.cancels import IsCancelled
from cascade.runtime.execution.contexts import is_written
from cascade.runtime.execution.coroutines import Unwatched, driven
from cascade.runtime.execution.fairness import YieldBudget
from cascade.runtime.graph_path.compiled_loops.loop_batches import Loop, Steps
from cascade.runtime.graph_path.compiled_loops.loop_entries import LoopEntries
from cascade.runtime.graph_path.compiled_loops.loop_steps import (
    allowed_steps,
    count_steps,
    fail_here,
)
from cascade.runtime.graph_path.record_intervals import OFTEN
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.loops.protocol import PAUSED
from cascade.runtime.run import Run
from cascade.spec.task import Task

#: The outcome of a node that has left its loop, so that its step is an ordinary call.
NOT_ENTERED: Final = object()

#: Most steps of a batch.
_FEW = 1024


class AwaitedLoop(AwaitedCall):
    """A coroutine loop that one node continues in.

    Every wait of the loop passes through each coroutine around it, so ``driven`` awaits all
    batches in one frame, and asks this in between.

    Args:
        run: The run.
        entries: Takes the node out of its loop.
        reports: Publishes that a batch begins.
        is_cancelled: Whether the engine has cancelled the current asyncio task.
        work: Work in a loop of coroutine functions.
        budget: Counts the steps.
        note_batch: Called after each batch of a durable run.

    Attributes:
        work, reports: As given.
        outcome: The first result that is not a tail call of the loop; NOT_ENTERED; PAUSED if the
            loop goes on.
        made: Number of calls in the last batch.
        watch: The mark for the steps of the next batch.
    """

    __slots__ = (
        "_budget",
        "_entries",
        "_most",
        "_note_batch",
        "_noted",
        "_run",
        "_steps",
        "_timer",
        "made",
        "outcome",
        "reports",
        "watch",
        "work",
    )

    # Seven parameters: an object that groups some of them would be made for each loop that an agent
    # goes on with, and be part of the memory of each agent that waits.
    def __init__(
        self,
        run: Run,
        entries: LoopEntries,
        reports: Reports,
        is_cancelled: IsCancelled | None,
        work: Work,
        budget: YieldBudget,
        note_batch: Callable[[Work, Loop], None] | None = None,
    ) -> None:
        loop = work.loop
        assert loop is not None
        self._operation: Task[..., Any] = loop.task
        self._is_cancelled = is_cancelled
        self._run = run
        self._entries = entries
        self.reports = reports
        self.work = work
        self._budget = budget
        self._note_batch = note_batch
        #: Ends a batch of a durable run, however long its steps wait, for its record.
        self._timer: asyncio.TimerHandle | None = None
        #: When a batch was noted that others follow.
        self._noted = 0.0
        self._steps: Steps | None = None
        #: The calls of the only batch; None for any number of batches.
        self._most: int | None = None
        self.watch: Watch | Unwatched = run.watch_steps(loop.task, work.source)
        self.outcome: Any = PAUSED
        self.made = 0

    def awaited(self) -> Coroutine[Any, Any, Any]:
        """A coroutine for the outcome, after any number of batches.

        It is PAUSED if the run ends, or if limits now apply.

        Raises, when awaited:
            BaseException: The error of a step; the node is at its task.
            StepLimitError: The run may make no more steps.
        """
        return driven(self)

    def awaited_once(self, most: int) -> Coroutine[Any, Any, Any]:
        """The same after one batch of at most so many calls, whatever the limits."""
        self._most = most
        return self.awaited()

    # -- called by ``driven`` -----------------------------------------------------------------

    def start(self) -> asyncio.Task[Any]:
        """Begin in the current asyncio task, which is returned."""
        super().__init__(self._operation, self._run.calls, self._is_cancelled)
        return self.task

    @property
    def context(self) -> Context:
        """The context of the next batch."""
        assert self.work.loop is not None
        return self.work.loop.context

    @property
    def task_context(self) -> Context | None:
        """None: the asyncio task makes other calls, too."""
        return None

    @property
    def bus(self) -> MessageBus:
        """The run's."""
        return self._run.bus

    def begin(self) -> Coroutine[Any, Any, Any] | None:
        """The coroutine of the next batch, which takes the arguments over."""
        run, work, loop = self._run, self.work, self.work.loop
        if self.outcome is not PAUSED or loop is None:
            return None
        if self.made and self._is_over():
            self._note_all(loop)
            return None
        if self.reports.wanted:
            self.reports.goes_on(work)
        enter = self._entries.entry(loop)
        if enter is None:
            self._note_all(loop)
            self._entries.leave(work)
            self.outcome = NOT_ENTERED
            return None
        if loop.task is not self._operation:
            self._operation, self._calls[self] = loop.task, loop.task.name
            self.watch = run.watch_steps(loop.task, work.source)
        most = self._most
        if most is None:
            most = min(allowed_steps(run, work, self._budget.left), _FEW)
        self._steps = steps = run.steps.begin(Steps, most)
        if self._note_batch is not None and self._timer is None:
            self._timer = run.loop.call_later(OFTEN, self._end_long)
        self.before = self.task.cancelling()
        context = run.context
        now = (self.before, self.task, loop.context, len(context), run.held)
        values, loop.values = loop.values, ()
        return enter(steps.items, loop.state, *now, *values)  # type: ignore[no-any-return]

    def _is_over(self) -> bool:
        """Whether there is no further batch here: another one must ask for permits, or none may
        begin.
        """
        if self._most is not None or self.is_cancelled(0):
            return True
        journal = self._run.journal
        if journal is not None and journal.desk.is_overdue:
            return True  # the lane waits for the lease
        return self._run.constraints.any or bool(self.work.policies.capacities)

    def ended(self, result: Any, waits: int, since: float) -> bool:
        """Count the steps of a batch; whether the event loop may be due for a turn of its own."""
        run, work, steps, budget = self._run, self.work, self._steps, self._budget
        loop = work.loop
        assert loop is not None
        assert steps is not None
        if waits:
            budget.turned(waits, since)
        self._steps, entered = None, loop.task
        self.made = steps.made
        self.outcome, loop.state, *loop.values = result
        made = self.made - (self.outcome is not PAUSED)
        budget.left -= made
        count_steps(run, work, loop, entered, steps, made)
        if is_written(loop.context, len(run.context), run.held):
            loop.context = run.context.copy()  # later steps must not see what one has set (M12)
        if self.outcome is not PAUSED:
            self.leave()
        if self._note_batch is not None:
            self._note(self._note_batch, loop)
        if self.outcome is not PAUSED:
            return False
        return self._most is None and budget.step()

    def _end_long(self) -> None:
        """End the present batch, however short it is: its record is due."""
        self._timer = None
        if self._steps is not None:
            self._steps.end()

    def _note(self, note: Callable[[Work, Loop], None], loop: Loop) -> None:
        """Have a batch noted; a long loop notes several batches together until a record is due."""
        if self.outcome is PAUSED and self.work.policies.checkpoint is None:
            now = monotonic()
            if now < self._noted + OFTEN:
                return
            self._noted = now
        note(self.work, loop)

    def _note_all(self, loop: Loop) -> None:
        """Have all batches noted, because the node may leave its loop."""
        if self._note_batch is not None:
            self._note_batch(self.work, loop)

    def leave(self) -> None:
        """Take the node out of its loop, which has an outcome."""
        self._entries.leave(self.work)

    def pause(self) -> Coroutine[Any, Any, None]:
        """Yield to the event loop if its turn is due (M9)."""
        return self._budget.pause()

    def tell(self) -> None:
        """Report the steps so far, soon."""
        self._run.tell_soon(self._operation.name)

    async def end(self, error: BaseException | None) -> bool:  # type: ignore[override]
        """See ``Batches``."""
        try:
            await super().end(error)
            if error is not None:
                self._failed(error)
        except BaseException as replaced:
            self._failed(replaced)
            raise
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn
        return False

    def over(self) -> None:
        super().over()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # An error's traceback holds this object, which holds the run.
        del self._run, self._entries, self.reports, self.work, self.watch, self._note_batch

    def _failed(self, error: BaseException) -> None:
        """Put the node at the step that has failed, if one has."""
        work, loop, steps = self.work, self.work.loop, self._steps
        if loop is None or steps is None:
            return
        self._steps = None
        self.made = steps.made
        self._budget.left -= self.made - 1
        count_steps(self._run, work, loop, loop.task, steps, self.made - 1)
        try:
            fail_here(error, work, loop)
        finally:
            if self._note_batch is not None:
                self._note_batch(work, loop)
