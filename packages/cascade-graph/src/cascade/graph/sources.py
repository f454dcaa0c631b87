"""The inputs of a target from outside: parameters and environment variables."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from cascade.graph.build import inputs_of
from cascade.spec.blueprint import Literal
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.params import Source

_NUMBER = attrgetter("number")


def sources_of(target: LazyResult[Any]) -> list[Source[Any]]:
    """All parameters and variables that a run of ``target`` may read, in the order of creation.

    This includes more than the graph of a run: all routes of routers, fallbacks, the arguments that
    a map hands to its items, and lazy values in literals, because a task may return them. Sources
    that tasks make during the run are not known before.

    Cost: O(nodes + edges).
    """
    found = everything_below(target, set())
    return sorted([lazy for lazy in found if isinstance(lazy, Source)], key=_NUMBER)


def everything_below(
    target: LazyResult[Any], met: set[LazyResult[Any]]
) -> Iterator[LazyResult[Any]]:
    """``target``, and all lazy values that ``sources_of`` visits, each once.

    Args:
        target: The first of them.
        met: The lazy values that were visited before; they are left out, and new ones are added.
    """
    if target in met:
        return
    met.add(target)
    stack = [target]
    while stack:
        lazy = stack.pop()
        yield lazy
        for other in _below(lazy):
            if other not in met:
                met.add(other)
                stack.append(other)


def _below(lazy: LazyResult[Any]) -> Iterator[LazyResult[Any]]:
    yield from inputs_of(lazy)
    if lazy._policies is not None:
        yield from lazy._policies.amounts.values()  # those of a map belong to its items
    yield from (other for _, other in lazy._choices)
    given = [*lazy.args, *lazy.kwargs.values()]
    if lazy.task is GATHER:
        yield from (v for v in lazy.args[0].literals if issubclass(type(v), LazyResult))
    if isinstance(lazy, MappedLazyResult):
        given += lazy.mapping_kwargs.values()
    for value in given:
        if type(value) is Literal and issubclass(type(value.value), LazyResult):
            yield value.value
