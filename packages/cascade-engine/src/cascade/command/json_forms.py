"""The JSON forms of values that JSON itself cannot express."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

_AS_TEXT = (decimal.Decimal, pathlib.PurePath, uuid.UUID)
_AS_ISO = (datetime.date, datetime.time)


def json_form(value: Any) -> Any:
    """The JSON form of ``value``; its parts are converted in turn.

    An object may define its form by ``__json__()`` or, as pydantic's models do, by
    ``model_dump(mode="json")``. Dataclasses and attrs classes become objects by field, mappings
    become objects, sets become lists, enumerations their values, dates ISO 8601 strings, and
    decimal numbers, paths and UUIDs strings.

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
    if isinstance(value, _AS_TEXT):
        return str(value)
    raise TypeError(f"an object of type {kind.__qualname__} has none")
