"""Encodings of plain values as bytes, alike on all machines and Pythons; ``digest`` writes them."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Collection
from math import isnan, nan
from struct import Struct
from types import EllipsisType, NoneType
from typing import Any, Final

_one_float = Struct("<d").pack


def _float(value: float) -> bytes:
    return _one_float(value if value == value else nan)  # nan has many bit patterns


def _numbers(code: str, values: Collection[Any]) -> bytes:
    """Numbers of 8 bytes each, alike on all machines; made in C.

    Raises:
        OverflowError: One does not fit.
    """
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _floats(values: Collection[float]) -> bytes:
    if isnan(sum(values)):  # any of them, or the sum of two infinities
        values = [nan if value != value else value for value in values]
    return b"float" + _numbers("d", values)


def _ints(values: Collection[int]) -> bytes:
    try:
        return b"int64" + _numbers("q", values)
    except OverflowError:
        return b"int" + " ".join(map(hex, values)).encode()


def _strs(values: Collection[str]) -> bytes:
    text = "\0".join(values)
    if text.count("\0") == len(values) - 1:  # between them, and in none
        return b"str;" + text.encode("utf-8", "surrogatepass")
    lengths = repr([*map(len, values)])
    return b"str:" + f"{lengths}{''.join(values)}".encode("utf-8", "surrogatepass")


def _str(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"str%d:%b" % (len(content), content)


#: Types whose values are written in one step → encoder; each encoding is self-delimiting.
ATOMS: Final[dict[type, Callable[[Any], bytes]]] = {
    NoneType: lambda _: b"None;",
    EllipsisType: lambda _: b"...;",
    bool: lambda value: b"True;" if value else b"False;",
    int: lambda value: b"int%x;" % value,
    float: lambda value: b"float" + _float(value),
    complex: lambda value: b"complex" + _float(value.real) + _float(value.imag),
    str: _str,
    bytes: lambda value: b"bytes%d:%b" % (len(value), value),
}
#: Type of all elements → their encoding, mostly made in C.
MANY: Final[dict[type, Callable[[Collection[Any]], bytes]]] = {
    int: _ints,
    float: _floats,
    bool: lambda value: b"bool" + bytes(value),
    str: _strs,
}
#: Those whose values have a total order, so that members of a set can be put into it.
SORTABLE = frozenset({int, str})
