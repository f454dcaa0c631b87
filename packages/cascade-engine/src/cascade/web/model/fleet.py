"""The engines at a glance, the waits of their tasks, and the limits in force."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cascade.graph.durations import duration_text
from cascade.runtime.control.status import ConstraintStatus, EngineStatus, WaitStatus
from cascade.runtime.limits.rules import KINDS, PAUSE, Constraint
from cascade.web.model.feed import Feed, Point
from cascade.web.model.run_table import spark

#: Most points of a spark line.
_SPARKS: Final = 24


@dataclass(frozen=True, slots=True)
class EngineCard:
    """One engine."""

    name: str
    host: str
    pid: int
    runs: int
    steps: int
    steps_per_second: float
    rates: str
    waiting: int
    constraints: int
    is_paused: bool
    trouble: str
    #: Seconds since its last status, by its own clock.
    left_out: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Alike waits of some tasks."""

    engine: str
    task: str
    count: int
    reason: str
    holders: str
    #: The longest of them, as text.
    waited: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint that is in force in some engines, or holds for those that connect later."""

    scope: str
    kind: str
    value: str
    left: str
    #: Names of the engines in which it is in force.
    engines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Amount:
    """A capacity of an engine."""

    engine: str
    name: str
    total: float
    available: float
    shared: bool
    #: Names of the tasks that wait for it, with their number.
    wanted: str

    @property
    def share(self) -> float:
        """The part that is taken, from 0 to 1."""
        if self.total <= 0:
            return 0.0
        return min(1.0, max(0.0, (self.total - self.available) / self.total))


def cards(feed: Feed) -> list[EngineCard]:
    """The engines that are alive, by name."""
    return [_card(status, feed.trends.get(status.engine, ())) for status in feed.engines.alive]


def _card(status: EngineStatus, trend: Iterable[Point]) -> EngineCard:
    return EngineCard(
        status.engine,
        status.host,
        status.pid,
        len(status.runs) + status.more_runs,
        sum(run.steps for run in status.runs),
        sum(run.steps_per_second for run in status.runs),
        spark([point.steps_per_second for point in trend][-_SPARKS:]),
        len(status.waiting) + status.more_waiting,
        len(status.constraints) + status.more_constraints,
        any(rule.kind == PAUSE for rule in status.constraints),
        status.trouble,
        status.left_out,
    )


def waits(feed: Feed) -> list[Wait]:
    """What tasks wait for, those that have waited longest first."""
    found: list[tuple[float, Wait]] = []
    for status in feed.engines.alive:
        alike: dict[tuple[str, str, tuple[str, ...]], list[float]] = {}
        for wait in status.waiting:
            alike.setdefault(_alike(wait), []).append(wait.waited or 0.0)
        for (task, reason, holders), waited in alike.items():
            longest = max(waited)
            named = ", ".join(holders)
            row = Wait(status.engine, task, len(waited), reason, named, duration_text(longest))
            found.append((longest, row))
    return [wait for _, wait in sorted(found, key=lambda pair: -pair[0])]


def _alike(wait: WaitStatus) -> tuple[str, str, tuple[str, ...]]:
    return wait.task, wait.reason, tuple(dict.fromkeys(wait.holders))


def rules(feed: Feed) -> list[Rule]:
    """The constraints that hold, each once, with the engines in which it is in force."""
    found: dict[tuple[str, str, str], list[tuple[str, ConstraintStatus]]] = {}
    for status in feed.engines.alive:
        for rule in status.constraints:
            found.setdefault(_key(rule), []).append((status.engine, rule))
    shown = [
        Rule(*key, _left(rule for _, rule in pairs), tuple(engine for engine, _ in pairs))
        for key, pairs in found.items()
    ]
    for constraint in feed.engines.constraints.values():
        key = (constraint.scope, constraint.kind, _value(constraint))
        if key not in found:
            left = "" if constraint.ttl is None else duration_text(constraint.ttl)
            shown.append(Rule(*key, left, ()))
    return sorted(shown, key=lambda rule: (KINDS.index(rule.kind), rule.scope))


def paused_scopes(feed: Feed) -> set[str]:
    """The scopes that are paused in some engine."""
    return {rule.scope for rule in rules(feed) if rule.kind == PAUSE and rule.engines}


def _key(rule: ConstraintStatus) -> tuple[str, str, str]:
    kind = rule.kind if rule.kind in KINDS else KINDS[-1]
    return rule.scope, kind, _value(rule)


def _value(rule: ConstraintStatus | Constraint) -> str:
    value = "" if rule.value is None else str(rule.value)
    return value + (f" shared as {rule.shared!r}" if rule.shared is not None else "")


def _left(rows: Iterable[ConstraintStatus]) -> str:
    left = [row.seconds_left for row in rows if row.seconds_left is not None]
    return duration_text(max(left)) if left else ""


def amounts(feed: Feed) -> list[Amount]:
    """The capacities of all engines."""
    found = []
    for status in feed.engines.alive:
        for name, total in status.capacities.items():
            available = status.available.get(name, total)
            wanted = _wanted(status.waiting, f"capacity {name}")
            found.append(Amount(status.engine, name, total, available, status.shares, wanted))
    return found


def _wanted(rows: Sequence[WaitStatus], reason: str) -> str:
    """``"train × 3, load"``: the tasks that wait for something."""
    tasks: dict[str, int] = {}
    for wait in rows:
        if wait.reason == reason:
            tasks[wait.task] = tasks.get(wait.task, 0) + 1
    return ", ".join(f"{task} × {n}" if n > 1 else task for task, n in tasks.items())


def constraint(scope: str, kind: str, value: str, burst: str = "", ttl: str = "") -> Constraint:
    """A constraint from the texts of a form.

    Raises:
        ArgumentError: A text is at fault.
        ValueError: A number is none.

    >>> constraint("task:fetch", "concurrency", "4")
    Constraint(scope='task:fetch', kind='concurrency', value=4, burst=1, ttl=None, shared=None)
    """
    given: Any = None if kind == PAUSE else value.strip()
    if kind == "concurrency":
        given = _whole(value, "the number of calls")
    first = _whole(burst, "the burst") if burst.strip() else 1
    seconds = _number(ttl, "the number of seconds") if ttl.strip() else None
    return Constraint(scope.strip(), kind, given, first, seconds)


def _whole(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what} must be a whole number, but is {text.strip()!r}") from None


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what} must be a number, but is {text.strip()!r}") from None
