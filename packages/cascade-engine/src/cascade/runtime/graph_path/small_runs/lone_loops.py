"""Lone loops: runs that are nothing but one coroutine loop, such as the agents of a fleet.

Such a run needs no graph: no nodes, lanes or workers. It gets them when its loop ends with
anything other than a plain value: a lazy value, an error, a step that limits now apply to. A fleet
of thousands of agents that wait therefore holds little memory.

The first call may have been made before there is a loop; see ``first_calls``.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Self

from cascade.runtime.current import Place
from cascade.runtime.execution.awaited_call import AwaitedCall
from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.early_calls import has_plain_tasks
from cascade.runtime.execution.fairness import YieldBudget
from cascade.runtime.graph_path.compiled_loops.awaited_loops import NOT_ENTERED, AwaitedLoop
from cascade.runtime.graph_path.compiled_loops.loop_entries import LoopEntries
from cascade.runtime.graph_path.lanes.after_call import searched
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.loops.protocol import PAUSED
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.run import Run
from cascade.runtime.semantics.outcomes import Missing, refuse_coroutine
from cascade.runtime.straightline.stops import Begun
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult


class LoneLoop(AwaitedLoop):
    """The loop of one run.

    Attributes:
        work: The computation of the run's only node.
        reports: Publishes the events of that node.
        error: The error that has ended the loop, until it is taken.
        task_context: The context of the asyncio task: that of the steps, until one of them sets a
            variable in it (M12).
    """

    __slots__ = ("error", "task_context")

    error: BaseException | None
    task_context: Context | None

    @classmethod
    def of(cls, run: Run, target: LazyResult[Any], tier: Tier) -> Self | None:
        """The loop of a run of ``target``; None if the run needs more than that."""
        if not target.task.is_async or target._special or run.constraints.any:
            return None
        if target._policies is not None and target._calls.capacities:
            return None
        entries = LoopEntries(run, tier)
        work = entries.started_at(target)
        if work is None:
            return None
        reports = Reports(run)
        if run.max_rounds is not None:
            work.rounds = 0
        if not run.bus.is_silent:
            run.report_plan(lambda: [target])
        if reports.wanted:
            reports.started(work)
        return cls._made(run, entries, reports, work)

    @classmethod
    def after(
        cls, run: Run, target: LazyResult[Any], begun: Begun, reports: Reports
    ) -> Self | None:
        """The loop that goes on where the only call so far has stopped.

        None if that has returned no tail call of a loop, or if the run needs more than the loop. A
        tail call that does not fit is left to the graph, which reports it.
        """
        tail = begun.stopped.result
        if type(tail) is not TailCall or run.steps.limit is not None or run.max_rounds is not None:
            return None
        if run.constraints.any:
            return None
        entries = LoopEntries(run, "auto")
        try:
            work = entries.continued_at(target, tail)
        except ArgumentError:
            return None
        if work is None:
            return None
        run.step(target.task.name)
        begun.forget()
        return cls._made(run, entries, reports, work)

    @classmethod
    def _made(cls, run: Run, entries: LoopEntries, reports: Reports, work: Work) -> Self:
        made = cls(run, entries, reports, None, work, YieldBudget())
        made.error = None
        made.task_context = made.context
        run.locate = made.locate
        run.inside = made
        return made

    def locate(self) -> Place:
        """The only node of the run; see ``Run.locate``."""
        work = self.work
        return Place(work.node, work.source, work.operation, work.attempt, None)

    def started(self) -> asyncio.Task[Any]:
        """The asyncio task that makes the steps, to be awaited by that of the run.

        It is one of its own: a cancel of the run that the steps request would otherwise look like
        one of the call itself (M13).
        """
        loop = self._run.loop
        if has_plain_tasks(loop):  # the same in half the time
            return asyncio.Task(self.awaited(), loop=loop, context=self.task_context)
        return loop.create_task(self.awaited(), context=self.task_context)

    def cancelled(self, error: asyncio.CancelledError) -> None:
        """That asyncio task was cancelled.

        Raises:
            CancelledError: So was the run.
        """
        if self._run.is_cancelled:
            raise error
        self.error = cancelled_inside()  # through a handle on the asyncio task (M13)
        self.error.__cause__ = error

    def has_value(self) -> bool:
        """Whether ``outcome`` is the value of the run, now that the asyncio task has ended.

        Otherwise the run goes on with ``work`` and its ``outcome`` or ``error``.

        Raises:
            CancelledError: The run was cancelled.
        """
        if self._run.is_cancelled:
            self.error = None
            raise asyncio.CancelledError
        return self.error is None and self._is_value()

    def take(self) -> Any:
        """The outcome, which is then forgotten: the next step frees the arguments of the last."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def leave(self) -> None:
        """Do that later, if the run needs more than the outcome."""

    def _is_value(self) -> bool:
        outcome, work = self.outcome, self.work
        is_mere_value = type(outcome) in ATOMS and self._run.record is None
        if is_mere_value and not self.reports.wanted:
            return True
        if outcome is not PAUSED and work.loop is not None:
            self._entries.leave(work)
        if outcome is PAUSED or outcome is NOT_ENTERED or self._run.record is not None:
            return False
        try:
            outcome = self.outcome = searched(work, outcome)
            if issubclass(type(outcome), (TailCall, LazyResult, Missing)):
                return False
            refuse_coroutine(outcome, work.operation.name)
        except Exception as error:
            self.error = error
            return False
        if self.reports.wanted:
            self.reports.finished(work)
        return True

    def is_cancelled(self, outside: int) -> bool:
        """Whether the run was cancelled; see ``IsCancelled``."""
        return outside > 0 and self._run.is_cancelled

    def ended(self, result: Any, waits: int, since: float) -> bool:
        # The handlers of events do not see the variables of steps.
        return self._run.context.run(super().ended, result, waits, since)

    def tell(self) -> None:
        self._run.context.run(super().tell)

    async def end(self, error: BaseException | None) -> bool:  # type: ignore[override]
        ended = error
        try:
            try:
                await super().end(error)
            except BaseException as replaced:
                ended = replaced
                if error is None:
                    raise
            if ended is None or isinstance(ended, GeneratorExit):
                return False
            if not isinstance(ended, Exception) and self._run.is_cancelled:
                raise ended
            self.error = ended
            return True
        finally:
            del error, ended  # otherwise a cycle: its traceback holds this frame

    def over(self) -> None:
        AwaitedCall.over(self)  # the rest is still needed
        del self.task  # the asyncio task has the outcome as its result
