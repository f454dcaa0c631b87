"""Which containers are searched for lazy values, and how each is rebuilt (rules R2, M15).

A Shape takes the values of one type apart and puts them together again. Lists, tuples, sets,
frozensets, deques, dicts, OrderedDicts, defaultdicts, namedtuples and dataclasses are rebuilt with
the same type. Other subclasses of these, and models of pydantic, attrs and msgspec, are searched
only to refuse a lazy value inside: their constructors may check or convert their arguments, so a
lazy value would be refused or lost. So are views of dicts and classes that wrap a container, which
show what another object holds. Iterators are not searched: that would use them up.
"""

from __future__ import annotations

import dataclasses
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from types import MappingProxyType, NoneType
from typing import Any, Final
from weakref import ref

from cascade.spec.blueprint import Literal

#: Types that can never hold a lazy value, tested first because most values are of these.
ATOMS = frozenset({int, float, str, bool, NoneType, bytes, complex})


class Shape:
    """How the values of one type are searched and rebuilt.

    Attributes:
        children: Returns the direct children of many values of the type; in C where possible.
        parts: Returns a new list of everything in one value that it takes to rebuild it.
        build: Returns the value for such a list; None for a type that cannot be rebuilt.
        instead: For such a type: the container to make of the value, ``"list"`` or ``"dict"``.
    """

    __slots__ = ("build", "children", "instead", "parts")

    def __init__(
        self,
        children: Callable[[Sequence[Any]], Iterable[Any]],
        parts: Callable[[Any], list[Any]],
        build: Callable[[list[Any]], Any] | None,
        instead: str | None = None,
    ) -> None:
        self.children = children
        self.parts = parts
        self.build = build
        self.instead = instead


class Rest:
    """The attributes of a dataclass instance besides its fields; passed on as they are."""

    __slots__ = ("attributes",)

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rest) and self.attributes == other.attributes

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<other attributes: {', '.join(self.attributes)}>"

    def __cascade_digest__(self) -> Any:
        return self.attributes


class _Unset:
    """Stands for a field that has no value, as one of ``field(init=False)`` may."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<unset>"

    def __reduce__(self) -> str:
        return "UNSET"

    def __cascade_digest__(self) -> str:
        return "unset"


UNSET: Final = _Unset()


def shape_of(kind: type) -> Shape | None:
    """The shape of the values of exactly this type; None where they are not searched."""
    try:
        return _known[id(kind)]
    except KeyError:
        return _learned(kind)


def _learned(kind: type) -> Shape | None:
    number, shape = id(kind), _make(kind)
    # By id, because a weak table takes three times as long to ask. A type takes its entry with it.
    _alive[number] = ref(kind, lambda _: (_known.pop(number, None), _alive.pop(number, None)))
    _known[number] = shape
    return shape


def _make(kind: Any) -> Shape | None:
    base = next((known for known in _BASES if issubclass(kind, known)), None)
    if base is not None:
        if base is tuple and _declares(kind, "_make"):
            return Shape(chain.from_iterable, list, kind._make)
        return _refused_subclass(base)
    if _declares(kind, "__dataclass_fields__"):
        return _dataclass_shape(kind, [field.name for field in dataclasses.fields(kind)])
    if _declares(kind, "__pydantic_validator__"):
        return _refused_model()
    for wrapper, name in _WRAPPERS.items():
        if issubclass(kind, wrapper):
            return _refused_names([name], "list" if wrapper is UserList else "dict")
    if _declares(kind, "__attrs_attrs__"):
        return _refused_names([attribute.name for attribute in kind.__attrs_attrs__])
    if _declares(kind, "__struct_fields__"):
        return _refused_names(kind.__struct_fields__)
    return None


def _declares(kind: Any, name: str) -> bool:
    """Whether a class or one of its bases has the attribute, without code of a metaclass."""
    return any(name in base.__dict__ for base in type.__dict__["__mro__"].__get__(kind))


def is_plain_dataclass(kind: type) -> bool:
    """Whether it is a dataclass whose instances are rebuilt field by field."""
    if not _declares(kind, "__dataclass_fields__"):
        return False
    shape = shape_of(kind)
    return shape is not None and shape.build is not None


# -- the containers of Python -----------------------------------------------------------------


def _of_mappings(mappings: Sequence[Any]) -> Iterable[Any]:
    # A dict iterates over its keys, so that only the values are missing.
    return chain(chain.from_iterable(mappings), chain.from_iterable(map(dict.values, mappings)))


def _pairs(mapping: dict[Any, Any]) -> list[Any]:
    """Key, value, key, value, …"""
    return list(chain.from_iterable(mapping.items()))


def _as_dict(parts: list[Any]) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _as_ordered(parts: list[Any]) -> OrderedDict[Any, Any]:
    return OrderedDict(zip(parts[::2], parts[1::2], strict=True))


def _as_default(parts: list[Any]) -> defaultdict[Any, Any]:
    return defaultdict(parts[0], zip(parts[1::2], parts[2::2], strict=True))


def _as_list(parts: list[Any]) -> list[Any]:
    return parts


def _refused_subclass(base: type) -> Shape:
    """A subclass: read as its base, because its own ``__iter__`` may do anything."""
    iterate: Any = base.__iter__  # type: ignore[attr-defined]

    def children(values: Sequence[Any]) -> Iterable[Any]:
        inner = chain.from_iterable(map(iterate, values))
        if base is not dict:
            return inner
        return chain(inner, chain.from_iterable(map(dict.values, values)))

    return Shape(children, lambda value: list(children([value])), None)


# -- classes with fields ----------------------------------------------------------------------


def _dataclass_shape(kind: type, names: Sequence[str]) -> Shape:
    try:
        object.__new__(kind)
    except TypeError as error:
        if "abstract" not in str(error):  # it has an instance, whatever is missing in its class
            return _refused_names(names)
    known = frozenset(names)

    def parts(value: Any) -> list[Any]:
        rest = {n: v for n, v in getattr(value, "__dict__", {}).items() if n not in known}
        found = [getattr(value, name, UNSET) for name in names]
        return [*found, Rest(rest)] if rest else found

    def build(parts: list[Any]) -> Any:
        made: Any = object.__new__(kind)
        for name, part in zip(names, parts, strict=False):
            if part is not UNSET:
                object.__setattr__(made, name, part)
        if len(parts) > len(names):
            made.__dict__.update(parts[-1].attributes)
        return made

    return Shape(_attributes_of(names), parts, build)


def _attributes_of(names: Sequence[str]) -> Callable[[Sequence[Any]], Iterable[Any]]:
    if not names:
        return lambda values: ()
    get = attrgetter(*names)

    def children(values: Sequence[Any]) -> Iterable[Any]:
        try:
            if len(values) == 1:
                only: Iterable[Any] = get(values[0])
                return (only,) if len(names) == 1 else only
            found = list(map(get, values))
        except AttributeError:  # some are not set
            return [getattr(value, name, UNSET) for value in values for name in names]
        return found if len(names) == 1 else chain.from_iterable(found)

    return children


def _refused_names(names: Sequence[str], instead: str | None = None) -> Shape:
    children = _attributes_of(names)
    return Shape(children, lambda value: list(children([value])), None, instead)


def _refused_model() -> Shape:
    """A pydantic model, whose attributes include those that it was not declared with."""

    def children(values: Sequence[Any]) -> Iterable[Any]:
        return chain.from_iterable([vars(value).values() for value in values])

    return Shape(children, lambda value: list(children([value])), None)


_BUILTIN: dict[type, Shape] = {
    list: Shape(chain.from_iterable, list, _as_list),
    tuple: Shape(chain.from_iterable, list, tuple),
    set: Shape(chain.from_iterable, list, set),
    frozenset: Shape(chain.from_iterable, list, frozenset),
    dict: Shape(_of_mappings, _pairs, _as_dict),
    deque: Shape(
        chain.from_iterable,
        lambda value: [value.maxlen, *value],
        lambda parts: deque(parts[1:], parts[0]),
    ),
    OrderedDict: Shape(_of_mappings, _pairs, _as_ordered),
    defaultdict: Shape(
        _of_mappings, lambda value: [value.default_factory, *_pairs(value)], _as_default
    ),
}
_BASES = (list, tuple, set, frozenset, dict, deque)
#: Classes that wrap a container, and their attribute with the container.
_WRAPPERS: dict[type, str] = {ChainMap: "maps", UserDict: "data", UserList: "data"}
#: Views of a dict, which Python does not let code subclass.
_EMPTY: tuple[dict[Any, Any], ...] = ({}, OrderedDict())
_VIEWS = [type(view) for m in _EMPTY for view in (m.keys(), m.values(), m.items())]
_BUILTIN.update({view: Shape(chain.from_iterable, list, None, "list") for view in _VIEWS})
_BUILTIN[MappingProxyType] = Shape(
    lambda values: chain.from_iterable([value.values() for value in values]),
    lambda value: list(value.values()),
    None,
    "dict",
)
#: id of a type → its shape, and the references that take the entries of dead types away.
_known: dict[int, Shape | None] = {id(kind): shape for kind, shape in _BUILTIN.items()}
_known[id(Literal)] = None  # a dataclass, but its value is not searched
_alive: dict[int, Any] = {}
