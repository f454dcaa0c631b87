"""The types of what may be given where a task wants a value: the value, or a lazy one.

Lazy values may also be inside of lists, tuples, dicts and sets (R2). These are invariant for
checkers: a ``list[int | LazyResult[int]]`` is no ``list[int]``. So there are several types for one
parameter. For an expression such as ``[1, lazy]`` mypy needs a single one, to infer the types of
the items by; that is why the expressions of a call are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mypy.nodes import (
    DictExpr,
    Expression,
    ListComprehension,
    ListExpr,
    SetComprehension,
    SetExpr,
    TupleExpr,
)
from mypy.types import (
    AnyType,
    Instance,
    ProperType,
    TupleType,
    Type,
    UnionType,
    get_proper_type,
)

Lazy = Callable[[Type], Instance]

_OF_ITEMS = frozenset(
    {
        "builtins.list",
        "builtins.set",
        "builtins.frozenset",
        "builtins.tuple",
        "collections.deque",
        "typing.AbstractSet",
        "typing.Collection",
        "typing.Container",
        "typing.Iterable",
        "typing.MutableSequence",
        "typing.MutableSet",
        "typing.Reversible",
        "typing.Sequence",
    }
)
_OF_KEYS_AND_VALUES = frozenset(
    {
        "builtins.dict",
        "collections.OrderedDict",
        "collections.defaultdict",
        "typing.Mapping",
        "typing.MutableMapping",
    }
)
#: How deep containers inside of containers are widened.
_DEPTH = 3


def widened(wanted: Type, lazy: Lazy, given: Sequence[Expression] = ()) -> Type:
    """The type of an argument where ``wanted`` is that of the parameter.

    Args:
        wanted: The type of the value.
        lazy: Makes the type of a lazy value.
        given: The expressions that are handed over, if they are known.
    """
    if len(given) == 1:
        display = _display(wanted, lazy, given[0])
        if display is not None:
            return display
    return _any_way(wanted, lazy, _DEPTH)


def items_of(wanted: Type, lazy: Lazy, iterable: Lazy, given: Sequence[Expression] = ()) -> Type:
    """The type of an argument of a map: an iterable, lazy or not; or a literal, a ``wanted``."""
    if len(given) == 1 and isinstance(given[0], (ListExpr, ListComprehension)):
        return iterable(_element(wanted, lazy, given[0]))
    item = _any_way(wanted, lazy, _DEPTH)
    return UnionType.make_union([iterable(item), lazy(iterable(wanted)), wanted])


def _any_way(wanted: Type, lazy: Lazy, depth: int) -> Type:
    proper = get_proper_type(wanted)
    if isinstance(proper, AnyType):
        return wanted
    found: list[Type] = [wanted, lazy(wanted)]
    if depth:
        for part in _parts(proper):
            found += _containers(part, lazy, depth)
    return UnionType.make_union(found)


def _parts(wanted: ProperType) -> list[ProperType]:
    if isinstance(wanted, UnionType):
        return [get_proper_type(item) for item in wanted.items]
    return [wanted]


def _containers(wanted: ProperType, lazy: Lazy, depth: int) -> list[Type]:
    """The types of containers like ``wanted`` with lazy values inside."""
    if isinstance(wanted, TupleType):
        items = [_any_way(item, lazy, depth - 1) for item in wanted.items]
        return [wanted.copy_modified(items=items)]
    if not isinstance(wanted, Instance) or not wanted.args:
        return []
    *keys, item = wanted.args
    if not _is_container(wanted):
        return []
    wide = _any_way(item, lazy, depth - 1)
    return [wanted.copy_modified(args=[*keys, inner]) for inner in (wide, lazy(item))]


def _is_container(wanted: Instance) -> bool:
    name = wanted.type.fullname
    return (name in _OF_ITEMS and len(wanted.args) == 1) or (
        name in _OF_KEYS_AND_VALUES and len(wanted.args) == 2
    )


# -- displays: [1, lazy], {"a": lazy}, (1, lazy), [lazy for …] -----------------------------------

_DISPLAYS = (ListExpr, SetExpr, ListComprehension, SetComprehension, DictExpr, TupleExpr)


def _display(wanted: Type, lazy: Lazy, given: Expression) -> Type | None:
    """The one type by which the items of a display are inferred; None for other expressions."""
    if not isinstance(given, _DISPLAYS):
        return None
    for part in _parts(get_proper_type(wanted)):
        if isinstance(part, TupleType) and isinstance(given, TupleExpr):
            if len(part.items) == len(given.items):
                pairs = zip(part.items, given.items, strict=True)
                return part.copy_modified(items=[widened(t, lazy, [e]) for t, e in pairs])
        elif isinstance(part, Instance) and _is_container(part):
            is_mapping = part.type.fullname in _OF_KEYS_AND_VALUES
            if is_mapping == isinstance(given, DictExpr):
                item = _element(part.args[-1], lazy, given)
                return part.copy_modified(args=[*part.args[:-1], item])
    return None


def _element(wanted: Type, lazy: Lazy, given: Expression) -> Type:
    """The type by which the elements of a display are inferred."""
    elements = _elements(given)
    if elements and all(isinstance(element, _DISPLAYS) for element in elements):
        found = [_display(wanted, lazy, element) for element in elements]
        if found[0] is not None and all(other == found[0] for other in found):
            return found[0]
    return _any_way(wanted, lazy, _DEPTH - 1)


def _elements(given: Expression) -> list[Expression]:
    if isinstance(given, (ListComprehension, SetComprehension)):
        return [given.generator.left_expr]
    if isinstance(given, DictExpr):
        return [value for _, value in given.items]
    if isinstance(given, (ListExpr, SetExpr, TupleExpr)):
        return list(given.items)
    return []
