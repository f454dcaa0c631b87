"""What limits are measured around: engines with and without them, and nodes that take something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cascade.observatory.benchmarks.contenders import TASKS
from cascade.runtime.engine import Engine

FREE, OTHERS, BOUND = "no limits", "limits for others", "limits that hold"
#: Which limits an engine has → the scope of its tasks; None for no limit.
SCOPES: Mapping[str, str | None] = {FREE: None, OTHERS: "task:others_*", BOUND: "global"}

#: Kind of node → how to make the one of a number. A retry takes the same lane as a capacity does;
#: the latter needs an engine with ``slots``.
NODES: Mapping[str, Callable[[int], Any]] = {
    "plain": TASKS.leaf,
    "with a retry": lambda number: TASKS.leaf(number).with_retry(3),
    "with a capacity": lambda number: TASKS.leaf(number).with_constraints(slots=1),
}


def limit(engine: Engine, which: str) -> None:
    """Give an engine limits that are never reached.

    Args:
        engine: The engine.
        which: A key of ``SCOPES``.
    """
    scope = SCOPES[which]
    if scope is not None:
        engine.constraints.limit_concurrency(scope, 1_000)
        engine.constraints.limit_rate(scope, "1000000000/s")
