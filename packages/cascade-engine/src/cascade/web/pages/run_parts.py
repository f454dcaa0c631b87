"""The other parts of the page of a run: its timeline, errors, nodes and log."""

from __future__ import annotations

from datetime import datetime
from time import time
from typing import Any, Final

from nicegui import ui

from cascade.web.model.feed import LogLine
from cascade.web.model.nodes import STATES, RunNodes
from cascade.web.model.timeline import Timeline, timeline
from cascade.web.pages.frame import Table, panel, say, text
from cascade.web.site import Site

#: Most nodes in the table, and most lines of the log.
_ROWS, _LINES = 100, 300
#: Colours on the timeline, readable on a light and on a dark page.
_COLOURS: Final = {"running": "#3b82f6", "waiting": "#b8860b", "retrying": "#d9660b"}
_GREY: Final = "#808b98"


class TimelinePart:
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


class ErrorsPart:
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


class NodesPart:
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
                {"number": "number", "state": "state", "note": "wide", "item": "wide"},
                key="number",
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


class LogPart:
    """What the engine's process has logged since the page was opened, the newest line first."""

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
        self._shown: list[LogLine] = []

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
    return datetime.fromtimestamp(moment).astimezone().strftime("%H:%M:%S")
