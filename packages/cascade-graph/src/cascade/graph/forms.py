"""Values as JSON: the one form that data has in graphs, blueprints and stores.

A form is JSON. Objects with one key that starts with ``$`` stand for what JSON lacks:

- containers: ``$tuple``, ``$set``, ``$frozenset``, ``$deque``, ``$dict``, ``$ordered``,
  ``$counter`` and ``$defaultdict`` (pairs), ``$namedtuple``, ``$dataclass``
- members of enumerations: ``$member``, and ``$flags`` for a combination of flags
- numbers and texts that JSON cannot write: ``$float`` (nan and infinities), ``$int`` (more digits
  than Python reads), ``$str`` (surrogates)
- value types of the standard library: ``cascade.graph.leaves``
- exceptions: ``$error``, or ``$failure`` for one that cannot be rebuilt
- ``$task`` (``module:name``), and ``$unset``: a field without a value
- ``$storable``: an object of a class registered with ``cs.storable``

The set is closed. Reading calls nothing that a form names: a class is looked up, must be a
dataclass, a namedtuple, an enumeration or an exception, and its objects are made without code of
it. Combinations of flags are the exception: their class is called with an int. Besides, only
loaders run that this process registered with ``cs.storable``.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum, Flag
from types import NoneType
from typing import Any, Final, NoReturn

from cascade.graph.leaves import READERS, WRITERS, leaf_of
from cascade.graph.references import Resolver, reference_to, reference_to_converter
from cascade.graph.storable import find_storable, storable_of
from cascade.spec import rebuilt_errors
from cascade.spec.errors import SerializationError
from cascade.spec.shapes import UNSET, is_plain_dataclass, shape_of
from cascade.spec.task import Task
from cascade.spec.wording import error_text, name_of, short

#: Types whose values are JSON as they are, but for some floats, ints and texts.
JSON_ATOMS: Final = frozenset({int, str, float, bool, NoneType})
#: The remedy for a function that documents cannot name.
MARK: Final = "define it at the top level of a module, and decorate it with @cs.portable"
#: Errors that reading a malformed document leads to, besides a SerializationError.
UNREADABLE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
#: Python refuses to read or write longer ints as decimal digits.
_MOST_BITS = 14_000


class FormWriter:
    """Writes values as forms. Subclasses say how a value is refused, and may have more forms.

    Attributes:
        careful: Whether to look at each float, int and text. Otherwise rows of them are passed on
            as they are, and encoding them as JSON fails for the few that JSON cannot write.
        deepest: Most levels of containers.
        depth: Levels around the value that is being written.
    """

    careful = True
    deepest = sys.maxsize
    depth = 0

    def value(self, value: Any) -> Any:
        # Exact types: a StrEnum would come back as a str.
        kind = type(value)
        if kind is NoneType or kind is bool:
            return value
        atom = _ATOMS.get(kind)
        if atom is not None:
            return atom(value)
        if self.depth >= self.deepest:
            self.refuse(f"it is nested more than {self.deepest} levels deep, or contains itself")
        self.depth += 1
        write = _CONTAINERS.get(kind)
        form = self.other(value, kind) if write is None else write(self, value)
        self.depth -= 1
        return form

    def other(self, value: Any, kind: type) -> Any:
        """The form of a value that is neither JSON nor a builtin container."""
        registered = storable_of(kind)
        if registered is not None:
            return {"$storable": [registered.name, registered.home, self.dumped(value)]}
        leaf = leaf_of(kind)
        if leaf is not None:
            return {leaf: self.value(WRITERS[leaf](value))}
        if value is UNSET:
            return {"$unset": None}
        if issubclass(kind, Enum):
            return self._member(value, kind)
        if issubclass(kind, tuple) and hasattr(kind, "_make"):
            return {"$namedtuple": [self.kind(kind), self.row(value)]}
        if issubclass(kind, BaseException):
            return self._error(value, kind)
        if issubclass(kind, Task):
            return {"$task": self.task(value)}
        if is_plain_dataclass(kind):
            return {"$dataclass": [self.kind(kind), self._fields(value)]}
        return self.unknown(value)

    def row(self, values: Any) -> list[Any]:
        """The forms of several values."""
        if not self.careful and JSON_ATOMS.issuperset(map(type, values)):
            return list(values)
        return [*map(self.value, values)]

    def named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.value(value) for name, value in values.items()}

    def pairs(self, values: Mapping[Any, Any]) -> list[Any]:
        return [[self.value(key), self.value(value)] for key, value in values.items()]

    def kind(self, kind: type) -> str:
        """The name of a namedtuple, dataclass, enumeration or exception."""
        return reference_to(kind) or self.refuse(f"a value of the type {short(kind)}")

    def task(self, task: Task[..., Any]) -> str:
        return reference_to(task) or self.refuse(
            f"its function {name_of(task)}, which cannot be imported "
            "by that name (define it at the top level of a module)"
        )

    def factory(self, factory: Any) -> str | None:
        """The name of the factory that a defaultdict calls for a missing key."""
        if factory is None:
            return None
        return reference_to_converter(factory) or self.refuse(
            f"a defaultdict of {short(factory)}; {MARK}"
        )

    def dumped(self, value: Any) -> Any:
        """The form of the result of the ``dump`` of a registered class."""
        registered = storable_of(type(value))
        assert registered is not None
        return self.value(registered.dump(value))

    def _member(self, value: Enum, kind: type[Enum]) -> Any:
        name = value._name_
        if name is not None and kind._member_map_.get(name) is value:
            return {"$member": [self.kind(kind), name]}
        if issubclass(kind, Flag) and type(value._value_) is int:
            return {"$flags": [self.kind(kind), value._value_]}
        return self.unknown(value)

    def _fields(self, value: Any) -> dict[str, Any]:
        """The fields of a dataclass that have a value."""
        names = [field.name for field in fields(value)]
        if rest := getattr(value, "__dict__", {}).keys() - names:
            self.refuse(
                f"the attribute '{min(rest)}' of a {type(value).__name__}, which is no field"
            )
        return {name: self.value(getattr(value, name)) for name in names if hasattr(value, name)}

    def _error(self, error: BaseException, kind: type[BaseException]) -> Any:
        depth = self.depth
        try:
            args, state, cause = rebuilt_errors.parts_of(error)
            return {
                "$error": [self.kind(kind), self.row(args), self.value(state), self.value(cause)]
            }
        except Exception:  # from its builtin class, or because a part of it has no form
            self.depth = depth
            return {"$failure": [*map(self.value, rebuilt_errors.stand_in_for(error))]}

    def unknown(self, value: Any) -> Any:
        """Called for a value that has no form."""
        return self.refuse(f"the argument {short(value)} of type {type(value).__name__}")

    def refuse(self, what: str) -> NoReturn:
        raise SerializationError(f"no JSON form: {what}")


def is_text(text: str) -> bool:
    """Whether UTF-8 has a form for it: it holds no surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_int(value: int) -> Any:
    return value if value.bit_length() <= _MOST_BITS else {"$int": hex(value)}


def _write_float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _write_str(value: str) -> Any:
    return value if is_text(value) else {"$str": value.encode("utf-8", "surrogatepass").hex()}


def _write_set(writer: FormWriter, value: Any) -> Any:
    # Sorted, because hashes differ between processes.
    return {f"${type(value).__name__}": sorted(writer.row(value), key=json.dumps)}


def _write_dict(writer: FormWriter, value: dict[Any, Any]) -> Any:
    kinds = set(map(type, value))
    if kinds and (kinds != {str} or not all(k[:1] != "$" and is_text(k) for k in value)):
        return {"$dict": writer.pairs(value)}
    if not writer.careful and JSON_ATOMS.issuperset(map(type, value.values())):
        return value
    return writer.named(value)


_ATOMS: Mapping[type, Callable[[Any], Any]] = {
    int: _write_int,
    float: _write_float,
    str: _write_str,
}
_CONTAINERS: Mapping[type, Callable[[FormWriter, Any], Any]] = {
    list: FormWriter.row,
    tuple: lambda writer, value: {"$tuple": writer.row(value)},
    dict: _write_dict,
    set: _write_set,
    frozenset: _write_set,
    deque: lambda writer, value: {"$deque": [value.maxlen, writer.row(value)]},
    OrderedDict: lambda writer, value: {"$ordered": writer.pairs(value)},
    Counter: lambda writer, value: {"$counter": writer.pairs(value)},
    defaultdict: lambda writer, value: {
        "$defaultdict": [writer.factory(value.default_factory), writer.pairs(value)]
    },
}


class FormReader:
    """Reads forms. Subclasses may know more of them.

    Args:
        resolver: Finds the named objects.

    Raises:
        SerializationError: An object does not exist, or must not be named.
        Exception: One of ``UNREADABLE``, or what a registered loader raises.
    """

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver

    def value(self, form: Any) -> Any:
        kind = type(form)
        if kind is list:
            if JSON_ATOMS.issuperset(map(type, form)):
                return form
            return [*map(self.value, form)]
        if kind is not dict:
            return form
        if len(form) != 1 or not (tag := next(iter(form))).startswith("$"):
            return {name: self.value(inner) for name, inner in form.items()}
        return self.marked(tag, form[tag])

    def marked(self, tag: str, content: Any) -> Any:
        """The value of ``{tag: content}``."""
        read = _SIMPLE.get(tag)
        if read is not None:
            return read(self.value(content))
        special = _SPECIAL.get(tag)
        if special is None:
            raise ValueError(f"{short(tag)} marks no kind of value")
        return special(self, content)

    def pairs(self, content: Any) -> list[tuple[Any, Any]]:
        return [(self.value(key), self.value(value)) for key, value in content]

    def factory(self, reference: Any) -> Callable[..., Any] | None:
        """The factory that a defaultdict calls for a missing key."""
        return None if reference is None else self.resolver.converter(reference)

    def _deque(self, content: Any) -> Any:
        most, items = content
        return deque(self.value(items), most)

    def _defaultdict(self, content: Any) -> Any:
        factory, pairs = content
        return defaultdict(self.factory(factory), self.pairs(pairs))

    def _counter(self, content: Any) -> Any:
        made: Counter[Any] = Counter()
        dict.update(made, self.pairs(content))
        return made

    def _namedtuple(self, content: Any) -> Any:
        reference, items = content
        kind = self.resolver.namedtuple(reference)
        made = tuple.__new__(kind, self.value(items))
        if len(made) != len(kind._fields):
            raise ValueError(f"{short(kind)} has {len(kind._fields)} fields, not {len(made)}")
        return made

    def _dataclass(self, content: Any) -> Any:
        """An instance with these values, made without code of its own."""
        reference, values = content
        kind = self.resolver.dataclass(reference)
        names = [field.name for field in fields(kind)]
        if unknown := values.keys() - set(names):
            raise ValueError(f"{short(kind)} has no field {short(min(unknown))}")
        shape = shape_of(kind)
        assert shape is not None
        assert shape.build is not None
        found = {name: self.value(value) for name, value in values.items()}
        return shape.build([found.get(name, UNSET) for name in names])

    def _member(self, content: Any) -> Any:
        reference, name = content
        kind = self.resolver.subclass(reference, Enum, "an enumeration")
        if name not in kind._member_map_:
            raise ValueError(f"{short(kind)} has no member {short(name)}")
        return kind._member_map_[name]

    def _flags(self, content: Any) -> Any:
        reference, value = content
        kind = self.resolver.subclass(reference, Flag, "an enumeration of flags")
        if type(value) is not int:
            raise TypeError(f"flags are an int, not {short(value)}")
        flags = kind(value)
        if type(flags) is not kind or flags._value_ != value:  # Python 3.11.2 drops other bits
            raise ValueError(f"{short(kind)} has no flags {value:#x}")
        return flags

    def _error(self, content: Any) -> Any:
        reference, args, state, cause = content
        kind = self.resolver.subclass(reference, BaseException, "an exception")
        made_of = self.value(args), self.value(state), self.value(cause)
        return rebuilt_errors.rebuilt(kind, *made_of)

    def _storable(self, content: Any) -> Any:
        name, home, dumped = content
        registered = find_storable(name, home, self.resolver)
        parts = self.value(dumped)
        try:
            return registered.load(parts)
        except Exception as error:
            raise SerializationError(
                f"the loader of {name!r} fails for {short(parts)}: {error_text(error)}"
            ) from error


#: Tag → function that takes the content's value.
_SIMPLE: Mapping[str, Callable[[Any], Any]] = {
    **READERS,
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$float": float,
    "$int": lambda content: int(content, 16),
    "$str": lambda content: bytes.fromhex(content).decode("utf-8", "surrogatepass"),
    "$unset": lambda _: UNSET,
    "$failure": rebuilt_errors.stand_in,
}
#: Tag → function that takes the content as it is.
_SPECIAL: Mapping[str, Callable[[FormReader, Any], Any]] = {
    "$dict": lambda reader, content: dict(reader.pairs(content)),
    "$ordered": lambda reader, content: OrderedDict(reader.pairs(content)),
    "$counter": FormReader._counter,
    "$defaultdict": FormReader._defaultdict,
    "$deque": FormReader._deque,
    "$namedtuple": FormReader._namedtuple,
    "$dataclass": FormReader._dataclass,
    "$member": FormReader._member,
    "$flags": FormReader._flags,
    "$error": FormReader._error,
    "$task": lambda reader, content: reader.resolver.task(content),
    "$storable": FormReader._storable,
}
