"""The graph of a run under way, and the node that is chosen in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import time
from typing import Final

from nicegui import ui

from cascade.web.model.layout import Picture, laid_out
from cascade.web.model.nodes import RunNode, RunNodes
from cascade.web.pages.frame import badge, button, panel, say, text
from cascade.web.pages.graph_canvas import GraphCanvas

#: Least seconds between two pictures of a graph that grows.
_PICTURE: Final = 2.0


class GraphPart:
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
                "ways": picture.ways,
                "names": [_label(node) for node in level],
                "states": [self._nodes.state(node) for node in level],
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
                changes.append((at, self._nodes.state(node), _note(self._nodes, node)))
        if changes:
            self._canvas.change(changes)

    def _show_path(self) -> None:
        self._path.clear()
        if not self._owner:
            return
        with self._path:
            button("All", lambda: self._open(0)).props("dense padding='2px 10px'")
            for node in self._nodes.path(self._owner):
                text("›", "muted")
                go = button(_label(node), partial(self._open, node.number))
                go.props("dense padding='2px 10px'")


class _Details:
    """The chosen node."""

    def __init__(self, nodes: RunNodes, open_node: Callable[[int], None]) -> None:
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
        known = self._nodes.nodes
        inputs = [known[number] for number in node.inputs[:12] if number in known]
        facts = {
            "task": node.name,
            "node": f"#{node.number}, {node.kind}",
            "item": node.item,
            "called at": node.callsite,
            "waits for": node.note,
            "signal": self._nodes.signals.get(node.number, ""),
            "inputs": ", ".join(f"{one.name} #{one.number}" for one in inputs),
        }
        badge(node.state)
        with ui.element("dl").classes("facts").style("margin: 8px 0"):
            for name, value in facts.items():
                if value:
                    text(name, tag="dt")
                    text(value, tag="dd")


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
