"""Trampoline: a loop of several plain tasks that continue as each other, without code of its own.

A trampoline needs neither source nor names: each step calls a task's function, and the returned
TailCall names the next one. Any number of tasks may take part, found by name, in a table or by
computation, and more may join while the loop runs. ``fused`` and ``generated`` write faster loops,
for tasks whose tail calls are known in advance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.runtime.execution.contexts import differs
from cascade.runtime.loops.protocol import LAZY, PAUSED, is_lazy
from cascade.runtime.loops.verified_source import Unfit, refuse
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.task import Task

if TYPE_CHECKING:
    from cascade.runtime.run import Run


class Member:
    """How a trampoline calls a task.

    Args:
        task: The task; all its parameters can be given by position.

    Attributes:
        call: Its function.
        names: Its parameters.
        count: The number of parameters.
        rest: For each number of given arguments, the defaults of the others; None if one is
            missing.
    """

    __slots__ = ("call", "count", "names", "rest", "task")

    def __init__(self, task: Task[..., Any]) -> None:
        parameters = task.parameters
        self.task = task
        self.call = task.func
        self.names = names = parameters.positional
        self.count = len(names)
        defaults = parameters.defaults
        self.rest = [
            tuple([defaults[name] for name in names[given:]])
            if all(name in defaults for name in names[given:])
            else None
            for given in range(len(names) + 1)
        ]

    def given(self, tail: TailCall, current: Sequence[Any] | None) -> tuple[Any, ...] | None:
        """The arguments for ``tail``; None if they do not fit.

        Args:
            tail: Names some of the arguments.
            current: The arguments of the last call if it was of the same task: they are kept.
        """
        parameters = self.task.parameters
        try:
            if current is None:
                named = parameters.complete(parameters.bind_some(tail.args, tail.kwargs))
            else:
                before = dict(zip(self.names, current, strict=True))
                named = parameters.merge(before, tail.args, tail.kwargs)
        except ArgumentError:
            return None  # the node raises the error
        return tuple([named[name] for name in self.names])


def member(task: Task[..., Any]) -> Member | None:
    """How a trampoline calls ``task``; None if it cannot. Determined once per task."""
    found: Member | bool | None = task.derived.get("trampoline")
    if found is None:
        parameters = task.parameters
        try:
            refuse(task)
            fits = not task.is_async and task.mode == "auto"
            fits = fits and parameters.positional == tuple(parameters.signature.parameters)
        except Unfit:
            fits = False
        found = task.derived["trampoline"] = Member(task) if fits else False
    return found if isinstance(found, Member) else None


def is_member(task: Task[..., Any]) -> bool:
    """Whether a trampoline can call ``task``."""
    return member(task) is not None


class Trampoline:
    """The loop of one node that goes from task to task; has the interface of ``fused.Fused``.

    Args:
        task: The first task.
        run: The run whose context the steps see.
    """

    is_async = False

    def __init__(self, task: Task[..., Any], run: Run) -> None:
        #: By state; the tasks met so far.
        self.tasks: list[Task[..., Any]] = [task]
        self._run = run
        #: The context of all steps.
        self.context = run.context.copy()
        self._states = {task: 0}
        self._failed_at = 0

    def state_of(self, task: Task[..., Any]) -> int:
        """The state of a task."""
        state = self._states.get(task)
        if state is None:
            state = self._states[task] = len(self.tasks)
            self.tasks.append(task)
        return state

    def values(self, task: Task[..., Any], named: Mapping[str, Any]) -> Sequence[Any]:
        """The arguments of ``task``, in the loop's order."""
        return [named[name] for name in task.parameters.positional]

    def named(self, state: int, values: Sequence[Any]) -> dict[str, Any]:
        """The same by name."""
        return dict(zip(self.tasks[state].parameters.positional, values, strict=True))

    def loop_for(self, values: Sequence[Any]) -> Callable[..., Any] | None:
        """The function to enter with ``values``; None if the node must handle one of them."""
        if any(type(v) not in ATOMS and issubclass(type(v), LAZY) for v in values):
            return None
        return self._run_steps

    def state_at(self, _error: BaseException, _entered: int) -> int:
        """The state of the task that raised the error which has just ended the loop."""
        return self._failed_at

    def _run_steps(self, steps: Iterator[None], state: int, *args: Any) -> tuple[Any, ...]:
        """Make steps: the last result, or PAUSED; the state; the last or next arguments."""
        context, held = self.context, self._run.held
        variables = len(self._run.context)
        task = self.tasks[state]
        this = member(task)
        assert this is not None
        known = {task: this}
        get, are_plain, call, count = known.get, ATOMS.issuperset, this.call, this.count
        try:
            for _ in steps:
                value = call(*args)
                if type(value) is not TailCall or value.target_blueprint_id is not None:
                    break
                given, target = value.args, value.target
                if not are_plain(map(type, given)) and _any_lazy(given, args):
                    break
                if value.kwargs and _any_lazy(value.kwargs.values(), args):
                    break
                if target is task or target is None:
                    if value.kwargs or len(given) != count:
                        given = this.given(value, args)  # type: ignore[assignment]
                        if given is None:
                            break
                else:
                    that = get(target) or member(target)
                    if that is None:
                        break
                    if value.kwargs or len(given) != that.count:
                        rest = None
                        if not value.kwargs and len(given) < that.count:
                            rest = that.rest[len(given)]
                        given = that.given(value, None) if rest is None else (*given, *rest)  # type: ignore[assignment]
                        if given is None:
                            break
                    this = known[target] = that
                    task, call, count = target, that.call, that.count
                args = given  # type: ignore[assignment]
                if len(context) != variables or (held and differs(context, held)):
                    return PAUSED, self.state_of(task), *args
            else:
                return PAUSED, self.state_of(task), *args
            return value, self.state_of(task), *args
        except BaseException:
            self._failed_at = self.state_of(task)
            raise


def _any_lazy(values: Iterable[Any], last: Sequence[Any]) -> bool:
    return any(
        type(v) not in ATOMS and not any(v is known for known in last) and is_lazy(v)
        for v in values
    )
