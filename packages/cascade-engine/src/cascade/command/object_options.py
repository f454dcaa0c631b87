"""Options of a target's input that is a dataclass or a model of pydantic.

``--customer`` takes the whole object, as JSON or as ``@FILE``; ``--customer.name`` sets one of its
fields, and overrides the JSON. cyclopts, jsonargparse and pydantic-settings have such options, too.
"""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Iterator, Mapping, Sized
from datetime import date, time
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cyclopts import Group, Parameter

from cascade.command.failures import UsageError
from cascade.command.json_forms import HasNoFormError, plain_data
from cascade.command.objects import (
    Misfit,
    MisfitError,
    ObjectReader,
    Place,
    path,
)
from cascade.command.option_values import Reading, reading_of, without_none
from cascade.command.options import OPTIONAL_FLAG, Option, keyword, shown_default
from cascade.runtime.control.fields import REQUIRED, Field, fields_of
from cascade.spec.params import MISSING
from cascade.spec.wording import short

#: Most options of one object, and the depth of objects within objects. The rest is set as JSON.
_MOST, _DEEPEST = 50, 4


class FieldOption(NamedTuple):
    """The option of one field.

    Attributes:
        place: The names of the fields that lead to it.
        keys: The names of these fields in the data, which may be aliases.
        reading: How its text is read; None leaves that to the class.
    """

    key: str
    flag: str
    place: Place
    keys: tuple[str, ...]
    field: Field
    reading: Reading | None

    def parameter(self, group: Group) -> inspect.Parameter:
        """The option as a function parameter, for cyclopts; it gets plain data."""
        default = self.field.default
        common: dict[str, Any] = {
            "name": self.flag,
            "help": self.field.description or None,
            "group": group,
            "show_default": _shown(default),
        }
        if self._is_flag:
            hint: Any = OPTIONAL_FLAG
            settings = Parameter(negative=f"--no-{self.flag[2:]}", **common)
        else:
            hint = Any
            settings = Parameter(
                converter=lambda _hint, tokens: self._data(tokens[0].value),
                n_tokens=1,
                allow_leading_hyphen=True,
                metavar="TEXT" if self.reading is None else self.reading.shown,
                choices=(self.reading.choices or None) if self.reading else None,
                **common,
            )
        return keyword(self.key, hint, settings)

    @property
    def _is_flag(self) -> bool:
        return self.reading is not None and self.reading.convert is bool

    def _data(self, text: str) -> Any:
        """The field as plain data; text that does not fit stays, for the class to refuse."""
        reading = self.reading
        if reading is None:
            return _parsed(text) if text[:1] in ("{", "[") else text
        if reading.choices:
            try:
                value = reading.convert(text)
            except ValueError as error:
                raise UsageError(f"{self.flag} cannot be {short(text)}: {error}") from None
            return plain_data(value)
        if reading.shown == "JSON":
            return _read_json(text, self.flag)
        if reading.convert in (int, float):
            try:
                return reading.convert(text)
            except ValueError:
                return text
        return text


class ObjectOption(Option):
    """The options of one object: ``--customer``, and one for each of its fields."""

    @property
    def kind(self) -> type:
        """The class of the object."""
        reader: ObjectReader = self.reading.convert  # type: ignore[assignment]
        return reader.kind

    @property
    def fields(self) -> list[FieldOption]:
        """The options of fields, those of inner objects in their place."""
        found = list(_field_options(self.kind, self.flag, self.key, (), ()))
        return found if len(found) <= _MOST else []

    def parameters(self, group: Group) -> list[inspect.Parameter]:
        settings = Parameter(
            name=self.flag,
            converter=lambda _hint, tokens: _read_whole(tokens[0].value, self.flag),
            n_tokens=1,
            metavar="JSON",
            help=self._help,
            group=group,
            show_default=False,
        )
        return [
            keyword(self.key, Any, settings),
            *(field.parameter(group) for field in self.fields),
        ]

    @property
    def _help(self) -> str:
        told = next((p.description for p in self.params if p.description), "")
        return f"{told} {self.kind.__name__}, as JSON or @FILE.".lstrip()

    def given(self, values: Mapping[str, Any]) -> Any:
        """Its value, as plain data if the target's Param reads that, else the object.

        Raises:
            UsageError: The data does not fit; the message names the option of each fault.
        """
        whole = values.get(self.key)
        parts = [(f, values[f.key]) for f in self.fields if values.get(f.key) is not None]
        default = next((p.default for p in self.params if p.default is not MISSING), MISSING)
        if whole is None and not parts:
            if default is not MISSING:
                return None
            if not any(field.default is REQUIRED for field in fields_of(self.kind) or ()):
                whole = {}
            else:
                raise UsageError(f"{self.flag} is required, or options of its fields; see --help")
        data = whole if whole is not None else self._data_of(default)
        if parts and not isinstance(data, dict):
            raise UsageError(f"{self.flag} must be a JSON object, but is {short(whole)}")
        for field, value in parts:
            _put(data, field, value)
        try:
            made = self.reading.convert(data)
        except MisfitError as error:
            raise UsageError("\n".join(self._said(m) for m in error.misfits)) from error
        return data if isinstance(self.params[0].type, ObjectReader) else made

    def _data_of(self, default: Any) -> Any:
        """The data that options of fields change."""
        if not isinstance(default, self.kind):
            return {}
        try:
            return plain_data({f.key: getattr(default, f.name) for f in fields_of(self.kind) or ()})
        except HasNoFormError as error:
            raise UsageError(
                f"{self.flag} has a default of which no option can change a part: {error}; give "
                f"the whole {self.flag}"
            ) from None

    def _said(self, misfit: Misfit) -> str:
        """A fault, at the option of the innermost field that has one."""
        where = f" (declared at {self.params[0].callsite})"
        options = {field.place: field.flag for field in self.fields}
        known = list(misfit.place)
        while known and tuple(known) not in options:
            known.pop()
        flag = options.get(tuple(known), self.flag)
        rest = path(tuple(misfit.place[len(known) :]))
        told = f"{flag}{'' if not rest or rest.startswith('[') else ' '}{rest}"
        if misfit.is_missing:
            return f"{told} is required; see --help"
        return f"{told}: {misfit.reason}{where}"


def _field_options(
    kind: type, flag: str, key: str, place: Place, keys: tuple[str, ...]
) -> Iterator[FieldOption]:
    for number, field in enumerate(fields_of(kind) or ()):
        own = f"{flag}.{field.name.replace('_', '-')}"
        at, below = (*place, field.name), (*keys, field.key)
        annotation = without_none(field.annotation)
        reading = reading_of(annotation)
        option = FieldOption(f"{key}_{number}", own, at, below, field, reading)
        yield option
        inner = None if reading is None else reading.convert
        if isinstance(inner, ObjectReader) and len(at) < _DEEPEST:
            yield from _field_options(inner.kind, own, option.key, at, below)


def _shown(default: Any) -> str | Literal[False]:
    """The default of a field for the help; False for one that tells nothing, as an empty list."""
    if default is REQUIRED or default is None or (isinstance(default, Sized) and not default):
        return False
    if isinstance(default, enum.Enum):
        return default.name
    return default.isoformat() if isinstance(default, (date, time)) else shown_default(default)


def _put(data: dict[str, Any], field: FieldOption, value: Any) -> None:
    for key in field.keys[:-1]:
        inner = data.get(key)
        if not isinstance(inner, dict):
            data[key] = inner = {}
        data = inner
    data[field.keys[-1]] = value


def _read_whole(text: str, flag: str) -> Any:
    """The data of ``--customer``: JSON, or that of a file."""
    if not text.startswith("@"):
        return _read_json(text, flag)
    try:
        content = Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{flag} cannot read {text[1:] or 'a file without a name'}: {reason}"
        ) from None
    return _read_json(content, f"{flag} {text}")


def _read_json(text: str, told: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{told} is not valid JSON: {error}") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
