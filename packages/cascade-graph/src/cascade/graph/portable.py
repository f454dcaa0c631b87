"""A blueprint as JSON and back, and a hash of its content, for tasks that can be imported.

The format, version 1::

    {"blueprint": 1, "registers": 3, "entry": 1, "rooted": true,
     "args": [0], "kwargs": {"n": 0}, "var_args": 1, "var_kwargs": 2,
     "defaults": [[register, value], …], "sources": [[register, register], …],
     "nodes": [node, …], "instructions": [instruction, …]}

``rooted``: the blueprint has the task of its last instruction; otherwise it has none. ``nodes`` are
the lazy values of routes and fallbacks, as in ``cascade.graph.serialize``. An instruction names
its callable by one of ::

    {"task": "module:name"}        {"map": {"task": "module:name", "names": […], "shared": {…}}}
    {"operator": "add"}            {"gather": {"kind": kind, "steps": [[kind, items, holes], …]}}
    {"param": name, …}             {"router": [[key, value], …]}              {"env": name, …}
    {"or_else": {…}}               {"catch": {…}}               (``cascade.graph.fallbacks``)

and has ``"out": register``. Parts that are not empty follow: ``"args"`` and ``"kwargs"`` (a value
of ``cascade.graph.values``, or ``{"$register": 0}``), ``"var_args"``, ``"var_kwargs"`` and
``"after"`` (registers), ``"if"``, ``"retry"``, ``"timeout"``, ``"capacities"`` (amounts by name),
``"amounts"`` (the same, of values or registers), ``"priority"``, ``"checkpoint"`` (seconds, or
false) and ``"catches"``. The recipe of a container, the plan of a map, the routes of a router and a
fallback are the first argument of the callable, so ``args`` has only the others. A cache has no
JSON form. The compiled lazy values are not kept: if a route or a fallback uses one that the
blueprint computes too, it is computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import inf
from operator import itemgetter
from typing import Any, TypeVar

from cascade.graph import fallbacks
from cascade.graph.build import build_graph
from cascade.graph.forms import UNREADABLE
from cascade.graph.references import Resolver
from cascade.graph.serialize import NodeWriter, read_nodes
from cascade.graph.values import (
    OPERATORS,
    ValueReader,
    ValueWriter,
    cache_in,
    operator_at,
    told,
)
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.checks import is_amount, is_number, is_priority, no_amount
from cascade.spec.containers import GATHER, Recipe, Step, fill
from cascade.spec.errors import SerializationError, TaskNotImportedError
from cascade.spec.fallbacks import Fallback
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.mapping import MapPlan, expand
from cascade.spec.operation import FallbackOperation, Operation
from cascade.spec.params import Source
from cascade.spec.policies import ENGINES_CACHE, PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.retry import Retry
from cascade.spec.routing import ROUTE, Routes, choose
from cascade.spec.task import Task
from cascade.spec.wording import short

T = TypeVar("T")

_VERSION = 1
_KINDS = ("task", "map", "gather", "router", "param", "env", "operator", "or_else", "catch")
_TOO_DEEP = "a container in it is nested too deep"
_first = itemgetter(0)
_CONTAINERS = {
    kind.__name__: kind
    for kind in (list, tuple, dict, set, frozenset, deque, OrderedDict, defaultdict)
}


def blueprint_to_json(blueprint: Blueprint, *, indent: int | None = None) -> str:
    """Write a blueprint as JSON.

    Raises:
        SerializationError: A function belongs to no task, a task cannot be imported by its module
            and name, or a value has no JSON form; the message names the instruction or the input.
        CycleError: Routes of a router wait for each other.
    """
    return _dumps(blueprint, _document(blueprint), indent=indent)


def blueprint_from_json(text: str, *, modules: Iterable[str] = ()) -> Blueprint:
    """Read a blueprint written by ``blueprint_to_json``.

    Imports and calls are bounded as in ``cascade.graph.serialize.from_json``. The blueprint is not
    verified; use ``cs.verify``.

    Args:
        text: JSON.
        modules: Names of modules that may be imported for it. Modules that are imported already
            may always be used.

    Raises:
        TaskNotImportedError: It names an object of another module.
        ArgumentError: ``modules`` is not a collection of module names.
        SerializationError: ``text`` is not the JSON of a blueprint, or a task no longer exists.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise SerializationError(
            f"blueprint_from_json() takes text made by blueprint_to_json(), but got {short(text)}"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("blueprint") != _VERSION:
        raise SerializationError(f"not a blueprint of version {_VERSION}: {text[:60]!r}")
    try:
        return _read_blueprint(document, Resolver(modules))
    except UNREADABLE as error:
        if isinstance(error, SerializationError):
            raise
        raise SerializationError(f"the blueprint cannot be read: {told(error)}") from error


def content_hash(blueprint: Blueprint) -> str:
    """A SHA-256, as hex digits, of everything that ``blueprint_to_json`` writes;
    process-independent.

    The order of dicts and sets makes no difference. Values count with their types, so
    ``Literal(1)`` and ``Literal(1.0)`` differ. Tasks count by name, whatever their code.

    Raises:
        SerializationError, CycleError: As ``blueprint_to_json``.
    """
    document = _document(blueprint)
    text = _dumps(blueprint, document, canonical=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _dumps(
    blueprint: Blueprint, document: Any, *, indent: int | None = None, canonical: bool = False
) -> str:
    try:
        if canonical:
            return _canonical_text(_canonical(document))
        return json.dumps(document, indent=indent, allow_nan=False)
    except RecursionError:
        raise SerializationError(
            f"the blueprint '{blueprint.name}' has no JSON form: {_TOO_DEEP}"
        ) from None


def _canonical(document: Mapping[str, Any]) -> Any:
    """``document`` with dicts in one order. Objects are sorted when they are written."""
    lists = {name: list(map(_canonical_form, document[name])) for name in ("nodes", "instructions")}
    header = {name: part for name, part in document.items() if name not in lists}
    return {**_canonical_form(header), **lists}


def _canonical_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """A node or instruction. Only these contain argument names, which may look like a mark."""
    made: dict[str, Any] = {}
    for key, part in form.items():
        if key in ("kwargs", "shared", "over"):
            made[key] = {name: _canonical_value(value) for name, value in part.items()}
        elif key == "map" and isinstance(part, dict):
            made[key] = _canonical_form(part)
        else:
            made[key] = _canonical_value(part)
    return made


def _canonical_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_canonical_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _canonical_value(item) for name, item in value.items()}
    for tag in ("$dict", "$counter"):
        if tag in inner:
            return {tag: sorted(inner[tag], key=_canonical_text)}
    return inner


def _canonical_text(part: Any) -> str:
    return json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)


# -- writing ------------------------------------------------------------------------------------


def _document(blueprint: Blueprint) -> dict[str, Any]:
    header = _header(blueprint)
    nodes = _Nodes()
    instructions = [
        _CallWriter(place, call, nodes).instruction()
        for place, call in enumerate(blueprint.instructions)
    ]
    return {
        "blueprint": _VERSION,
        **header,
        "nodes": nodes.written,
        "instructions": instructions,
    }


def _header(blueprint: Blueprint) -> dict[str, Any]:
    """The parts of the blueprint besides instructions."""
    writer = _Writer(lambda: f"the blueprint '{blueprint.name}'", {})
    root = blueprint.instructions[-1].task if blueprint.instructions else None
    if blueprint.task is not None and blueprint.task is not root:
        writer.refuse(f"its {blueprint.task!r} is not that of its last instruction")
    number = writer.number
    var_args, var_kwargs = blueprint.input_var_args, blueprint.input_var_kwargs
    defaults = [[number(r), _default(blueprint, r)] for r in blueprint.input_defaults]
    sources = [[number(r), number(s)] for r, s in blueprint.input_sources.items()]
    return {
        "registers": number(blueprint.register_count),
        "entry": number(blueprint.entry),
        "rooted": blueprint.task is not None,
        "args": list(map(number, blueprint.input_args)),
        "kwargs": {writer.name(n): number(r) for n, r in blueprint.input_kwargs.items()},
        "var_args": None if var_args is None else number(var_args),
        "var_kwargs": None if var_kwargs is None else number(var_kwargs),
        "defaults": sorted(defaults, key=_first),
        "sources": sorted(sources, key=_first),
    }


def _default(blueprint: Blueprint, register: int) -> Any:
    def owner() -> str:
        name = blueprint.input_names().get(register, f"r{register}")
        return f"the default of the input '{name}' of '{blueprint.name}'"

    writer = ValueWriter(owner, {})
    try:
        return writer.value(blueprint.input_defaults[register])
    except RecursionError:
        writer.refuse(_TOO_DEEP)


class _Writer(ValueWriter):
    """Writes parts of a blueprint; refuses wrong types, which only a faulty blueprint has."""

    def number(self, number: int) -> int:
        if type(number) is not int:
            self.refuse(f"{short(number)}, where an int was expected")
        return number

    def name(self, name: str) -> str:
        if type(name) is not str:
            self.refuse(f"the name {short(name)}, where a str was expected")
        return name

    def register(self, register: Register) -> int:
        if not isinstance(register, Register):
            self.refuse(f"{short(register)}, where a Register or a Literal was expected")
        return self.number(register.index)


class _Nodes:
    """The lazy values among the routes of all routers, shared ones once."""

    def __init__(self) -> None:
        self.index: dict[LazyResult[Any], int] = {}
        self.written: list[dict[str, Any]] = []

    def add(self, lazies: Iterable[LazyResult[Any]]) -> None:
        together = gathered(list(lazies), _Nodes.add.__code__, 0)
        graph = build_graph(together, routes=True, known=self.index.__contains__)
        for lazy in graph.lazies[:-1]:
            self.written.append(NodeWriter(self.index).node(lazy))
            self.index[lazy] = len(self.index)


class _CallWriter(_Writer):
    """Writes one instruction."""

    def __init__(self, place: int, call: Call, nodes: _Nodes) -> None:
        super().__init__(lambda: f"instruction {place} ({call.name})", {})
        self._call = call
        self._nodes = nodes

    def instruction(self) -> dict[str, Any]:
        try:
            return self._instruction()
        except RecursionError:
            self.refuse(_TOO_DEEP)

    def _instruction(self) -> dict[str, Any]:
        call = self._call
        called, args = self._called(call.args)
        parts = {
            "args": [self._operand(operand) for operand in args],
            "kwargs": {self.name(n): self._operand(o) for n, o in call.kwargs.items()},
            "var_args": None if call.var_args is None else self.register(call.var_args),
            "var_kwargs": None if call.var_kwargs is None else self.register(call.var_kwargs),
            "if": [self._operand(operand) for operand in call.conditions],
            "after": [self.register(register) for register in call.after],
            "amounts": {n: self._operand(o) for n, o in call.amounts.items()},
        }
        given = {name: part for name, part in parts.items() if part or part == 0}
        return {**called, "out": self.register(call.output), **given, **self.calls(call.policies)}

    def _called(self, args: Sequence[Operand]) -> tuple[dict[str, Any], Sequence[Operand]]:
        """The callable, and the arguments that are not part of its form."""
        call = self._call
        func: Any = call.func
        if isinstance(call.task, Task):
            if call.task.func is not func:
                self.refuse(f"its function {short(func)}, which is not that of its {call.task!r}")
            return {"task": self.task(call.task)}, args
        source = getattr(func, "__self__", None)
        if isinstance(source, Source) and func == source.task.func:
            return self.source(source), args
        first = args[0].value if args and isinstance(args[0], Literal) else None
        if func is fill and isinstance(first, Recipe):
            return {"gather": self._recipe(first)}, args[1:]
        if func is expand and isinstance(first, MapPlan):
            return {"map": self._plan(first)}, args[1:]
        if func is choose and isinstance(first, Routes):
            return {"router": self._routes(first)}, args[1:]
        if isinstance(call.task, FallbackOperation) and isinstance(first, Fallback):
            writer = self._with_nodes(first.lazies, "its fallback")
            return {call.task.name: fallbacks.fallback_body(first, writer)}, args[1:]
        # By identity: a user's callable may be unhashable.
        name = next((name for name, known in OPERATORS.items() if known is func), None)
        if name is None:
            self.refuse(
                f"its function {short(func)}, which belongs to no task; decorate it with "
                f"@cs.task, and "
                "give the call its task: Call(f.func, …, task=f)"
            )
        return {"operator": name}, args

    def _recipe(self, recipe: Recipe) -> dict[str, Any]:
        steps = []
        for kind, items, holes in recipe.steps:
            items = items.copy()
            for position, _ in holes:
                items[position] = None  # filled in at run time
            first = [self.factory(items.pop(0))] if kind is defaultdict else []
            parts = [*first, *map(self.value, items)]
            steps.append([self._kind(kind), parts, [list(hole) for hole in holes]])
        return {"kind": self._kind(recipe.kind), "steps": steps}

    def _kind(self, kind: type) -> str:
        return kind.__name__ if kind in _CONTAINERS.values() else self.kind(kind)

    def _plan(self, plan: MapPlan) -> dict[str, Any]:
        calls = PLAIN_CALLS if plan.policies is None else plan.policies.calls
        if plan.policies is not None and plan.policies.amounts:
            name = next(iter(plan.policies.amounts))
            self.refuse(f"the lazy amount of '{name}' for each of its items")
        return {
            "task": self.task(plan.task),
            "names": list(plan.names),
            "shared": self.named(plan.shared),
            **self.calls(calls),
            **({"catches": True} if plan.catches else {}),
            **({"hidden": list(plan.hidden)} if plan.hidden else {}),
            **({"fallbacks": self._fallbacks(plan)} if plan.fallbacks else {}),
        }

    def _fallbacks(self, plan: MapPlan) -> list[Any]:
        lazies = [lazy for _, fallback in plan.fallbacks for lazy in fallback.lazies]
        writer = self._with_nodes(lazies, "a fallback of it")
        return fallbacks.bodies(plan.fallbacks, writer)

    def _with_nodes(self, lazies: Iterable[Any], where: str) -> ValueWriter:
        """A writer of values that have these lazy values in them."""
        try:
            self._nodes.add(lazies)
        except SerializationError as error:
            self.refuse(f"{where}: {error}")
        return ValueWriter(self._owner, self._nodes.index)

    def _routes(self, routes: Routes) -> list[Any]:
        lazies = [route for route in routes.by_key.values() if isinstance(route, LazyResult)]
        writer = self._with_nodes(lazies, "a route of it")
        return [[self.value(key), writer.value(route)] for key, route in routes.by_key.items()]

    def calls(self, calls: CallPolicies) -> dict[str, Any]:
        if calls.cache is not None and calls.cache is not ENGINES_CACHE:  # which tasks declare
            self.refuse(
                f"its cache {short(calls.cache)}; send the graph without it, by to_json(), and "
                "set it on the lazy value that from_json() returns"
            )
        return {**super().calls(calls), **({"catches": True} if calls.catches else {})}

    def _operand(self, operand: Operand) -> Any:
        if isinstance(operand, Literal):
            return self.value(operand.value)
        return {"$register": self.register(operand)}


# -- reading ------------------------------------------------------------------------------------


def _read_blueprint(document: Mapping[str, Any], resolver: Resolver) -> Blueprint:
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
    raise ValueError(f"its callable is not one of {', '.join(_KINDS)}")


def _read_plan(body: Mapping[str, Any], reader: ValueReader) -> MapPlan:
    shared = {name: reader.constant(value) for name, value in _object(body, "shared").items()}
    names = tuple(map(_text, _list(body, "names")))
    catches = _flag(body, "catches", False)
    code = blueprint_from_json.__code__
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
    return _CONTAINERS.get(name) or reader.resolver.container(name)


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
