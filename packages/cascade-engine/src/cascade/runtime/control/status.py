"""The state of an engine as JSON, for other processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

from cascade.runtime.control.messages import RefusedMessageError
from cascade.runtime.limits.rules import GLOBAL, PAUSE
from cascade.runtime.telemetry.texts import Texts, cut
from cascade.spec.wording import short, type_name

if TYPE_CHECKING:
    from cascade.runtime.engine import Engine

#: Most listed runs; the rest is counted.
_RUNS_SHOWN = 50
#: Most listed waiting nodes; the rest is counted.
_WAITING_SHOWN = 50
#: Most listed names of tasks that hold a limit or were abandoned, each once.
_NAMES_SHOWN = 20
#: Most listed constraints, of pauses and of others each; the rest is counted.
_CONSTRAINTS_SHOWN = 250
#: Most listed capacities.
_CAPACITIES_SHOWN = 100
#: Most bytes of a name in a status, in UTF-8; a scope that can be sent has fewer.
MOST_OF_A_NAME = 1100
#: The same for readers: a little more, for other versions.
_MOST_CONSTRAINTS = 4 * _CONSTRAINTS_SHOWN
#: Numbers are between this and its negative.
_MOST = 1e15
#: Most bytes of a status. The lists above exceed this only with names of control characters, which
#: take six bytes each in JSON.
MOST_STATUS_BYTES = 4 * 1024 * 1024
#: Most seconds between two heartbeats.
MOST_EVERY = 86_400.0
#: Number of missed heartbeats after which a silent engine is taken for gone.
_MISSED = 3
#: Errors that reading an arbitrary payload may raise.
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
    """An active run."""

    run_id: str
    target: str
    strategy: str
    seconds: float
    steps: int
    steps_per_second: float
    task: str | None


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """The reason why a node does not run."""

    task: str
    reason: str
    holders: tuple[str, ...] = ()
    #: Seconds that it has waited; None if unknown.
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class ConstraintStatus:
    """A constraint in force."""

    scope: str
    kind: str
    value: int | str | None = None
    seconds_left: float | None = None
    #: The name under which other processes share it.
    shared: str | None = None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """An engine at one moment."""

    engine: str
    host: str
    pid: int
    #: Unix time of this status.
    time: float
    #: Seconds between two statuses.
    every: float
    runs: tuple[RunStatus, ...] = ()
    #: Number of further active runs that are not listed.
    more_runs: int = 0
    waiting: tuple[WaitStatus, ...] = ()
    #: Number of further waiting nodes that are not listed.
    more_waiting: int = 0
    constraints: tuple[ConstraintStatus, ...] = ()
    capacities: Mapping[str, float] = field(default_factory=dict)
    available: Mapping[str, float] = field(default_factory=dict)
    abandoned: tuple[str, ...] = ()
    #: Events that were left out of the telemetry because there were too many.
    left_out: int = 0
    #: Number of further constraints that are not listed.
    more_constraints: int = 0
    #: The parts that could not be read, and why; empty if there are none.
    trouble: str = ""
    #: Whether other processes share its capacities.
    shares: bool = False

    @property
    def patience(self) -> float:
        """Seconds of silence after which it is taken for gone, on the listener's clock."""
        return _MISSED * self.every + 1


def status_of(
    engine: Engine,
    name: str,
    host: str,
    pid: int,
    every: float,
    left_out: int,
    texts: Texts | None = None,
) -> EngineStatus:
    """The present state of ``engine``.

    Each part is bounded, and a part that cannot be read does not affect the others: ``trouble``
    reports it.

    Args:
        engine: The engine.
        name, host, pid, every, left_out: As in the status.
        texts: Redacts its texts, except constraints: their senders look for them.
    """
    texts = Texts() if texts is None else texts
    trouble: list[str] = []
    parts: dict[str, Any] = {}
    for reader in (_runs_of, _waits_of, _constraints_of, _capacities_of, _abandoned_of):
        try:
            parts |= reader(engine, texts)
        except Exception as error:  # user code may take part, for example a number class
            what = reader.__name__.strip("_").removesuffix("_of")
            trouble.append(f"{what} cannot be read: {type_name(error)}")
    return EngineStatus(
        *(name, host, pid, time.time(), every),
        **parts,
        left_out=left_out,
        trouble="; ".join(trouble),
    )


def _runs_of(engine: Engine, texts: Texts) -> dict[str, Any]:
    runs = engine.runs()
    return {
        "runs": tuple(
            RunStatus(
                cut(run.run_id, MOST_OF_A_NAME),
                _name(run.target, texts),
                run.strategy,
                _bounded(run.seconds),
                int(_bounded(run.steps)),
                _bounded(run.steps_per_second),
                None if run.task is None else _name(run.task, texts),
            )
            for run in runs[:_RUNS_SHOWN]
        ),
        "more_runs": max(len(runs) - _RUNS_SHOWN, 0),
    }


def _waits_of(engine: Engine, texts: Texts) -> dict[str, Any]:
    waits = engine.waiting(inputs=False)  # a heartbeat must not visit all nodes of a graph
    now = time.monotonic()
    return {
        "waiting": tuple(
            WaitStatus(
                _name(w.task, texts),
                _name(w.reason, texts),
                _some(w.holders, texts),
                None if w.since is None else _bounded(now - w.since),
            )
            for w in waits[:_WAITING_SHOWN]
        ),
        "more_waiting": max(len(waits) - _WAITING_SHOWN, 0),
    }


def _constraints_of(engine: Engine, _texts: Texts) -> dict[str, Any]:
    """The newest constraints, where the sender of one looks for it; pauses are counted apart."""
    active = engine.constraints.active()
    pauses = [info for info in active if info.constraint.kind == PAUSE]
    others = [info for info in active if info.constraint.kind != PAUSE]
    emergency = [info for info in pauses if info.constraint.scope == GLOBAL]
    kept = {
        id(info)
        for found in (emergency, pauses[-_CONSTRAINTS_SHOWN:], others[-_CONSTRAINTS_SHOWN:])
        for info in found
    }
    return {
        "constraints": tuple(
            ConstraintStatus(
                cut(info.constraint.scope, MOST_OF_A_NAME),
                info.constraint.kind,
                info.constraint.value,
                None if info.seconds_left is None else _bounded(info.seconds_left),
                info.constraint.shared,
            )
            for info in active
            if id(info) in kept
        ),
        "more_constraints": len(active) - len(kept),
    }


def _capacities_of(engine: Engine, texts: Texts) -> dict[str, Any]:
    capacities = engine.capacities
    parts = {"capacities": capacities.total, "available": capacities.available}
    return {
        "shares": capacities.sharing is not None,
        **{
            part: {
                _name(name, texts): _bounded(amount)
                for name, amount in islice(amounts.items(), _CAPACITIES_SHOWN)
            }
            for part, amounts in parts.items()
        },
    }


def _abandoned_of(engine: Engine, texts: Texts) -> dict[str, Any]:
    return {"abandoned": _some(engine.abandoned, texts)}


def _some(names: Iterable[str], texts: Texts) -> tuple[str, ...]:
    return tuple(_name(name, texts) for name in islice(dict.fromkeys(names), _NAMES_SHOWN))


def _name(text: str, texts: Texts) -> str:
    return texts.clean(text, MOST_OF_A_NAME)


def _bounded(number: float) -> float:
    """The number within the bounds of JSON, whatever it was."""
    if number != number:
        return 0.0
    return min(max(number, -_MOST), _MOST)


def write_status(status: EngineStatus) -> bytes:
    """The status as a payload.

    Raises:
        ValueError: It has more bytes than ``read_status`` accepts.
    """
    body = {name: getattr(status, name) for name in _FIELDS}
    for part, names in _ROWS.items():
        body[part] = [{name: getattr(row, name) for name in names} for row in body[part]]
    text = json.dumps(body, allow_nan=False, ensure_ascii=False)
    payload = text.encode("utf-8", "backslashreplace")  # the form in which JSON writes a surrogate
    if len(payload) > MOST_STATUS_BYTES:
        raise ValueError(
            f"a status of {len(payload)} bytes; at most {MOST_STATUS_BYTES} are allowed"
        )
    return payload


_FIELDS = tuple(field.name for field in fields(EngineStatus))
#: The columns of each part that has rows.
_ROWS = {
    part: tuple(field.name for field in fields(kind))
    for part, kind in (
        ("runs", RunStatus),
        ("waiting", WaitStatus),
        ("constraints", ConstraintStatus),
    )
}


def read_status(payload: bytes) -> EngineStatus:
    """The status in a payload.

    Raises:
        RefusedMessageError: The payload has another form.
    """
    if len(payload) > MOST_STATUS_BYTES:
        raise RefusedMessageError(
            f"it is not a status of an engine: {len(payload)} bytes; at most {MOST_STATUS_BYTES} "
            f"are allowed"
        )
    try:
        body = json.loads(payload)
        every = _number(body["every"], 0)
        if every > MOST_EVERY:
            raise ValueError(f"{short(every)} seconds between two heartbeats")
        return EngineStatus(
            engine=_text(body["engine"]),
            host=_text(body["host"]),
            pid=_count(body["pid"]),
            time=_number(body["time"]),
            every=every,
            runs=tuple(_read_run(**run) for run in body["runs"][:_RUNS_SHOWN]),
            more_runs=_count(body["more_runs"]) + max(len(body["runs"]) - _RUNS_SHOWN, 0),
            waiting=tuple(_read_wait(**wait) for wait in body["waiting"][:_WAITING_SHOWN]),
            more_waiting=_count(body["more_waiting"])
            + max(len(body["waiting"]) - _WAITING_SHOWN, 0),
            constraints=tuple(
                _read_constraint(**rule) for rule in body["constraints"][:_MOST_CONSTRAINTS]
            ),
            capacities=_read_amounts(body["capacities"]),
            available=_read_amounts(body["available"]),
            abandoned=tuple(map(_text, body["abandoned"][:_NAMES_SHOWN])),
            left_out=_count(body["left_out"]),
            more_constraints=_count(body.get("more_constraints", 0))
            + max(len(body["constraints"]) - _MOST_CONSTRAINTS, 0),
            trouble=_text(body.get("trouble", "")),
            shares=body.get("shares") is True,
        )
    except _MALFORMED as error:
        why = cut(str(error), 300)
        raise RefusedMessageError(f"it is not a status of an engine: {why}") from None


def _read_run(
    task: str | None, steps: int, seconds: float, steps_per_second: float, **texts: str
) -> RunStatus:
    return RunStatus(
        **{name: _text(value) for name, value in texts.items()},
        seconds=_number(seconds, 0),
        steps=_count(steps),
        steps_per_second=_number(steps_per_second, 0),
        task=None if task is None else _text(task),
    )


def _read_wait(task: str, reason: str, holders: list[str], waited: float | None) -> WaitStatus:
    waited = None if waited is None else _number(waited, 0)
    holders = holders[:_NAMES_SHOWN]
    return WaitStatus(_text(task), _text(reason), tuple(map(_text, holders)), waited)


def _read_constraint(
    scope: str,
    kind: str,
    value: int | str | None,
    seconds_left: float | None,
    shared: str | None = None,
) -> ConstraintStatus:
    if value is not None:
        value = _text(value) if isinstance(value, str) else _count(value)
    left = None if seconds_left is None else _number(seconds_left)
    name = None if shared is None else _text(shared)
    return ConstraintStatus(_text(scope), _text(kind), value, left, name)


def _read_amounts(amounts: dict[str, float]) -> dict[str, float]:
    return {_text(n): _number(a) for n, a in islice(amounts.items(), _CAPACITIES_SHOWN)}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{short(value)} is not a text")
    return cut(value, MOST_OF_A_NAME)


def _count(value: Any) -> int:
    return int(_number(value, 0))


def _number(value: Any, least: float = -_MOST) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{short(value)} is not a number")
    if not least <= value <= _MOST:
        raise ValueError(f"{short(value)} is not between {least:g} and {_MOST:g}")
    return value
