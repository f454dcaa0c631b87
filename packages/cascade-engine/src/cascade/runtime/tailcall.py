"""What a TailCall asks for: which task runs next, with which arguments (R5, M1, M2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.spec.blueprint import TailCall
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, Operation
from cascade.spec.task import Task


def lazies_of(tail: TailCall) -> list[LazyResult[Any]]:
    """The lazy values among the arguments, at the top level only (M2)."""
    return [v for v in (*tail.args, *tail.kwargs.values()) if isinstance(v, LazyResult)]


def with_values(tail: TailCall, values: Sequence[Any]) -> TailCall:
    """``tail`` with ``values`` in place of its lazy arguments, in the order of ``lazies_of``."""
    left = iter(values)
    args = [next(left) if isinstance(v, LazyResult) else v for v in tail.args]
    kwargs = {n: next(left) if isinstance(v, LazyResult) else v for n, v in tail.kwargs.items()}
    return TailCall(args, kwargs, tail.target_blueprint_id, tail.target)


def next_call(
    current: Operation, named: Mapping[str, Any], tail: TailCall
) -> tuple[Task[..., Any], dict[str, Any]]:
    """The task that runs next, and its arguments by name.

    A self tail call keeps the last values of what it does not name; a switch to another task
    starts from that task's defaults (M1).

    Args:
        current: What returned ``tail``; a Task, or an operation that is made one here.
        named: The arguments that it ran with, complete.
        tail: Without lazy values, and without a ``target_blueprint_id``.

    Raises:
        ArgumentError: An unknown name, a missing argument or too many; names both tasks.
    """
    task = tail.target or current
    assert isinstance(task, Task)
    try:
        if task is current:
            return task, task.parameters.merge(named, tail.args, tail.kwargs)
        return task, task.parameters.complete(task.parameters.bind_some(tail.args, tail.kwargs))
    except ArgumentError as error:
        raise misfit(current.name, task.name, error) from None


def misfit(current: str, target: str, error: ArgumentError) -> ArgumentError:
    """``error`` of a tail call, naming the task that made it and the one it goes to."""
    way = "to itself" if current == target else f"to '{target}'"
    return ArgumentError(f"the tail call of task '{current}' {way} does not fit: {error}")
