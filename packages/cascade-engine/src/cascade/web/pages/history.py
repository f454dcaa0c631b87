"""History: durable runs, one of them, and two of them side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from time import time
from typing import Any, Final

from nicegui import ui

from cascade.graph.durations import duration_text
from cascade.spec.errors import CascadeError
from cascade.spec.run_rows import RunStatus
from cascade.web.model.answers import value_of
from cascade.web.model.history import History, StoredRow, StoredRunView
from cascade.web.pages.frame import (
    Table,
    address,
    asked,
    badge,
    button,
    frame,
    panel,
    say,
    tell,
    text,
)
from cascade.web.site import Site

#: Runs of a page; seconds between two looks at the list.
_RUNS, _EVERY = 50, 3.0
_NO_STORE: Final = (
    "No store was named: cascade web --store sqlite:///runs.db, or set CASCADE_STORE."
)


def register(site: Site) -> None:
    """Serve the pages."""

    @ui.page("/history", title="Cascade · History")
    async def history() -> None:
        with frame(site, "/history", "History"):
            if site.history is None:
                text(_NO_STORE, "notice")
            else:
                await _List(site.history).begin()

    @ui.page("/history/run", title="Cascade · Durable run")
    async def stored_run(run: str = "") -> None:
        with frame(site, "/history"):
            if site.history is None:
                text(_NO_STORE, "notice")
            else:
                await _stored(site, site.history, run)

    @ui.page("/history/compare", title="Cascade · Two runs")
    async def compare(left: str = "", right: str = "") -> None:
        with frame(site, "/history", "Two runs"):
            if site.history is None:
                text(_NO_STORE, "notice")
            else:
                await _compared(site.history, left, right)


class _List:
    def __init__(self, history: History) -> None:
        self._history = history
        #: Numbers of the last runs of the pages before this one.
        self._before: list[int] = []
        self._last: int | None = None
        with panel("Durable runs", flush=True):
            with ui.element("div").classes("row-line"):
                options = [str(status) for status in RunStatus]
                self._status = ui.select(options, multiple=True, label="Status")
                self._status.props("outlined dense use-chips").style("min-width: 180px")
                self._target = ui.input(placeholder="Target")
                self._target.props('outlined dense clearable aria-label="Target"')
            self._table = Table(
                {
                    "run": "run",
                    "target": "target",
                    "status": "status",
                    "created": "created",
                    "took": "took",
                    "parent": "fork of",
                },
                {"created": "number", "took": "number", "run": "link", "status": "state"},
                key="number",
                empty="No run fits.",
            )
            with ui.element("div").classes("row-line").style("padding-bottom: 12px"):
                self._newer = button("Newer", self._back)
                self._older = button("Older", self._on)
            self._fault = text("", "notice small")
        for field in (self._status, self._target):
            field.on_value_change(self._anew)

    async def begin(self) -> None:
        await self.refresh()
        ui.timer(_EVERY, self.refresh)

    async def _anew(self) -> None:
        self._before.clear()
        await self.refresh()

    async def _on(self) -> None:
        if self._last is not None:
            self._before.append(self._last)
        await self.refresh()

    async def _back(self) -> None:
        if self._before:
            self._before.pop()
        await self.refresh()

    async def refresh(self) -> None:
        before = self._before[-1] if self._before else None
        target = (self._target.value or "").strip()
        try:
            rows = await asyncio.to_thread(
                self._history.runs, self._status.value or (), target, before, _RUNS
            )
        except CascadeError as error:
            say(self._fault, str(error))
            self._fault.set_visibility(True)
            return
        self._fault.set_visibility(False)
        self._last = rows[-1].number if len(rows) == _RUNS else None
        self._older.set_visibility(self._last is not None)
        self._newer.set_visibility(bool(self._before))
        self._table.show([_row(row) for row in rows])


def _row(row: StoredRow) -> dict[str, object]:
    return {
        "number": row.number,
        "run": row.run,
        "run_to": address("/history/run", run=row.run),
        "target": row.target,
        "status": row.status,
        "created": f"{duration_text(max(0.0, time() - row.created))} ago",
        "took": "" if row.took is None else duration_text(row.took),
        "parent": row.parent,
    }


async def _stored(site: Site, history: History, run: str) -> None:
    try:
        view = await asyncio.to_thread(history.run, run)
    except CascadeError as error:
        text(run, tag="h1")
        text(str(error), "notice")
        return
    if view is None:
        text(run, tag="h1")
        text("There is no such run in the store.", "notice")
        return
    with ui.element("div").classes("row-line spread"):
        text(run, tag="h1")
        if not site.read_only:
            _actions(site, view)
    with ui.element("div").classes("row-line"):
        badge(view.row.status)
    with ui.element("div").classes("cards"):
        _facts("Run", view.facts)
        if view.params:
            _facts("Parameters", view.params)
    if view.outcome:
        with panel("Value" if view.row.status == RunStatus.SUCCEEDED else "Error"):
            text(view.outcome, "text wrap", tag="pre").props('tabindex="0"')
    _steps(view)
    _compare_form(run)


def _facts(title: str, facts: Mapping[str, str]) -> None:
    with panel(title), ui.element("dl").classes("facts"):
        for name, value in facts.items():
            text(name, tag="dt")
            text(value, tag="dd")


def _steps(view: StoredRunView) -> None:
    with panel("Steps", flush=True) as head:
        with head:
            text(f"{len(view.steps) + view.more:,}", "muted small number")
        table = Table(
            {"task": "task", "state": "state", "value": "value", "after": "after", "key": "key"},
            {"after": "number", "state": "state", "value": "wide"},
            key="key",
            empty="No step has an outcome yet.",
        )
        table.show(
            [
                {
                    "task": step.task,
                    "state": step.state,
                    "value": step.value,
                    "after": "" if step.after is None else duration_text(step.after),
                    "key": step.key,
                }
                for step in view.steps
            ]
        )
        if view.more:
            text(f"{view.more:,} more are not shown.", "hint")


def _actions(site: Site, view: StoredRunView) -> None:
    run = view.row.run

    async def resume() -> None:
        if await tell(site.resume_stored(run)):
            ui.navigate.reload()

    async def cancel() -> None:
        if await tell(site.cancel_stored(run)):
            ui.navigate.reload()

    with ui.element("div").classes("row-line"):
        if view.can_resume:
            button("Resume", resume, "act")
        if not view.has_ended:
            button("Signal…", lambda: _signal(site, run))
            button("Cancel the run", cancel, "danger")
        button("Fork…", lambda: _fork(site, view))


async def _fork(site: Site, view: StoredRunView) -> None:
    tasks = sorted({step.task for step in view.steps})
    with ui.dialog() as dialog, ui.card().style("min-width: min(460px, 92vw)"):
        text("Fork this run", tag="h2")
        text(
            "A new run begins with what this one knows, and waits for a worker. What is made "
            "again is made with everything that needs it.",
            "hint",
        )
        again = ui.select(tasks, multiple=True, label="Make again").props(
            "outlined dense use-chips"
        )
        again.style("width: 100%")
        fields = {
            name: ui.input(f"{name} (in JSON)", placeholder=value).props("outlined dense")
            for name, value in view.params.items()
        }
        fault = text("", "notice small").props('role="alert"')
        fault.set_visibility(False)

        def submit() -> None:
            try:
                given = {n: json.loads(f.value) for n, f in fields.items() if f.value}
            except ValueError as error:
                say(fault, f'a parameter must be JSON, such as 3 or "a text": {error}')
                fault.set_visibility(True)
                return
            dialog.submit((again.value or [], given))

        with ui.element("div").classes("row-line"):
            button("Fork", submit, "act")
            button("Back", lambda: dialog.submit(None))
    chosen = await asked(dialog)
    if chosen is None:
        return
    done, said = await site.fork_stored(view.row.run, *chosen)
    if done:
        ui.navigate.to(address("/history/run", run=said))
    else:
        ui.notify(said, type="negative", multi_line=True)


async def _signal(site: Site, run: str) -> None:
    with ui.dialog() as dialog, ui.card().style("min-width: min(420px, 92vw)"):
        text("Send a signal", tag="h2")
        name = ui.input("Name").props("outlined dense")
        value = ui.input('Value (in JSON, such as {"ok": true})').props("outlined dense")
        for field in (name, value):
            field.style("width: 100%")
        fault = text("", "notice small").props('role="alert"')
        fault.set_visibility(False)

        def submit() -> None:
            try:
                given = value_of({"kind": "json"}, value.value)
            except ValueError as error:
                say(fault, str(error))
                fault.set_visibility(True)
                return
            dialog.submit((name.value or "", given))

        with ui.element("div").classes("row-line"):
            button("Send", submit, "act")
            button("Back", lambda: dialog.submit(None))
    sent = await asked(dialog)
    if sent is not None:
        await tell(site.signal_stored(run, *sent))


def _compare_form(run: str) -> None:
    with panel("Compare"), ui.element("div").classes("row-line"):
        other = ui.input("With the run").props("outlined dense")

        def go() -> None:
            ui.navigate.to(address("/history/compare", left=run, right=(other.value or "").strip()))

        other.on("keydown.enter", go)
        button("Compare", go)


async def _compared(history: History, left: str, right: str) -> None:
    with ui.element("div").classes("row-line"):
        for run in (left, right):
            ui.link(run, address("/history/run", run=run)).classes("break")
    try:
        found = await asyncio.to_thread(history.compare, left, right)
    except CascadeError as error:
        text(str(error), "notice")
        return
    differ = sum(one.kind != "same" for one in found)
    with panel("Steps", flush=True) as head:
        with head:
            text(f"{differ:,} of {len(found):,} differ", "muted small number")
        table = Table(
            {"task": "task", "kind": "", "left": "left", "right": "right"},
            {"left": "wide", "right": "wide"},
            key="place",
            empty="Neither has a step.",
        )
        rows: list[dict[str, Any]] = [
            {"place": n, "task": one.task, "kind": one.kind, "left": one.left, "right": one.right}
            for n, one in enumerate(found)
        ]
        table.show(rows)
