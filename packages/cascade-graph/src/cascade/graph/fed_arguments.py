"""The names of the arguments that a node's inputs feed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from typing import Any

from cascade.spec.expressions import is_operator
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.routing import Router
from cascade.spec.task import Task


def fed_arguments(lazy: LazyResult[Any]) -> Mapping[LazyResult[Any], str]:
    """Input → the arguments that it feeds: ``rows``, ``*parts``, ``left, right``.

    Empty for inputs that have no name, such as the items of a list. An input inside a container
    feeds the node of the container, which feeds the argument.
    """
    inputs = lazy._dependencies
    if not inputs:
        return {}
    names: dict[LazyResult[Any], str] = {}
    for name, value in _named(lazy):
        if isinstance(value, LazyResult):
            known = names.get(value)
            if known is None:
                names[value] = name
            elif name not in known.split(", "):
                names[value] = f"{known}, {name}"
    return names


def _named(lazy: LazyResult[Any]) -> Iterator[tuple[str, Any]]:
    """The node's arguments with their names, as far as they have some."""
    if isinstance(lazy, Router):
        return iter([("selector", lazy.selector)])
    if isinstance(lazy, MappedLazyResult):
        plan = lazy.args[0]
        return zip(chain(plan.names, ["initial"]), lazy.args[1:], strict=False)
    if isinstance(lazy.task, Task):
        parameters = lazy.task.parameters
        rest = repeat(f"*{parameters.var_positional}")
        positional = zip(chain(parameters.positional, rest), lazy.args, strict=False)
        return chain(positional, lazy.kwargs.items())
    if len(lazy._dependencies) == 2 and is_operator(lazy):
        return zip(("left", "right"), lazy.args, strict=False)
    return iter(lazy.kwargs.items())
