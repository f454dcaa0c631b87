"""A run under way: its graph, timeline, errors, nodes and log."""

from __future__ import annotations

from nicegui import ui

from cascade.graph.durations import duration_text
from cascade.web.model.nodes import STATES, RunNodes
from cascade.web.pages.frame import (
    EVERY,
    badge,
    button,
    every,
    frame,
    say,
    set_badge,
    sure_to_cancel,
    tell,
    text,
    until_closed,
)
from cascade.web.pages.run_graph import GraphPart
from cascade.web.pages.run_parts import ErrorsPart, LogPart, NodesPart, TimelinePart
from cascade.web.site import Site


def register(site: Site) -> None:
    """Serve the page."""

    @ui.page("/run", title="Cascade · Run")
    def run_page(engine: str = "", run: str = "") -> None:
        with frame(site, "/run"):
            feed = site.feed
            if engine in feed.engines.known or feed.ending(engine, run) is not None:
                _Run(site, engine, run)
                return
            text(run, tag="h1")
            text(f"No engine {engine!r} is connected. This page looks for it.", "notice")

            def look() -> None:
                if engine in feed.engines.known:
                    ui.navigate.reload()

            ui.timer(EVERY, look)


class _Run:
    def __init__(self, site: Site, engine: str, run: str) -> None:
        self._site, self._feed, self._engine, self._run = site, site.feed, engine, run
        until_closed(self._feed.look(run=(engine, run), logs=True, runs=True))
        self._nodes: RunNodes = self._feed.nodes[engine, run]
        self._head()
        with ui.tabs().props("align=left dense outside-arrows mobile-arrows") as tabs:
            for name in ("Graph", "Timeline", "Errors", "Nodes", "Log"):
                ui.tab(name)
        self._tabs = tabs
        with ui.tab_panels(tabs, value="Graph", animated=False):
            with ui.tab_panel("Graph"):
                self._graph = GraphPart(self._nodes)
            with ui.tab_panel("Timeline"):
                self._timeline = TimelinePart(self._nodes)
            with ui.tab_panel("Errors"):
                self._errors = ErrorsPart(self._nodes)
            with ui.tab_panel("Nodes"):
                self._table = NodesPart(self._nodes)
            with ui.tab_panel("Log"):
                self._log = LogPart(site, engine, run)
        every(self.refresh)

    def _head(self) -> None:
        with ui.element("div").classes("row-line spread"):
            self._title = text(self._run, tag="h1")
            if not self._site.read_only:
                self._cancel = button("Cancel the run", self._ask_cancel, "danger")
        with ui.element("div").classes("row-line"):
            self._state = badge("running")
            self._about = text("", "muted small break")
        self._meter = ui.element("div").classes("meter").props('aria-hidden="true"')
        with self._meter:
            self._parts = {
                state: ui.element("div").classes(f"s-{state}") for state in reversed(STATES)
            }
        with ui.element("div").classes("legend").props('aria-label="Nodes by state"'):
            self._counts = {state: badge(state) for state in STATES}

    async def _ask_cancel(self) -> None:
        if await sure_to_cancel(self._run):
            await tell(self._site.cancel(self._engine, self._run))

    def refresh(self) -> None:
        self._show_head()
        getattr(self, f"_{_PARTS[self._tabs.value or 'Graph']}").refresh()

    def _show_head(self) -> None:
        nodes, ended = self._nodes, self._nodes.ended
        table = self._feed.tables.get(self._engine)
        row = None if table is None else table.rows.get(self._run)
        if ended is not None:
            set_badge(self._state, ended.status)
            about = f"{ended.target} · took {duration_text(ended.seconds)}"
            say(self._about, f"{about} · {ended.steps:,} steps · {self._engine}")
        elif row is not None:
            set_badge(self._state, row.state)
            about = f"{row.target} · {row.strategy} · {duration_text(row.seconds)}"
            steps = f" · {row.steps:,} steps, {row.rate:,.0f}/s" if row.steps else ""
            waits = f" · waits for {row.waits}" if row.waits else ""
            say(self._about, f"{about}{steps}{waits} · {self._engine}")
        elif not nodes.nodes:
            set_badge(self._state, "planned", "not found")
            say(self._about, f"No run with this id is under way in {self._engine}.")
        if not self._site.read_only:
            self._cancel.set_visibility(row is not None and ended is None)
        counts = nodes.counts()
        total = sum(counts.values()) or 1
        self._meter.set_visibility(bool(counts))
        for state, element in self._parts.items():
            element.style(replace=f"width: {counts[state] / total * 100:.2f}%")
        for state, element in self._counts.items():
            element.set_visibility(counts[state] > 0)
            say(element, f"{counts[state]:,} {state}")


_PARTS = {
    "Graph": "graph",
    "Timeline": "timeline",
    "Errors": "errors",
    "Nodes": "table",
    "Log": "log",
}
