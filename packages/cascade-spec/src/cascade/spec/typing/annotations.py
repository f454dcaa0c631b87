"""Annotations as source text: the types of arguments and of values, for stubs."""

from __future__ import annotations

import ast
from collections.abc import Mapping

#: The names by which stubs refer to LazyResult, and to any type.
LAZY, ANY = "_LazyResult", "_Any"
_OF_ITEMS = frozenset(
    {
        *("list", "set", "frozenset", "deque", "List", "Set", "FrozenSet", "Deque", "AbstractSet"),
        *("Collection", "Iterable", "MutableSequence", "MutableSet", "Reversible", "Sequence"),
    }
)
_OF_KEYS_AND_VALUES = frozenset(
    {
        *("dict", "defaultdict", "Dict", "DefaultDict", "OrderedDict"),
        *("Mapping", "MutableMapping"),
    }
)
_TUPLES = frozenset({"tuple", "Tuple"})
#: How deep containers inside of containers are widened.
_DEPTH = 3

#: Names of a module that stand for annotations.
Aliases = Mapping[str, ast.expr]


def widened(annotation: ast.expr | None, aliases: Aliases) -> str:
    """The type of an argument: the value, a lazy one, or a container with lazy values inside."""
    if annotation is None:
        return ANY
    return " | ".join(_any_way(_parsed(annotation), aliases, _DEPTH))


def items_of(annotation: ast.expr | None, aliases: Aliases) -> str:
    """The type of an argument of a map: an iterable, lazy or not; or a literal."""
    if annotation is None:
        return ANY
    wanted = _parsed(annotation)
    item = " | ".join(_any_way(wanted, aliases, _DEPTH))
    return f"_Items[{item}, {ast.unparse(wanted)}]"


def plain(annotation: ast.expr | None) -> str:
    """The annotation of a parameter as it is, without what ``Annotated`` adds."""
    return ANY if annotation is None else ast.unparse(_parsed(annotation))


def value_of(annotation: ast.expr | None) -> str:
    """The type of a task's value, from the annotation of what its function returns (R4, R5)."""
    if annotation is None:
        return ANY
    found = []
    for part in _union(_parsed(annotation)):
        name = name_of(part)
        if name == "TailCall":
            continue
        if isinstance(part, ast.Subscript) and name in ("LazyResult", "MappedLazyResult"):
            inner = value_of(part.slice)
            found.append(f"list[{inner}]" if name == "MappedLazyResult" else inner)
        else:
            found.append(ANY if name == "LazyResult" else ast.unparse(part))
    return " | ".join(dict.fromkeys(found)) or "_Never"


def is_injected(annotation: ast.expr | None, aliases: Aliases) -> bool:
    """Whether ``Annotated[…, cs.inject(…)]`` fills the parameter."""
    if isinstance(annotation, ast.Name):
        annotation = aliases.get(annotation.id)
    if not isinstance(annotation, ast.Subscript) or name_of(annotation) != "Annotated":
        return False
    inside = annotation.slice
    others = inside.elts[1:] if isinstance(inside, ast.Tuple) else []
    return any(isinstance(o, ast.Call) and name_of(o.func) == "inject" for o in others)


def name_of(expression: ast.expr) -> str:
    """The last part of a name: ``Sequence`` of ``typing.Sequence[int]``."""
    if isinstance(expression, ast.Subscript):
        expression = expression.value
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _parsed(annotation: ast.expr) -> ast.expr:
    """The annotation without quotes, and without what ``Annotated`` adds."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _parsed(ast.parse(annotation.value.strip(), mode="eval").body)
    if isinstance(annotation, ast.Subscript) and name_of(annotation) == "Annotated":
        inside = annotation.slice
        return _parsed(inside.elts[0] if isinstance(inside, ast.Tuple) else inside)
    return annotation


def _union(annotation: ast.expr) -> list[ast.expr]:
    """The members of ``X | Y``, ``Union[X, Y]`` and ``Optional[X]``."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_union(_parsed(annotation.left)), *_union(_parsed(annotation.right))]
    if isinstance(annotation, ast.Subscript) and name_of(annotation) in ("Union", "Optional"):
        inside = annotation.slice
        members = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        found = [part for member in members for part in _union(_parsed(member))]
        return [*found, *[ast.Constant(None)] * (name_of(annotation) == "Optional")]
    return [annotation]


def _any_way(wanted: ast.expr, aliases: Aliases, depth: int) -> list[str]:
    text = ast.unparse(wanted)
    if name_of(wanted) in ("Any", "object"):
        return [text]
    found = [text, f"{LAZY}[{text}]"]
    if depth:
        known = aliases.get(wanted.id) if isinstance(wanted, ast.Name) else None
        for part in _union(_parsed(wanted if known is None else known)):
            found += _containers(part, aliases, depth - 1)
    return list(dict.fromkeys(found))


def _containers(wanted: ast.expr, aliases: Aliases, depth: int) -> list[str]:
    """The types of containers like ``wanted`` with lazy values inside."""
    if not isinstance(wanted, ast.Subscript):
        return []
    name, kind = name_of(wanted), ast.unparse(wanted.value)
    inside = wanted.slice.elts if isinstance(wanted.slice, ast.Tuple) else [wanted.slice]
    inside = [_parsed(item) for item in inside]
    wide = [" | ".join(_any_way(item, aliases, depth)) for item in inside]
    if name in _TUPLES:
        ends = [isinstance(item, ast.Constant) and item.value is ... for item in inside]
        parts = ["..." if end else text for end, text in zip(ends, wide, strict=True)]
        return [f"{kind}[{', '.join(parts)}]"]
    if name in _OF_ITEMS and len(inside) == 1:
        return [f"{kind}[{wide[0]}]", f"{kind}[{LAZY}[{ast.unparse(inside[0])}]]"]
    if name in _OF_KEYS_AND_VALUES and len(inside) == 2:
        key, value = ast.unparse(inside[0]), ast.unparse(inside[1])
        return [f"{kind}[{key}, {wide[1]}]", f"{kind}[{key}, {LAZY}[{value}]]"]
    return []
