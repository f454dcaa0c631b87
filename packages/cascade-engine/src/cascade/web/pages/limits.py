"""Limits: capacities, constraints, and which run waits for which; they can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nicegui import ui

from cascade.spec.errors import ArgumentError
from cascade.web.model.fleet import amounts, constraint, rules, waits
from cascade.web.model.run_table import chosen
from cascade.web.pages.frame import (
    Table,
    button,
    every,
    frame,
    panel,
    say,
    tell,
    text,
    until_closed,
)
from cascade.web.pages.live_tables import WaitTable, key_of, run_link
from cascade.web.site import Site

#: Most runs that are listed as waiting.
_WAITING: Final = 60
#: Kind of constraint → what its value is called, and an example.
_KINDS: Final = {
    "pause": ("", ""),
    "concurrency": ("Calls at once", "4"),
    "rate_limit": ("Rate", "10/s"),
}


def register(site: Site) -> None:
    """Serve the page."""

    @ui.page("/limits", title="Cascade · Limits")
    def limits(scope: str = "task:") -> None:
        with frame(site, "/limits", "Limits"):
            _Limits(site, scope)


class _Limits:
    def __init__(self, site: Site, scope: str) -> None:
        self._site = site
        until_closed(site.feed.look(runs=True))
        with panel("Capacities"):
            self._amounts = ui.element("div").classes("cards")
            self._no_amounts = text("No engine has capacities.", "hint")
        self._bars: dict[tuple[str, str], _Bar] = {}
        with panel("Constraints", flush=True) as head:
            columns = {
                "kind": "kind",
                "scope": "scope",
                "value": "value",
                "left": "left",
                "engines": "in force in",
            }
            if not site.read_only:
                with head, ui.element("div").classes("row-line"):
                    button("Pause everything", self._pause, "danger")
                columns["remove"] = ""
            self._rules = Table(
                columns,
                {"left": "number", "engines": "wide"},
                key="key",
                empty="Nothing is limited.",
            )
            if not site.read_only:
                self._rules.act("remove", "Remove", self._remove)
        if not site.read_only:
            _Form(site, scope)
        with panel("Runs that wait", flush=True):
            self._waits = Table(
                {"run": "run", "target": "target", "reason": "waits for", "engine": "engine"},
                {"run": "link", "reason": "wide"},
                key="key",
                empty="No run waits.",
            )
        with panel("Tasks that wait, and the tasks that hold what they need", flush=True):
            self._tasks = WaitTable(engine=False, empty="No task waits.")
        every(self.refresh)

    async def _pause(self) -> None:
        await tell(self._site.set(constraint("global", "pause", "")))

    async def _remove(self, row: Mapping[str, Any]) -> None:
        """Remove a constraint; the browser gives the row, so its texts are looked up here."""
        found = next((rule for rule in rules(self._site.feed) if _key(rule) == row["key"]), None)
        if found is not None:
            await tell(self._site.remove(found.scope, found.kind))

    def refresh(self) -> None:
        feed = self._site.feed
        self._show_amounts()
        self._rules.show(
            [
                {
                    "key": _key(rule),
                    "kind": rule.kind.replace("_", " "),
                    "scope": rule.scope,
                    "value": rule.value,
                    "left": rule.left,
                    "engines": ", ".join(rule.engines) or "engines that connect later",
                    "remove": True,
                }
                for rule in rules(feed)
            ]
        )
        rows = [row for table in feed.tables.values() for row in table.rows.values() if row.waits]
        self._waits.show(
            [
                {
                    "key": key_of(row),
                    **run_link(row.engine, row.run),
                    "target": row.target,
                    "reason": row.waits,
                    "engine": row.engine,
                }
                for row in chosen(rows)[:_WAITING]
            ]
        )
        self._tasks.show(waits(feed))

    def _show_amounts(self) -> None:
        found = {(amount.engine, amount.name): amount for amount in amounts(self._site.feed)}
        if list(found) != list(self._bars):
            self._amounts.clear()
            with self._amounts:
                self._bars = {key: _Bar() for key in found}
        for key, amount in found.items():
            shared = ", shared with other processes" if amount.shared else ""
            taken = amount.total - amount.available
            wanted = f"wanted by {amount.wanted}" if amount.wanted else ""
            self._bars[key].show(
                amount.name,
                f"{taken:g} of {amount.total:g} taken in {amount.engine}{shared}",
                wanted,
                amount.share,
            )
        self._no_amounts.set_visibility(not found)


class _Bar:
    """A capacity, and how much of it is taken."""

    def __init__(self) -> None:
        with ui.element("div"):
            self._name = text("", "", tag="h2")
            with ui.element("div").classes("meter").style("margin: 6px 0") as self._meter:
                self._fill = ui.element("div")
            self._said = text("", "muted small")
            self._wanted = text("", "small")

    def show(self, name: str, said: str, wanted: str, share: float) -> None:
        say(self._name, name)
        say(self._said, said)
        say(self._wanted, wanted)
        self._fill.style(replace=f"width: {share * 100:.1f}%")
        self._meter.props(f'role="meter" aria-valuenow="{share:.2f}" aria-valuemax="1"')


class _Form:
    """Sets a constraint."""

    def __init__(self, site: Site, scope: str) -> None:
        self._site = site
        with panel("Set a limit"):
            with ui.element("div").classes("form"):
                kinds = {"pause": "pause", "concurrency": "concurrency", "rate_limit": "rate limit"}
                self._kind = ui.select(kinds, value="concurrency", label="Kind")
                self._scope = ui.input("Scope", value=scope, placeholder="global")
                self._value = ui.input("Calls at once")
                self._burst = ui.input("Burst")
                self._ttl = ui.input("For … seconds")
            for field in (self._kind, self._scope, self._value, self._burst, self._ttl):
                field.props("outlined dense")
            self._fault = text("", "notice small").props('role="alert"')
            self._fault.set_visibility(False)
            with ui.element("div").classes("row-line"):
                button("Set", self._set, "act")
                text("Scope: global, or task: and a pattern such as task:fetch_*.", "hint")
        self._kind.on_value_change(self._fit)
        self._fit()

    def _fit(self) -> None:
        label, example = _KINDS[self._kind.value]
        self._value.set_visibility(bool(label))
        self._value.props(f'label="{label}" placeholder="{example}"')
        self._burst.set_visibility(self._kind.value == "rate_limit")

    async def _set(self) -> None:
        burst = self._burst.value if self._kind.value == "rate_limit" else ""
        given = self._scope.value, self._kind.value, self._value.value, burst, self._ttl.value
        try:
            wanted = constraint(*(text or "" for text in given))
        except (ArgumentError, ValueError) as error:
            say(self._fault, str(error))
            self._fault.set_visibility(True)
            return
        self._fault.set_visibility(False)
        await tell(self._site.set(wanted))


def _key(rule: Any) -> str:
    return f"{rule.kind} {rule.scope} {rule.value}"
