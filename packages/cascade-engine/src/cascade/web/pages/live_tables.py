"""Tables of runs under way and of waits, which several pages show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cascade.graph.durations import duration_text
from cascade.web.model.fleet import Wait
from cascade.web.model.run_table import RunRow, spark
from cascade.web.pages.frame import Table, address

_RUN: Final = {
    "run": "run",
    "target": "target",
    "state": "state",
    "steps": "steps",
    "rate": "steps/s",
    "trend": "",
    "age": "for",
}
_WAIT: Final = {
    "task": "task",
    "count": "calls",
    "reason": "waits for",
    "holders": "held by",
    "waited": "since",
}


class RunTable:
    """Runs under way, a row each.

    Args:
        more: Further columns: name → heading.
        empty: The text in place of a table without rows.
    """

    def __init__(self, more: Mapping[str, str] | None = None, *, empty: str) -> None:
        self.table = Table(
            {**_RUN, **(more or {})},
            {
                "steps": "number",
                "rate": "number",
                "age": "number",
                "run": "link",
                "state": "state",
                "waits": "wide",
                "trend": "spark",
            },
            key="key",
            empty=empty,
        )

    def show(self, rows: Iterable[RunRow]) -> None:
        """Show these runs."""
        self.table.show([_run_cells(row) for row in rows])


class WaitTable:
    """Tasks that wait, and the tasks that hold what they need.

    Args:
        engine: Whether a column names the engine.
        empty: The text in place of a table without rows.
    """

    def __init__(self, *, engine: bool, empty: str) -> None:
        self._table = Table(
            {**_WAIT, "engine": "engine"} if engine else _WAIT,
            {"count": "number", "waited": "number", "reason": "wide", "holders": "wide"},
            key="key",
            empty=empty,
        )

    def show(self, waits: Iterable[Wait]) -> None:
        """Show these waits."""
        self._table.show([_wait_cells(wait) for wait in waits])


def key_of(row: RunRow) -> str:
    """Tells a run from all others."""
    return f"{row.engine} {row.run}"


def run_link(engine: str, run: str) -> dict[str, str]:
    """The cell with a run's id, which leads to its page."""
    return {"run": run, "run_to": address("/run", engine=engine, run=run)}


def _run_cells(row: RunRow) -> dict[str, Any]:
    return {
        "key": key_of(row),
        **run_link(row.engine, row.run),
        "target": row.target,
        "state": row.state,
        "steps": f"{row.steps:,}",
        "rate": f"{row.rate:,.0f}",
        "trend": spark(row.rates) if any(row.rates) else "",
        "age": duration_text(row.seconds),
        "waits": row.waits,
        "answer": bool(row.signal),
        "cancel": True,
    }


def _wait_cells(wait: Wait) -> dict[str, Any]:
    return {
        "key": f"{wait.engine} {wait.task} {wait.reason} {wait.holders}",
        "task": wait.task,
        "count": f"{wait.count:,}",
        "reason": wait.reason,
        "holders": wait.holders,
        "waited": wait.waited,
        "engine": wait.engine,
    }
