"""Reach: the lazy values that a task's function can reach (M21).

There is one rule: a function refers to objects, which refer to others, and so on. The garbage
collector knows the references of an object, for closures, defaults, wrapped functions, bound
methods, instances, classes with everything defined in them, and containers alike; asking it runs no
user code. Globals and modules are the exception: of these, only names that stand in a function's
code count.

A search does not enter globals of functions or classes that belong to libraries, nor instances of
such classes, unless they exist to hold other objects: libraries know no lazy values of the user's.

The part that is code (functions, classes, cells, globals by name) is walked once per task. The
result is a list of places to read. Each run reads them, and walks the data that it finds there. If
code was rebound since, it is walked again.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dis import opmap
from gc import get_referents
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FrameType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
    WrapperDescriptorType,
)
from typing import Any, Final

from cascade.graph.libraries import is_library, top_of, wrapped_by
from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.task import Task

#: Most objects that a search enters, and most items of one container.
MOST: Final = 20_000
_INERT = ATOMS | {
    ClassMethodDescriptorType,
    CodeType,
    FrameType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    TracebackType,
    WrapperDescriptorType,
    bytearray,
    range,
    slice,
}
#: Objects that are code. A task that reaches them holds them, so they must not be data.
_CODE = (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MethodType,
    classmethod,
    functools.cached_property,
    functools.partial,
    functools.partialmethod,
    functools.singledispatchmethod,
    property,
    staticmethod,
    type,
    type(functools.lru_cache(len)),
)
_STATIC = (*_CODE, ModuleType)
_CONTAINERS = (list, tuple, set, frozenset, dict, deque, MappingProxyType)
#: Our own classes whose instances hold other objects.
_OWN_HOLDERS = (Literal, TailCall)
_HOLDERS = frozenset(
    ["_collections", "_functools", "_operator", "builtins", "collections", "contextlib",
     "dataclasses", "functools", "itertools", "operator", "queue", "types"]
)  # fmt: skip
_NO_NAMES: frozenset[str] = frozenset()
_IMPORTS = opmap["IMPORT_NAME"]
# Looked up by Python itself, whatever a class or its metaclass calls by these names.
_dict_of = type.__dict__["__dict__"].__get__
_mro_of = type.__dict__["__mro__"].__get__
_module_of = type.__dict__["__module__"].__get__

#: An object, the names in the code that it was reached from, and whether only code lies between the
#: task and it.
_Step = tuple[Any, frozenset[str], bool]


def named_by(task: Operation, seen: dict[int, Any]) -> Sequence[LazyResult[Any]]:
    """The lazy values that the function of a task can name.

    Args:
        task: The task.
        seen: The data that was already walked for this run, by id.

    Cost: some hundred microseconds the first time; then tens of nanoseconds per name in the reached
    code, and a microsecond per object that is data.
    """
    if not isinstance(task, Task):
        return ()
    reach: Reach | None = task.derived.get("reach")
    found = None if reach is None else reach.read(seen)
    if found is None:
        search = _Search(seen, top_of(getattr(task.func, "__module__", None)))
        search.lasting = True
        found = search.work_off(_roots(task.func))
        task.derived["reach"] = Reach(search)
    return found


def within(values: Iterable[Any], seen: dict[int, Any]) -> list[LazyResult[Any]]:
    """The lazy values that ``values`` reach."""
    return _Search(seen, None).work_off([(value, _NO_NAMES, False) for value in values])


class Reach:
    """The code that a task reaches, as the places where it refers to data. Immutable."""

    __slots__ = ("_absent", "_known", "_own", "_parts", "_scopes")

    def __init__(self, search: _Search) -> None:
        self._own = search.own
        self._known = known = search.known
        #: Cells, attributes of classes and functions, and other code that refers to data.
        self._parts = [p for p in search.parts if _is_open(p, known)]
        #: Globals and modules, and the names to look up in them.
        self._scopes = [
            (scope.get, [n for n in names if n in scope]) for scope, names in search.scopes.values()
        ]
        #: Names that may be defined later.
        self._absent = [
            (scope.keys(), absent)
            for scope, names in search.scopes.values()
            if (absent := names - scope.keys())
        ]

    def read(self, seen: dict[int, Any]) -> Sequence[LazyResult[Any]] | None:
        """The lazy values reached now; None if the code has changed."""
        values = get_referents(*self._parts)
        for get, present in self._scopes:
            values += map(get, present)
        for scope, absent in self._absent:
            if not scope.isdisjoint(absent):
                return None
        known = self._known
        data = [v for v in values if type(v) not in _INERT and id(v) not in known]
        if not data:
            return ()
        if any(issubclass(type(v), _STATIC) for v in data):
            return None
        search = _Search(seen, self._own, known)
        return search.work_off([(value, _NO_NAMES, False) for value in data])


class _Search:
    """One walk over objects.

    Args:
        seen: Walked objects, by id; kept, so that no other object gets the id.
        own: The package whose modules are the user's even if they are installed.
        known: Code that need not be entered, by id.

    Attributes:
        lasting: Whether to note entered code in ``known``, ``parts`` and ``scopes``.
        parts: Objects of that code which may refer to data.
        scopes: Dicts with names, and those of their names that stand in code, by id of the dict.
    """

    def __init__(
        self, seen: dict[int, Any], own: str | None, known: dict[int, Any] | None = None
    ) -> None:
        self.seen = seen
        self.own = own
        self.known: dict[int, Any] = {} if known is None else known
        self.lasting = False
        self.parts: list[Any] = []
        self.scopes: dict[int, tuple[dict[str, Any], frozenset[str]]] = {}
        self._todo: list[_Step] = []

    def work_off(self, todo: list[_Step]) -> list[LazyResult[Any]]:
        """Walk from the objects in ``todo``; returns the lazy values reached."""
        found: list[LazyResult[Any]] = []
        self._todo, seen, known = todo, self.seen, self.known
        while todo and len(seen) < MOST:
            value, names, by_code = todo.pop()
            kind = type(value)
            if kind in _INERT:
                continue
            if issubclass(kind, LazyResult):
                found.append(value)
            elif issubclass(kind, ModuleType):
                self._enter_module(value, names)
            elif id(value) not in known and id(value) not in seen:
                seen[id(value)] = value
                self._enter(value, kind, names, by_code)
        return found

    def _enter(self, value: Any, kind: type, names: frozenset[str], by_code: bool) -> None:
        lasts = self.lasting and (issubclass(kind, type) or (by_code and issubclass(kind, _CODE)))
        if issubclass(kind, FunctionType):
            names = self._enter_function(value)
            parts = _parts_of_function(value)
        elif issubclass(kind, type):
            parts = self._parts_of_class(value, lasts)
        else:
            parts = self._parts_of_instance(value, kind)
        if lasts:
            self.known[id(value)] = value
            self.parts += parts
        if parts:
            referents = get_referents(*parts)
            if not _INERT.issuperset(map(type, referents)):
                self._todo += [(v, names, lasts) for v in referents]

    def _enter_function(self, function: FunctionType) -> frozenset[str]:
        """Look up the names in its code in the function's globals and imports."""
        names, imports = _names_in(function.__code__)
        scope = function.__globals__
        name = scope.get("__name__")
        if not is_library(name, self.own):
            self._ask(scope, names, names)
            if imports:
                package = scope.get("__package__") or ""
                relative = {f"{package}.{n}" if n else package for n in names} if package else ()
                self._ask(sys.modules, names.union(relative), names)
        return names

    def _enter_module(self, module: ModuleType, names: frozenset[str]) -> None:
        scope = vars(module)
        self.seen[id(module)] = module
        if self.lasting:
            self.known[id(module)] = module
        if not is_library(scope.get("__name__"), self.own):
            self._ask(scope, names, names)

    def _ask(self, scope: dict[str, Any], wanted: frozenset[str], names: frozenset[str]) -> None:
        """Continue with the values of the ``wanted`` names; ``names`` stand in the code there."""
        before = self.scopes.get(id(scope), (scope, _NO_NAMES))[1]
        new = wanted - before
        if new:
            self.scopes[id(scope)] = scope, before | new
            self._todo += [(scope[name], names, True) for name in new & scope.keys()]

    def _parts_of_class(self, kind: type, lasts: bool) -> list[Any]:
        if is_library(_module_of(kind), self.own):
            return []
        space: dict[str, Any] = get_referents(_dict_of(kind))[0]
        for name, value in space.items():
            if name[:2] == "__" and issubclass(type(value), _CONTAINERS):
                # Notes of Python and of libraries: annotations, fields, schemas.
                (self.known if lasts else self.seen)[id(value)] = value
        return [space, (*_mro_of(kind), type(kind))]

    def _parts_of_instance(self, value: Any, kind: type) -> list[Any]:
        if kind in _CONTAINERS:
            return [value] if len(value) <= MOST else []
        if issubclass(kind, _CONTAINERS):
            container = next(c for c in _CONTAINERS if issubclass(kind, c))
            return [value] if container.__len__(value) <= MOST else []
        if issubclass(kind, Operation):
            return [(value.func,)]
        module = _module_of(kind)
        if module in _HOLDERS or not is_library(module, self.own) or kind in _OWN_HOLDERS:
            return [value]
        wrapped = wrapped_by(value)
        return [] if wrapped is None else [(wrapped,)]


def _roots(function: Any) -> list[_Step]:
    """The function of a task; if it is a library's object, the objects that it refers to."""
    more = () if issubclass(type(function), _CODE) else get_referents(function)
    return [(value, _NO_NAMES, True) for value in (function, *more)]


def _parts_of_function(function: FunctionType) -> list[Any]:
    parts: list[Any] = [*(function.__closure__ or ())]
    mine = function.__defaults__, function.__kwdefaults__, function.__dict__
    return parts + [part for part in mine if part]


def _is_open(part: Any, known: dict[int, Any]) -> bool:
    """Whether a part of code may refer to data, now or later."""
    if type(part) in (CellType, dict):
        return True
    return any(type(v) not in _INERT and id(v) not in known for v in get_referents(part))


def _names_in(code: CodeType) -> tuple[frozenset[str], bool]:
    """All names in some code that are not its own variables, and whether it imports."""
    names: set[str] = set()
    imports = False
    codes = [code]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        imports = imports or _IMPORTS in code.co_code[::2]
        codes += [constant for constant in code.co_consts if type(constant) is CodeType]
    return frozenset(names), imports
