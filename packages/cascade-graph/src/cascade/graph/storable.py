"""``cs.storable``: stored forms of your own classes and of other people's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, overload

from cascade.graph.leaves import leaf_of
from cascade.graph.library_values import FORMS, LIBRARIES, form_of
from cascade.graph.references import Resolver, reference_to
from cascade.spec.errors import DefinitionError, SerializationError
from cascade.spec.file_content import FileContent
from cascade.spec.wording import name_of, short

T = TypeVar("T")

_BUILTIN: Final = (bool, dict, float, frozenset, int, list, set, str, tuple, type(None), object)


class Storable(NamedTuple):
    """How the objects of one class are stored.

    Attributes:
        home: The module whose import registers the class.
    """

    kind: type
    name: str
    home: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


_by_kind: dict[type, Storable] = {}
_by_name: dict[str, Storable] = {}


@overload
def storable(kind: type[T], /, *, name: str | None = None) -> type[T]: ...
@overload
def storable(
    kind: type[T],
    /,
    dump: Callable[[T], Any],
    load: Callable[[Any], T],
    *,
    name: str | None = None,
) -> type[T]: ...
@overload
def storable(*, name: str | None = None) -> Callable[[type[T]], type[T]]: ...
def storable(
    kind: Any = None,
    /,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    *,
    name: str | None = None,
) -> Any:
    """Let durable runs store the objects of a class.

    Plain data, the standard library's value types, enumerations, namedtuples and dataclasses are
    stored without it; so are arrays of numpy, frames and series of pandas and polars, models of
    pydantic, and ``cs.FileContent``.

    As a decorator it stores the attributes, as ``copy`` does (``__getstate__``), and makes objects
    without ``__init__``. That fits ordinary classes and attrs classes.

    >>> @storable
    ... class Cart:
    ...     def __init__(self): self.items = []

    With two functions, it fits a class that you have not written:

    >>> storable(                                              # doctest: +SKIP
    ...     torch.Tensor,
    ...     lambda tensor: tensor.numpy(),
    ...     lambda array: torch.from_numpy(array),
    ... )

    Objects of exactly this class are stored; a subclass is registered by itself. Register classes
    at the top level of a module that each process imports before it resumes a run. A class may be
    registered again, which replaces its functions.

    Args:
        kind: The class.
        dump: Returns plain data that stands for an object, or any other value that can be stored.
        load: Makes an object from what ``dump`` returned.
        name: The name in the store; the class may be renamed and moved as long as it stays.
            Default: its module and name.

    Returns:
        The class.

    Raises:
        DefinitionError: ``kind`` is not a class or has a form already, one of ``dump`` and ``load``
            is missing, or the name belongs to another class.
    """
    home = sys._getframe(1).f_globals.get("__name__") or "__main__"
    if kind is None:
        return lambda given: _registered(given, dump, load, name, home)
    return _registered(kind, dump, load, name, home)


def _registered(kind: Any, dump: Any, load: Any, name: Any, home: str) -> Any:
    if not isinstance(kind, type):
        raise DefinitionError(f"storable() takes a class, but got {short(kind)}")
    if kind in _BUILTIN or leaf_of(kind) is not None:
        raise DefinitionError(f"{kind.__qualname__} has a stored form already")
    if (dump is None) != (load is None):
        missing = "load" if load is None else "dump"
        raise DefinitionError(
            f"storable({kind.__qualname__}, …) got no {missing}; give both functions, or neither"
        )
    given = name_of(kind) if name is None else name
    if not isinstance(given, str) or not given:
        raise DefinitionError(f"the name of a storable must be a text, but is {short(given)}")
    other = _by_name.get(given)
    if other is not None and name_of(other.kind) != name_of(kind):
        raise DefinitionError(
            f"the name {given!r} in the store belongs to {name_of(other.kind)}; give "
            f"{name_of(kind)} another"
        )
    made = Storable(kind, given, home, dump or _state_of, load or _maker(kind))
    _by_kind[kind] = _by_name[given] = made
    return kind


def storable_of(kind: type) -> Storable | None:
    """The registration of exactly this class; also of one that needs none."""
    found = _by_kind.get(kind)
    if found is None and kind not in _BUILTIN:
        name = form_of(kind)
        if name is not None:
            return _of_library(name, kind)
        if _is_model(kind) and reference_to(kind) is not None:
            return _registered_model(kind)
    return found


def find_storable(name: Any, home: Any, resolver: Resolver) -> Storable:
    """The registration by this name. Imports ``home`` if there is none.

    Raises:
        TaskNotImportedError: ``resolver`` may not import ``home``.
        SerializationError: The import fails, or registers no class by this name.
        TypeError: One of them is not a string.
    """
    if type(name) is not str or type(home) is not str:
        raise TypeError(f"{short(name)} and {short(home)} are not two names")
    if name in FORMS and home in LIBRARIES:
        return _of_library(name)
    if name not in _by_name:
        _find_model(name, resolver.module(name, home))
    if name not in _by_name:
        raise SerializationError(
            f"no class is stored as {name!r} in this process; the module {home!r} registered it "
            "with cs.storable when it was written"
        )
    return _by_name[name]


def _of_library(name: str, kind: type = object) -> Storable:
    form = FORMS[name]
    return Storable(kind, name, name.partition(":")[0], form.dump, form.load)


def _is_model(kind: type) -> bool:
    """Whether it is the class of a pydantic model."""
    pydantic = sys.modules.get("pydantic")
    base = getattr(pydantic, "BaseModel", None)
    return isinstance(base, type) and issubclass(kind, base)


def _registered_model(kind: type) -> Storable:
    name = name_of(kind)
    made = Storable(kind, name, kind.__module__, _state_of, _maker(kind))
    return _by_name.setdefault(name, made) if _by_name.get(name) is None else made


def _find_model(name: str, module: Any) -> None:
    """Register the pydantic model with this name in a module that was just imported."""
    found = module
    for part in name.partition(":")[2].split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if isinstance(found, type) and _is_model(found) and name_of(found) == name:
        _registered_model(found)


def _state_of(value: Any) -> Any:
    return value.__getstate__()


def _maker(kind: type) -> Callable[[Any], Any]:
    def load(state: Any) -> Any:
        made: Any = object.__new__(kind)
        restore = getattr(made, "__setstate__", None)
        if restore is not None:
            restore(state)
            return made
        own, slots = state if type(state) is tuple else (state, None)
        for attributes in (own, slots):
            for name, value in (attributes or {}).items():
                object.__setattr__(made, name, value)
        return made

    return load


def _file(parts: Any) -> FileContent:
    path, _digest = parts
    return FileContent(path)


_by_kind[FileContent] = _by_name["cascade:FileContent"] = Storable(
    FileContent,
    "cascade:FileContent",
    __name__,
    lambda file: [file.__fspath__(), file.digest().hex()],
    _file,
)
