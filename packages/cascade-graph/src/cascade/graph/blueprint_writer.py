"""Blueprints as JSON documents: the writing half of ``portable``, which describes the format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from cascade.graph import fallbacks
from cascade.graph.build import build_graph
from cascade.graph.serialize import NodeWriter
from cascade.graph.values import (
    BUILTIN_CONTAINERS,
    OPERATORS,
    ValueWriter,
)
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.containers import Recipe, fill
from cascade.spec.errors import SerializationError
from cascade.spec.fallbacks import Fallback
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.mapping import MapPlan, expand
from cascade.spec.operation import FallbackOperation
from cascade.spec.params import Source
from cascade.spec.policies import ENGINES_CACHE, PLAIN_CALLS, CallPolicies
from cascade.spec.routing import Routes, choose
from cascade.spec.task import Task
from cascade.spec.wording import short

VERSION = 1
TOO_DEEP = "a container in it is nested too deep"
_first = itemgetter(0)


def blueprint_form(blueprint: Blueprint) -> dict[str, Any]:
    header = _header(blueprint)
    nodes = _Nodes()
    instructions = [
        _CallWriter(place, call, nodes).instruction()
        for place, call in enumerate(blueprint.instructions)
    ]
    return {
        "blueprint": VERSION,
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
        writer.refuse(TOO_DEEP)


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
            self.refuse(TOO_DEEP)

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
        if isinstance(first, MapPlan) and first.window is not None:
            self.refuse(f"the window of its map of '{first.task.name}'")
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
        return kind.__name__ if kind in BUILTIN_CONTAINERS.values() else self.kind(kind)

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
