"""Members: how a trampoline calls its tasks, and the arguments that tail calls give them (M1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from cascade.runtime.loops.verified_source import Unfit, refuse_other_calls
from cascade.spec.blueprint import TailCall
from cascade.spec.task import Task

#: The file name in tracebacks; these frames are left out of users' tracebacks with this folder.
_FILE = f"{__file__[: -len('.py')]}/<generated>"
#: Forms of tail calls that a member remembers.
_FORMS_KEPT = 64
#: The number of positional arguments; with the names of keyword arguments, in order.
_Form: TypeAlias = int | tuple[Any, ...]


class ArgumentPlan(NamedTuple):
    """How the arguments of a task are made of those that a tail call gives.

    Attributes:
        rest: Values after the given ones: defaults; None for the arguments of the last step.
        pick: Takes the arguments out of all these, in the order of the parameters; None if they
            are just that.
    """

    rest: tuple[Any, ...] | None
    pick: Callable[[Sequence[Any]], tuple[Any, ...]] | None


class Member:
    """How a trampoline calls a task.

    Args:
        task: The task.

    Attributes:
        call: Takes the arguments by position, in the order of the parameters.
        names: Its parameters.
        count: The number of parameters.
    """

    __slots__ = ("_again", "_switch", "call", "count", "names", "task")

    def __init__(self, task: Task[..., Any]) -> None:
        self.task = task
        self.names = tuple(task.parameters.signature.parameters)
        self.count = len(self.names)
        self.call = _by_position(task)
        #: Form of the tail call → plan, or None if it does not fit: of the task itself; of others.
        self._again: dict[_Form, ArgumentPlan | None] = {}
        self._switch: dict[_Form, ArgumentPlan | None] = {}

    def arguments(self, tail: TailCall, last: Sequence[Any] | None) -> Sequence[Any] | None:
        """The arguments for ``tail``; None if they do not fit, which is an error of the node.

        Args:
            tail: Names some of the arguments.
            last: The arguments of the last step if it was one of this task: they are kept.
        """
        args, kwargs = tail.args, tail.kwargs
        form: _Form = (len(args), *kwargs) if kwargs else len(args)
        if form == self.count:
            return args
        plans = self._switch if last is None else self._again
        try:
            plan = plans[form]
        except KeyError:
            plan = self._plan(form, last is not None)
            if len(plans) < _FORMS_KEPT:
                plans[form] = plan
        if plan is None:
            return None
        rest, pick = plan
        values = (*args, *kwargs.values(), *(last if rest is None else rest))  # type: ignore[misc]
        return values if pick is None else pick(values)

    def _plan(self, form: _Form, again: bool) -> ArgumentPlan | None:
        count, *given = (form,) if isinstance(form, int) else form
        parameters = self.task.parameters
        positional = parameters.positional
        if not parameters.fits_some(range(count), given):
            return None
        places = {name: at for at, name in enumerate((*positional[:count], *given))}
        rest: list[Any] = []
        for at, name in enumerate(self.names):
            if name in places:
                continue
            if again:
                places[name] = count + len(given) + at
            elif name in parameters.defaults:
                places[name] = count + len(given) + len(rest)
                rest.append(parameters.defaults[name])
            else:
                return None  # it is missing
        order = [places[name] for name in self.names]
        whole = count + len(given) + (self.count if again else len(rest))
        pick = None if order == list(range(whole)) else _picker(order)
        return ArgumentPlan(None if again else tuple(rest), pick)


def member(task: Task[..., Any]) -> Member | None:
    """How a trampoline calls ``task``; None if it cannot. Determined once per task."""
    found: Member | bool | None = task.derived.get("member")
    if found is None:
        try:
            refuse_other_calls(task)
            fits = task.mode == "auto"
        except Unfit:
            fits = False
        found = task.derived["member"] = Member(task) if fits else False
    return found if isinstance(found, Member) else None


def is_member(task: Task[..., Any]) -> bool:
    """Whether a trampoline can call ``task``."""
    return member(task) is not None


def _picker(order: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if len(order) > 1:
        return itemgetter(*order)
    (place,) = order  # of one item itemgetter makes no tuple
    return lambda values: (values[place],)


def _by_position(task: Task[..., Any]) -> Callable[..., Any]:
    """The function of a task; with all arguments by position, if some are taken by name only."""
    parameters = task.parameters
    by_name = [name for name in parameters.keyword if name not in parameters.positional]
    if not by_name:
        return task.func
    before = [f"p{at}" for at in range(len(parameters.positional))]
    named = [f"n{at}" for at in range(len(by_name))]
    given = ", ".join([*before, *map("{}={}".format, by_name, named)])
    text = f"lambda func: lambda {', '.join([*before, *named])}: func({given})"
    made: Callable[..., Any] = eval(compile(text, _FILE, "eval"))(task.func)
    return made
