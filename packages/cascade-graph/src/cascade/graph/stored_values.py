"""Forms of stored values, and the place of a part that has none."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NoReturn

from cascade.graph.forms import FormReader, FormWriter
from cascade.graph.references import Resolver, reference_to
from cascade.graph.storable import storable_of
from cascade.spec.errors import NotStorableError, SerializationError
from cascade.spec.lazy_value import LazyValue
from cascade.spec.wording import error_text, name_of, short, type_name

#: Most levels of containers in a stored value. Beyond, Python's stack would overflow at an
#: unpredictable depth, perhaps only in the process that reads it.
DEEPEST: Final = 100
_MAPPINGS: Final = (OrderedDict, defaultdict, dict)
_SEQUENCES: Final = (list, tuple, deque)
_CODE: Final = (type, BuiltinFunctionType, FunctionType, MethodType, ModuleType)
#: Most steps of a place that a message shows.
_SHOWN: Final = 12


class Refusal(Exception):
    """A value has no stored form. The text continues "the value has no stored form: "."""


class StoredWriter(FormWriter):
    """Writes forms of values for a store.

    Args:
        pickles: Whether to pickle what has no form.
        careful: As in FormWriter.
        depth: Levels of containers around the value.

    Raises:
        Refusal: A part has no form.
    """

    deepest = DEEPEST

    def __init__(self, pickles: bool, *, careful: bool = False, depth: int = 0) -> None:
        self._pickles = pickles
        self.careful = careful
        self.depth = depth

    def kind(self, kind: type) -> str:
        return reference_to(kind) or self.refuse(
            f"its class {name_of(kind)} cannot be imported by that name; define it at the top "
            "level of a module"
        )

    def dumped(self, value: Any) -> Any:
        return self.value(_dump(value))

    def unknown(self, value: Any) -> Any:
        if isinstance(value, LazyValue):
            self.refuse(f"it is the lazy value {short(value)}, which stands for a value to come")
        if not self._pickles:
            self.refuse(_unknown(value))
        import pickle  # 8 ms

        try:
            return {"$pickle": b64encode(pickle.dumps(value)).decode()}
        except Exception as error:
            raise Refusal(f"it cannot be pickled: {error_text(error)}") from error

    def refuse(self, what: str) -> NoReturn:
        raise Refusal(what)


def _unknown(value: Any) -> str:
    if isinstance(value, _CODE):
        return f"it is {short(value)}, and code is not stored; store a name instead, or a task"
    name = type_name(value)
    return (
        f"it is {short(value)}, of the class {name}; register that with "
        f"cs.storable({name}, dump, load), or give it to tasks as a resource"
    )


class StoredReader(FormReader):
    """Reads forms from a store.

    Args:
        pickles: Whether to unpickle.
        resolver: Finds the objects that they name.
    """

    def __init__(self, pickles: bool, resolver: Resolver) -> None:
        super().__init__(resolver)
        self._pickles = pickles

    def marked(self, tag: str, content: Any) -> Any:
        if tag != "$pickle":
            return super().marked(tag, content)
        if not self._pickles:
            raise SerializationError(
                "a stored value is pickled; read it with serializer='pickle' and its signing_key"
            )
        import pickle

        try:
            return pickle.loads(b64decode(content))
        except Exception as error:
            raise SerializationError(f"it cannot be unpickled: {error_text(error)}") from error


def located(value: Any, refusal: Refusal, pickles: bool) -> NotStorableError:
    """The error for a value that was refused, with the place of the part at fault.

    Writes the parts of each container on the way there again, so it takes a multiple of the time
    of encoding the value.
    """
    steps: list[str] = []
    while (fault := _first_fault(value, pickles, len(steps) + 1)) is not None:
        step, value, refusal = fault
        steps.append(step)
    place = "".join(steps).lstrip()
    if len(steps) > _SHOWN:
        half = _SHOWN // 2
        shown = "".join([*steps[:half], "…", *steps[-half:]]).lstrip()
    else:
        shown = place or "the value"
    return NotStorableError(f"{shown} has no stored form: {refusal}", place)


def _first_fault(value: Any, pickles: bool, depth: int) -> tuple[str, Any, Refusal] | None:
    """The first part of a container that has no form: its place, itself, and why."""
    if depth > DEEPEST:
        return None
    try:
        parts = list(_parts(value))
    except Refusal:
        return None
    for step, part in parts:
        try:
            StoredWriter(pickles, careful=True, depth=depth).value(part)
        except Refusal as refusal:
            return step, part, refusal
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a container, each with its place."""
    kind = type(value)
    if storable_of(kind) is not None:
        yield ".dump()", _dump(value)
    elif kind in _MAPPINGS:
        for key, item in value.items():
            yield f" (the key {short(key)})", key
            yield f"[{short(key)}]", item
    elif kind in _SEQUENCES:
        for place, item in enumerate(value):
            yield f"[{place}]", item
    elif kind in (set, frozenset):
        for item in value:
            yield f" (the member {short(item)})", item
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        for name, item in zip(kind._fields, value, strict=False):
            yield f".{name}", item
    elif is_dataclass(kind):
        for field in fields(kind):
            if hasattr(value, field.name):
                yield f".{field.name}", getattr(value, field.name)


def _dump(value: Any) -> Any:
    """What the registered function of its class makes of a value."""
    registered = storable_of(type(value))
    assert registered is not None
    try:
        return registered.dump(value)
    except Exception as error:
        raise Refusal(
            f"the function that cs.storable has for {type_name(value)} fails: {error_text(error)}"
        ) from error
