"""The loop driver: lets nodes of a graph run continue in compiled loops, many steps at once.

A loop that a node has entered (``loop_entries``) makes steps until one returns something other than
a tail call of its own, or until its batch is used up. Between two batches everything else happens:
turns of the event loop, and with them cancels, the step limit and events.

The node's asyncio task makes steps of coroutines, and those of plain functions in the event loop's
thread (``drive``). A worker's thread makes batches by itself (``drive_on_worker``), without a hop
to the event loop in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from cascade.runtime.diagnostics.blocking_calls import marked
from cascade.runtime.execution.carried_errors import in_loop
from cascade.runtime.execution.contexts import is_written
from cascade.runtime.execution.fairness import BUDGET, YieldBudget
from cascade.runtime.execution.placement import SLOW, Place, outside_loop
from cascade.runtime.graph_path.compiled_loops.awaited_loops import NOT_ENTERED, AwaitedLoop
from cascade.runtime.graph_path.compiled_loops.loop_batches import (
    Loop,
    Steps,
    made_aside,
    made_here,
)
from cascade.runtime.graph_path.compiled_loops.loop_steps import (
    allowed_steps,
    count_steps,
    fail_at,
    fail_here,
)
from cascade.runtime.graph_path.rounds import Rounds
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.limits.admission import needs_permit
from cascade.runtime.limits.permits import Permit, current_permit
from cascade.runtime.loops.fused import Fused
from cascade.runtime.loops.protocol import PAUSED
from cascade.spec.errors import TaskCancelledError

#: The result of ``drive`` if the loop continues on a worker.
MOVED: Final = object()

#: Seconds after which a batch on a worker ends with its current step.
_LONG = 0.02
#: Most steps by which the seconds of a batch are divided to estimate the duration of one.
_ALIKE = 4


class LoopDriver(Part):
    """Makes the steps of loops for one run.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._entries = parts.entries
        self._rounds = Rounds.of(self._run)
        self._commits = None if self._run.journal is None else parts.commits
        self._end.at_stop(self._run.steps.end_batches)
        self._dispatch.at_look(self.end_long_batches)

    # -- in the event loop's thread -----------------------------------------------------------

    def drive(self, work: Work, budget: YieldBudget, reports: Reports) -> Awaitable[Any]:
        """Await the first result that is not a tail call of the loop; PAUSED if the loop goes on.

        Unless it goes on, the node has left its loop. The limits of a step apply to the whole
        batch, which is only as long as they allow.

        Args:
            work: Work in a loop.
            budget: Counts the steps.
            reports: Publishes the wait of a batch.

        Raises:
            BaseException: The error of a step; ``work`` is at its task.
            StepLimitError: The run may make no more steps.
        """
        # Every wait of the loop passes through each further coroutine.
        loop = work.loop
        assert loop is not None
        if self._run.constraints.any or work.policies.capacities:
            return self._limited(work, loop, budget, reports)
        if loop.code.is_async:
            return self._awaited(work, budget, reports).awaited()
        if reports.wanted:
            reports.goes_on(work)
        allowed = allowed_steps(self._run, work, 1 if loop.is_fresh else budget.left)
        return self._batch(work, loop, budget, allowed, None)

    async def _limited(self, work: Work, loop: Loop, budget: YieldBudget, reports: Reports) -> Any:
        """The same if limits may apply to it."""
        gate, code = self._run.gate, loop.code
        task = loop.task
        if not gate.constraints.alike(other.name for other in code.tasks):
            self._entries.leave(work)  # its tasks have different limits
            return NOT_ENTERED
        allowed = allowed_steps(self._run, work, 1 if loop.is_fresh else budget.left)
        if not needs_permit(gate.constraints, task, work.policies):
            if code.is_async:
                return await self._awaited(work, budget, reports).awaited_once(allowed)
            if reports.wanted:
                reports.goes_on(work)
            return await self._batch(work, loop, budget, allowed, None)
        if self._entries.entry(loop) is None:
            self._entries.leave(work)  # the call will ask for itself
            return NOT_ENTERED
        # A coroutine's steps may take long, so each asks separately.
        most = 1 if code.is_async else allowed
        if reports.wanted:
            reports.waits(work)
        permit = await gate.admitted(task, work.source, work.policies, most)
        if reports.wanted:
            reports.goes_on(work)
        allowed = allowed_steps(self._run, work, permit.calls)  # others may have made steps
        if not code.is_async:
            return await self._batch(work, loop, budget, allowed, permit)
        step, context = self._awaited(work, budget, reports), loop.context
        token = context.run(current_permit.set, permit)
        try:
            return await step.awaited_once(allowed)
        finally:
            context.run(current_permit.reset, token)
            gate.leave(permit, permit.calls - step.made)

    def _awaited(self, work: Work, budget: YieldBudget, reports: Reports) -> AwaitedLoop:
        is_cancelled = self._end.is_cancelled
        note = None if self._commits is None else self._commits.note_batch
        return AwaitedLoop(self._run, self._entries, reports, is_cancelled, work, budget, note)

    async def _batch(
        self, work: Work, loop: Loop, budget: YieldBudget, allowed: int, permit: Permit | None
    ) -> Any:
        """One entry of a loop of plain functions, for a number of calls; returns the permit."""
        made = 0
        context = loop.context
        token = None if permit is None else context.run(current_permit.set, permit)
        try:
            enter = self._entries.entry(loop)
            if enter is None:
                self._entries.leave(work)
                return NOT_ENTERED
            if self._place(loop) is Place.WORKER:
                loop.has_moved = True
                return MOVED
            steps = self._begun(loop, allowed)
            try:
                outcome = self._made_here(loop, enter, steps)
            except BaseException as error:
                made = steps.made
                self._note(loop, steps, budget)
                budget.left -= made - 1
                count_steps(self._run, work, loop, loop.task, steps, made - 1)
                fail_here(error, work, loop)
                raise
            made = steps.made
            self._note(loop, steps, budget)
        finally:
            if token is not None:
                context.run(current_permit.reset, token)
            if permit is not None:
                self._run.gate.leave(permit, permit.calls - made)
        entered = loop.task
        value, loop.state, *loop.values = outcome
        made -= value is not PAUSED
        budget.left -= made
        count_steps(self._run, work, loop, entered, steps, made)
        loop.is_fresh = False
        return self._after(work, loop, value)

    def _begun(self, loop: Loop, most: int) -> Steps:
        """A batch of at most so many steps."""
        code = loop.code
        unrolled = code.unrolled_for(loop.values, most) if type(code) is Fused else None
        make = Steps if unrolled is None else partial(Steps, unrolled=unrolled)
        return self._run.steps.begin(make, most)

    def _after(self, work: Work, loop: Loop, value: Any) -> Any:
        """Handle the result of a batch of plain functions; the node leaves the loop if it cannot
        continue there.
        """
        if is_written(loop.context, len(self._run.context), self._run.held):
            # Its steps set variables, which later steps of a batch would see.
            self._entries.leave(work)
            self._entries.sets_variables(work)
            if value is PAUSED:
                value = NOT_ENTERED
        elif value is not PAUSED:
            self._entries.leave(work)
        if self._commits is not None:
            self._commits.note_batch(work, loop)
        return value

    def _place(self, loop: Loop) -> Place:
        """The place of the next batch (M6)."""
        task, placement = loop.task, self._run.placement
        short = not loop.has_moved
        place = placement.place(task, short=short, alone=self._dispatch.has_one, loop=loop.code)
        return Place.INLINE if place is Place.WORKER and loop.stays else place

    def _made_here(self, loop: Loop, enter: Callable[..., Any], steps: Steps) -> Any:
        if loop.watch is None:
            loop.watch = self._run.watch_call(loop.task)
        if loop.watch is not None:
            loop.watch.on_late = steps.end
        args = (loop.watch, made_here, loop, enter, steps)
        if loop.task.mode == "inline":
            return in_loop(loop.task.name, marked, *args)
        return outside_loop(marked, *args) if loop.starts_loop else marked(*args)

    def _note(self, loop: Loop, steps: Steps, budget: YieldBudget) -> None:
        """Record the duration of steps; slow ones are the last in this thread."""
        if loop.task.mode == "inline" or not steps.seconds:
            return  # or they were not begun
        if self._note_steps(loop, steps):
            budget.restart()
            loop.has_moved = self._run.placement.durations is not None

    def _note_steps(self, loop: Loop, steps: Steps) -> bool:
        """Record the duration of steps; whether they were slow."""
        placement = self._run.placement
        took = steps.seconds / min(max(steps.made, 1), _ALIKE)
        placement.note(loop.code, took)
        if took > SLOW and steps.made <= 1:
            placement.note(loop.task, took)
        return took > SLOW

    # -- in a worker's thread -----------------------------------------------------------------

    def drive_on_worker(self, work: Work) -> Any:
        """The first result that is not a tail call of the loop; NOT_ENTERED if it cannot be
        entered.

        The node has then left its loop.

        Raises:
            BaseException: The error of a step; ``work`` is at its task.
        """
        loop, many, value = work.loop, 1, PAUSED
        assert loop is not None
        while value is PAUSED:
            if self._commits is not None:
                self._commits.await_lease()
            is_free = self._entries.is_unlimited(work, loop.code.tasks)
            enter = self._entries.entry(loop) if is_free else None
            if enter is None or self._end.stopping:
                self._entries.leave(work)
                return NOT_ENTERED
            rounds = self._rounds
            most = many if rounds is None else rounds.allowed(work, many)
            steps, entered = self._begun(loop, most), loop.task
            value, loop.state, *loop.values = self._made_on_worker(work, loop, enter, steps)
            made = steps.made - (value is not PAUSED)
            count_steps(self._run, work, loop, entered, steps, made)
            # Such a run's loops begin here until their durations are known.
            if self._run.placement.in_time:
                self._note_steps(loop, steps)
            fits = int(max(made, 1) * BUDGET / max(steps.seconds, 1e-9))
            many = max(min(many * 2, fits), 1)
            value = self._after(work, loop, value)
        return value

    def _made_on_worker(
        self, work: Work, loop: Loop, enter: Callable[..., Any], steps: Steps
    ) -> tuple[Any, ...]:
        try:
            if not self._run.bus.is_silent:
                self._run.tell_soon(loop.task.name)
            return made_aside(loop, enter, steps)
        except BaseException as error:
            count_steps(self._run, work, loop, loop.task, steps, steps.made - 1)
            cause = error.__cause__
            replaced = isinstance(error, TaskCancelledError) and cause is not None
            fail_at(cause if replaced and cause is not None else error, work, loop)
            raise

    def end_long_batches(self) -> None:
        """End the batches that workers have run for long. In the event loop's thread."""
        since = perf_counter() - _LONG
        for batch in self._run.steps.under_way():
            if batch.began and batch.began < since:
                batch.end()

    def close(self) -> None:
        """End all batches. In the event loop's thread."""
        self._run.steps.end_batches()
