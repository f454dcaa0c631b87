"""Levels of events, as in the standard ``logging``."""

from __future__ import annotations

import logging
from typing import Final, Literal

from cascade.runtime.events import (
    CallAbandoned,
    CodeChanged,
    ConnectorConnected,
    ConnectorDisconnected,
    ConstraintEvent,
    ControlMessageRefused,
    Event,
    ResourceReleased,
    RunFinished,
    RunStarted,
    TaskBlocking,
    TaskFailed,
    TaskRetrying,
)
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

LogLevel = Literal["debug", "info", "warning", "error"]

_NAMED: Final[dict[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: Levels of the events that are above DEBUG; subclasses have that of their base.
_LEVELS: Final[tuple[tuple[type[Event], int], ...]] = (
    (RunStarted, logging.INFO),
    (RunFinished, logging.INFO),
    (ConstraintEvent, logging.INFO),
    (ConnectorConnected, logging.INFO),
    (ConnectorDisconnected, logging.WARNING),
    (ControlMessageRefused, logging.WARNING),
    (TaskRetrying, logging.WARNING),
    (TaskBlocking, logging.WARNING),
    (CallAbandoned, logging.WARNING),
    (CodeChanged, logging.WARNING),
    (TaskFailed, logging.ERROR),
)


def level_of(event: Event) -> int:
    """The level of an event: ERROR for failures, DEBUG for events that come in thousands."""
    if isinstance(event, RunFinished) and event.status == "failed":
        return logging.ERROR
    if isinstance(event, ResourceReleased) and event.error is not None:
        return logging.ERROR
    return level_of_type(type(event))


def level_of_type(event_type: type[Event]) -> int:
    """The level of a type's events without a failure; for TaskFailed, of all its events."""
    return next((its for kind, its in _LEVELS if issubclass(event_type, kind)), logging.DEBUG)


def types_from(level: int) -> list[type[Event]]:
    """Types whose events may have at least ``level``, and always those of runs."""
    if level <= logging.DEBUG:
        return [Event]
    found = [kind for kind, its in _LEVELS if its >= level]
    return [*dict.fromkeys([RunStarted, RunFinished, ResourceReleased, *found])]


def level_named(level: LogLevel) -> int:
    """The number of a level.

    Raises:
        ArgumentError: The name is unknown.
    """
    if not isinstance(level, str) or level not in _NAMED:
        raise ArgumentError(f"log_level must be one of {', '.join(_NAMED)}, but is {short(level)}")
    return _NAMED[level]
