"""MessageBus: who wants to know what, and telling them.

Pay for what is watched: code that would publish asks ``wants`` first and builds no event that
nobody subscribed to.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from cascade.runtime.events import Event

E = TypeVar("E", bound=Event)

_log = logging.getLogger("cascade.bus")


class MessageBus:
    """Delivers events to handlers, in the order of subscription.

    Handlers are called in the thread that publishes; an engine publishes all events of a run in
    its event loop's thread, in the order in which they happened. Handlers must be quick, for the
    loop waits for them. One that raises is reported on the logger ``cascade.bus`` and never fails
    a run.

    >>> from cascade.runtime.events import RunStarted
    >>> bus = MessageBus()
    >>> cancel = bus.subscribe(RunStarted, lambda event: print(event.target))
    >>> bus.publish(RunStarted("1", "report", "graph"))
    report
    >>> cancel()
    >>> bus.publish(RunStarted("2", "report", "graph"))
    """

    def __init__(self) -> None:
        self._handlers: dict[type[Event], list[Callable[[Any], object]]] = {}
        # Event type → the handlers of it and of its bases; filled as types are asked for.
        self._resolved: dict[type[Event], tuple[Callable[[Any], object], ...]] = {}

    def subscribe(self, event_type: type[E], handler: Callable[[E], object]) -> Callable[[], None]:
        """Have ``handler`` called with each event of ``event_type`` and of its subclasses.

        Returns:
            A function that ends the subscription; calling it again does nothing.

        Raises:
            TypeError: ``handler`` is a coroutine function, whose result nobody would await, or
                ``event_type`` is no event class.
        """
        if not (isinstance(event_type, type) and issubclass(event_type, Event)):
            raise TypeError(f"subscribe() takes a class of events, but got {event_type!r}")
        if inspect.iscoroutinefunction(handler):
            raise TypeError(
                f"the handler {handler.__qualname__} is a coroutine function, but handlers are "
                "called and not awaited; let a plain function put the event into an asyncio.Queue"
            )
        handlers = self._handlers.setdefault(event_type, [])
        handlers.append(handler)
        self._resolved.clear()
        subscribed = True

        def cancel() -> None:
            nonlocal subscribed
            if subscribed:  # the same handler may have been subscribed twice
                subscribed = False
                handlers.remove(handler)
                self._resolved.clear()

        return cancel

    def wants(self, event_type: type[Event]) -> bool:
        """Whether anybody would be told of such an event."""
        return bool(self._handlers) and bool(self._for(event_type))

    def publish(self, event: Event) -> None:
        """Call the handlers of the event's type and of its bases."""
        for handler in self._for(type(event)):
            try:
                handler(event)
            except Exception:
                _log.exception("the handler %r failed on %r", handler, event)

    def _for(self, event_type: type[Event]) -> tuple[Callable[[Any], object], ...]:
        found = self._resolved.get(event_type)
        if found is None:
            found = tuple(
                handler
                for base in reversed(event_type.__mro__)
                for handler in self._handlers.get(base, ())
            )
            self._resolved[event_type] = found
        return found
