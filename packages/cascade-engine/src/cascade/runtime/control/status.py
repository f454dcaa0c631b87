"""How an engine stands, as JSON, for those who look from outside."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cascade.runtime.control.messages import RefusedMessageError

if TYPE_CHECKING:
    from cascade.runtime.engine import Engine

#: Runs that are listed; the rest is counted.
_RUNS_SHOWN = 50
#: Waiting nodes that are listed; the rest is counted.
_WAITING_SHOWN = 50
#: Names of tasks that are listed, of those that hold a limit or were abandoned; each once.
_NAMES_SHOWN = 20
#: Times of heartbeats after which an engine that says nothing is taken for gone.
_MISSED = 3
#: What reading anything may raise.
_MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run that is under way."""

    run_id: str
    target: str
    strategy: str
    seconds: float
    steps: int
    steps_per_second: float
    task: str | None


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """Why a node does not run."""

    task: str
    reason: str
    holders: tuple[str, ...] = ()
    #: For how long it has waited; None where nobody knows.
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class ConstraintStatus:
    """A constraint in force."""

    scope: str
    kind: str
    value: int | str | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """An engine at one time."""

    engine: str
    host: str
    pid: int
    #: When it was told, in Unix time.
    time: float
    #: Seconds between two of these.
    every: float
    runs: tuple[RunStatus, ...] = ()
    #: How many more are under way than are listed.
    more_runs: int = 0
    waiting: tuple[WaitStatus, ...] = ()
    #: How many more wait than are listed.
    more_waiting: int = 0
    constraints: tuple[ConstraintStatus, ...] = ()
    capacities: Mapping[str, float] = field(default_factory=dict)
    available: Mapping[str, float] = field(default_factory=dict)
    abandoned: tuple[str, ...] = ()
    #: Events that were left out of the telemetry, because there were too many.
    left_out: int = 0

    def is_gone(self, now: float) -> bool:
        """Whether it has said nothing for so long that it is not there any more."""
        return now - self.time > _MISSED * self.every + 1


def status_of(
    engine: Engine, name: str, host: str, pid: int, every: float, left_out: int
) -> EngineStatus:
    """How ``engine`` stands now."""
    runs = engine.runs()
    waits = engine.waiting(inputs=False)  # a heartbeat shall not look at all nodes of a graph
    now = time.monotonic()
    return EngineStatus(
        name,
        host,
        pid,
        time.time(),
        every,
        tuple(RunStatus(*run) for run in runs[:_RUNS_SHOWN]),
        max(len(runs) - _RUNS_SHOWN, 0),
        tuple(
            WaitStatus(
                w.task, w.reason, _some(w.holders), None if w.since is None else now - w.since
            )
            for w in waits[:_WAITING_SHOWN]
        ),
        max(len(waits) - _WAITING_SHOWN, 0),
        tuple(
            ConstraintStatus(*info.constraint.key, info.constraint.value, info.seconds_left)
            for info in engine.constraints.active()
        ),
        engine.resource_manager.capacities,
        engine.resource_manager.available,
        _some(engine.abandoned),
        left_out,
    )


def _some(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:_NAMES_SHOWN]


def write_status(status: EngineStatus) -> bytes:
    """As it is published."""
    from dataclasses import asdict

    return json.dumps(asdict(status), allow_nan=False, default=str).encode()


def read_status(payload: bytes) -> EngineStatus:
    """What an engine has published.

    Raises:
        RefusedMessageError: Something else has come.
    """
    try:
        body = json.loads(payload)
        return EngineStatus(
            engine=_text(body["engine"]),
            host=_text(body["host"]),
            pid=int(body["pid"]),
            time=_number(body["time"]),
            every=_number(body["every"]),
            runs=tuple(_read_run(**run) for run in body["runs"]),
            more_runs=int(body["more_runs"]),
            waiting=tuple(_read_wait(**wait) for wait in body["waiting"]),
            more_waiting=int(body["more_waiting"]),
            constraints=tuple(_read_constraint(**rule) for rule in body["constraints"]),
            capacities={_text(n): _number(a) for n, a in body["capacities"].items()},
            available={_text(n): _number(a) for n, a in body["available"].items()},
            abandoned=tuple(map(_text, body["abandoned"])),
            left_out=int(body["left_out"]),
        )
    except _MALFORMED as error:
        raise RefusedMessageError(f"it is no status of an engine: {error}") from None


def _read_run(
    task: str | None, steps: int, seconds: float, steps_per_second: float, **texts: str
) -> RunStatus:
    return RunStatus(
        **{name: _text(value) for name, value in texts.items()},
        seconds=_number(seconds),
        steps=int(_number(steps)),
        steps_per_second=_number(steps_per_second),
        task=None if task is None else _text(task),
    )


def _read_wait(task: str, reason: str, holders: Iterable[str], waited: float | None) -> WaitStatus:
    waited = None if waited is None else _number(waited)
    return WaitStatus(_text(task), _text(reason), tuple(map(_text, holders)), waited)


def _read_constraint(
    scope: str, kind: str, value: int | str | None, seconds_left: float | None
) -> ConstraintStatus:
    value = value if value is None or isinstance(value, str) else int(_number(value))
    left = None if seconds_left is None else _number(seconds_left)
    return ConstraintStatus(_text(scope), _text(kind), value, left)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value
