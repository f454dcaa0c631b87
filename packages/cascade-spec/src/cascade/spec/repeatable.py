"""Arguments that every attempt of a call can use (ruling M23).

All attempts of a call get the same arguments. An iterator is used up by the first attempt, so that
the next would find it empty, or half read. A node with a retry therefore takes none. Open files,
cursors and generators are iterators, too. An argument that is a ``cs.literal(x)`` is not examined.

``check_repeatable`` examines a call when it is given a retry. Values that are known only later are
examined with ``check_values``, before the first attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.containers import ATOMS, GATHER, Recipe, holds_marks, is_container
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_value import LazyValue
from cascade.spec.misuse import described
from cascade.spec.operation import Operation
from cascade.spec.wording import short

_ITERATORS = (Iterator, AsyncIterator)


def check_repeatable(lazy: LazyValue) -> None:
    """Refuse a call with a retry if an argument that is known is an iterator, or holds one.

    Args:
        lazy: A call of a task, or a map, whose columns are examined item by item.

    Raises:
        ArgumentError: Names the argument.
    """
    if not lazy.kwargs and ATOMS.issuperset(map(type, lazy.args)):  # most are, and this is cheap
        return
    arguments = _named(lazy.task, lazy.args, lazy.kwargs)
    if getattr(lazy, "_makes_calls", False):  # a map
        plan, *columns = lazy.args
        if plan.window is not None:
            return  # each item is examined when it is read
        arguments = _named(lazy.task, (), dict(zip(plan.names, columns, strict=True)))
    for name, value in arguments:
        kind = type(value)
        if kind in ATOMS or issubclass(kind, Literal):
            continue
        if issubclass(kind, LazyValue):
            found = value.task is GATHER and _holds_iterators(value.args[0])
        else:
            found = is_spent(value)
        if found:
            raise _refused(described(lazy), name, value)


def check_values(task: Operation, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """The same for the arguments of a call that has a retry, when they have values.

    Raises:
        ArgumentError: Names the argument.
    """
    if not kwargs and ATOMS.issuperset(map(type, args)):
        return
    for name, value in _named(task, args, kwargs):
        kind = type(value)
        if kind not in ATOMS and not issubclass(kind, Literal) and is_spent(value):
            raise _refused(f"task '{task.name}'", name, value)


def check_step(task: Operation, tail: TailCall, last: Sequence[Any]) -> None:
    """The same for the tail call that a step of ``task`` has returned.

    Args:
        last: The arguments of that step. These objects were examined when it was called.

    Raises:
        ArgumentError: Names the argument.
    """

    def fresh(value: Any) -> Any:
        return None if any(value is known for known in last) else value

    kwargs = {name: fresh(value) for name, value in tail.kwargs.items()}
    check_values(tail.target or task, [*map(fresh, tail.args)], kwargs)


def is_spent(value: Any) -> bool:
    """Whether the first use of ``value`` changes what the next use gets."""
    kind = type(value)
    return issubclass(kind, _ITERATORS) or (is_container(kind) and holds_marks(value, _ITERATORS))


def _holds_iterators(recipe: Recipe) -> bool:
    """Whether an iterator stands beside the lazy values of a container."""
    return any(holds_marks(items, _ITERATORS) for _, items, _ in recipe.steps)


def _named(
    task: Operation, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Iterable[tuple[str, Any]]:
    """The arguments with their names in messages."""
    for place, value in enumerate(args):
        yield _name(task, place), value
    for name, value in kwargs.items():
        yield f"'{name}'", value


def _name(task: Operation, place: int) -> str:
    parameters = getattr(task, "parameters", None)  # only a Task has some
    if parameters is not None and place < len(parameters.positional):
        return f"'{parameters.positional[place]}'"
    return f"number {place + 1}"


def _refused(whose: str, name: str, value: Any) -> ArgumentError:
    verb = "is" if issubclass(type(value), _ITERATORS) else "holds"
    return ArgumentError(
        f"{whose} has a retry, and its argument {name} {verb} an iterator, which the first attempt "
        f"would use up: {short(value)}\n"
        "    right:  list(iterator)      # or what it is made from: a path, a query\n"
        "    or:     cs.literal(iterator)      # every attempt gets it as the last one left it"
    )
