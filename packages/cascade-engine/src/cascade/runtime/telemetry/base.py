"""Subscriber: the base class of listeners on a bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeVar

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Notice

E = TypeVar("E", bound=Notice)


class Subscriber:
    """Listens from its construction until it is closed, or until its ``with`` block ends."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._cancels: list[Callable[[], None]] = []

    def _listen(
        self, event_type: type[E], handler: Callable[[E], object], *, at_once: bool = False
    ) -> None:
        self._cancels.append(self._bus.subscribe(event_type, handler, at_once=at_once))

    def close(self) -> None:
        """Stop listening. May be repeated."""
        while self._cancels:
            self._cancels.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
