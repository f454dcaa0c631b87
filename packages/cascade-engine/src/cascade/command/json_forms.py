"""The JSON forms of values that JSON itself cannot express."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any, Final

_AS_TEXT = (decimal.Decimal, pathlib.PurePath, uuid.UUID)
_AS_ISO = (datetime.date, datetime.time)
#: Types whose values JSON has.
_PLAIN: Final = frozenset({str, int, bool, type(None)})
#: The deepest value that is converted.
_DEEPEST = 500


class HasNoFormError(Exception):
    """A part of a value has no JSON form; the message says which and why."""

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        super().__init__(f"its part {place}: {reason}" if place else reason)


def json_form(value: Any) -> Any:
    """The JSON form of ``value``; its parts are converted in turn.

    An object may define its form by ``__json__()`` or, as pydantic's models do, by
    ``model_dump(mode="json")``. Dataclasses and attrs classes become objects by field, mappings
    become objects, sets become lists, enumerations their values, dates and durations ISO 8601
    strings, and decimal numbers, paths and UUIDs strings. Numbers and arrays of numpy become
    numbers and lists.

    Raises:
        TypeError: It has no JSON form.
    """
    kind = type(value)
    if hasattr(kind, "__json__"):
        return value.__json__()
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _AS_ISO):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _iso_duration(value)
    if isinstance(value, _AS_TEXT):
        return str(value)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an object of type {kind.__qualname__} has none")


def plain_data(value: Any) -> Any:
    """``value`` as strings, numbers, booleans, None, lists and dicts with strings as keys.

    Slower than ``json.dumps(default=json_form)``, but converts keys as well, and finds the place of
    a part that has no form.

    Raises:
        HasNoFormError: A part has no JSON form.
    """
    return _plain(value, "", set())


def _plain(value: Any, place: str, above: set[int]) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):  # also numpy's
        if not math.isfinite(value):
            raise HasNoFormError(place, f"JSON has no {float(value)}")
        return float(value)
    if isinstance(value, (str, int)) and not isinstance(value, enum.Enum):
        return str(value) if isinstance(value, str) else int(value)
    if id(value) in above:
        raise HasNoFormError(place, "it contains itself")
    if len(above) > _DEEPEST:
        raise HasNoFormError("", f"it is nested more than {_DEEPEST} levels deep")
    inner = {*above, id(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{place}[{i}]", inner) for i, part in enumerate(value)]
    if type(value) is dict:
        return {
            _key(key, place): _plain(part, f"{place}[{key!r}]", inner)
            for key, part in value.items()
        }
    try:
        form = json_form(value)
    except Exception as error:  # of the user's methods, too
        for name in getattr(type(value), "model_fields", ()):  # pydantic does not say which it is
            _plain(getattr(value, name), f"{place}.{name}", inner)
        raise HasNoFormError(place, str(error)) from error
    if isinstance(form, dict) and not isinstance(value, Mapping):
        return {str(n): _plain(part, f"{place}.{n}", inner) for n, part in form.items()}
    return _plain(form, place, inner)


def _key(key: Any, place: str) -> str:
    """A key as text: as ``json.dumps`` writes it, or the JSON form of a key that json refuses."""
    form = key
    if type(key) not in _PLAIN and not isinstance(key, (str, float)):
        try:
            form = json_form(key)
        except Exception:
            form = key
    if isinstance(form, bool) or form is None:
        return {True: "true", False: "false", None: "null"}[form]
    if isinstance(form, str):
        return str.__str__(form)  # of an enumeration, its value
    if isinstance(form, (int, float)):
        return json.dumps(form)
    raise HasNoFormError(place, f"its key {key!r} has no form as text")


def _iso_duration(value: datetime.timedelta) -> str:
    """``P1DT3600.5S``; negative ones have a sign before the P."""
    sign, value = ("-", -value) if value < datetime.timedelta() else ("", value)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}T{value.seconds}{fraction}S"
