"""Forms: descriptions of the values of signals, made from the annotation of the task that gets it.

A form is plain data, so that a view in another process can draw it::

    {"kind": "fields", "fields": [
        {"name": "ok", "form": {"kind": "yes or no"}},
        {"name": "note", "form": {"kind": "text"}, "default": ""}]}

The kinds are in ``KINDS``. What has no form of its own is ``"json"``.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from cascade.runtime.control.fields import REQUIRED, fields_of
from cascade.spec.wording import short

#: ``"choice"`` has ``choices``, ``"fields"`` has ``fields``; any may have ``"none": True``, if None
#: is allowed.
KINDS: Final = ("yes or no", "whole number", "number", "text", "choice", "fields", "json")
Form = Mapping[str, Any]
_PLAIN: Final = {bool: "yes or no", int: "whole number", float: "number", str: "text"}
_ANY: Final[Form] = {"kind": "json"}
#: Most fields and choices of a form, and the depth of fields within fields.
_MOST, _DEEPEST = 50, 4


def form_of(annotation: Any, depth: int = 0) -> Form:
    """The form for values of an annotation.

    >>> form_of(bool)
    {'kind': 'yes or no'}
    >>> form_of(Literal["yes", "no"] | None)
    {'kind': 'choice', 'choices': ['yes', 'no'], 'none': True}
    """
    try:
        found = _form_of(annotation, depth)
    except Exception:  # classes may be made in any way
        return _ANY
    return found


def _form_of(annotation: Any, depth: int) -> Form:
    if annotation in _PLAIN:
        return {"kind": _PLAIN[annotation]}
    origin = get_origin(annotation)
    if origin is Literal:
        return _choice(get_args(annotation))
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        is_optional = len(kinds) == 1 and len(get_args(annotation)) == 2
        return {**_form_of(kinds[0], depth), "none": True} if is_optional else _ANY
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _choice([member.value for member in annotation])
    fields = _fields_of(annotation) if depth < _DEEPEST else None
    if fields is None or len(fields) > _MOST:
        return _ANY
    return {"kind": "fields", "fields": [_field(*field, depth + 1) for field in fields]}


def _choice(values: Any) -> Form:
    choices = list(values)
    plain = all(type(value) in (str, int, bool) for value in choices)
    return {"kind": "choice", "choices": choices} if plain and len(choices) <= _MOST else _ANY


def _field(name: str, annotation: Any, default: Any, depth: int) -> Form:
    field: dict[str, Any] = {"name": name, "form": form_of(annotation, depth)}
    if default is not REQUIRED:
        is_plain = default is None or type(default) in _PLAIN
        field["default"] = default if is_plain else None
    return field


def _fields_of(annotation: Any) -> list[tuple[str, Any, Any]] | None:
    """Name, annotation and default of each field; None if it is no class with fields."""
    if is_typeddict(annotation):
        needed = annotation.__required_keys__
        hints = get_type_hints(annotation)
        return [(n, kind, REQUIRED if n in needed else None) for n, kind in hints.items()]
    fields = fields_of(annotation)
    if fields is None:
        return None
    return [(f.key, f.annotation, REQUIRED if f.is_made else f.default) for f in fields]


def built(annotation: Any, value: Any) -> Any:
    """The value for a task, from the plain data that a form has given.

    Data of a dataclass, of an enumeration or of a pydantic model becomes an object of it; all other
    values stay as they are.

    Raises:
        ValueError: The data does not fit.
    """
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return value if value is None or len(kinds) != 1 else built(kinds[0], value)
    if not isinstance(annotation, type):
        return value
    try:
        if issubclass(annotation, enum.Enum):
            return annotation(value)
        if hasattr(annotation, "model_validate"):
            return annotation.model_validate(value)
        if dataclasses.is_dataclass(annotation) and isinstance(value, dict):
            hints = get_type_hints(annotation)
            return annotation(**{n: built(hints.get(n), part) for n, part in value.items()})
    except Exception as error:
        raise ValueError(f"{short(value)} is no {annotation.__name__}: {error}") from error
    return value
