"""The overview: engines, runs and their rates, waits, and ended runs."""

from __future__ import annotations

from itertools import islice
from time import time

from nicegui import ui

from cascade.graph.durations import duration_text
from cascade.web.model.fleet import EngineCard, cards, waits
from cascade.web.model.nodes import Ended
from cascade.web.model.run_table import chosen
from cascade.web.pages.frame import (
    Table,
    badge,
    every,
    frame,
    panel,
    say,
    text,
    until_closed,
)
from cascade.web.pages.live_tables import RunTable, WaitTable, run_link
from cascade.web.site import Site

#: Most runs, waits and ended runs that are listed.
_RUNS, _WAITS, _ENDED = 12, 30, 15


def register(site: Site) -> None:
    """Serve the page."""

    @ui.page("/", title="Cascade · Overview")
    def overview() -> None:
        with frame(site, "/", "Overview"):
            _Overview(site)


class _Overview:
    def __init__(self, site: Site) -> None:
        self._feed = site.feed
        until_closed(self._feed.look(runs=True))
        with ui.element("div").classes("stats"):
            self._stats = {name: _stat(name) for name in ("Engines", "Runs", "Steps/s", "Waiting")}
        self._none = text(
            "No engine is connected. Engines of cascade run, and of programs with a "
            "cs.ControlPlane, show up here by themselves.",
            "notice",
        )
        self._cards = ui.element("div").classes("cards")
        self._drawn: dict[str, _Card] = {}
        with panel("Runs under way", flush=True) as head:
            with head:
                self._more = text("", "muted small")
            self._runs = RunTable(empty="No run is under way.")
        with panel("What waits", flush=True):
            self._waits = WaitTable(engine=True, empty="Nothing waits.")
        with panel("Ended while this was open", flush=True):
            self._ended = Table(
                {
                    "run": "run",
                    "target": "target",
                    "status": "status",
                    "took": "took",
                    "when": "when",
                    "error": "error",
                },
                {
                    "took": "number",
                    "when": "number",
                    "run": "link",
                    "status": "state",
                    "error": "wide",
                },
                key="key",
                empty="No run has ended yet.",
            )
        every(self.refresh)

    def refresh(self) -> None:
        feed = self._feed
        found = cards(feed)
        runs = sum(card.runs for card in found)
        say(self._stats["Engines"], f"{len(found):,}")
        say(self._stats["Runs"], f"{runs:,}")
        say(self._stats["Steps/s"], f"{sum(card.steps_per_second for card in found):,.0f}")
        say(self._stats["Waiting"], f"{sum(card.waiting for card in found):,}")
        self._none.set_visibility(not found)
        self._draw(found)
        rows = [row for table in feed.tables.values() for row in table.rows.values()]
        shown = chosen(rows, sort="rate", down=True)[:_RUNS]
        say(self._more, f"{len(shown)} of {runs:,}" if runs > len(shown) else "")
        self._runs.show(shown)
        self._waits.show(waits(feed)[:_WAITS])
        self._ended.show([_ended_row(ended) for ended in islice(feed.ended, _ENDED)])

    def _draw(self, found: list[EngineCard]) -> None:
        names = [card.name for card in found]
        if names != list(self._drawn):
            self._cards.clear()
            with self._cards:
                self._drawn = {name: _Card(name) for name in names}
        for card in found:
            self._drawn[card.name].show(card)


class _Card:
    """One engine."""

    def __init__(self, name: str) -> None:
        with ui.element("section").classes("panel"):
            with ui.element("div").classes("row-line spread"):
                text(name, "break", tag="h2")
                self._state = badge("running")
            self._where = text("", "muted small")
            with ui.element("div").classes("row-line spread"):
                self._runs = text("", "number")
                self._rate = text("", "number")
                self._trend = text("", "spark").props('aria-hidden="true"')
            self._limits = text("", "muted small")
            self._trouble = text("", "notice small")

    def show(self, card: EngineCard) -> None:
        state = "paused" if card.is_paused else "running" if card.runs else "idle"
        self._state.classes(replace=f"badge s-{state if state != 'idle' else 'planned'}")
        say(self._state, state)
        say(self._where, f"{card.host}, process {card.pid}")
        say(self._runs, f"{card.runs:,} run{'' if card.runs == 1 else 's'}")
        say(self._rate, f"{card.steps_per_second:,.0f} steps/s")
        say(self._trend, card.rates)
        count = card.constraints
        limits = f"{count:,} limit{'' if count == 1 else 's'}" if count else "no limits"
        say(self._limits, f"{card.waiting:,} waiting · {limits}")
        say(self._trouble, card.trouble)
        self._trouble.set_visibility(bool(card.trouble))


def _stat(name: str) -> ui.element:
    with ui.element("div").classes("stat"):
        value = text("–", "value")
        text(name, "muted small")
    return value


def _ended_row(ended: Ended) -> dict[str, object]:
    return {
        "key": f"{ended.engine} {ended.run} {ended.time}",
        **run_link(ended.engine, ended.run),
        "target": ended.target,
        "status": ended.status,
        "took": duration_text(ended.seconds),
        "when": f"{duration_text(max(0.0, time() - ended.time))} ago",
        "error": ended.error,
    }
