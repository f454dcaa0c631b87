"""Values of the standard library that have a stored form, each as a few plain values.

A leaf is written as ``{"$tag": parts}``. Its type is known by module and name, so that a program
that never uses ``decimal`` does not import it. Subclasses are other types and have no form.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final

#: Module and name of a type → its tag.
_TAGS: Final[Mapping[tuple[str, str], str]] = {
    ("builtins", "bytes"): "$bytes",
    ("builtins", "bytearray"): "$bytearray",
    ("builtins", "complex"): "$complex",
    ("builtins", "ellipsis"): "$ellipsis",
    ("builtins", "range"): "$range",
    ("builtins", "slice"): "$slice",
    ("datetime", "date"): "$date",
    ("datetime", "datetime"): "$datetime",
    ("datetime", "time"): "$time",
    ("datetime", "timedelta"): "$timedelta",
    ("datetime", "timezone"): "$timezone",
    ("decimal", "Decimal"): "$decimal",
    ("fractions", "Fraction"): "$fraction",
    ("uuid", "UUID"): "$uuid",
    ("zoneinfo", "ZoneInfo"): "$zone",
    **{
        (module, name): tag
        for module in ("pathlib", "pathlib._local")  # the latter in Python 3.13
        for name, tag in (
            ("PosixPath", "$path"),
            ("WindowsPath", "$path"),
            ("PurePosixPath", "$posixpath"),
            ("PureWindowsPath", "$windowspath"),
        )
    },
}
#: Type → its tag, for the types seen so far.
_known: dict[type, str] = {}


def leaf_of(kind: type) -> str | None:
    """The tag for values of exactly this type, or None."""
    found = _known.get(kind)
    if found is not None:
        return found
    module, name = kind.__module__, kind.__qualname__
    tag = _TAGS.get((module, name)) if type(module) is str else None
    if tag is None:
        return None
    if module != "builtins" and getattr(sys.modules.get(module), name, None) is not kind:
        return None  # another class that calls itself so
    _known[kind] = tag
    return tag


def _moment(value: Any) -> Any:
    """A datetime or time: ISO text; with the time zone beside it if the text cannot have it."""

    zone = value.tzinfo
    if not value.fold and (zone is None or zone is UTC):
        return value.isoformat()
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, zone]


def _read_moment(name: str, content: Any) -> Any:
    import datetime

    kind = getattr(datetime, name)
    if type(content) is str:
        return kind.fromisoformat(content)
    text, fold, zone = content
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=zone)


def _timezone(value: Any) -> Any:
    (offset, *name) = value.__getinitargs__()
    return [offset, *name]


def _zone(value: Any) -> str:
    key = value.key
    if type(key) is not str:
        raise ValueError("a ZoneInfo that was made from a file and has no key")
    return key


#: Tag → function that returns the parts of a value. Parts may be any values with a form.
WRITERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$bytes": lambda value: b64encode(value).decode(),
    "$bytearray": lambda value: b64encode(value).decode(),
    "$complex": lambda value: [value.real, value.imag],
    "$ellipsis": lambda _: None,
    "$range": lambda value: [value.start, value.stop, value.step],
    "$slice": lambda value: [value.start, value.stop, value.step],
    "$date": lambda value: value.isoformat(),
    "$datetime": _moment,
    "$time": _moment,
    "$timedelta": lambda value: [value.days, value.seconds, value.microseconds],
    "$timezone": _timezone,
    "$decimal": str,
    "$fraction": lambda value: [value.numerator, value.denominator],
    "$uuid": str,
    "$zone": _zone,
    "$path": str,
    "$posixpath": str,
    "$windowspath": str,
}


def _read_date(content: Any) -> Any:
    from datetime import date

    return date.fromisoformat(content)


def _read_timedelta(content: Any) -> Any:
    from datetime import timedelta

    return timedelta(*content)


def _read_timezone(content: Any) -> Any:
    from datetime import timedelta, timezone

    offset, *name = content
    # timezone.utc itself, which code may compare by identity.
    return UTC if offset == timedelta() and not name else timezone(offset, *name)


def _read_decimal(content: Any) -> Any:
    from decimal import Decimal

    return Decimal(_text(content))


def _read_fraction(content: Any) -> Any:
    from fractions import Fraction

    numerator, denominator = content
    return Fraction(_int(numerator), _int(denominator))


def _read_uuid(content: Any) -> Any:
    from uuid import UUID

    return UUID(_text(content))


def _read_zone(content: Any) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(_text(content))


def _path(name: str) -> Callable[[Any], Any]:
    def read(content: Any) -> Any:
        import pathlib

        return getattr(pathlib, name)(_text(content))

    return read


def _bytes(content: Any) -> bytes:
    return b64decode(_text(content), validate=True)


def _text(content: Any) -> str:
    if type(content) is not str:
        raise TypeError(f"a {type(content).__name__} stands where a text was expected")
    return content


def _int(content: Any) -> int:
    if type(content) is not int:
        raise TypeError(f"a {type(content).__name__} stands where an int was expected")
    return content


#: Tag → function that makes the value from its parts.
READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$bytes": _bytes,
    "$bytearray": lambda content: bytearray(_bytes(content)),
    "$complex": lambda content: complex(*content),
    "$ellipsis": lambda _: ...,
    "$range": lambda content: range(*content),
    "$slice": lambda content: slice(*content),
    "$date": _read_date,
    "$datetime": lambda content: _read_moment("datetime", content),
    "$time": lambda content: _read_moment("time", content),
    "$timedelta": _read_timedelta,
    "$timezone": _read_timezone,
    "$decimal": _read_decimal,
    "$fraction": _read_fraction,
    "$uuid": _read_uuid,
    "$zone": _read_zone,
    "$path": _path("Path"),
    "$posixpath": _path("PurePosixPath"),
    "$windowspath": _path("PureWindowsPath"),
}
