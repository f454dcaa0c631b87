"""The hash of what a task's code is: its own, and everything that it names, transitively.

A hash is made of components, by name:

- each function of the user's that is reached: the meaning of its bytecode (``bytecode``), defaults
- each class of the user's: bases, attributes, and its methods as functions
- each plain value that a global name, a closure, a default or an attribute has now: its content
- each library: ``name==version``
- the format of Python's bytecode

Only names in the code are followed: globals, variables of enclosing functions, imports, and
attributes of the user's modules. What cannot be followed is listed in ``untracked``, with its type:
objects without a digest, and code that looks names up by itself (``eval``, ``getattr``).

It is bytecode that counts, not source: a file that was edited but not loaded again makes no
difference, and comments and docstrings do not.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from gc import get_referents
from hashlib import blake2b
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from cascade.graph.guards import Guards
from cascade.graph.libraries import is_library, top_of, version_of, wrapped_by
from cascade.graph.readings import Readings
from cascade.spec.bytecode import Import
from cascade.spec.digest import SIZE
from cascade.spec.encodings import ATOMS
from cascade.spec.operation import Operation
from cascade.spec.task import Task
from cascade.spec.wording import name_of, type_name

#: Builtins that look up names which do not stand in the code.
_COMPUTED: Final = (eval, exec, compile, getattr, globals, vars, __import__)
_BUILTINS: Final[Mapping[str, Any]] = vars(builtins)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque, MappingProxyType)
#: Most elements of a container that are searched for functions and classes.
_MOST: Final = 10_000
_METHODS: Final = (FunctionType, classmethod, staticmethod, functools.cached_property, property)
_CODE: Final = (FunctionType, MethodType, type, functools.partial, Operation)
#: Function or class → its code, with the guards of what was read for it.
_kept: WeakKeyDictionary[Any, tuple[CodeHash, Guards]] = WeakKeyDictionary()


class CodeHash(NamedTuple):
    """What the code of a task is.

    Attributes:
        digest: 32 hex digits; equal for equal components.
        components: Name → digest, or ``name==version`` of a library.
        users: Name of a component or of something untracked → name of the one that refers to it.
        untracked: Name → type of what could not be followed.
        mutable: Components that a program may change while it runs: values such as lists.
    """

    digest: str
    components: Mapping[str, str]
    users: Mapping[str, str]
    untracked: Mapping[str, str]
    mutable: frozenset[str] = frozenset()


def code_hash(task: Task[..., Any], readings: Readings | None = None) -> CodeHash:
    """The hash of a task's code.

    Takes some 100 µs per function that it reaches the first time, and about 1 µs later, if nothing
    that the code names was bound to something else. Mutable values are digested each time.

    Args:
        task: The task.
        readings: Shared by tasks that are hashed one right after the other.
    """
    kept: tuple[CodeHash, Guards] | None = task.derived.get("code")
    if kept is not None and kept[1].hold(None if readings is None else readings.content):
        return kept[0]
    walk = _Walk(top_of(getattr(task.func, "__module__", None)), readings)
    found = walk.hash(name_of(task), task.func)
    task.derived["code"] = found, walk.guards
    return found


def code_of(thing: FunctionType | type) -> CodeHash:
    """The same for a function or class, as of an argument, at the same cost."""
    kept = _kept.get(thing)
    if kept is not None and kept[1].hold():
        return kept[0]
    walk = _Walk(top_of(thing.__module__))
    found = walk.hash(name_of(thing), thing)
    _kept[thing] = found, walk.guards
    return found


class Difference(NamedTuple):
    """A component that differs between two hashes, as "helpers:scale", "changed", its users."""

    name: str
    what: str
    path: str

    def __str__(self) -> str:
        used = f", used by {self.path}" if self.path else ""
        return f"{self.name} {self.what}{used}"


def changes(old: CodeHash, new: CodeHash) -> list[str]:
    """What differs between two hashes, as "helpers.scale changed, used by clean -> Model.fit"."""
    return [*map(str, differences(old, new))]


def differences(old: CodeHash, new: CodeHash) -> list[Difference]:
    """The components that differ between two hashes."""
    found = []
    for name in sorted(old.components.keys() | new.components.keys()):
        before, now = old.components.get(name), new.components.get(name)
        if before == now:
            continue
        what = "is new" if before is None else "is gone" if now is None else "changed"
        if before is not None and now is not None and "==" in now:
            what = f"was {before.rpartition('==')[2]} and is {now.rpartition('==')[2]}"
        path = _path(name, old.users if now is None else new.users)
        found.append(Difference(name, what, path))
    return found


def _path(name: str, users: Mapping[str, str]) -> str:
    """The way from the task to a component."""
    path: list[str] = []
    while (name := users.get(name, "")) and name not in path:
        path.insert(0, name)
    return " -> ".join(path)


class _Walk:
    """Follows the names in code.

    Args:
        own: The package whose modules are the user's even if they are installed.
        readings: Digests from walks right before this one.
    """

    def __init__(self, own: str | None, readings: Readings | None = None) -> None:
        self.guards = Guards()
        self._readings = Readings() if readings is None else readings
        self._own = own
        magic = importlib.util.MAGIC_NUMBER.hex()
        self._components = {"bytecode": f"{sys.implementation.name} {magic}"}
        self._users: dict[str, str] = {}
        self._untracked: dict[str, str] = {}
        self._mutable: set[str] = set()
        #: Object by id → its name; the objects are kept, so that no other gets the id.
        self._seen: dict[int, tuple[Any, str]] = {}
        #: Values to look at: a name, the value, and the name of its user.
        self._todo: list[tuple[str, Any, str]] = []

    def hash(self, name: str, value: Any) -> CodeHash:
        self._todo.append((name, value, ""))
        while self._todo:
            self._follow(*self._todo.pop())
        parts = repr(sorted(self._components.items())).encode("utf-8", "surrogatepass")
        made = blake2b(parts, digest_size=SIZE).hexdigest()
        mutable = frozenset(self._mutable)
        return CodeHash(made, self._components, self._users, self._untracked, mutable)

    def _follow(self, name: str, value: Any, user: str) -> None:
        if isinstance(value, Task):
            value = value.func
        elif isinstance(value, Operation):
            return
        if isinstance(value, FunctionType):
            self._function(value, user)
        elif isinstance(value, type):
            self._class(value, user)
        elif isinstance(value, MethodType):
            self._todo += [(name, value.__func__, user), (name, value.__self__, user)]
        elif isinstance(value, functools.partial):
            self._todo += [
                (name, value.func, user),
                (f"{name} (arguments)", (value.args, value.keywords), user),
            ]
        elif isinstance(value, _METHODS):
            parts = ("__func__", "func", "fget", "fset", "fdel")
            self._todo += [(name, p, user) for n in parts if (p := getattr(value, n, None))]
        elif isinstance(value, ModuleType):
            self._module(name, value, user)
        elif isinstance(value, (BuiltinFunctionType, WrapperDescriptorType)):
            self._builtin(name, value, user)
        else:
            self._data(name, value, user)

    # -- code -------------------------------------------------------------------------------------

    def _function(self, function: FunctionType, user: str) -> None:
        scope = function.__globals__
        if self._is_library(scope.get("__name__")):
            self._library(scope["__name__"], user)
            wrapped = function.__dict__.get("__wrapped__")
            if wrapped is not None:
                self._todo.append((name_of(wrapped), wrapped, user))
            self._cells(function, user, (c for c in function.__code__.co_freevars))
            return
        code = function.__code__
        name = self._enter(function, user)
        if name is None:
            return
        self._components[name], found = self._readings.code(code)
        self.guards.function(function)
        defaults: list[tuple[Any, Any]] = [*enumerate(function.__defaults__ or ())]
        defaults += (function.__kwdefaults__ or {}).items()
        self._todo += [(f"{name} (default {n})", value, name) for n, value in defaults]
        for path in found.globals_:
            self._global(scope, path, name)
        for path in found.cells:
            self._cell(function, path, name)
        for each in found.imports:
            self._import(scope, each, found.names, name)

    def _global(self, scope: dict[str, Any], path: tuple[str, ...], user: str) -> None:
        first = path[0]
        if first not in scope:
            self.guards.absent(scope, first)
            if first in _BUILTINS:
                self._builtin(first, _BUILTINS[first], user)
            return
        self.guards.item(scope, first, scope[first])
        self._attributes(f"{scope.get('__name__')}:{first}", scope[first], path[1:], user)

    def _attributes(self, name: str, value: Any, path: Iterable[str], user: str) -> None:
        """Follow the attributes of the user's modules; the value that these lead to counts."""
        for attribute in path:
            if not isinstance(value, ModuleType) or self._is_library(value.__name__):
                break
            space = vars(value)
            if attribute not in space:
                self.guards.absent(space, attribute)
                break
            self.guards.item(space, attribute, space[attribute])
            name, value = f"{value.__name__}:{attribute}", space[attribute]
        self._todo.append((name, value, user))

    def _cell(self, function: FunctionType, path: tuple[str, ...], user: str) -> None:
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            if name == path[0]:
                try:
                    value = cell.cell_contents
                except ValueError:  # not set yet
                    return
                self.guards.cell(cell, value)
                self._attributes(f"{user} (variable {name})", value, path[1:], user)

    def _cells(self, function: FunctionType, user: str, names: Iterable[str]) -> None:
        """The code among the variables of a library's function, as of a decorator."""
        for name, cell in zip(names, function.__closure__ or (), strict=False):
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            if isinstance(value, _CODE):
                self.guards.cell(cell, value)
                self._todo.append((f"{name_of(function)} (variable {name})", value, user))

    def _import(
        self, scope: Mapping[str, Any], found: Import, names: frozenset[str], user: str
    ) -> None:
        """Follow an import inside of a function, to the names of the module that the code has."""
        try:
            dotted = "." * found.level + found.name
            name = importlib.util.resolve_name(dotted, scope.get("__package__"))
        except ImportError:
            return
        if self._is_library(name):
            self._library(name, user)
            return
        module = _imported(name)
        if module is None:
            self._lost(f"module {name}", "imported later", user)
            return
        for each in found.names or sorted(names & vars(module).keys()):
            self._attributes(f"{name}:{each}", module, (each,), user)

    def _class(self, kind: type, user: str) -> None:
        if self._is_library(kind.__module__):
            self._library(kind.__module__, user)
            return
        name = self._enter(kind, user)
        if name is None:
            return
        space = vars(kind)
        members = dict(getattr(kind, "_member_map_", {})) if issubclass(kind, Enum) else {}
        shape = [name_of(type(kind)), *map(name_of, kind.__mro__), *members]
        self._add(name, repr(shape).encode())
        self._todo += [(f"{name}.{n}", member._value_, name) for n, member in members.items()]
        self._todo += [(name_of(base), base, name) for base in (*kind.__bases__, type(kind))]
        self.guards.size(space)
        for attribute, value in space.items():
            special = attribute[:1] == "_" == attribute[-1:] or attribute == "_abc_impl"
            if attribute in members or (special and not isinstance(value, _METHODS)):
                continue
            if not isinstance(value, MemberDescriptorType):  # a slot
                self.guards.item(space, attribute, value)
                self._todo.append((f"{name}.{attribute}", value, name))

    # -- everything else --------------------------------------------------------------------------

    def _module(self, name: str, module: ModuleType, user: str) -> None:
        if self._is_library(module.__name__):
            self._library(module.__name__, user)
        else:  # it is handed on as a value, and any name may be looked up in it
            self._lost(name, "module", user)

    def _builtin(self, name: str, value: Any, user: str) -> None:
        if any(value is computed for computed in _COMPUTED):
            self._lost(f"{user} ({name})", "names that are computed", user)
        module = getattr(value, "__module__", None)
        if isinstance(module, str) and module != "builtins" and self._is_library(module):
            self._library(module, user)

    def _data(self, name: str, value: Any, user: str) -> None:
        kind = type(value)
        if kind.__module__ == "dataclasses":  # a mark in generated code
            return
        content = self._readings.content(value)
        if kind not in ATOMS and not (kind is tuple and ATOMS.keys() >= set(map(type, value))):
            self.guards.content(value, content)
            self._mutable.add(f"{name} (value)")
            self._todo += [(name, each, user) for each in _code_in(value)]
            if not self._is_library(kind.__module__):
                self._todo.append((name_of(kind), kind, user))
            wrapped = wrapped_by(value)
            if isinstance(wrapped, _CODE):  # functools.lru_cache and the like
                self._todo.append((name, wrapped, user))
                return
        if content is None:
            self._lost(name, type_name(value), user)
        else:
            self._add(f"{name} (value)", content)
            self._users.setdefault(f"{name} (value)", user)

    def _library(self, module: str, user: str) -> None:
        top = top_of(module)
        assert top is not None
        if top not in sys.stdlib_module_names:  # its version is that of the bytecode
            version = version_of(top)
            name = f"library {version.partition('==')[0]}"
            self._components[name] = version
            self._users.setdefault(name, user)

    def _is_library(self, module: Any) -> bool:
        return is_library(module, self._own)

    def _enter(self, thing: Any, user: str) -> str | None:
        """The name for a function or class that is met for the first time."""
        if id(thing) in self._seen:
            return None
        name = unique = _name(thing)
        number = 1
        while unique in self._components:
            number += 1
            unique = f"{name} (no. {number})"
        self._seen[id(thing)] = thing, unique
        if user:
            self._users[unique] = user
        return unique

    def _add(self, name: str, content: bytes) -> None:
        self._components[name] = blake2b(content, digest_size=SIZE).hexdigest()

    def _lost(self, name: str, kind: str, user: str) -> None:
        self._untracked[name] = kind
        self._components[f"{name} (type)"] = kind
        self._users.setdefault(name, user)


def _imported(name: str) -> Any:
    """A module of the user's; None if it cannot be imported.

    The function imports it anyway, when it is called. Without it, a later change of the module
    would go unnoticed until then.
    """
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except Exception:
        return None


def _name(thing: Any) -> str:
    """``module:name`` of a function or class; of a decorator's function, its own name."""
    if isinstance(thing, FunctionType) and "__wrapped__" in thing.__dict__:
        return f"{thing.__globals__.get('__name__')}:{thing.__code__.co_qualname}"
    return name_of(thing)


def _code_in(value: Any) -> list[Any]:
    """The functions, classes and tasks in a container, at any depth."""
    found: list[Any] = []
    seen: set[int] = set()
    todo = [value]
    while todo and len(seen) < _MOST:
        each = todo.pop()
        if isinstance(each, _CONTAINERS) and id(each) not in seen:
            seen.add(id(each))
            todo += get_referents(each)
        elif isinstance(each, _CODE):
            found.append(each)
    return found
