"""The options of a control plane; see ``cascade.runtime.options`` for the mechanism."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypedDict

from cascade.adapters.connectors.topics import check_topic
from cascade.runtime.control.status import MOST_EVERY, MOST_OF_A_NAME
from cascade.runtime.control.telemetry import USUAL
from cascade.spec.checks import check_seconds
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

#: Numbers for engines without a name; a process may have several.
_numbers = itertools.count(1)


class PlaneOptions(TypedDict, total=False):
    """Options of a control plane, ``cs.ControlPlane(engine, connector, every=5)``."""

    name: str | None
    prefix: str
    every: float
    telemetry: Iterable[str]
    patience: float
    redact: Callable[[str], str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSettings:
    """The names, the frequency and the contents of a control plane's messages.

    Attributes:
        name: The name of the engine for other processes, which must be unique. By default made of
            the host and the process id, with a number from the second engine of a process on.
        prefix: The first levels of all topics.
        every: Seconds between two heartbeats.
        telemetry: Groups of events to publish: of ``"run"``, ``"task"``, ``"resource"``,
            ``"steps"``, ``"constraint"`` and ``"control"``. By default all but ``"task"``, whose
            event for each call makes trivial calls three times as expensive.
        patience: Seconds to wait at the start for the broker, and for its retained rules.
        redact: Returns each text to publish (names of tasks and targets, errors, reasons) in a form
            for others, for example without passwords. If it raises, the text is withheld. Names of
            engines, ids of runs and constraints in the status are published unchanged.
    """

    name: str | None = None
    prefix: str = "cascade"
    every: float = 1.0
    telemetry: Iterable[str] = USUAL
    patience: float = 2.0
    redact: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            _check_level("name", self.name)
        _check_level("prefix", self.prefix)
        check_seconds("every", self.every)
        check_seconds("patience", self.patience)
        if self.every > MOST_EVERY:
            raise ArgumentError(
                f"every must be at most a day, {MOST_EVERY:g}, but is {short(self.every)}"
            )


def next_name() -> str:
    """The name of the next engine of this process, made of its host and process id."""
    host, number = socket.gethostname().split(".")[0], next(_numbers)
    return f"{host}-{os.getpid()}" + (f"-{number}" if number > 1 else "")


def _check_level(what: str, level: object) -> None:
    if not isinstance(level, str) or not level or any(c in level for c in "+#\0"):
        raise ArgumentError(f"{what} is part of topics, without '+' and '#', but is {short(level)}")
    check_topic(level)  # otherwise nothing could be published, and only the log would say why
    if what == "name" and "/" in level:
        raise ArgumentError(f"the name of an engine is one level of topics, but is {short(level)}")
    if what == "name" and len(level.encode()) > MOST_OF_A_NAME:
        raise ArgumentError(
            f"the name of an engine has at most {MOST_OF_A_NAME} bytes of UTF-8, but "
            f"{short(level)} has {len(level.encode())}"
        )
