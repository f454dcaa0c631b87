"""Whole calls: tail calls with all that another process needs to make them (R5, D3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.runtime.execution.registry import BlueprintRegistry
from cascade.runtime.graph_path.segments import Work, arguments_by_name
from cascade.runtime.semantics.tail_calls import entry, next_call, searched, supplied
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError, UnknownBlueprintError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task


def whole_call(work: Work, tail: TailCall, registry: BlueprintRegistry) -> TailCall | None:
    """``tail`` with its task, all arguments, and the blueprint that it belongs to.

    The lazy values among the arguments are to be computed; others are in literals.

    Args:
        work: The work whose call has returned ``tail``.
        tail: A tail call.
        registry: The blueprints that tail calls may name.

    Returns:
        None for a call that does not fit, or has no form that could be written: an instruction
        without a task.
    """
    operation = work.operation
    if not isinstance(operation, Task):
        return None
    last = (*work.args, *work.kwargs.values())
    try:
        tail, lazies = searched(
            supplied(tail, operation), last, work.source._code, work.source._lasti
        )
        blueprint, name = work.blueprint, tail.target_blueprint_id
        if name is not None:
            blueprint = registry.get(name, operation.name)
        if name is not None and blueprint is not work.blueprint:
            return _entering(blueprint, name, tail, lazies)
        named = arguments_by_name(work) if work.named is None else work.named
        task, named = next_call(operation, named, tail)
    except (ArgumentError, UnknownBlueprintError):
        return None  # the call raises the error
    if task is not operation:
        blueprint = None
    if blueprint is not None and name is None:
        name = registry.name_of(blueprint)
    return _called(task, named, name, lazies)


def _entering(
    blueprint: Blueprint | None, name: str, tail: TailCall, lazies: list[LazyResult[Any]]
) -> TailCall | None:
    """A tail call that enters another blueprint, whose prologue gives what it leaves out."""
    assert blueprint is not None
    if not isinstance(blueprint.task, Task):
        return None
    given = entry(blueprint, tail)
    named: dict[str, Any] = {}
    for parameter, value in given.items():
        if isinstance(value, LazyResult):
            lazies.append(value)
            named[parameter] = value
        else:
            named[parameter] = value.value
    return _called(blueprint.task, named, name, lazies)


def _called(
    task: Task[..., Any], named: Mapping[str, Any], name: str | None, lazies: list[LazyResult[Any]]
) -> TailCall | None:
    if not lazies and ATOMS.issuperset(map(type, named.values())):  # as below, for most agents
        args, kwargs = task.parameters.spread(named)
        return TailCall(args, kwargs, name, task)
    asked, found = {id(lazy) for lazy in lazies}, set()

    def shown_as(value: Any) -> Any:
        if not isinstance(value, LazyResult):
            return value
        if id(value) not in asked:
            return Literal(value)
        found.add(id(value))
        return value

    parameters, shown = task.parameters, dict[str, Any]()
    for parameter, value in named.items():
        if parameter == parameters.var_positional:
            shown[parameter] = [*map(shown_as, value)]
        elif parameter == parameters.var_keyword:
            shown[parameter] = {name: shown_as(inner) for name, inner in value.items()}
        else:
            shown[parameter] = shown_as(value)
    if found != asked:
        return None
    args, kwargs = task.parameters.spread(shown)
    return TailCall(args, kwargs, name, task)
