"""Agents: all runs under way, by the thousand: their rates and states; they can be steered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nicegui import ui

from cascade.web.model.fleet import constraint, paused_scopes
from cascade.web.model.run_table import RunRow, chosen, groups, page_of
from cascade.web.pages.answering import answer
from cascade.web.pages.frame import (
    Table,
    address,
    button,
    every,
    frame,
    panel,
    say,
    sure_to_cancel,
    tell,
    text,
    until_closed,
)
from cascade.web.pages.live_tables import RunTable, key_of
from cascade.web.site import Site

#: Rows of a page, and most tasks in the table of tasks.
_ROWS, _GROUPS = 50, 30
_STATES: Final = {
    "": "any state",
    "running": "running",
    "waiting": "waiting",
    "paused": "paused",
    "retrying": "retrying",
}
_SORTS: Final = {
    "run": "by id",
    "rate": "fastest first",
    "steps": "most steps first",
    "seconds": "oldest first",
    "state": "by state",
    "target": "by task",
}
_DOWN: Final = frozenset({"rate", "steps", "seconds"})


def register(site: Site) -> None:
    """Serve the page."""

    @ui.page("/agents", title="Cascade · Agents")
    def agents() -> None:
        with frame(site, "/agents", "Agents"):
            _Agents(site)


class _Agents:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._page = 0
        until_closed(site.feed.look(runs=True))
        with panel("Tasks", flush=True):
            columns = {"task": "task", "runs": "runs", "rate": "steps/s", "states": "states"}
            if not site.read_only:
                columns |= {"pause": "", "resume": "", "limit": ""}
            self._tasks = Table(
                columns,
                {"runs": "number", "rate": "number", "states": "wide"},
                key="task",
                empty="No run is under way.",
            )
            if not site.read_only:
                self._tasks.act("pause", "Pause", self._pause)
                self._tasks.act("resume", "Resume", self._resume)
                self._tasks.act("limit", "Limit…", self._limit)
        with panel("Runs", flush=True) as head:
            with head:
                self._count = text("", "muted small number")
            self._controls()
            self._runs = self._table()
            with ui.element("div").classes("row-line").style("padding-bottom: 12px") as pager:
                button("Previous", lambda: self._turn(-1))
                self._where = text("", "muted small number")
                button("Next", lambda: self._turn(1))
            self._pager = pager
        every(self.refresh)

    def _controls(self) -> None:
        with ui.element("div").classes("row-line"):
            self._find = ui.input(placeholder="Id, task or reason")
            self._find.props('dense outlined clearable aria-label="Find runs"')
            self._state = ui.select(_STATES, value="").props('dense outlined aria-label="State"')
            self._sort = ui.select(_SORTS, value="run").props('dense outlined aria-label="Order"')
        for field in (self._find, self._state, self._sort):
            field.on_value_change(self._anew)

    def _table(self) -> RunTable:
        acts = {} if self._site.read_only else {"answer": "", "cancel": ""}
        runs = RunTable({"waits": "waits for", **acts}, empty="No run fits.")
        if acts:
            runs.table.act("answer", "Answer…", self._answer)
            runs.table.act("cancel", "Cancel", self._cancel)
        return runs

    def _all(self) -> list[RunRow]:
        return [row for table in self._site.feed.tables.values() for row in table.rows.values()]

    def _anew(self) -> None:
        self._page = 0
        self.refresh()

    def _turn(self, by: int) -> None:
        self._page = max(0, self._page + by)
        self.refresh()

    def refresh(self) -> None:
        rows = self._all()
        self._show_tasks(rows)
        sort = self._sort.value
        found = chosen(rows, self._find.value or "", self._state.value, sort, sort in _DOWN)
        last = max(0, (len(found) - 1) // _ROWS)
        self._page = min(self._page, last)
        counts = f"{len(found):,} of {len(rows):,}"
        say(self._count, counts if self._site.feed.tables else "asking the engines…")
        say(self._where, f"page {self._page + 1:,} of {last + 1:,}")
        self._pager.set_visibility(last > 0)
        self._runs.show(page_of(found, self._page, _ROWS))

    def _show_tasks(self, rows: list[RunRow]) -> None:
        paused = paused_scopes(self._site.feed)
        shown = []
        for group in groups(rows)[:_GROUPS]:
            is_paused = f"task:{group.task}" in paused
            states = ", ".join(f"{n:,} {state}" for state, n in group.states.items())
            shown.append(
                {
                    "task": group.task,
                    "runs": f"{group.runs:,}",
                    "rate": f"{group.rate:,.0f}",
                    "states": states,
                    "pause": not is_paused,
                    "resume": is_paused,
                    "limit": True,
                }
            )
        self._tasks.show(shown)

    # The browser sends the row of a button back: its texts are looked up among those known here.

    def _task(self, row: Mapping[str, Any]) -> str | None:
        return next((g.task for g in groups(self._all()) if g.task == row.get("task")), None)

    def _found(self, row: Mapping[str, Any]) -> RunRow | None:
        return next((one for one in self._all() if key_of(one) == row.get("key")), None)

    async def _pause(self, row: Mapping[str, Any]) -> None:
        if (task := self._task(row)) is not None:
            await tell(self._site.set(constraint(f"task:{task}", "pause", "")))

    async def _resume(self, row: Mapping[str, Any]) -> None:
        if (task := self._task(row)) is not None:
            await tell(self._site.remove(f"task:{task}", "pause"))

    def _limit(self, row: Mapping[str, Any]) -> None:
        if (task := self._task(row)) is not None:
            ui.navigate.to(address("/limits", scope=f"task:{task}"))

    async def _cancel(self, row: Mapping[str, Any]) -> None:
        if (run := self._found(row)) is not None and await sure_to_cancel(run.run):
            await tell(self._site.cancel(run.engine, run.run))

    async def _answer(self, row: Mapping[str, Any]) -> None:
        if (run := self._found(row)) is not None and run.signal:
            await answer(self._site, run.engine, run.run, run.signal)
