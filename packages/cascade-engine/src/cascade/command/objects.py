"""Objects from plain data: dataclasses and models of pydantic, as inputs of a target.

pydantic is never imported here: a model's class carries its validator.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from cascade.command.kinds import from_text, json_kind
from cascade.runtime.control.fields import REQUIRED, fields_of
from cascade.spec.nearby import did_you_mean
from cascade.spec.wording import short

#: Types that values of JSON have themselves.
_ATOMS = (str, int, float, bool)
#: Names of fields and positions in lists, from the outermost object.
Place = tuple[str | int, ...]


class Misfit(NamedTuple):
    """A fault of the data: its place, and the reason."""

    place: Place
    reason: str
    is_missing: bool = False


class MisfitError(ValueError):
    """Data of which no object can be made."""

    def __init__(self, misfits: Iterable[Misfit]) -> None:
        self.misfits = tuple(misfits)
        super().__init__("; ".join(_said(misfit) for misfit in self.misfits))


class ObjectReader:
    """Makes objects of one class: from text, which is JSON, or from the data of its fields."""

    shown = "JSON"

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.__name__ = kind.__name__

    def __call__(self, value: Any) -> Any:
        """An object of the class.

        Raises:
            MisfitError: The value does not fit.
        """
        if isinstance(value, self.kind):
            return value
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise MisfitError([Misfit((), f"not valid JSON: {error}")]) from None
        return made(self.kind, value)


def made(annotation: Any, data: Any, place: Place = ()) -> Any:
    """The value of an annotation from plain data.

    Raises:
        MisfitError: The data does not fit.
    """
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return made(parts[0], data, place)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(parts, data, place)
    if origin is Literal:
        if data not in parts:
            raise _misfit(place, f"must be one of {', '.join(map(short, parts))}", data)
        return data
    kind = origin or annotation
    if hasattr(kind, "__pydantic_validator__") and fields_of(kind) is not None:
        return _validated(kind, data, place)
    if fields_of(kind) is not None:
        return _of_dataclass(kind, data, place)
    if isinstance(data, (list, dict)):
        return _container(kind, parts, data, place)
    return _scalar(kind, data, place)


def _first_that_fits(kinds: Iterable[Any], data: Any, place: Place) -> Any:
    """The data itself if it is of one of the types: "5" stays a text for ``int | str``."""
    if type(data) in _ATOMS and type(data) in kinds:
        return data
    first: MisfitError | None = None
    for kind in kinds:
        if kind is type(None):
            if data is None:
                return None
            continue
        try:
            return made(kind, data, place)
        except MisfitError as error:
            first = first or error
    raise first or _misfit(place, "must be null", data)


def _validated(kind: Any, data: Any, place: Place) -> Any:
    """The object as pydantic makes it from JSON, so that strict models take dates and the like."""
    try:
        return kind.__pydantic_validator__.validate_json(json.dumps(data))
    except ValueError as error:
        told = getattr(error, "errors", None)
        if told is None:
            raise MisfitError([Misfit(place, str(error))]) from error
        names = {field.key: field.name for field in fields_of(kind) or ()}
        raise MisfitError(_misfits_of(told(), names, place)) from None


def _misfits_of(errors: Any, names: Mapping[str, str], place: Place) -> list[Misfit]:
    found = []
    for one in errors:
        loc = tuple(one["loc"])
        if loc and loc[0] in names:
            loc = (names[loc[0]], *loc[1:])
        missing = one["type"] == "missing"
        given = "" if missing or not loc else f", but is {short(one['input'])}"
        found.append(Misfit((*place, *loc), f"{one['msg']}{given}", missing))
    return found


def _of_dataclass(kind: Any, data: Any, place: Place) -> Any:
    if not isinstance(data, dict):
        raise _misfit(place, "must be a JSON object", data)
    fields = {field.key: field for field in fields_of(kind) or ()}
    misfits = [
        Misfit((*place, key), f"{kind.__name__} has no such field{did_you_mean(key, fields)}")
        for key in data
        if key not in fields
    ]
    given = {}
    for key, field in fields.items():
        if key not in data:
            if field.default is REQUIRED:
                misfits.append(Misfit((*place, field.name), "is required", True))
            continue
        try:
            given[key] = made(field.annotation, data[key], (*place, key))
        except MisfitError as error:
            misfits += error.misfits
    if misfits:
        raise MisfitError(misfits)
    try:
        return kind(**given)
    except (ValueError, TypeError, ArithmeticError) as error:  # of its __post_init__
        raise MisfitError([Misfit(place, str(error) or type(error).__name__)]) from error


def _container(kind: Any, parts: tuple[Any, ...], data: Any, place: Place) -> Any:
    """A list, tuple, set or dict with parts of its own types."""
    meant = json_kind(kind)
    if meant is None:
        if kind in (Any, object):
            return data
        raise _misfit(place, f"must be {_name_of(kind)}", data)
    if isinstance(data, dict) is not (meant is dict):
        raise _misfit(place, f"must be a JSON {'object' if meant is dict else 'array'}", data)
    if meant is dict:
        of_keys, of_values = parts if len(parts) == 2 else (Any, Any)
        return {
            made(of_keys, key, (*place, key)): made(of_values, value, (*place, key))
            for key, value in data.items()
        }
    if meant is tuple and parts and parts[-1] is not Ellipsis:
        if len(parts) != len(data):
            raise _misfit(place, f"must have {len(parts)} items", data)
        kinds = list(parts)
    else:
        kinds = [parts[0] if parts else Any] * len(data)
    items = zip(kinds, data, strict=True)
    return meant(made(kind, item, (*place, i)) for i, (kind, item) in enumerate(items))


def _scalar(kind: Any, data: Any, place: Place) -> Any:
    if not isinstance(kind, type) or kind is object:
        return data
    if issubclass(kind, enum.Enum):
        found = [m for m in kind if m.value == data and type(m.value) is type(data)]
        if found or (isinstance(data, str) and data in kind.__members__):
            return found[0] if found else kind[data]
        raise _misfit(place, f"must be one of {', '.join(short(m.value) for m in kind)}", data)
    if isinstance(data, kind) and (kind is bool or not isinstance(data, bool)):
        return data
    if kind is float and type(data) is int:
        return float(data)
    convert = from_text(kind)
    if convert is None or not isinstance(data, str) or kind is bool:
        raise _misfit(place, f"must be {_name_of(kind)}", data)
    try:
        return convert(data)
    except (ValueError, TypeError, ArithmeticError):
        raise _misfit(place, f"must be {_name_of(kind)}", data) from None


def _misfit(place: Place, expected: str, data: Any) -> MisfitError:
    return MisfitError([Misfit(place, f"{expected}, but is {short(data)}")])


def _name_of(kind: Any) -> str:
    return getattr(kind, "__name__", None) or short(kind)


def _said(misfit: Misfit) -> str:
    return f"{path(misfit.place)}: {misfit.reason}" if misfit.place else misfit.reason


def path(place: Place) -> str:
    """``items[0].price``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
