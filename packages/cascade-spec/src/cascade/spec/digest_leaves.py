"""Digests of values without parts, and of values that a few others identify; see ``digest``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from functools import reduce
from typing import Any, Final, Protocol, TypeAlias

from cascade.spec.wording import name_of

#: Most levels of containers. Beyond, Python's stack would overflow at an unpredictable depth.
_DEEPEST = 100


class UndigestibleError(Exception):
    """A value has no digest. The message continues "the argument 'x' …"."""


class Writer(Protocol):
    """The part of a ``Digester`` that the writers use; see there."""

    known: Mapping[Any, bytes]
    lenient: bool
    objects: list[Hashable] | None
    parts: list[bytes]

    def write(self, value: Any, outer: tuple[object, ...] = ()) -> None:
        """Write a value inside of some containers."""

    def put(self, tag: bytes, content: bytes) -> None:
        """Write a type and its content."""

    def put_type(self, tag: bytes, kind: type) -> None:
        """Write the exact class, for tags that stand for a family of classes."""

    def put_object(self, value: Hashable) -> None:
        """Write that the next item of ``objects`` belongs here."""


#: Writes a value that is inside of some containers.
Write: TypeAlias = Callable[[Any, Any, tuple[object, ...]], None]


def within(value: Any, outer: tuple[object, ...]) -> tuple[object, ...]:
    """``outer`` for the parts of ``value``; refuses cycles and excessive depth."""
    if len(outer) < _DEEPEST:
        return (*outer, value)
    # Checked only at this depth, because a container that contains itself always gets here.
    if any(value is container for container in outer):
        raise UndigestibleError(f"it is or holds a {type(value).__qualname__} that contains itself")
    raise UndigestibleError(f"it is nested more than {_DEEPEST} levels deep")


def encoded(tag: bytes, encode: Callable[[Any], bytes]) -> Write:
    def write(writer: Writer, value: Any, _outer: tuple[object, ...]) -> None:
        writer.put(tag, encode(value))

    return write


def text_of(tag: bytes, text: Callable[[Any], str]) -> Write:
    return encoded(tag, lambda value: text(value).encode("utf-8", "surrogatepass"))


def parted(tag: bytes, parts: Callable[[Any], tuple[Any, ...]]) -> Write:
    """For a value that a few other values identify."""

    def write(writer: Writer, value: Any, outer: tuple[object, ...]) -> None:
        writer.parts.append(tag)
        inner = within(value, outer)
        for part in parts(value):
            writer.write(part, inner)

    return write


def _moment(value: Any) -> tuple[Any, ...]:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return naive, value.fold, value.tzinfo, str(value.tzinfo)


def _decimal(value: Any) -> str:
    sign, digits, exponent = value.as_tuple()
    return f"{sign} {''.join(map(str, digits))} {exponent}"


def write_object(writer: Writer, value: Any, outer: tuple[object, ...]) -> None:
    """Any other object: by its name, if it has one, or as itself."""
    kind = type(value).__qualname__
    it = f"it holds a {kind}" if outer else f"it is a {kind}"
    if writer.objects is None:
        known = writer.known.get(value) if writer.known and _has_hash(value) else None
        if known is not None:
            writer.put(b"known", known)
            return
        if not _is_found(value):
            if writer.lenient:
                writer.put(b"a", name_of(type(value)).encode())
                return
            raise UndigestibleError(
                f"{it}, a type whose content is not defined; define it with cs.digestible"
            )
        writer.put(b"name", name_of(value).encode())
        return
    try:
        hash(value)
    except Exception as error:
        raise UndigestibleError(f"{it}, whose hash fails ({error})") from None
    writer.put_object(value)


def write_class(writer: Writer, value: type, _outer: tuple[object, ...]) -> None:
    writer.put_type(b"class", value)


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except Exception:
        return False
    return True


def _is_found(value: Any) -> bool:
    """Whether its module and name lead back to this very object."""
    try:
        module = sys.modules[value.__module__]
        return reduce(getattr, value.__qualname__.split("."), module) is value
    except Exception:  # its attributes may be arbitrary objects
        return False


def write_member(writer: Writer, value: Any, outer: tuple[object, ...]) -> None:
    if writer.objects is not None:
        writer.put_object(value)
        return
    writer.put_type(b"member", type(value))
    writer.write(value.name, within(value, outer))


#: Module and name of classes whose import costs milliseconds → writer of their values; classes of
#: other libraries are in ``library_digests``.
FOREIGN: Final[Mapping[tuple[str, str], Write]] = {
    ("datetime", "date"): text_of(b"date", lambda value: value.isoformat()),
    ("datetime", "datetime"): parted(b"datetime", _moment),
    ("datetime", "time"): parted(b"time", _moment),
    ("datetime", "timedelta"): parted(
        b"timedelta", lambda value: (value.days, value.seconds, value.microseconds)
    ),
    ("datetime", "timezone"): parted(
        b"timezone", lambda value: (value.utcoffset(None), str(value))
    ),
    ("zoneinfo", "ZoneInfo"): text_of(b"ZoneInfo", str),
    ("decimal", "Decimal"): text_of(b"Decimal", _decimal),
    ("fractions", "Fraction"): text_of(b"Fraction", str),
    ("uuid", "UUID"): encoded(b"UUID", lambda value: value.bytes),
    ("re", "Pattern"): parted(b"Pattern", lambda value: (value.pattern, value.flags)),
    **{
        (module, name): text_of(name.encode(), str)
        for module in ("pathlib", "pathlib._local")  # the latter from Python 3.13 on
        for name in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
    },
}
