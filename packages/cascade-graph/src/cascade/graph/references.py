"""``module:name``: references to tasks, types and functions in documents, and their limits.

A document comes from elsewhere. Reading it imports only the modules that the caller lists. Names
are looked up in the namespaces of modules and classes, which runs no code. Besides tasks, a run
would call converters of parameters, and conditions and delays of retries: these must be known
types, or functions that their author has marked with ``portable``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import Any, Final, TypeVar

from cascade.spec.errors import ArgumentError, SerializationError, TaskNotImportedError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.shapes import is_plain_dataclass
from cascade.spec.task import Task
from cascade.spec.wording import short

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")

#: Types of the standard library that parameters may have, by module. Reading them imports it.
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "builtins": (
        *("str", "int", "float", "bool", "complex", "bytes", "object"),
        *("list", "tuple", "dict", "set", "frozenset"),
    ),
    "datetime": ("date", "datetime", "time", "timedelta"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "pathlib": ("Path", "PurePath", "PosixPath", "PurePosixPath", "PureWindowsPath"),
    "uuid": ("UUID",),
}
_TASK: Final = attrgetter("task")
#: The modules of the tasks that Cascade itself has.
_OWN: Final = frozenset({"cascade.spec.waits"})
#: ``module:name`` → the object marked with ``portable``.
_portable: dict[str, Callable[..., Any]] = {}


def portable(thing: C) -> C:
    """Allow graphs and blueprints that come as JSON to call a function or a class.

    It may then convert parameters (``Param(type=…)``) or decide about retries (``on=`` and
    ``delay=`` of ``with_retry``). Types such as int and Path, enumerations and exception types
    need no mark.

    >>> @portable
    ... def celsius(text: str) -> float:
    ...     return (float(text) - 32) / 1.8

    Raises:
        ArgumentError: It is not callable, or has no name at the top of a module or class.
    """
    name = _name(thing)
    if not callable(thing) or name is None or "<" in name:
        raise ArgumentError(
            f"portable() takes a function or a class with a name of its own in a module, but got "
            f"{short(thing)}"
        )
    _portable[name] = thing
    return thing


class Resolver:
    """Finds the objects that a document names.

    Args:
        modules: Modules that may be imported for it; others must be imported already.
        trusted: Import any module that it names.

    Raises:
        ArgumentError: ``modules`` is not a collection of module names.
    """

    def __init__(self, modules: Iterable[str] = (), *, trusted: bool = False) -> None:
        names = None if isinstance(modules, str) else tuple(modules)
        if names is None or not all(isinstance(name, str) and name for name in names):
            raise ArgumentError(
                f"modules takes the names of modules, as modules=['flows'], but got "
                f"{short(modules)}"
            )
        self._modules = frozenset(names)
        self._trusted = trusted

    def find(self, reference: Any) -> Any:
        """The object named ``module:name``.

        Raises:
            TaskNotImportedError: The module is neither imported nor allowed.
            SerializationError: There is no such name, or the import of the module fails.
            TypeError: ``reference`` is not a string.
        """
        if not isinstance(reference, str):
            raise TypeError(f"{short(reference)} is not a name of the form 'module:name'")
        module, colon, path = reference.partition(":")
        if not (module and colon and path):
            raise SerializationError(
                f"{short(reference)} cannot be imported: it is not of the form module:name"
            )
        found: Any = self.module(reference, module)
        for name in path.split("."):
            found = _inside(reference, found, name)
        return found

    def task(self, reference: Any) -> Task[..., Any]:
        found = self.find(reference)
        if not isinstance(found, Task):
            raise SerializationError(f"{short(reference)} is not a task but {short(found)}")
        return found

    def namedtuple(self, reference: Any) -> Any:
        found = self.subclass(reference, tuple, "a namedtuple")
        if not (hasattr(found, "_make") and hasattr(found, "_fields")):
            raise TypeError(f"{short(reference)} is not a namedtuple but {short(found)}")
        return found

    def subclass(self, reference: Any, base: type[T], called: str) -> type[T]:
        """A class derived from ``base``, which is ``called`` so in the message."""
        found = self.find(reference)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise TypeError(f"{short(reference)} is not {called} but {short(found)}")
        return found

    def dataclass(self, reference: Any) -> type:
        """A dataclass whose instances can be made without code of its own."""
        found = self.find(reference)
        if not (isinstance(found, type) and is_plain_dataclass(found)):
            raise TypeError(f"{short(reference)} is not a dataclass but {short(found)}")
        return found

    def container(self, reference: Any) -> type:
        """A namedtuple, or a dataclass as above."""
        found = self.find(reference)
        plain = isinstance(found, type) and is_plain_dataclass(found)
        return self.dataclass(reference) if plain else self.namedtuple(reference)

    def converter(self, reference: Any) -> Callable[..., Any]:
        """The type of a parameter."""
        if isinstance(reference, str):
            module, _, name = reference.partition(":")
            if name in _KNOWN.get(module, ()):
                known: Callable[..., Any] = getattr(import_module(module), name)
                return known
        found = self.find(reference)
        if isinstance(found, type) and issubclass(found, Enum):
            return found
        return _marked(reference, found, "a type that parameters may have")

    def condition(self, reference: Any) -> Callable[..., Any]:
        """The errors that a retry applies to."""
        found = self.find(reference)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
        return _marked(reference, found, "a type of exceptions")

    def delay(self, reference: Any) -> Callable[..., Any]:
        """The function that computes the delays of a retry."""
        return _marked(reference, self.find(reference), "a number of seconds")

    def module(self, reference: str, name: str) -> ModuleType:
        """The module ``name``, which ``reference`` needs.

        Raises:
            TaskNotImportedError: It is neither imported nor allowed.
            SerializationError: Its import fails.
        """
        found = sys.modules.get(name)
        if isinstance(found, ModuleType):
            return found
        if not (name in self._modules or name in _OWN or self._trusted):
            raise TaskNotImportedError(
                f"{short(reference)} is in the module {short(name)}, which is not imported; "
                f"import it before, or allow it: modules=[{short(name)}]",
                name,
            )
        try:
            return import_module(name)
        # Importing runs the module, which may raise anything.
        except (Exception, SystemExit) as error:
            raise SerializationError(f"{short(reference)} cannot be imported: {error}") from error


def tasks_of(lazies: Iterable[LazyResult[Any]]) -> list[Task[..., Any]]:
    """The tasks of nodes, each once; of a map, the one that it maps."""
    lazies = [*lazies]
    found: dict[Any, None] = dict.fromkeys(map(_TASK, lazies))
    if not {LazyResult}.issuperset(map(type, lazies)):
        found |= dict.fromkeys(x.factory for x in lazies if isinstance(x, MappedLazyResult))
    return [task for task in found if isinstance(task, Task)]


def reference_to(thing: Any, function: Any = None) -> str | None:
    """``module:name`` by which a document can name ``thing``, or None.

    If it has no name itself, that of ``function`` is used.
    """
    return _found_by(_WRITER.find, _name(thing if function is None else function), thing)


def reference_to_converter(thing: Any) -> str | None:
    """The same for the type of a parameter, which may also be a known one."""
    return _found_by(_WRITER.converter, _known_name(thing) or _name(thing), thing)


def reference_to_condition(thing: Any) -> str | None:
    """The same for the errors that a retry applies to."""
    return _found_by(_WRITER.condition, _known_name(thing) or _name(thing), thing)


def reference_to_delay(function: Any) -> str | None:
    """The same for the function that computes the delays of a retry."""
    return _found_by(_WRITER.delay, _name(function), function)


def _found_by(find: Callable[[str], Any], name: str | None, thing: Any) -> str | None:
    """``name``, if ``find`` gives ``thing`` for it."""
    try:
        return name if name is not None and find(name) is thing else None
    except SerializationError:
        return None


_WRITER = Resolver()


def _known_name(thing: Any) -> str | None:
    """The name of a known type by its public module, which may differ from ``__module__``."""
    for module, names in _KNOWN.items():
        if module in sys.modules:
            for name in names:
                if getattr(sys.modules[module], name) is thing:
                    return f"{module}:{name}"
    return None


def _name(thing: Any) -> str | None:
    module: Any = getattr(thing, "__module__", None)
    name: Any = getattr(thing, "__qualname__", None)
    return f"{module}:{name}" if isinstance(module, str) and isinstance(name, str) else None


def _inside(reference: str, owner: Any, name: str) -> Any:
    """An attribute, found without running code: no ``__getattr__``, no property."""
    if isinstance(owner, ModuleType):
        if name in owner.__dict__:
            return owner.__dict__[name]
    elif isinstance(owner, type):
        try:
            found = inspect.getattr_static(owner, name)
        except AttributeError:
            pass
        else:
            return found.__func__ if isinstance(found, staticmethod) else found
    raise SerializationError(
        f"{short(reference)} cannot be imported: the object there has no attribute {short(name)}"
    )


def _marked(reference: Any, found: Any, otherwise: str) -> Callable[..., Any]:
    """``found``, if its author has marked it as portable."""
    marked = _portable.get(_name(found) or "")
    if marked is None or marked is not found:
        raise SerializationError(
            f"{short(reference)} is neither {otherwise} nor marked: decorate it with @cs.portable"
        )
    return marked
