"""Events of hosted runs as bytes: hosts send them, and the driver publishes them on its bus."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from cascade.runtime import events
from cascade.runtime.events import ConstraintEvent, ControlEvent, Notice
from cascade.spec.wire import dumps
from cascade.spec.wire_errors import dumps_error, loads_error


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


def dumps_events(told: Iterable[Notice]) -> list[bytes]:
    """Events as bytes; one that cannot be sent is left out."""
    return [data for event in told if (data := _dumped(event)) is not None]


def _dumped(event: Notice) -> bytes | None:
    values: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        values[field.name] = _Error(value) if isinstance(value, BaseException) else value
    try:
        return dumps((type(event).__name__, values))
    except Exception:  # a value of the user's
        return None


class _Error:
    """An error among the values of an event."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        return loads_error, (dumps_error(self._error),)


def loads_events(told: Sequence[bytes]) -> Iterator[Notice]:
    """The events of ``dumps_events``; one that cannot be read is left out."""
    for data in told:
        try:
            name, values = pickle.loads(data)
            yield kind_of(name)(**values)
        except Exception:  # of a class that this process does not have
            continue
