"""Lanes: the handlers of ready nodes, as the dispatch sees them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from cascade.runtime.graph_path.segments import Item


class Lanes(Protocol):
    """The handlers of the items that a Dispatch sends."""

    def work_on(self, item: Item) -> Coroutine[Any, Any, None]:
        """Work on an item in the event loop's thread; ends with ``Dispatch.left``."""

    def pump(self) -> None:
        """Begin the items in ``Dispatch.sent``. In the loop's thread."""

    def not_opened(self, item: Item, error: BaseException) -> None:
        """Called when a resource of an item could not be opened. In the loop's thread."""

    def idle(self) -> None:
        """Called when there may be no work left. In the loop's thread."""

    def refused(self, error: BaseException) -> None:
        """Called when the executor lends no thread. In the loop's thread."""
