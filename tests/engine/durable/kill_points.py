"""Kills this process at a named point: ``KILL_AT=commit:3`` at the fourth call of that function.

A point is before a function of the engine, or after it (``commit after:3``).
"""

import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.runs import DurableRuns
from cascade.runtime.durable.writer import Writer
from cascade.runtime.graph_path.node_rules.commits import Commits

#: Name → the function at whose call the process may be killed, before or after.
FUNCTIONS: dict[str, tuple[type, str]] = {
    "call of the store": (DurableRuns, "call"),
    "load": (Journal, "load"),
    "outcome": (Journal, "record"),
    "record": (Journal, "goes_on"),
    "gathered": (Desk, "collect"),
    "commit": (Writer, "_commit"),
    "release": (Commits, "release"),
    "end": (DurableRuns, "release"),
}
#: Also in the middle of a transaction.
STATEMENT = "statement"
POINTS = [*FUNCTIONS, *(f"{name} after" for name in FUNCTIONS), STATEMENT]


def kill_at(point: str, count: int) -> None:
    """Arrange that this process is killed when it is at ``point``, after ``count`` times there."""
    left = [count]

    def passed(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if point == STATEMENT:
        connect = sqlite3.connect

        def connected(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)
            connection.set_trace_callback(passed)
            return connection

        sqlite3.connect = connected  # type: ignore[assignment]
        return
    owner, name = FUNCTIONS[point.removesuffix(" after")]
    setattr(owner, name, _watched(getattr(owner, name), passed, point.endswith(" after")))


def _watched(
    function: Callable[..., Any], passed: Callable[[], None], after: bool
) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        if not after:
            passed()
        result = function(*args, **kwargs)
        if after:
            passed()
        return result

    return watched
