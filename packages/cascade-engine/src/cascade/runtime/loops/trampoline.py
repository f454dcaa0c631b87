"""Trampolines: loops of several tasks that continue as each other, without code of their own.

A trampoline needs neither source nor names: each step calls a task's function, and the returned
TailCall names the next one. Any number of tasks may take part, found by name, in a table or by
computation, and more may join while the loop runs. ``fused`` and ``generated`` write faster loops,
for tasks whose tail calls are known in advance.

The arguments of the last step are known here when it raises an error, unlike in fused loops. So
loops whose steps may be repeated (R10) are trampolines, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any, Final

from cascade.runtime.execution.contexts import Held, differs
from cascade.runtime.loops.members import Member, member
from cascade.runtime.loops.protocol import LAZY, PAUSED, is_lazy
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.repeatable import check_step
from cascade.spec.task import Task

#: The result of steps of which the last has set a context variable.
_WRITTEN: Final = object()


class _Trampoline:
    """The part that is common to both kinds; has the interface of ``fused.Fused``.

    Args:
        task: The first task.
        held: The variables of the caller's context, see ``contexts``.
        joins: Whether a further task may take part: the limits of the first one apply to all.
        repeats: Whether a failed step is repeated, so that its arguments must last (M23).
    """

    def __init__(
        self,
        task: Task[..., Any],
        held: Held,
        joins: Callable[[Task[..., Any]], bool],
        repeats: bool,
    ) -> None:
        #: By state; the tasks met so far.
        self.tasks: list[Task[..., Any]] = [task]
        self._held = held
        self._joins = joins
        self._repeats = repeats
        self._states = {task: 0}
        first = member(task)
        assert first is not None
        self._members: dict[Any, Member] = {task: first}
        #: The state and the arguments of the last step, when it has raised an error.
        self.failed: tuple[int, Sequence[Any]] = (0, ())

    def state_of(self, task: Task[..., Any]) -> int:
        """The state of a task."""
        state = self._states.get(task)
        if state is None:
            state = self._states[task] = len(self.tasks)
            self.tasks.append(task)
        return state

    def values(self, task: Task[..., Any], named: Mapping[str, Any]) -> Sequence[Any]:
        """The arguments of ``task``, in the loop's order."""
        return [named[name] for name in task.parameters.signature.parameters]

    def named(self, state: int, values: Sequence[Any]) -> dict[str, Any]:
        """The same by name."""
        return dict(zip(self.tasks[state].parameters.signature.parameters, values, strict=True))

    def loop_for(self, values: Sequence[Any]) -> Callable[..., Any] | None:
        """The function to enter with ``values``; None if the node must handle one of them."""
        if any(type(v) not in ATOMS and issubclass(type(v), LAZY) for v in values):
            return None
        return self._enter

    def state_at(self, _error: BaseException, _entered: int) -> int:
        """The state of the task that raised the error which has just ended the loop."""
        return self.failed[0]

    def _enter(self, *args: Any) -> Any:
        raise NotImplementedError

    def _following(
        self, this: Member, value: TailCall, last: Sequence[Any]
    ) -> tuple[Member, Sequence[Any]] | None:
        """The call that follows a step; None if the node must make it.

        Args:
            this: The member that has made the step.
            value: Its result.
            last: Its arguments.
        """
        if value.target_blueprint_id is not None:
            return None
        that = this if value.target is None else self._members.get(value.target)
        if that is None:
            assert value.target is not None
            that = member(value.target)
            if that is None or that.task.is_async is not this.task.is_async:
                return None
            if not self._joins(that.task):
                return None
            self._members[value.target] = that
        given = that.arguments(value, last if that is this else None)
        if given is None:
            return None
        if not ATOMS.issuperset(map(type, given)) and self._leaves(this, value, given, last):
            return None
        return that, given

    def _leaves(
        self, this: Member, value: TailCall, given: Sequence[Any], last: Sequence[Any]
    ) -> bool:
        """Whether the node must make the call with these arguments, of which some are no atoms."""
        for argument in given:
            if type(argument) not in ATOMS:
                for known in last:
                    if argument is known:  # it has been looked at (M2)
                        break
                else:
                    if is_lazy(argument):
                        return True
        if self._repeats:
            try:
                check_step(this.task, value, last)
            except ArgumentError:
                return True
        return False


class Trampoline(_Trampoline):
    """The loop of one node that goes from plain function to plain function."""

    is_async = False

    def _enter(self, steps: Iterator[None], state: int, *args: Any) -> tuple[Any, ...]:
        """Make steps: the last result, or PAUSED; the state; the last or next arguments."""
        clean = copy_context()  # with the permit of the batch
        value: Any = _WRITTEN
        given: Sequence[Any] = args
        while value is _WRITTEN:  # each step that sets a variable is the last in its context (M12)
            context = clean.copy()
            value, state, given = context.run(self._run_steps, context, steps, state, given)
        return value, state, *given

    def _run_steps(
        self, context: Context, steps: Iterator[None], state: int, args: Sequence[Any]
    ) -> tuple[Any, int, Sequence[Any]]:
        """The same; or _WRITTEN, with the next arguments."""
        variables, held = len(context), self._held
        get, atoms = self._members.get, ATOMS
        this = self._members[self.tasks[state]]
        call, leaves = this.call, self._leaves
        try:
            for _ in steps:
                value = call(*args)
                if type(value) is not TailCall:
                    break
                that, given = get(value.target), value.args
                if (
                    that is None
                    or value.kwargs
                    or len(given) != that.count
                    or value.target_blueprint_id is not None
                ):
                    found = self._following(this, value, args)
                    if found is None:
                        break
                    (that, given), found = found, None
                else:
                    for argument in given:  # for a few, faster than a call that looks at all
                        if type(argument) not in atoms:
                            if leaves(this, value, given, args):
                                that = None
                            break
                    if that is None:
                        break
                this, call, args = that, that.call, given
                if len(context) != variables or (held and differs(context, held)):
                    value = _WRITTEN
                    break
            else:
                value = PAUSED
            return value, self.state_of(this.task), args
        except BaseException:
            self.failed = self.state_of(this.task), args
            raise


class AsyncTrampoline(_Trampoline):
    """The loop of one node that goes from coroutine function to coroutine function."""

    is_async = True

    async def _enter(
        self,
        steps: Iterator[None],
        state: int,
        before: int,
        task: asyncio.Task[Any],
        context: Context,
        variables: int,
        held: Held,
        *args: Any,
    ) -> tuple[Any, ...]:
        """Make steps; see ``protocol``."""
        this = self._members[self.tasks[state]]
        values: Sequence[Any] = args
        del args  # the next step frees them (M9)
        try:
            for _ in steps:
                value = await this.call(*values)
                if type(value) is not TailCall:
                    break
                found = self._following(this, value, values)
                if found is None:
                    break
                this, values = found
                value = found = None
                if task.cancelling() != before or (
                    len(context) != variables or (held and differs(context, held))
                ):
                    value = PAUSED
                    break
            else:
                value = PAUSED
            return value, self.state_of(this.task), *values
        except BaseException:
            self.failed = self.state_of(this.task), values
            raise


#: Loops that know the arguments of a failed step, which may therefore be repeated.
REPEATING = (Trampoline, AsyncTrampoline)


def trampoline(task: Task[..., Any], *details: Any) -> Trampoline | AsyncTrampoline | None:
    """The trampoline that begins with ``task``, with these details; None if there is none."""
    if member(task) is None:
        return None
    return (AsyncTrampoline if task.is_async else Trampoline)(task, *details)
