"""Entries: let nodes of a graph run enter and leave compiled loops.

A node enters a loop when it has proven long (``PROMOTED`` tail calls in a row), or at once if it is
the whole target of a run. A step that does not fit into the loop is made by its node like any
other, as the task that ran last, with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Self

from cascade.runtime.graph_path.compiled_loops.loop_batches import Code, Loop
from cascade.runtime.graph_path.record_intervals import interval
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.limits.admission import needs_permit
from cascade.runtime.loops.fused import Fused, is_traced
from cascade.runtime.loops.tiers import Tier, loop_of
from cascade.runtime.loops.trampoline import trampoline
from cascade.runtime.run import Run
from cascade.runtime.semantics.tail_calls import next_call, searched, supplied
from cascade.spec.blueprint import TailCall
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.operation import Operation
from cascade.spec.task import Task

#: Number of tail calls in a row after which a node counts as a loop.
PROMOTED: Final = 16
#: A node may leave loops so often soon after it entered them; then it enters trampolines only.
_LEFT_FOR_GOOD = 2


class LoopEntries:
    """Lets nodes of one run enter and leave loops.

    Args:
        run: The run.
        tier: The best tier allowed.
    """

    __slots__ = ("_run", "_tier")

    def __init__(self, run: Run, tier: Tier) -> None:
        self._run = run
        # A compiled loop makes no call of its own for a step, which middlewares could be around.
        is_compiled = run.middleware is None or not run.middleware.each_step
        self._tier: Tier = tier if is_compiled else "interpreted"

    @classmethod
    def of(cls, parts: RunParts) -> Self:
        """Those of a run with a graph."""
        return cls(parts.run, parts.tier)

    def starts_at(self, target: LazyResult[Any]) -> bool:
        """Whether a target is a lone call of a loop task, so that its node begins in the loop."""
        return self._code_at(target) is not None

    def started_at(self, target: LazyResult[Any]) -> Work | None:
        """The work of such a target without a segment, in its loop; None if ``start`` is False."""
        code = self._code_at(target)
        if code is None:
            return None
        work = Work(None, target)
        return work if self._enter(work, target.task, code) else None  # type: ignore[arg-type]

    def continued_at(self, target: LazyResult[Any], tail: TailCall) -> Work | None:
        """The work, in its loop, of a target whose first call has returned ``tail``; or None.

        Raises:
            ArgumentError: ``tail`` does not fit.
        """
        code, task = self._code_at(target), target.task
        if code is None or tail.target_blueprint_id is not None or supplied(tail, task) is not tail:
            return None
        assert isinstance(task, Task)
        last = (*target.args, *target.kwargs.values())
        tail, lazies = searched(tail, last, target._code, target._lasti)
        if lazies or (tail.target or task) not in code.tasks:
            return None
        work = Work(None, target)
        named = task.parameters.named(target.args, target.kwargs)
        task, work.named = next_call(task, named, tail)
        work.operation = task
        work.steps = 1
        return work if self._enter(work, task, code) else None

    def _code_at(self, target: LazyResult[Any]) -> Code | None:
        if target._dependencies or not isinstance(target.task, Task):
            return None
        policies = target._policies
        if policies is not None:
            calls = policies.calls
            if calls.needs_attempts or calls.cache is not None or policies.amounts:
                return None
            if policies.conditions or policies.predecessors:
                return None
        return self._loop_to_start(target.task)

    def start(self, work: Work) -> bool:
        """Start the node of such a target in its loop; False if its arguments are not plain."""
        assert isinstance(work.operation, Task)
        code = self._loop_to_start(work.operation)
        return code is not None and self._enter(work, work.operation, code)

    def _loop_to_start(self, task: Task[..., Any]) -> Code | None:
        code = loop_of(task, self._tier)
        if code is not None and self._is_elsewhere(code):
            return None
        # Code that is not fused may be no loop at all, unless its tier was asked for by name.
        return code if self._tier != "auto" or type(code) is Fused else None

    def promote(self, work: Work) -> None:
        """Let a node whose last calls were tail calls continue in a loop, if it has one."""
        work.tails, task = 0, work.operation
        policies = work.policies
        if self._run.elsewhere.takes(task):
            return
        if self._tier == "interpreted" or policies.timeout is not None:
            return
        journal = self._run.journal
        if journal is not None and not interval(policies, task.is_async, journal.sync):
            return  # each step is a record (D4)
        if not isinstance(task, Task) or not (task.is_async or self.is_unlimited(work, (task,))):
            return
        code: Code | None = None
        if work.left <= _LEFT_FOR_GOOD and policies.retry is None:
            code = loop_of(task, self._tier)
            if code is not None and self._is_elsewhere(code):
                code = None
        shares = type(code) is Fused and len(code.tasks) > 1
        if code is None or not (shares or work.stays >= PROMOTED):  # it goes from task to task
            joins = partial(self._joins, task)
            code = trampoline(task, self._run.held, joins, policies.repeats) or code
        if code is not None:
            self._enter(work, task, code)

    def _joins(self, first: Task[..., Any], task: Task[..., Any]) -> bool:
        """Whether a task may take part in a trampoline that has begun with ``first``."""
        constraints = self._run.constraints
        if self._run.elsewhere.takes(task):
            return False
        return not constraints.any or constraints.alike((first.name, task.name))

    def _is_elsewhere(self, code: Code) -> bool:
        """Whether a loop has steps that are made in other processes."""
        elsewhere = self._run.elsewhere
        return elsewhere.everything and any(map(elsewhere.takes, code.tasks))

    def sets_variables(self, work: Work) -> None:
        """Note that steps of a node set context variables: it enters trampolines only (M12)."""
        work.left = _LEFT_FOR_GOOD + 1

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
        if loop.made < PROMOTED:
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
            named = parameters.complete(parameters.merge({}, work.args, work.kwargs))
        state = code.state_of(task)
        values = code.values(task, named)
        if code.loop_for(values) is None:
            return False
        work.loop = Loop(code, state, values, self._run.context.copy())
        work.args, work.kwargs, work.named = (), NO_KWARGS, None  # the loop has them now
        return True

    def is_unlimited(self, work: Work, tasks: Iterable[Operation]) -> bool:
        """Whether a worker may make steps of these tasks without asking for permits."""
        constraints, policies = self._run.constraints, work.policies
        return not any(needs_permit(constraints, task, policies) for task in tasks)

    def entry(self, loop: Loop) -> Callable[..., Any] | None:
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
