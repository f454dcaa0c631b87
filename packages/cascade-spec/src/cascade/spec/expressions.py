"""The source text of a lazy value, for messages and drawings: ``score(…) > 5``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from cascade.spec.lazy_value import LazyValue
from cascade.spec.logic import invert
from cascade.spec.operation import FallbackOperation
from cascade.spec.unpacking import item_range, unpack
from cascade.spec.wording import short

#: Most levels of nested operators that are shown; deeper ones become ``…``.
_LEVELS = 3
_EQUALITIES: Mapping[Callable[..., Any], str] = {operator.eq: "==", operator.ne: "!="}
_COMPARISONS: Mapping[Callable[..., Any], str] = {
    **_EQUALITIES,
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
}
_BINARY: Mapping[Callable[..., Any], str] = {
    **_COMPARISONS,
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.matmul: "@",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    operator.and_: "&",
    operator.or_: "|",
    operator.xor: "^",
    operator.lshift: "<<",
    operator.rshift: ">>",
}
_UNARY: Mapping[Callable[..., Any], str] = {
    operator.neg: "-",
    operator.pos: "+",
    invert: "~",
}
#: Operators that are written as calls.
_CALLED: Mapping[Callable[..., Any], str] = {
    operator.abs: "abs",
    round: "round",
    divmod: "divmod",
    pow: "pow",
    math.floor: "math.floor",
    math.ceil: "math.ceil",
    math.trunc: "math.trunc",
}
_INDEXED = (operator.getitem, item_range, unpack)


def expression(lazy: LazyValue) -> str:
    """The source text of ``lazy``, in one line: ``load(…)["key"]``, ``work.map(…)``.

    The arguments of tasks and deeply nested parts are left out.
    """
    return _written(lazy, _LEVELS)


def label(lazy: LazyValue) -> str:
    """The name of ``lazy`` in lists and drawings; for an operator its source text."""
    return expression(lazy) if is_operator(lazy) else lazy.name


def is_operator(lazy: LazyValue) -> bool:
    """Whether ``lazy`` was made by an operator, ``round()``, an index, a slice or by unpacking."""
    func = lazy.task.func
    return lazy.task.structural and (
        func in _BINARY or func in _UNARY or func in _CALLED or func in _INDEXED
    )


def is_comparison(lazy: LazyValue) -> bool:
    """Whether ``lazy`` was made by ``<``, ``<=``, ``>``, ``>=``, ``==`` or ``!=``."""
    return lazy.task.structural and lazy.task.func in _COMPARISONS


def is_equality(lazy: LazyValue) -> bool:
    """Whether ``lazy`` was made by ``==`` or ``!=``."""
    return lazy.task.structural and lazy.task.func in _EQUALITIES


def _written(lazy: LazyValue, levels: int) -> str:
    is_fallback = isinstance(lazy.task, FallbackOperation)
    if not (is_fallback or is_operator(lazy)):
        return lazy.task.written
    if not levels:
        return "…"
    if is_fallback:
        return f"{_operand(lazy.args[1], levels)}{lazy.task.written}"
    func, args = lazy.task.func, lazy.args
    if func in _BINARY:
        left, right = (_operand(arg, levels) for arg in args)
        return f"{left} {_BINARY[func]} {right}"
    if func in _UNARY:
        return f"{_UNARY[func]}{_operand(args[0], levels)}"
    if func in _CALLED:
        return f"{_CALLED[func]}({', '.join([_value(arg, levels) for arg in args])})"
    if func is item_range:
        start, stop, step = ("" if end is None else _value(end, levels) for end in args[1:])
        index = f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
    else:
        index = _value(args[1], levels)
    return f"{_operand(args[0], levels)}[{index}]"


def _value(value: Any, levels: int) -> str:
    return _written(value, levels - 1) if isinstance(value, LazyValue) else short(value)


def _operand(value: Any, levels: int) -> str:
    """The same with parentheses, if an operator beside it could bind more tightly."""
    written = _value(value, levels)
    if not isinstance(value, LazyValue) or not is_operator(value) or written == "…":
        return written
    func = value.task.func
    return f"({written})" if func in _BINARY or func in _UNARY else written
