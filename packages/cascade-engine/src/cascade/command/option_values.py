"""Conversion of an option's text to a value of a type."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from cascade.command.kinds import from_text, json_kind
from cascade.command.objects import ObjectReader
from cascade.runtime.control.fields import fields_of
from cascade.spec.wording import short


class Reading(NamedTuple):
    """How to read a value, and its description in the help.

    Attributes:
        convert: A value for ``Param(type=…)``: a type, or a function of the text.
        shown: The placeholder after the option, in capitals.
        choices: The possible texts; empty if there is no fixed list.
    """

    convert: Callable[..., Any]
    shown: str
    choices: tuple[str, ...] = ()


def reading_of(hint: Any) -> Reading | None:
    """The reading of an annotation; None if text cannot give it."""
    hint = without_none(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return reading_of(typing.get_args(hint)[0])
    if origin is Literal:
        return _one_of({str(value): value for value in typing.get_args(hint)})
    container = origin or hint
    if not isinstance(container, type):
        return None
    if issubclass(container, enum.Enum):
        return _one_of(dict(container.__members__))
    convert = from_text(container)
    if convert is not None:
        return Reading(convert, _placeholder(container))
    kind = json_kind(container)
    if kind is not None:  # the type itself would split a string into its letters
        return Reading(_JsonReader(kind), "JSON")
    return None if fields_of(container) is None else Reading(ObjectReader(container), "JSON")


def reading_like(value: Any) -> Reading:
    """The reading of values like this default, for parameters without a type."""
    kind = type(value)
    found = reading_of(kind) if value is not None else None
    return found or Reading(str, "TEXT")


def without_none(hint: Any) -> Any:
    """``X`` for ``X | None``; any other annotation unchanged."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    rest = [part for part in typing.get_args(hint) if part is not type(None)]
    return rest[0] if len(rest) == 1 else hint


def _placeholder(kind: type) -> str:
    return "TEXT" if kind is str else kind.__name__.upper()


def _one_of(values: Mapping[str, Any]) -> Reading:
    return Reading(_Choice(values), "CHOICE", tuple(values))


class _Choice:
    """Reads one of several texts."""

    shown = "CHOICE"

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.__name__ = f"one of {', '.join(values)}"

    def __call__(self, text: Any) -> Any:
        if isinstance(text, str) and text in self.values:
            return self.values[text]
        raise ValueError(f"{short(text)} is not {self.__name__}")


class _JsonReader:
    """Reads JSON of one kind: an array for list, tuple and set, an object for dict."""

    shown = "JSON"

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.__name__ = f"a JSON {'object' if kind is dict else 'array'}"

    def __call__(self, text: Any) -> Any:
        value = json.loads(text) if isinstance(text, str) else text
        if not isinstance(value, dict if self.kind is dict else list):
            raise ValueError(f"{short(text)} is not {self.__name__}")
        return self.kind(value)
