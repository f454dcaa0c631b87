"""Pins: the lazy values that the tasks of a run can name, and so may return at any time (M21).

A value is released after its last known use. What is known are the edges of the graph; but a task
may also return a lazy value that was made before the run, or one that needs it. So what its
function can name is looked for: by closures, defaults, globals and attributes whose names stand in
its code, in what it calls, and in containers. What is found is kept until the run ends.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any
from weakref import WeakKeyDictionary

from cascade.graph.build import inputs_of
from cascade.graph.wiring import Wiring, wire
from cascade.spec.blueprint import Literal
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.operation import Operation
from cascade.spec.routing import Router

#: Objects that a search looks at, at most; and items of one container.
_MOST = 20_000
_CONTAINERS = (list, tuple, set, frozenset, dict, deque, MappingProxyType)
_INERT = ATOMS | {BuiltinFunctionType, CodeType, range, slice, bytearray}
_NAMES: WeakKeyDictionary[FunctionType, frozenset[str]] = WeakKeyDictionary()
_NO_NAMES: frozenset[str] = frozenset()


def named_in(target: LazyResult[Any]) -> set[LazyResult[Any]]:
    """The lazy values that the tasks can name which are called for ``target``."""
    wiring = wire(target)
    pins = Pins({*wiring.nodes()}.__contains__)
    pins.search(wiring)
    return pins.found


class Pins:
    """What the tasks of one run can name. Not thread-safe.

    Args:
        is_known: Tells the lazy values that the run computes, or has computed.

    Attributes:
        found: The lazy values whose values are to be kept.
    """

    def __init__(self, is_known: Callable[[LazyResult[Any]], bool]) -> None:
        self._is_known = is_known
        self.found: set[LazyResult[Any]] = set()
        self._tasks: set[Operation] = set()
        #: What was looked at: an object, and the names of attributes that were looked for.
        self._seen: dict[tuple[int, int], Any] = {}
        self._todo: list[tuple[Any, frozenset[str]]] = []
        #: Lazy values that the run does not know yet, and whose inputs were looked at.
        self._entered: set[LazyResult[Any]] = set()

    def search(self, wiring: Wiring) -> None:
        """Find what the nodes of a graph that is about to run can name.

        Cost: some microseconds for each task that was not met before.
        """
        todo = self._todo
        for task in wiring.tasks - self._tasks:
            self._tasks.add(task)
            todo.append((task, _NO_NAMES))
        for lazy in wiring.hiding:
            todo += [(hidden, _NO_NAMES) for hidden in _hidden(lazy)]
        for lazy in wiring.special:
            todo += [(v, _NO_NAMES) for v in _literals(lazy)]
        if todo:
            self._work_off()

    def _work_off(self) -> None:
        todo = self._todo
        while todo and len(self._seen) < _MOST:
            value, names = todo.pop()
            kind = type(value)
            if kind in _INERT:
                continue
            if issubclass(type(value), LazyResult):
                self._name(value)
                continue
            key = id(value), id(names)
            if key not in self._seen:
                self._seen[key] = value, names  # which keeps their ids
                todo += _within(value, names)
        todo.clear()

    def _name(self, lazy: LazyResult[Any]) -> None:
        """Keep a lazy value that is named; of what it needs, what something else needs as well."""
        self.found.add(lazy)
        todo, stack = self._todo, [lazy]
        while stack:
            lazy = stack.pop()
            if lazy in self._entered or self._is_known(lazy):
                self.found.add(lazy)
                continue
            self._entered.add(lazy)
            todo.append((lazy.task, _NO_NAMES))
            todo += [(v, _NO_NAMES) for v in (*_hidden(lazy), *_literals(lazy))]
            stack += inputs_of(lazy)


def _hidden(lazy: LazyResult[Any]) -> list[Any]:
    """What a router or a map may continue as, or hand to what it continues as."""
    if isinstance(lazy, Router):
        return [*lazy.routes.values()]
    if isinstance(lazy, MappedLazyResult):
        plan, policies = lazy.args[0], lazy.policies
        return [plan.task, *plan.shared.values(), *(policies.amounts.values() if policies else ())]
    return []


def _literals(lazy: LazyResult[Any]) -> list[Any]:
    return [v.value for v in (*lazy.args, *lazy.kwargs.values()) if type(v) is Literal]


def _within(value: Any, names: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
    """What is reached from an object; of attributes, those that are among ``names``."""
    if issubclass(type(value), FunctionType):
        return [(v, _names_in(value)) for v in _of_function(value)]
    if issubclass(type(value), MethodType):
        inner = value.__func__
        own = _names_in(inner) if isinstance(inner, FunctionType) else _NO_NAMES
        return [(inner, _NO_NAMES), (value.__self__, own)]
    if issubclass(type(value), functools.partial):
        return [(v, names) for v in (value.func, *value.args, *value.keywords.values())]
    if issubclass(type(value), Operation):
        return [(value.func, _NO_NAMES)]
    if issubclass(type(value), Literal):
        return [(value.value, names)]
    if issubclass(type(value), _CONTAINERS):
        return [(v, names) for v in _items(value)]
    if issubclass(type(value), ModuleType):
        return [(vars(value)[name], names) for name in names & vars(value).keys()]
    kind = value if issubclass(type(value), type) else type(value)
    return [] if not names or _is_library(kind.__module__) else _of_instance(value, names)


def _of_function(function: FunctionType) -> Iterable[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    scope = function.__globals__
    if not _is_library(scope.get("__name__")):
        for name in _names_in(function):
            if name in scope:
                yield scope[name]


def _items(container: Any) -> Iterable[Any]:
    if len(container) > _MOST:
        return ()
    items = (
        [*container, *container.values()]
        if isinstance(container, (dict, MappingProxyType))
        else container
    )
    return () if _INERT.issuperset(map(type, items)) else items


def _of_instance(value: Any, names: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
    """Attributes of an object or a class, without calling anything of theirs."""
    is_class = isinstance(value, type)
    found: list[tuple[Any, frozenset[str]]] = []
    try:
        own = {} if is_class else object.__getattribute__(value, "__dict__")
    except AttributeError:  # it has slots
        own = {}
    found += [(own[name], names) for name in names & own.keys()]
    for kind in (value if is_class else type(value)).__mro__:
        if _is_library(kind.__module__):
            continue
        for name in names & vars(kind).keys():
            attribute = vars(kind)[name]
            if isinstance(attribute, MemberDescriptorType) and not is_class:
                if hasattr(value, name):
                    found.append((attribute.__get__(value), names))
                continue
            if isinstance(attribute, property):
                attribute = attribute.fget
            elif isinstance(attribute, (staticmethod, classmethod)):
                attribute = attribute.__func__
            found.append((attribute, names))
            if isinstance(attribute, FunctionType):
                found.append((value, _names_in(attribute)))
    return found


def _names_in(function: FunctionType) -> frozenset[str]:
    """All names in a function's code that are no variables of its own."""
    found = _NAMES.get(function)
    if found is None:
        names: set[str] = set()
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            names.update(code.co_names)
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        found = _NAMES[function] = frozenset(names)
    return found


def _is_library(module: Any) -> bool:
    """Whether that is Python's or Cascade's own, which names no lazy values of users."""
    if not isinstance(module, str):
        return True
    top = module.partition(".")[0]
    return top == "cascade" or (top in sys.stdlib_module_names and top != "__main__")
