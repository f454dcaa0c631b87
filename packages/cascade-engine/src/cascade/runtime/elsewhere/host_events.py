"""Events of hosted runs as bytes: hosts send them, and the driver publishes them on its bus."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import cache
from typing import Any, Final

from cascade.runtime import events
from cascade.runtime.events import ConstraintEvent, ControlEvent, Notice
from cascade.spec.wire import dumps, problem_of
from cascade.spec.wire_errors import dumps_error, loads_error
from cascade.spec.wording import error_text, short

_log: Final = logging.getLogger("cascade.executors")


@cache
def _kinds() -> dict[str, type[Notice]]:
    """Name → class of each event of runs; base classes are left out."""
    found = [kind for kind in vars(events).values() if isinstance(kind, type)]
    return {
        kind.__name__: kind
        for kind in found
        if issubclass(kind, Notice)
        and not issubclass(kind, (ConstraintEvent, ControlEvent))
        and not any(other is not kind and issubclass(other, kind) for other in found)
    }


def wanted(wants: Callable[[type[Notice]], bool]) -> tuple[str, ...]:
    """The names of the events for which a bus has subscribers."""
    return tuple(name for name, kind in _kinds().items() if wants(kind))


def kind_of(name: str) -> type[Notice]:
    """The class of an event."""
    return _kinds()[name]


def dumps_events(told: Iterable[Notice]) -> list[tuple[str, bytes]]:
    """Events, by the names of their classes. A value that cannot be sent becomes its ``repr``."""
    return [(type(event).__name__, _dumped(event)) for event in told]


def _dumped(event: Notice) -> bytes:
    values: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        values[field.name] = _Error(value) if isinstance(value, BaseException) else value
    try:
        return dumps(values)
    except Exception:
        return dumps({name: _sendable(value) for name, value in values.items()})


def _sendable(value: Any) -> Any:
    """A value of an event, or a text in its place."""
    return value if problem_of(value) is None else short(value)


class _Error:
    """An error among the values of an event."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        return loads_error, (dumps_error(self._error),)


def loads_events(told: Iterable[tuple[str, bytes]]) -> Iterator[Notice]:
    """The events of ``dumps_events``; one that cannot be read is left out, with a warning."""
    for name, data in told:
        try:
            yield kind_of(name)(**pickle.loads(data))
        except Exception as problem:  # a value of a class that this process does not have
            _warn(name, error_text(problem))


@cache  # once for each kind, as such events come in many
def _warn(name: str, problem: str) -> None:
    _log.warning("events %s of hosted runs are left out: %s", name, problem)
