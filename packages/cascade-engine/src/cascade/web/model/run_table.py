"""RunTable: all runs under way of one engine, from the rows that it shows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: Rates that are remembered of each run.
_RATES = 24
_BARS: Final = "▁▂▃▄▅▆▇█"
#: Most rows that are remembered; an engine could invent more.
_MOST = 100_000


@dataclass(slots=True)
class RunRow:
    """A run under way."""

    engine: str
    run: str
    target: str
    strategy: str
    seconds: float
    steps: int
    rate: float
    task: str
    #: What one of its nodes waits for; empty if none is known to wait.
    waits: str
    #: The rates of the last looks, the newest last.
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_RATES))
    sweep: int = 0

    @property
    def state(self) -> str:
        """``"running"``, ``"waiting"``, ``"retrying"`` or ``"paused"``."""
        if not self.waits:
            return "running"
        if self.waits.startswith("pause "):
            return "paused"
        return "retrying" if self.waits == "retry delay" else "waiting"

    @property
    def signal(self) -> str:
        """The name of the signal that it waits for; empty for none."""
        return self.waits.removeprefix("signal ") if self.waits.startswith("signal ") else ""


class RunTable:
    """The runs under way of one engine.

    Args:
        engine: Its name.

    Attributes:
        rows: Id of a run → its row.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.rows: dict[str, RunRow] = {}

    def hear(self, body: Mapping[str, Any]) -> None:
        """Take over a part ``runs``; with the last part of a sweep, forget the runs not in it."""
        sweep = body["sweep"]
        for run, target, strategy, seconds, steps, rate, task, waits in body["rows"]:
            row = self.rows.get(run)
            if row is None:
                if len(self.rows) >= _MOST:
                    break
                row = self.rows[run] = RunRow(self._engine, run, target, strategy, 0, 0, 0, "", "")
            row.seconds, row.steps, row.rate = seconds, steps, rate
            row.task, row.waits, row.sweep = task or "", waits, sweep
            row.rates.append(rate)
        if body["first"] + len(body["rows"]) >= body["of"]:
            for run in [run for run, row in self.rows.items() if row.sweep != sweep]:
                del self.rows[run]


def spark(rates: Iterable[float]) -> str:
    """Numbers as a line of bars.

    >>> spark([0, 1, 2, 4])
    '▁▃▅█'
    """
    values = list(rates)
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[min(top, max(0, int(value / most * top + 0.5)))] for value in values)


#: Column of the table of runs → what it is sorted by.
SORTS: Final = {
    "engine": lambda row: row.engine,
    "run": lambda row: row.run,
    "target": lambda row: row.target,
    "seconds": lambda row: row.seconds,
    "steps": lambda row: row.steps,
    "rate": lambda row: row.rate,
    "state": lambda row: (row.state, row.waits),
}


def chosen(
    rows: Iterable[RunRow], text: str = "", state: str = "", sort: str = "run", down: bool = False
) -> list[RunRow]:
    """The rows that fit, in order.

    Args:
        rows: All rows.
        text: Part of the id, of a name or of what it waits for, in any case.
        state: The state; empty for any.
        sort: A column of SORTS.
        down: Whether the largest comes first.
    """
    wanted = text.casefold()
    found = [
        row
        for row in rows
        if (not state or row.state == state)
        and any(wanted in part.casefold() for part in (row.run, row.target, row.task, row.waits))
    ]
    return sorted(found, key=SORTS.get(sort, SORTS["run"]), reverse=down)


@dataclass(frozen=True, slots=True)
class RunGroup:
    """The runs under way of one task."""

    task: str
    runs: int
    rate: float
    #: State → number of runs.
    states: dict[str, int]


def groups(rows: Iterable[RunRow]) -> list[RunGroup]:
    """The runs by their task, those with most runs first."""
    found: dict[str, list[RunRow]] = {}
    for row in rows:
        found.setdefault(row.target, []).append(row)
    made = [
        RunGroup(task, len(own), sum(row.rate for row in own), Counter(row.state for row in own))
        for task, own in found.items()
    ]
    return sorted(made, key=lambda group: (-group.runs, group.task))


def page_of(rows: Sequence[RunRow], number: int, size: int) -> Sequence[RunRow]:
    """A page of rows; the last one if there are not so many."""
    last = max(0, (len(rows) - 1) // size)
    first = min(max(number, 0), last) * size
    return rows[first : first + size]
