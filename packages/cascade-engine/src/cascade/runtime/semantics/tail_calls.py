"""The call that a TailCall asks for: the next task and its arguments (R5, M1, M2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any

from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.operation import Operation
from cascade.spec.task import Task


def searched(
    tail: TailCall, last: Sequence[Any], code: CodeType, lasti: int
) -> tuple[TailCall, list[LazyResult[Any]]]:
    """``tail`` with each container that holds lazy values as one lazy value, and all of these (M2).

    Args:
        tail: The result of a step.
        last: The arguments of that step. These objects were searched when it was called, and are
            not searched again if the tail call passes them on.
        code, lasti: Where the node was written.

    Raises:
        ArgumentError: A container holds a task or an ``inject(…)``; or it holds a lazy value and
            cannot be rebuilt.
    """
    if ATOMS.issuperset(map(type, tail.args)) and not tail.kwargs:
        return tail, []
    lazies: list[LazyResult[Any]] = []

    def one(value: Any) -> Any:
        kind = type(value)
        if kind in ATOMS:
            return value
        if issubclass(kind, LazyResult):
            lazies.append(value)
        elif not any(value is known for known in last):
            found = as_lazy(value, code, lasti)
            if found is not value:
                lazies.append(found)
            return found
        return value

    args = [one(value) for value in tail.args]
    kwargs = {name: one(value) for name, value in tail.kwargs.items()}
    if not lazies:
        return tail, lazies
    return TailCall(args, kwargs, tail.target_blueprint_id, tail.target), lazies


def supplied(tail: TailCall, current: Operation) -> TailCall:
    """``tail`` with the lazy defaults of another task, which it switches to, as arguments (M1)."""
    target = tail.target
    if target is None or target is current or not target.supplied:
        return tail
    try:
        given = target.parameters.bind_some(tail.args, tail.kwargs)
    except ArgumentError:
        return tail  # the call raises the error
    left = {n: v for n, v in target.supplied.items() if n not in given and type(v) is not Inject}
    return TailCall(tail.args, {**tail.kwargs, **left}, tail.target_blueprint_id, target)


def with_values(tail: TailCall, values: Sequence[Any]) -> TailCall:
    """``tail``, as ``searched`` gives it, with ``values`` in place of its lazy arguments."""
    # As literals: a value that happens to be lazy is not searched again.
    left = map(Literal, values)
    args = [next(left) if issubclass(type(v), LazyResult) else v for v in tail.args]
    kwargs = {
        n: next(left) if issubclass(type(v), LazyResult) else v for n, v in tail.kwargs.items()
    }
    return TailCall(args, kwargs, tail.target_blueprint_id, tail.target)


def next_call(
    current: Operation, named: Mapping[str, Any], tail: TailCall
) -> tuple[Task[..., Any], dict[str, Any]]:
    """The next task, and its arguments by name.

    A self tail call keeps the last values of parameters that it does not name; a switch to another
    task starts from that task's defaults (M1).

    Args:
        current: The task that returned ``tail``, or an operation, which becomes a task here.
        named: The complete arguments of that call.
        tail: Without lazy values, and without a ``target_blueprint_id``.

    Raises:
        ArgumentError: An unknown name, a missing argument or too many; names both tasks.
    """
    task = tail.target or current
    assert isinstance(task, Task)
    tail = _unwrapped(tail)
    try:
        if task is current:
            return task, task.parameters.merge(named, tail.args, tail.kwargs)
        return task, task.parameters.complete(task.parameters.bind_some(tail.args, tail.kwargs))
    except ArgumentError as error:
        raise misfit(current.name, task.name, error) from None


def is_baked(blueprint: Blueprint, task: Task[..., Any]) -> bool:
    """Whether the blueprint has no inputs for the arguments of ``task``, and so is no loop."""
    taken = len(blueprint.input_args), len(blueprint.input_kwargs)
    return taken != (len(task.parameters.positional), len(task.parameters.keyword))


def entry(blueprint: Blueprint, tail: TailCall) -> dict[str, Literal[Any] | LazyResult[Any]]:
    """The arguments by name with which ``tail`` enters the compiled call of a task.

    Lazy ones come from the prologue, in place of inputs that are not given (M3).

    Args:
        blueprint: The blueprint of a task, made by BlueprintBuilder.
        tail: Without lazy values.

    Raises:
        ArgumentError: An unknown name, a missing argument or too many.
    """
    assert isinstance(blueprint.task, Task)
    parameters = blueprint.task.parameters
    tail = _unwrapped(tail)
    given = parameters.bind_some(tail.args, tail.kwargs)
    inputs = dict(zip(parameters.positional, blueprint.input_args, strict=True))
    inputs |= blueprint.input_kwargs
    if parameters.var_positional is not None and blueprint.input_var_args is not None:
        inputs[parameters.var_positional] = blueprint.input_var_args
    if parameters.var_keyword is not None and blueprint.input_var_kwargs is not None:
        inputs[parameters.var_keyword] = blueprint.input_var_kwargs
    prologue = {call.output.index: call.source for call in blueprint.instructions}
    named: dict[str, Literal[Any] | LazyResult[Any]] = {}
    for name, register in inputs.items():
        source = prologue.get(blueprint.input_sources.get(register, -1))
        if name in given:
            named[name] = Literal(given[name])
        elif source is not None:
            named[name] = source
        elif register in blueprint.input_defaults:
            default = blueprint.input_defaults[register]
            named[name] = default if isinstance(default, LazyResult) else Literal(default)
    if missing := inputs.keys() - named.keys():
        parameters.complete(named)
        raise ArgumentError(
            f"the blueprint of task '{blueprint.name}' was compiled with a value for "
            f"'{min(missing)}' that the call has to give"
        )
    return named


def fault(blueprint: Blueprint, again: bool, tail: TailCall) -> ArgumentError | None:
    """The fault of ``tail``, in terms of the signature of its target task."""
    if not isinstance(blueprint.task, Task):
        return None
    try:
        if again:
            blueprint.task.parameters.bind_some(tail.args, tail.kwargs)
        else:
            entry(blueprint, tail)
    except ArgumentError as found:
        return found
    return None


def misfit(current: str, target: str, error: ArgumentError) -> ArgumentError:
    """``error`` of a tail call, with the names of the calling task and of its target."""
    way = "to itself" if current == target else f"to '{target}'"
    return ArgumentError(f"the tail call of task '{current}' {way} does not fit: {error}")


def _unwrapped(tail: TailCall) -> TailCall:
    """``tail`` without the literals around its values."""
    if Literal not in map(type, tail.args) and Literal not in map(type, tail.kwargs.values()):
        return tail
    args = [v.value if type(v) is Literal else v for v in tail.args]
    kwargs = {n: v.value if type(v) is Literal else v for n, v in tail.kwargs.items()}
    return TailCall(args, kwargs, tail.target_blueprint_id, tail.target)
