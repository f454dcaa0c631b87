"""GraphCanvas: the element that draws a level of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class GraphCanvas(Element, component="graph_canvas.js"):
    """A graph that can be moved and zoomed, by pointer, touch and keys.

    Args:
        label: What it shows, for screen readers.
        on_pick: Called with the number of the chosen node; 0 for none.
        on_open: Called with the number of the node that is to be opened.
    """

    def __init__(
        self, label: str, on_pick: Callable[[int], object], on_open: Callable[[int], object]
    ) -> None:
        super().__init__()
        self._props["label"] = label
        self.on("pick", lambda event: on_pick(_number(event)), ["number"])
        self.on("open", lambda event: on_open(_number(event)), ["number"])

    def show(self, picture: dict[str, Any], keep: bool) -> None:
        """Show a picture; ``keep``: from where it is seen now, unless all of it was in sight."""
        self.run_method("show", picture, keep)

    def change(self, changes: Sequence[tuple[int, str, str]]) -> None:
        """Change nodes of the picture: position, state, second line."""
        self.run_method("change", list(changes))


def _number(event: GenericEventArguments) -> int:
    number = event.args.get("number") if isinstance(event.args, dict) else event.args
    return number if isinstance(number, int) else 0
