"""Content digests: 16 bytes that are equal for values of the same types and content.

One encoding serves every place that recognises a value: keys of nodes, stores, caches. Each value
is written as its type, the length of its content, and its content, so that different values are
written differently. The whole is hashed (BLAKE2b, 128 bits). The result does not depend on the
process, the hash seed, the version of Python or the machine.

- ``1``, ``1.0`` and ``True`` differ, also inside of containers; so do ``0.0`` and ``-0.0``, and one
  moment in two time zones. ``nan`` is ``nan``.
- The order of dicts counts, because a function may depend on it; that of sets does not.
- A dataclass is known by its type and by the fields that its ``==`` compares.
- Arrays of numpy, frames of pandas and polars, and models of pydantic are known by type and content
  (``cascade.spec.library_digests``).
- Types, members of enumerations, and functions and tasks that can be found by their name in a
  module are known by module and name.

Your own class may have a method ``__cascade_digest__`` that returns the content of an object as
plain data; use ``digestible`` for other people's classes. A ``Digester`` may also collect objects
without a digest, for keys that never leave the process.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from cascade.spec.digest_leaves import (
    FOREIGN,
    UndigestibleError,
    Write,
    encoded,
    parted,
    within,
    write_class,
    write_member,
    write_object,
)
from cascade.spec.encodings import ATOMS, MANY, SORTABLE
from cascade.spec.errors import DefinitionError
from cascade.spec.library_digests import writer_for
from cascade.spec.wording import name_of, short

__all__ = ["SIZE", "Digester", "UndigestibleError", "content_of", "digest", "digestible"]

T = TypeVar("T")
#: Returns plain data that stands for a value.
Parts: TypeAlias = Callable[[T], Any]

#: Bytes of a digest.
SIZE: Final = 16
_NOTHING: Final[Mapping[Any, bytes]] = MappingProxyType({})


def digest(value: Any, known: Mapping[Any, bytes] = _NOTHING) -> bytes:
    """The digest of ``value``, the same in every process.

    Args:
        known: Hashable objects without a digest of their own → bytes to write for them.

    About 2 µs for a few plain values; 0.03 µs per element of a list, tuple or set of numbers or
    texts, 0.2 to 0.5 µs per element of other containers.

    Raises:
        UndigestibleError: ``value`` is or holds an object of a type without a digest, contains
            itself, or is nested more than 100 levels deep.
    """
    writer = Digester(None, known)
    writer.write(value)
    return writer.digest()


def digestible(kind: type[T], parts: Parts[T] | None = None) -> Any:
    """Define the content of a type's objects, so that they have a digest.

    Subclasses are included and differ by their names. Content is any value that has a digest
    itself.

    >>> class Matrix:
    ...     def __init__(self, rows): self.rows = rows
    >>> @digestible(Matrix)
    ... def content(matrix): return matrix.rows

    Args:
        kind: The type.
        parts: Returns the content of an object; without it, ``digestible(kind)`` is a decorator.

    Raises:
        DefinitionError: ``kind`` is not a class, or its content is already defined.
    """
    if parts is None:
        return lambda given: digestible(kind, given)
    if not isinstance(kind, type):
        raise DefinitionError(f"digestible() takes a class, but got {short(kind)}")
    if kind in _WRITERS or kind in ATOMS or kind is object:
        raise DefinitionError(f"the content of {kind.__qualname__} is already defined")
    _registered[kind] = parts
    return parts


class Digester:
    """Writes values one after the other, for one digest of them all.

    Args:
        objects: Collects the objects that have no digest; None if each value must have one.
        known: Bytes to write for some of these.
        lenient: Write the type alone of an object that has no digest.
    """

    __slots__ = ("known", "lenient", "objects", "parts")

    def __init__(
        self,
        objects: list[Hashable] | None,
        known: Mapping[Any, bytes] = _NOTHING,
        *,
        lenient: bool = False,
    ) -> None:
        self.lenient = lenient
        self.parts: list[bytes] = []
        self.objects = objects
        self.known = known

    def write(self, value: Any, outer: tuple[object, ...] = ()) -> None:
        """Write ``value``, which is inside the containers ``outer``, the outermost first."""
        kind = type(value)
        encode = ATOMS.get(kind)
        if encode is not None:
            self.parts.append(encode(value))
        else:
            (_WRITERS.get(kind) or _writer_of(kind))(self, value, outer)

    def put(self, tag: bytes, content: bytes) -> None:
        self.parts += (b"%b%d:" % (tag, len(content)), content)

    def put_type(self, tag: bytes, kind: type) -> None:
        """Write the exact class, for tags that stand for a family of classes."""
        if self.objects is None:
            self.put(tag, name_of(kind).encode())
        else:
            self.put_object(kind)

    def put_object(self, value: Hashable) -> None:
        """Write that the next item of ``objects`` belongs here."""
        assert self.objects is not None
        self.parts.append(b"object;")
        self.objects += (type(value), value)

    def apart(self, values: Iterable[Any], outer: tuple[object, ...]) -> Hashable:
        """A key for ``values`` by themselves, for members without an order."""
        own = self.begin(None if self.objects is None else [])
        for value in values:
            own.write(value, outer)
        return (own.digest(), *own.objects) if own.objects else own.digest()

    def begin(self, objects: list[Hashable] | None) -> Digester:
        """A writer of the same kind, for values by themselves."""
        return Digester(objects, self.known, lenient=self.lenient)

    def digest(self) -> bytes:
        return blake2b(b"".join(self.parts), digest_size=SIZE).digest()


def _writer_of(kind: type) -> Write:
    found = FOREIGN.get((kind.__module__, kind.__qualname__))
    if found is not None:
        return found
    content = content_of(kind)
    if content is not None:
        return _content_of(content)
    found = writer_for(kind)
    if found is not None:
        return found
    if issubclass(kind, Enum):
        return write_member
    if issubclass(kind, type):
        return write_class
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _namedtuple
    if is_dataclass(kind):
        return _dataclass
    return write_object


def content_of(kind: type) -> Parts[Any] | None:
    """The function that returns the content of a class's objects, if one is defined."""
    for base in kind.__mro__:
        content = _registered.get(base) or vars(base).get("__cascade_digest__")
        if content is not None:
            return content
    return None


# -- containers -----------------------------------------------------------------------------------


def _sequence(tag: bytes) -> Write:
    """For what has an order. Elements of one plain type are written together, mostly in C."""
    alike = tag + b" of%d:"
    some = tag + b"%d;"

    def write(writer: Digester, value: Any, outer: tuple[object, ...]) -> None:
        parts = writer.parts
        kinds = set(map(type, value))
        if len(kinds) == 1:
            (kind,) = kinds
            encode = MANY.get(kind)
            if encode is not None:
                content = encode(value)
                parts += (alike % len(content), content)
                return
        parts.append(some % len(value))
        inner = within(value, outer)
        if kinds <= ATOMS.keys():
            parts += [ATOMS[type(item)](item) for item in value]
            return
        for item in value:
            encode = ATOMS.get(type(item))
            if encode is not None:
                parts.append(encode(item))
            else:
                (_WRITERS.get(type(item)) or _writer_of(type(item)))(writer, item, inner)

    return write


_items = _sequence(b"")


def _unordered(tag: bytes) -> Write:
    """For sets: the order of members does not count."""
    in_order = _sequence(tag)

    def write(writer: Digester, value: Any, outer: tuple[object, ...]) -> None:
        kinds = set(map(type, value))
        if len(kinds) == 1 and kinds <= SORTABLE:
            in_order(writer, sorted(value), outer)
            return
        members: list[Hashable] = []
        inner = within(value, outer)
        for member in value:
            encode = ATOMS.get(type(member))
            members.append(encode(member) if encode else writer.apart((member,), inner))
        _in_any_order(writer, tag, members)

    return write


def _mapping(tag: bytes) -> Write:
    """For dicts: a function may depend on the order of items, so it counts."""
    sized = tag + b"%d;"

    def write(writer: Digester, value: Any, outer: tuple[object, ...]) -> None:
        parts = writer.parts
        parts.append(sized % len(value))
        inner = within(value, outer)
        for key, item in value.items():
            for part in (key, item):
                encode = ATOMS.get(type(part))
                if encode is not None:
                    parts.append(encode(part))
                else:
                    writer.write(part, inner)

    return write


def _in_any_order(writer: Digester, tag: bytes, members: list[Hashable]) -> None:
    writer.parts.append(b"%b%d;" % (tag, len(members)))
    if all(type(member) is bytes for member in members):
        writer.parts += sorted(members)  # type: ignore[arg-type]  # all are bytes
    else:
        writer.put_object(frozenset(members))


def _namedtuple(writer: Digester, value: Any, outer: tuple[object, ...]) -> None:
    writer.put_type(b"namedtuple", type(value))
    _items(writer, value, outer)


def _dataclass(writer: Digester, value: Any, outer: tuple[object, ...]) -> None:
    kind = type(value)
    writer.put_type(b"dataclass", kind)
    names = _compared.get(kind)
    if names is None:
        found = [field.name for field in fields(value) if field.compare]
        names = _compared[kind] = [(name, ATOMS[str](name)) for name in found]
    inner = within(value, outer)
    for name, written in names:
        writer.parts.append(written)
        writer.write(getattr(value, name, MISSING), inner)


def _content_of(parts: Parts[Any]) -> Write:
    def write(writer: Digester, value: Any, outer: tuple[object, ...]) -> None:
        writer.put_type(b"content", type(value))
        writer.write(parts(value), within(value, outer))

    return write


#: Dataclass → names of the fields that its ``==`` compares, each with its encoding.
_compared: WeakKeyDictionary[type, list[tuple[str, bytes]]] = WeakKeyDictionary()
#: Class → function that returns the content of its objects.
_registered: dict[type, Parts[Any]] = {}
#: Exact type → writer of its values.
_WRITERS: dict[type, Write] = {
    bytearray: encoded(b"bytearray", bytes),
    list: _sequence(b"list"),
    tuple: _sequence(b"tuple"),
    deque: _sequence(b"deque"),
    set: _unordered(b"set"),
    frozenset: _unordered(b"frozenset"),
    dict: _mapping(b"dict"),
    defaultdict: _mapping(b"defaultdict"),
    Counter: _mapping(b"Counter"),
    MappingProxyType: _mapping(b"proxy"),
    OrderedDict: _mapping(b"ordered"),
    range: parted(b"range", lambda value: (value.start, value.stop, value.step)),
    slice: parted(b"slice", lambda value: (value.start, value.stop, value.step)),
    type: write_class,
}
