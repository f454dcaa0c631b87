"""Blueprints from JSON documents: the reading half of ``portable``, which describes the format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any, TypeVar

from cascade.graph import fallbacks
from cascade.graph.forms import UNREADABLE
from cascade.graph.references import Resolver
from cascade.graph.serialize import KINDS, read_nodes
from cascade.graph.values import (
    BUILTIN_CONTAINERS,
    ValueReader,
    cache_in,
    operator_at,
    told,
)
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.checks import is_amount, is_number, is_priority, no_amount
from cascade.spec.containers import GATHER, Recipe, Step
from cascade.spec.errors import SerializationError, TaskNotImportedError
from cascade.spec.mapping import MapPlan, expand
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.retry import Retry
from cascade.spec.routing import ROUTE, Routes
from cascade.spec.wording import short

T = TypeVar("T")


def read_blueprint(document: Mapping[str, Any], resolver: Resolver) -> Blueprint:
    reader = ValueReader(resolver, read_nodes(_list(document, "nodes"), resolver))
    calls: list[Call] = []
    for place, body in enumerate(_list(document, "instructions")):
        try:
            calls.append(_read_call(body, reader))
        except UNREADABLE as error:
            said = str(error) if isinstance(error, SerializationError) else told(error)
            said = f"instruction {place} cannot be read: {said}"
            if isinstance(error, TaskNotImportedError):
                raise TaskNotImportedError(said, error.module) from error
            raise SerializationError(said) from error
    names = _object(document, "kwargs")
    rooted = _flag(document, "rooted")
    if rooted and not calls:
        raise ValueError("it has no instruction whose task could be its own")
    return Blueprint(
        calls,
        _int(document["registers"]),
        input_args=list(map(_int, _list(document, "args"))),
        input_kwargs={name: _int(register) for name, register in names.items()},
        input_var_args=_int_or_none(document.get("var_args")),
        input_var_kwargs=_int_or_none(document.get("var_kwargs")),
        input_defaults={_int(r): reader.constant(v) for r, v in _list(document, "defaults")},
        input_sources={_int(r): _int(s) for r, s in _list(document, "sources")},
        entry=_int(document["entry"]),
        task=calls[-1].task if rooted else None,
    )


def _read_call(body: Any, reader: ValueReader) -> Call:
    if not isinstance(body, dict):
        raise TypeError(f"it is not an object but {short(body)}")
    task, first = _read_called(body, reader)
    operand = partial(_read_operand, reader)
    var_args, var_kwargs = body.get("var_args"), body.get("var_kwargs")
    return Call(
        task.func,
        Register(_int(body["out"])),
        [*first, *map(operand, _list(body, "args", []))],
        {name: operand(value) for name, value in _object(body, "kwargs", {}).items()},
        var_args=None if var_args is None else Register(_int(var_args)),
        var_kwargs=None if var_kwargs is None else Register(_int(var_kwargs)),
        conditions=list(map(operand, _list(body, "if", []))),
        after=[Register(_int(register)) for register in _list(body, "after", [])],
        amounts={n: operand(o) for n, o in _object(body, "amounts", {}).items()},
        policies=_read_calls(body, reader, catches=_flag(body, "catches", False)),
        task=task,
    )


def _read_called(body: Mapping[str, Any], reader: ValueReader) -> tuple[Operation, list[Operand]]:
    """The callable, and its first argument if that is part of its form."""
    if "task" in body:
        return reader.resolver.task(body["task"]), []
    if "map" in body:
        plan = _read_plan(_object(body, "map"), reader)
        return Operation(expand, f"{plan.task.name}.map"), [Literal(plan)]
    if "gather" in body:
        recipe = _read_recipe(_object(body, "gather"), len(_list(body, "args", [])), reader)
        return GATHER, [Literal(recipe)]
    if "router" in body:
        routes = _list(body, "router")
        by_key = {reader.constant(key): reader.value(route) for key, route in routes}
        return ROUTE, [Literal(Routes(by_key))]
    if (name := fallbacks.kind_of(body)) is not None:
        operation, fallback = fallbacks.read_fallback(name, body[name], reader)
        return operation, [Literal(fallback)]
    if "param" in body or "env" in body:
        return reader.source(body).task, []
    if "operator" in body:
        func = operator_at(body["operator"])
        return Operation(func, func.__name__), []
    raise ValueError(f"its callable is not one of {', '.join(KINDS)}")


def _read_plan(body: Mapping[str, Any], reader: ValueReader) -> MapPlan:
    shared = {name: reader.constant(value) for name, value in _object(body, "shared").items()}
    names = tuple(map(_text, _list(body, "names")))
    catches = _flag(body, "catches", False)
    code = read_blueprint.__code__
    plan = MapPlan(reader.resolver.task(body["task"]), names, shared, code, 0, catches)
    plan.hidden = tuple(map(_text, _list(body, "hidden", [])))
    plan.fallbacks = fallbacks.read_bodies(_list(body, "fallbacks", []), reader)
    calls = _read_calls(body, reader)
    if calls is not PLAIN_CALLS:
        plan.policies = Policies()
        plan.policies.calls = calls
    return plan


def _read_calls(
    body: Mapping[str, Any], reader: ValueReader, *, catches: bool = False
) -> CallPolicies:
    retry = Retry(**reader.retry(body["retry"])) if "retry" in body else None
    timeout = reader.constant(body["timeout"]) if "timeout" in body else None
    if timeout is not None and not (is_number(timeout, 0) and timeout):
        raise ValueError(f"its timeout is {short(timeout)}, but must be a number > 0")
    amounts = _object(body, "capacities", {})
    capacities = {name: reader.constant(amount) for name, amount in amounts.items()}
    for name, amount in capacities.items():
        if not is_amount(amount):
            raise no_amount("it", name, amount)
    priority = body.get("priority", 0)
    if not is_priority(priority):
        raise ValueError(f"its priority is {short(priority)}, but must be an int")
    every = body.get("checkpoint")
    if every is not None and every is not False and not is_number(every, 0):
        raise ValueError(f"its checkpoint is {short(every)}, but must be false or a number ≥ 0")
    checkpoint = inf if every is False else every
    cache = cache_in(body)
    given = retry or timeout or cache or catches or capacities or priority
    if not given and every is None:
        return PLAIN_CALLS
    calls = CallPolicies(retry, timeout, cache, catches, priority=priority, checkpoint=checkpoint)
    return calls.with_capacities(capacities)


def _read_recipe(body: Mapping[str, Any], leaves: int, reader: ValueReader) -> Recipe:
    steps: list[Step] = []
    for name, items, holes in _list(body, "steps"):
        items = reader.constant(items)
        if not isinstance(items, list):
            raise TypeError(f"the items of a step are no list but {short(items)}")
        kind = _read_kind(name, reader)
        if kind is defaultdict:
            items[0] = reader.factory(items[0])
        found = tuple([(_int(position), _int(source)) for position, source in holes])
        for position, source in found:
            if not (0 <= position < len(items) and -len(steps) <= source < leaves):
                raise LookupError(f"[{position}, {source}] is not a hole of a step")
        steps.append((kind, items, found))
    return Recipe(_read_kind(body["kind"], reader), steps)


def _read_kind(name: Any, reader: ValueReader) -> type:
    return BUILTIN_CONTAINERS.get(name) or reader.resolver.container(name)


def _read_operand(reader: ValueReader, value: Any) -> Operand:
    if isinstance(value, dict) and value.keys() == {"$register"}:
        return Register(_int(value["$register"]))
    return Literal(reader.constant(value))


def _list(body: Mapping[str, Any], name: str, *default: list[Any]) -> list[Any]:
    return _of(list, "list", body, name, *default)


def _object(body: Mapping[str, Any], name: str, *default: dict[str, Any]) -> dict[str, Any]:
    return _of(dict, "object", body, name, *default)


def _flag(body: Mapping[str, Any], name: str, *default: bool) -> bool:
    return _of(bool, "bool", body, name, *default)


def _of(kind: type[T], called: str, body: Mapping[str, Any], name: str, *default: T) -> T:
    if default and name not in body:
        return default[0]
    found = body[name]
    if type(found) is not kind:
        raise TypeError(f"its {name} must be of type {called}, but is {short(found)}")
    return found


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{short(value)} is not an int")
    return value


def _int_or_none(value: Any) -> int | None:
    return None if value is None else _int(value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{short(value)} is not a str")
    return value
