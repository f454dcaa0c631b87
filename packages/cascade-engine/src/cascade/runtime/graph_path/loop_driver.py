"""The loop driver: lets nodes of a graph run continue in compiled loops, many steps at once.

A node enters a loop when it has proven long (``PROMOTED`` tail calls in a row), or at once if it is
the whole target of a run. The loop then makes steps until one returns something other than a tail
call of its own, or until its batch is used up. Between two batches everything else happens: turns
of the event loop, and with them cancels, the step limit and events. A step that does not fit into
the loop is made by its node like any other, as the task that ran last, with its arguments.

The node's asyncio task makes steps of coroutines, and those of plain functions in the event loop's
thread (``drive``). A worker's thread makes batches by itself (``drive_on_worker``), without a hop
to the event loop in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.diagnostics.blocking_calls import marked
from cascade.runtime.execution.cancels import IsCancelled
from cascade.runtime.execution.contexts import is_written
from cascade.runtime.execution.fairness import BUDGET, YieldBudget
from cascade.runtime.execution.placement import SLOW, Place, outside_loop
from cascade.runtime.graph_path.loop_batches import Code, Loop, Steps, made_aside, made_here
from cascade.runtime.limits.permits import Permit, current_permit
from cascade.runtime.loops.fused import Fused, is_traced
from cascade.runtime.loops.protocol import PAUSED
from cascade.runtime.loops.tiers import Tier, loop_of
from cascade.runtime.loops.trampoline import Trampoline, is_member
from cascade.runtime.run import Run, carried, in_loop, stop_iteration
from cascade.spec.errors import TaskCancelledError, TaskStopIterationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.operation import Operation
from cascade.spec.task import Task

if TYPE_CHECKING:
    from cascade.runtime.graph_path.segments import Work

#: This many tail calls in a row show that a node is a loop.
PROMOTED: Final = 16
#: The result of ``drive`` if the node has left its loop: make the step like any other call.
NOT_ENTERED: Final = object()
#: The result of ``drive`` if the loop continues on a worker.
MOVED: Final = object()

#: Most steps of a batch of a coroutine loop.
_FEW = 1024
#: Seconds after which a batch on a worker ends with its current step.
_LONG = 0.02
#: Most steps by which the seconds of a batch are divided to estimate the duration of one.
_ALIKE = 4
#: Times that a node may leave a loop soon after it entered; then it enters trampolines only.
_LEFT_FOR_GOOD = 2


class LoopDriver:
    """Enters and leaves loops for one run.

    Args:
        run: The run.
        tier: The best tier allowed.
        is_cancelled: Whether the engine has cancelled the current asyncio task.
        is_stopping: Whether nothing new may start.
        is_alone: For a node in the event loop's thread: whether no other node runs there.
    """

    def __init__(
        self,
        run: Run,
        tier: Tier,
        is_cancelled: IsCancelled,
        is_stopping: Callable[[], bool],
        is_alone: Callable[[], bool],
    ) -> None:
        self._run = run
        self._tier = tier
        self._is_cancelled = is_cancelled
        self._is_stopping = is_stopping
        self._is_alone = is_alone
        #: Batches of coroutine loops, and those that workers make.
        self._under_way: set[Steps] = set()
        self._stop_listening: Callable[[], object] | None = None

    # -- in and out ---------------------------------------------------------------------------

    def starts_at(self, target: LazyResult[Any]) -> bool:
        """Whether a target is a lone call of a loop task, so that its node begins in the loop."""
        if target._dependencies or not isinstance(target.task, Task):
            return False
        policies = target._policies
        if policies is not None:
            calls = policies.calls
            if calls.needs_attempts or calls.cache is not None or policies.amounts:
                return False
            if policies.conditions or policies.predecessors:
                return False
        return self._loop_to_start(target.task) is not None

    def start(self, work: Work) -> bool:
        """Start the node of such a target in its loop; False if its arguments are not plain."""
        assert isinstance(work.operation, Task)
        code = self._loop_to_start(work.operation)
        return code is not None and self._enter(work, work.operation, code)

    def _loop_to_start(self, task: Task[..., Any]) -> Code | None:
        code = loop_of(task, self._tier)
        # A task that is not fused may be no loop at all, unless its tier was asked for by name.
        return code if self._tier != "auto" or type(code) is Fused else None

    def promote(self, work: Work) -> None:
        """Let a node whose last calls were tail calls continue in a loop, if it has one."""
        work.tails, task = 0, work.operation
        if self._tier == "interpreted" or work.policies.needs_attempts or work.left < 0:
            return
        if not isinstance(task, Task) or not (task.is_async or self._is_unlimited(work, (task,))):
            return
        code: Code | None = None
        if work.left <= _LEFT_FOR_GOOD:
            code = loop_of(task, self._tier)
        shares = type(code) is Fused and len(code.tasks) > 1
        if not shares and work.stays < PROMOTED:  # it goes from task to task
            code = Trampoline(task, self._run) if self._tier == "auto" and is_member(task) else None
        if code is not None:
            self._enter(work, task, code)

    def leave(self, work: Work) -> None:
        """Take a node out of its loop, at the loop's current step, as an ordinary call."""
        loop, work.loop = work.loop, None
        assert loop is not None
        task = loop.task
        if task is not work.operation:
            work.operation, work.blueprint = task, None
        named = work.named = loop.code.named(loop.state, loop.values)
        work.args, work.kwargs = task.parameters.spread(named)
        work.tails = work.stays = 0
        if loop.made < PROMOTED and work.left >= 0:
            work.left += 1

    def _enter(self, work: Work, task: Task[..., Any], code: Code) -> bool:
        parameters = task.parameters
        named = work.named
        if (
            named is None
            and not work.kwargs
            and len(work.args) == len(parameters.signature.parameters)
        ):
            named = dict(zip(parameters.positional, work.args, strict=False))
        if named is None or len(named) < len(work.args):
            named = parameters.complete(parameters.bind(work.args, work.kwargs))
        state = code.state_of(task)
        values = code.values(task, named)
        if code.loop_for(values) is None:
            return False
        context = code.context if type(code) is Trampoline else self._run.context.copy()
        work.loop = Loop(code, state, values, context)
        work.args, work.kwargs, work.named = (), NO_KWARGS, None  # the loop has them now
        return True

    def _is_unlimited(self, work: Work, tasks: Iterable[Operation]) -> bool:
        """Whether a worker may make steps of these tasks without asking for permits."""
        gate, policies = self._run.gate, work.policies
        if policies.capacities or self._run.steps.limit is not None:
            return False
        return not (gate.constraints.any and any(gate.governs(task, policies) for task in tasks))

    def _entry(self, loop: Loop) -> Callable[..., Any] | None:
        """The function to enter, if the arguments, and the names it relies on, allow that."""
        if type(loop.code) is Fused and is_traced():
            return self._untangled(loop)
        return loop.code.loop_for(loop.values)

    def _untangled(self, loop: Loop) -> Callable[..., Any] | None:
        """The same while a tool traces lines, which must be the functions' own."""
        task, code = loop.task, loop_of(loop.task, self._tier)
        if code is None:
            return None
        named = loop.code.named(loop.state, loop.values)
        loop.code, loop.state = code, code.state_of(task)
        loop.values = code.values(task, named)
        return code.loop_for(loop.values)

    # -- in the event loop's thread -----------------------------------------------------------

    def drive(self, work: Work, budget: YieldBudget, reports: Any) -> Awaitable[Any]:
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
        loop, gate = work.loop, self._run.gate
        assert loop is not None
        if not (gate.constraints.any or work.policies.capacities):
            if reports.wanted:
                reports.goes_on(work)
            allowed = self._run.steps.allowed(1 if loop.is_fresh else budget.left)
            return self._batch(work, loop, budget, allowed, None)
        return self._limited(work, loop, budget, reports)

    async def _limited(self, work: Work, loop: Loop, budget: YieldBudget, reports: Any) -> Any:
        """The same if limits may apply to it."""
        gate, code = self._run.gate, loop.code
        task = loop.task
        if not gate.constraints.alike(other.name for other in code.tasks):
            self.leave(work)  # its tasks have different limits
            return NOT_ENTERED
        allowed = self._run.steps.allowed(1 if loop.is_fresh else budget.left)
        if not gate.governs(task, work.policies):
            if reports.wanted:
                reports.goes_on(work)
            return await self._batch(work, loop, budget, allowed, None)
        if self._entry(loop) is None:
            self.leave(work)  # the call will ask for itself
            return NOT_ENTERED
        # A coroutine's steps may take long, so each asks separately.
        most = 1 if code.is_async else allowed
        if reports.wanted:
            reports.waits(work)
        permit = await gate.admitted(task, work.source.number, work.policies, most)
        if reports.wanted:
            reports.goes_on(work)
        allowed = self._run.steps.allowed(permit.calls)  # others may have made steps meanwhile
        return await self._batch(work, loop, budget, allowed, permit)

    async def _batch(
        self, work: Work, loop: Loop, budget: YieldBudget, allowed: int, permit: Permit | None
    ) -> Any:
        """One entry of the loop, for a number of calls; returns the permit."""
        made = 0
        context = loop.context
        token = None if permit is None else context.run(current_permit.set, permit)
        try:
            enter = self._entry(loop)
            if enter is None:
                self.leave(work)
                return NOT_ENTERED
            place = self._place(loop)
            if place is Place.WORKER:
                loop.has_moved = True
                return MOVED
            steps = Steps(min(allowed, _FEW) if place is Place.LOOP else allowed)
            self._run.steps.begin(steps)
            try:
                if place is Place.LOOP:
                    begun = self._begun(loop, enter, steps)
                    outcome = await self._awaited(work, loop, begun, steps, budget)
                else:
                    outcome = self._made_here(loop, enter, steps)
            except BaseException as error:
                self._under_way.discard(steps)
                made = steps.made
                self._note(loop, steps, place, budget)
                self._failed(error, work, loop, budget, steps, made - 1)
                raise
            self._under_way.discard(steps)
            made = steps.made
            self._note(loop, steps, place, budget)
        finally:
            if token is not None:
                context.run(current_permit.reset, token)
            if permit is not None:
                self._run.gate.leave(permit, permit.calls - made)
        entered = loop.task
        value, loop.state, *loop.values = outcome
        made -= value is not PAUSED
        budget.left -= made
        self._count(work, loop, entered, steps, made)
        loop.is_fresh = False
        return self._after(work, loop, value)

    def _after(self, work: Work, loop: Loop, value: Any) -> Any:
        """Handle the result of a batch; the node leaves the loop if it cannot continue there."""
        written = is_written(loop.context, len(self._run.context), self._run.held)
        if written and loop.code.is_async:
            # Later steps must not see a variable set by one (M12).
            loop.context = self._run.context.copy()
        elif written:
            # A step may set a variable in the middle of a batch, which would go on.
            self.leave(work)
            work.left = -1
            return NOT_ENTERED if value is PAUSED else value
        if value is not PAUSED:
            self.leave(work)
        return value

    def _place(self, loop: Loop) -> Place:
        """The place of the next batch (M6)."""
        task, placement = loop.task, self._run.placement
        short = not loop.has_moved
        place = placement.place(task, short=short, alone=self._is_alone(), loop=loop.code)
        return Place.INLINE if place is Place.WORKER and loop.stays else place

    def _made_here(self, loop: Loop, enter: Callable[..., Any], steps: Steps) -> Any:
        if loop.watch is None:
            loop.watch = self._run.watch_call(loop.task)
        if loop.watch is not None:
            loop.watch.end = steps.end
        args = (loop.watch, made_here, loop, enter, steps)
        if loop.task.mode == "inline":
            return in_loop(loop.task.name, marked, *args)
        return outside_loop(marked, *args) if loop.starts_loop else marked(*args)

    def _note(self, loop: Loop, steps: Steps, place: Place, budget: YieldBudget) -> None:
        """Record the duration of steps; slow ones are the last in this thread."""
        if place is Place.LOOP or loop.task.mode == "inline" or not steps.seconds:
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

    def _failed(
        self,
        error: BaseException,
        work: Work,
        loop: Loop,
        budget: YieldBudget,
        steps: Steps,
        made: int,
    ) -> None:
        """Put ``work`` at the step that has failed."""
        budget.left -= made
        self._count(work, loop, loop.task, steps, made)
        replaced = isinstance(error, (TaskStopIterationError, TaskCancelledError))
        stopped = error.__cause__ if replaced else error
        task = self._fail_at(error if stopped is None else stopped, work, loop)
        if isinstance(error, StopIteration) or (
            isinstance(error, asyncio.CancelledError) and not loop.code.is_async
        ):
            raise carried(task.func, error) from error
        if isinstance(error, TaskStopIterationError):  # it names the task that was entered
            error.args = stop_iteration(task.func).args

    def _fail_at(self, error: BaseException, work: Work, loop: Loop) -> Task[..., Any]:
        """Put ``work`` at the task whose step has raised ``error``, out of the loop; that task."""
        loop.state = loop.code.state_at(error, loop.state)
        work.loop, work.operation = None, loop.task
        return loop.task

    def _begun(self, loop: Loop, enter: Any, steps: Steps) -> Any:
        """The coroutine of a loop, which takes the arguments over."""
        task = asyncio.current_task()
        assert task is not None
        context, held = self._run.context, self._run.held
        now = (task.cancelling(), task.cancelling, loop.context, len(context), held)
        values, loop.values = loop.values, ()
        return enter(steps.items, loop.state, *now, *values)

    def _awaited(
        self, work: Work, loop: Loop, begun: Any, steps: Steps, budget: YieldBudget
    ) -> Awaitable[Any]:
        """An awaitable for a batch of a coroutine loop, until ``steps`` has an end."""
        operation = loop.task
        budget.tells(self._run, operation.name)
        self._listen()
        self._under_way.add(steps)
        return self._run.awaiting(
            operation, work.source.number, begun, loop.context, self._is_cancelled, budget
        )

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
        self._listen()
        while value is PAUSED:
            is_free = self._is_unlimited(work, loop.code.tasks)
            enter = self._entry(loop) if is_free else None
            if enter is None or self._is_stopping():
                self.leave(work)
                return NOT_ENTERED
            steps, entered = Steps(many), loop.task
            value, loop.state, *loop.values = self._made_on_worker(work, loop, enter, steps)
            made = steps.made - (value is not PAUSED)
            self._count(work, loop, entered, steps, made)
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
        self._run.steps.begin(steps)
        if not self._run.bus.is_silent:
            self._run.tell_soon(loop.task.name)
        self._under_way.add(steps)
        try:
            return made_aside(loop, enter, steps)
        except BaseException as error:
            self._count(work, loop, loop.task, steps, steps.made - 1)
            cause = error.__cause__
            replaced = isinstance(error, TaskCancelledError) and cause is not None
            self._fail_at(cause if replaced and cause is not None else error, work, loop)
            raise
        finally:
            self._under_way.discard(steps)

    def end_long_batches(self) -> None:
        """End the batches that workers have run for long. In the event loop's thread."""
        since = perf_counter() - _LONG
        for steps in list(self._under_way):
            if steps.began and steps.began < since:
                steps.end()

    # -- constraints that change, and the end -------------------------------------------------

    def _listen(self) -> None:
        """From now on, end batches when constraints change."""
        if self._stop_listening is None:
            self._stop_listening = self._run.gate.constraints.listen(self._changed)

    def close(self) -> None:
        """End all batches, and listen no more. In the event loop's thread."""
        self.end_batches()
        if self._stop_listening is not None:
            self._stop_listening()

    def _changed(self) -> None:
        if self._run.is_own_thread(threading.get_ident()):
            self.end_batches()  # now; steps that are ready already were made before
            return
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._run.loop.call_soon_threadsafe(self.end_batches)

    def end_batches(self) -> None:
        """End each batch with its current step. From any thread."""
        for steps in list(self._under_way):
            steps.end()

    def _count(
        self, work: Work, loop: Loop, entered: Task[..., Any], steps: Steps, made: int
    ) -> None:
        loop.made += max(made, 0)
        if work.operation is not entered:
            work.operation, work.blueprint = entered, None
        self._run.made(max(made, 0), entered.name, steps)
