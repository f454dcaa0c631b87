"""A run under way: its graph, timeline, errors, nodes and log."""

from __future__ import annotations

from time import time
from typing import Any

from nicegui import ui

from cascade.graph.durations import duration_text
from cascade.web.model.layout import Picture, laid_out
from cascade.web.model.nodes import STATES, RunNode, RunNodes
from cascade.web.model.timeline import Timeline, timeline
from cascade.web.pages.frame import (
    EVERY,
    Table,
    address,
    badge,
    button,
    every,
    frame,
    panel,
    say,
    set_badge,
    tell,
    text,
    until_closed,
)
from cascade.web.pages.graph_canvas import GraphCanvas
from cascade.web.site import Site

#: Most nodes in the table, and most lines of the log.
_ROWS, _LINES = 100, 300
#: Least seconds between two pictures of a graph that grows.
_PICTURE = 2.0
_COLOURS = {
    "running": "#3b82f6",
    "waiting": "#b8860b",
    "retrying": "#d9660b",
}


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
            ui.timer(EVERY, lambda: engine in feed.engines.known and ui.navigate.reload())


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
                self._graph = _Graph(self._nodes)
            with ui.tab_panel("Timeline"):
                self._timeline = _Timeline(self._nodes)
            with ui.tab_panel("Errors"):
                self._errors = _Errors(self._nodes)
            with ui.tab_panel("Nodes"):
                self._table = _NodeTable(self._nodes)
            with ui.tab_panel("Log"):
                self._log = _Log(site, engine, run)
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
        with ui.dialog() as dialog, ui.card():
            text("Cancel this run?", tag="h2")
            text("Its coroutines are cancelled, and its plain functions are waited for.", "hint")
            with ui.element("div").classes("row-line"):
                button("Cancel the run", lambda: dialog.submit(True), "danger")
                button("Back", lambda: dialog.submit(False))
        if await dialog:
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


class _Graph:
    """The graph of a run: one level of it, and what is chosen there."""

    def __init__(self, nodes: RunNodes) -> None:
        self._nodes = nodes
        self._owner = self._picked = 0
        self._picture: Picture | None = None
        self._at: dict[int, int] = {}
        self._shape, self._drawn = -1, 0.0
        with ui.element("div").classes("two"):
            with panel("Graph", flush=True) as head:
                with head:
                    self._path = ui.element("div").classes("row-line small")
                self._empty = text(
                    "No nodes yet. Runs that make their calls without a graph, such as compiled "
                    "loops, have none.",
                    "hint",
                )
                self._left_out = text("", "hint")
                self._canvas = GraphCanvas(
                    "The graph. Arrow keys choose a node, Enter opens what belongs to it, plus "
                    "and minus zoom, 0 shows all.",
                    self._pick,
                    self._open,
                )
                self._canvas.on("ready", self._draw_anew)
            self._details = _Details(nodes, self._open)

    def _draw_anew(self) -> None:
        self._shape = -1
        self.refresh()

    def _pick(self, number: int) -> None:
        self._picked = number
        self._details.show(number)

    def _open(self, number: int) -> None:
        if number and not any(node.owner == number for node in self._nodes.nodes.values()):
            return
        self._owner, self._shape = number, -1
        self.refresh()

    def refresh(self) -> None:
        nodes = self._nodes
        now = time()
        if self._owner and self._owner not in nodes.nodes:
            self._owner, self._shape = 0, -1
        grown = nodes.shape != self._shape
        if grown and (self._shape < 0 or now - self._drawn >= _PICTURE):
            self._draw(keep=self._shape >= 0)
            self._shape, self._drawn = nodes.shape, now
        else:
            self._change()
        self._empty.set_visibility(not nodes.nodes)
        self._left_out.set_visibility(nodes.left_out)
        say(self._left_out, f"The first {len(nodes.nodes):,} nodes of a larger run.")
        self._details.show(self._picked)

    def _draw(self, keep: bool) -> None:
        level = self._nodes.level(self._owner)
        self._nodes.take_changes()
        picture = self._picture = laid_out(level)
        self._at = {number: place for place, number in enumerate(picture.numbers)}
        self._canvas.show(
            {
                "numbers": picture.numbers,
                "places": picture.places,
                "lines": picture.lines,
                "names": [_label(node) for node in level],
                "states": [node.state for node in level],
                "notes": [_note(self._nodes, node) for node in level],
            },
            keep,
        )
        self._show_path()

    def _change(self) -> None:
        changes = []
        for number in self._nodes.take_changes():
            node, at = self._nodes.nodes.get(number), self._at.get(number)
            if node is not None and at is not None:
                changes.append((at, node.state, _note(self._nodes, node)))
        if changes:
            self._canvas.change(changes)

    def _show_path(self) -> None:
        self._path.clear()
        if not self._owner:
            return
        with self._path:
            button("All", lambda: self._open(0)).props("dense padding='2px 10px'")
            for node in self._nodes.path(self._owner):
                number = node.number
                text("›", "muted")
                button(_label(node), lambda number=number: self._open(number)).props(
                    "dense padding='2px 10px'"
                )


class _Details:
    """The chosen node."""

    def __init__(self, nodes: RunNodes, open_node: Any) -> None:
        self._nodes, self._open = nodes, open_node
        self._shown: object = None
        with panel("Node") as _:
            self._body = ui.element("div")
        self.show(0)

    def show(self, number: int) -> None:
        node = self._nodes.nodes.get(number)
        below = self._nodes.below.get(number)
        key = (node and (node.number, node.state, node.note), below and tuple(below.items()))
        if key == self._shown:
            return
        self._shown = key
        self._body.clear()
        with self._body:
            if node is None:
                text("Choose a node to see where it comes from and what it waits for.", "hint")
                return
            self._facts(node)
            if below:
                states = [f"{count:,} {state}" for state, count in below.items() if count]
                text(", ".join(states), "small")
                button("Open what belongs to it", lambda: self._open(node.number))

    def _facts(self, node: RunNode) -> None:
        facts = {
            "task": node.name,
            "node": f"#{node.number}, {node.kind}",
            "item": node.item,
            "called at": node.callsite,
            "waits for": node.note,
            "signal": self._nodes.signals.get(node.number, ""),
            "inputs": ", ".join(
                f"{self._nodes.nodes[n].name} #{n}"
                for n in node.inputs[:12]
                if n in self._nodes.nodes
            ),
        }
        badge(node.state)
        with ui.element("dl").classes("facts").style("margin: 8px 0"):
            for name, value in facts.items():
                if value:
                    text(name, tag="dt")
                    text(value, tag="dd")


class _Timeline:
    """When nodes were seen at work."""

    def __init__(self, nodes: RunNodes) -> None:
        self._nodes = nodes
        with panel("Timeline", flush=True):
            self._hint = text("", "hint")
            self._chart = ui.echart(_chart_of(timeline((), 0.0))).style("width: 100%")
        self._shown: Timeline | None = None

    def refresh(self) -> None:
        ended = self._nodes.ended
        found = timeline(self._nodes.stretches, time() if ended is None else ended.time)
        if found == self._shown:
            return
        self._shown = found
        more = f" {found.left_out:,} shorter ones are left out." if found.left_out else ""
        said = "Calls as they were seen while this page was open, twice a second." + more
        say(self._hint, said if found.rows else "No call has been seen at work yet.")
        self._chart.style(replace=f"width: 100%; height: {70 + 22 * max(1, len(found.rows))}px")
        self._chart.options.clear()
        self._chart.options.update(_chart_of(found))
        self._chart.update()


def _chart_of(found: Timeline) -> dict[str, Any]:
    """Bars over a time axis. The tooltip is drawn as text, not as HTML."""
    grey = "#808b98"
    bars = [
        {
            "type": "bar",
            "stack": "time",
            "silent": True,
            "itemStyle": {"color": "transparent"},
            "data": [0.0] * len(found.rows),
        }
    ]
    filled = [0.0] * len(found.rows)
    for bar in found.bars:
        for seconds, colour in (
            (bar.began - filled[bar.row], "transparent"),
            (bar.seconds, _COLOURS.get(bar.state, grey)),
        ):
            data: list[float | None] = [None] * len(found.rows)
            data[bar.row] = round(max(0.0, seconds), 3)
            bars.append(
                {
                    "type": "bar",
                    "stack": "time",
                    "silent": colour == "transparent",
                    "name": bar.state,
                    "itemStyle": {"color": colour, "borderRadius": 3},
                    "data": data,
                }
            )
        filled[bar.row] = bar.began + bar.seconds
    label = {"color": grey, "fontSize": 12}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 24, "top": 8, "bottom": 28, "containLabel": True},
        "tooltip": {"renderMode": "richText", "trigger": "item"},
        "xAxis": {
            "type": "value",
            "axisLabel": {**label, "formatter": "{value} s"},
            "splitLine": {"lineStyle": {"color": grey, "opacity": 0.25}},
        },
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": list(found.rows),
            "axisLabel": {**label, "width": 150, "overflow": "truncate"},
        },
        "series": bars,
    }


class _Errors:
    """How the run has failed."""

    def __init__(self, nodes: RunNodes) -> None:
        self._nodes = nodes
        self._shown = False
        with panel("Errors") as _:
            self._none = text("The run has no error so far.", "hint")
            self._body = ui.element("div")

    def refresh(self) -> None:
        ended = self._nodes.ended
        if ended is None or not ended.error or self._shown:
            return
        self._shown = True
        self._none.set_visibility(False)
        with self._body:
            text(ended.error, "break", tag="h2")
            text(ended.traceback, "text", tag="pre").props('tabindex="0"').style("margin-top: 10px")


class _NodeTable:
    """The nodes as a table: those first that need attention."""

    def __init__(self, nodes: RunNodes) -> None:
        self._nodes = nodes
        with panel("Nodes", flush=True) as head:
            with head:
                self._find = ui.input(placeholder="Find").props("dense outlined clearable")
                self._find.props('aria-label="Find a node"').on_value_change(self.refresh)
            self._table = Table(
                {
                    "name": "task",
                    "state": "state",
                    "note": "waits for",
                    "item": "item",
                    "callsite": "called at",
                    "number": "node",
                },
                key="number",
                right=("number",),
                states=("state",),
                wide=("note", "item"),
                empty="No node fits.",
            )
            self._more = text("", "hint")

    def refresh(self) -> None:
        wanted = (self._find.value or "").casefold()
        order = {state: place for place, state in enumerate(STATES)}
        fitting = [
            node
            for node in self._nodes.nodes.values()
            if any(wanted in part.casefold() for part in (node.name, node.item, node.state))
        ]
        fitting.sort(key=lambda node: (order[node.state], node.number))
        self._table.show(
            [
                {
                    "name": node.name,
                    "state": node.state,
                    "note": node.note,
                    "item": node.item,
                    "callsite": node.callsite,
                    "number": node.number,
                }
                for node in fitting[:_ROWS]
            ]
        )
        more = len(fitting) - _ROWS
        say(self._more, f"{more:,} more fit." if more > 0 else "")
        self._more.set_visibility(more > 0)


class _Log:
    """The lines that the engine's process has logged since the page was opened, the newest first."""

    def __init__(self, site: Site, engine: str, run: str) -> None:
        self._feed, self._engine, self._run = site.feed, engine, run
        with panel("Log", flush=True) as head:
            with head:
                self._all = ui.switch("of all runs", on_change=self.refresh)
            self._none = text(
                "Nothing was logged since this page was opened. Lines come as the program's "
                "logging is set up; the root logger lets warnings through by default.",
                "hint",
            )
            self._lines = ui.element("div").classes("logs").props('tabindex="0" role="log"')
        self._shown: list[Any] = []

    def refresh(self) -> None:
        lines = [
            line
            for line in self._feed.logs
            if line.engine == self._engine and (self._all.value or line.run == self._run)
        ][-_LINES:]
        if lines == self._shown:
            return
        self._shown = lines
        self._none.set_visibility(not lines)
        self._lines.clear()
        with self._lines:
            for line in reversed(lines):
                level = line.level if line.level.isalpha() else ""
                text(f"{_clock(line.time)} {level:8}{line.logger}: {line.text}", level)


def _clock(moment: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(moment).astimezone().strftime("%H:%M:%S")


def _label(node: RunNode) -> str:
    return f"{node.name} [{node.item.partition(',')[0]}]" if node.item else node.name


def _note(nodes: RunNodes, node: RunNode) -> str:
    """The second line of a node: what belongs to it, or what it waits for."""
    below = nodes.below.get(node.number)
    if below:
        done = sum(below[state] for state in ("finished", "skipped", "failed", "cancelled"))
        failed = f", {below['failed']:,} failed" if below["failed"] else ""
        return f"{done:,} of {sum(below.values()):,} done{failed}"
    if node.note:
        return node.note
    return "" if node.state == "finished" else node.state


def run_address(engine: str, run: str) -> str:
    """The page of a run."""
    return address("/run", engine=engine, run=run)
