"""Walks: graphs of plain calls, taken apart into their shape and their plain values."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cascade.runtime.execution.early_calls import may_begin_early
from cascade.spec.blueprint import Literal
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import Source
from cascade.spec.task import Task

#: Most nodes of a graph that is returned by a task: more are not worth compiling for one use.
MOST_NODES = 64


class Walk(NamedTuple):
    """A graph of plain calls, taken apart.

    Attributes:
        shape: Graphs with equal shapes differ only in their plain values.
        lazies: Inputs before their users; the target is the last.
        values: The plain values, in the order in which the code takes them.
    """

    shape: tuple[Any, ...]
    lazies: list[LazyResult[Any]]
    values: list[Any]


def walk(target: LazyResult[Any], whole: bool = False, most: float = MOST_NODES) -> Walk | None:
    """Take apart the graph of ``target``; None if it does not consist of plain calls.

    Args:
        target: The target.
        whole: Whether it is a whole program: it may have parameters of the run, which stand for
            their values, and calls in the event loop's thread.
        most: The number of nodes that it may have.

    Cost: about half a microsecond per node; half of that for a chain.
    """
    return chain(target, most) or _walk(target, whole, most)


def chain(target: LazyResult[Any], most: float = MOST_NODES) -> Walk | None:
    """The same for a chain, in which each node needs only one other; None if it is not one."""
    lazies: list[LazyResult[Any]] = []
    values: list[Any] = []
    shape: list[Any] = []
    lazy = target
    while lazy._plain and len(lazies) < most:
        lazies.append(lazy)
        args, needed = lazy.args, lazy._dependencies
        if lazy.kwargs:
            return None
        shape.append(_what(lazy))
        if not needed:
            shape.append(len(args))
            values += reversed(args)
            break
        if len(needed) > 1:
            return None
        if args is not needed:
            place = next(place for place, value in enumerate(args) if value is needed[0])
            shape.append((place, len(args)))
            values += args[:place:-1]
            values += args[place - 1 :: -1] if place else ()
        lazy = needed[0]
    else:
        return None
    lazies.reverse()
    values.reverse()
    return Walk(tuple(shape), lazies, _unwrapped(values))


def _walk(target: LazyResult[Any], whole: bool, most: float) -> Walk | None:
    reached = {target}
    todo = [target]
    while todo:
        lazy = todo.pop()
        if not (lazy._plain or (whole and _fits_program(lazy))):
            return None
        for source in lazy._dependencies:
            if source not in reached:
                reached.add(source)
                todo.append(source)
        if len(reached) > most:
            return None
    lazies = sorted(reached, key=_place if whole else _number)
    place = dict(zip(lazies, range(len(lazies)), strict=True))
    shape: list[Any] = []
    values: list[Any] = []
    for lazy in lazies:
        shape.append(_what(lazy))
        if isinstance(lazy, Source):
            values.append(lazy)
            shape.append(None)
        elif lazy._dependencies is lazy.args and lazy.args:
            shape.append(tuple(map(place.__getitem__, lazy.args)))
        elif lazy._dependencies or lazy.kwargs:
            shape.append(tuple([_operand(v, place, values) for v in lazy.args]))
            if lazy.kwargs:
                named = [(n, _operand(v, place, values)) for n, v in lazy.kwargs.items()]
                shape.append(tuple(named))
        else:
            shape.append(len(lazy.args))
            values += lazy.args
    return Walk(tuple(shape), lazies, _unwrapped(values))


def _fits_program(lazy: LazyResult[Any]) -> bool:
    """Whether a node that is no plain call fits into the straight-line code of a program."""
    if isinstance(lazy, Source):
        return lazy._policies is None
    return may_begin_early(lazy)


def _what(lazy: LazyResult[Any]) -> Any:
    """The operation that decides the code: arithmetic makes an operation for each node."""
    task = lazy.task
    return task if isinstance(task, Task) else task.func


def references(things: Sequence[Any], place: int) -> int:
    """The number of references to an item besides that of ``things``.

    The references added by this look itself differ between Pythons, so they were measured.
    """
    return sys.getrefcount(things[place]) - _ADDED


def _operand(value: Any, place: Mapping[LazyResult[Any], int], values: list[Any]) -> int | None:
    if issubclass(type(value), LazyResult):
        return place[value]
    values.append(value)
    return None


def _unwrapped(values: list[Any]) -> list[Any]:
    if Literal not in map(type, values):
        return values
    return [v.value if type(v) is Literal else v for v in values]


_ADDED = 0
_ADDED = references([object()], 0)


def _number(lazy: LazyResult[Any]) -> int:
    return lazy.number


def _place(lazy: LazyResult[Any]) -> tuple[bool, int]:
    """Parameters first: no call has to wait for them."""
    return not isinstance(lazy, Source), lazy.number


def mentions_of(lazies: Sequence[LazyResult[Any]]) -> list[int]:
    """Number of mentions of each node but the last by the others."""
    counts = dict.fromkeys(lazies, 0)
    for lazy in lazies:
        mentioned = [*lazy.args, *lazy.kwargs.values()]
        if lazy._dependencies is not lazy.args:
            mentioned += lazy._dependencies
        for value in mentioned:
            if issubclass(type(value), LazyResult):
                counts[value] += 1
    return [counts[lazy] for lazy in lazies[:-1]]
