"""The fields of classes whose objects can be made from plain data: for forms and options.

pydantic is never imported here: a model's class carries its fields and its validator.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Final, NamedTuple

#: Stands for the default of a field without one.
REQUIRED: Final = dataclasses.MISSING


class Field(NamedTuple):
    """One field of a class.

    Attributes:
        key: Its name in the data, which is an alias for some models.
        default: REQUIRED if it has none; None if a function makes it.
        is_made: Whether a function makes the default.
    """

    name: str
    key: str
    annotation: Any
    default: Any
    is_made: bool = False
    description: str = ""


def fields_of(kind: Any) -> list[Field] | None:
    """The fields of a dataclass or of a model of pydantic; None for any other class."""
    if not isinstance(kind, type):
        return None
    infos = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", None)
    if isinstance(infos, dict) and hasattr(kind, "__pydantic_validator__"):
        return [_model_field(name, info) for name, info in infos.items()]
    if not dataclasses.is_dataclass(kind):
        return None
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # a name that only checkers import
        hints = {}
    return [_field(field, hints) for field in dataclasses.fields(kind) if field.init]


def _field(field: dataclasses.Field[Any], hints: dict[str, Any]) -> Field:
    is_made = field.default_factory is not REQUIRED
    default = None if is_made else field.default
    return Field(field.name, field.name, hints.get(field.name, Any), default, is_made)


def _model_field(name: str, info: Any) -> Field:
    alias = info.validation_alias if info.validation_alias is not None else info.alias
    key = alias if isinstance(alias, str) else name
    is_made = info.default_factory is not None
    default = REQUIRED if info.is_required() else None if is_made else info.default
    return Field(name, key, info.annotation, default, is_made, info.description or "")
