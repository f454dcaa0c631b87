"""MessageBus: subscriptions to events, and their delivery.

Only watched events cost something: code that would publish asks ``wants`` first, and builds no
event without subscribers.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

from cascade.runtime.events import Notice
from cascade.spec.wording import short

E = TypeVar("E", bound=Notice)

_log = logging.getLogger("cascade.bus")


class MessageBus:
    """Delivers events to handlers, in the order of subscription.

    Handlers are called in the publishing thread; an engine publishes all events of a run in its
    event loop's thread, in the order in which they happened. Handlers must be quick, because the
    loop waits for them. So an event of a call on a worker arrives a moment after it happened: the
    worker does not wait. A handler that is subscribed with ``at_once=True`` is called in the thread
    of the event, before anything else happens there.

    A handler that raises never fails a run: the logger ``cascade.bus`` reports it, with the
    traceback, at its 1st, 10th, 100th … failure, so that a broken handler does not flood the log of
    a large graph.

    Subscribing and asking are safe in any thread, also during a run. A run whose nodes have no
    subscribers when it begins measures none of them: one that comes later gets starts, ends and
    failures of nodes from the next run on, and all other events at once.

    >>> from cascade.runtime.events import RunStarted
    >>> bus = MessageBus()
    >>> cancel = bus.subscribe(RunStarted, lambda event: print(event.target))
    >>> bus.publish(RunStarted("1", "report", "graph"))
    report
    >>> cancel()
    >>> bus.publish(RunStarted("2", "report", "graph"))
    """

    def __init__(self) -> None:
        self._subscriptions: dict[type[Notice], list[_Subscription]] = {}
        # Event type → the subscriptions to it and to its bases; filled on demand. A change replaces
        # the dict, so that a thread that looked before it cannot fill in outdated entries.
        self._resolved: dict[type[Notice], tuple[_Subscription, ...]] = {}
        #: Whether there are no subscriptions at all.
        self.is_silent = True
        #: Whether some handlers take events at once.
        self.any_at_once = False

    def subscribe(
        self, event_type: type[E], handler: Callable[[E], object], *, at_once: bool = False
    ) -> Callable[[], None]:
        """Call ``handler`` with each event of ``event_type`` and of its subclasses.

        Args:
            event_type: A class of events.
            handler: A plain function.
            at_once: Call it in the thread where the event happens, which may be any: before
                the first call of a task, for a TaskStarted. It must be safe in several threads at
                the same time, and must not use the event loop.

        Returns:
            A function that ends the subscription; calling it again does nothing.

        Raises:
            TypeError: ``handler`` is a coroutine function, whose result would never be awaited, or
                ``event_type`` is not an event class.
        """
        if not (isinstance(event_type, type) and issubclass(event_type, Notice)):
            raise TypeError(f"subscribe() takes a class of events, but got {short(event_type)}")
        if inspect.iscoroutinefunction(handler):
            raise TypeError(
                f"the handler {handler.__qualname__} is a coroutine function, but handlers are "
                "called and not awaited; use a plain function that puts the event into an "
                "asyncio.Queue"
            )
        subscription = _Subscription(handler, at_once)
        subscriptions = self._subscriptions.setdefault(event_type, [])
        subscriptions.append(subscription)
        self._resolved = {}
        self.is_silent = False
        self.any_at_once = self.any_at_once or at_once

        def cancel() -> None:
            if subscription in subscriptions:
                subscriptions.remove(subscription)
                self._resolved = {}
                self.is_silent = not any(self._subscriptions.values())

        return cancel

    def wants(self, event_type: type[Notice]) -> bool:
        """Whether such an event has subscribers."""
        found = self._resolved.get(event_type)  # as ``_handlers``, without a call
        return bool(self._resolve(event_type) if found is None else found)

    def publish(self, event: Notice) -> None:
        """Call the handlers of the event's type and of its bases."""
        for subscription in self._handlers(type(event)):
            subscription.tell(event)

    def publish_at_once(self, event: Notice) -> bool:
        """Call only the handlers that take events at once; whether there are others.

        These get the event from ``publish_later``.
        """
        others = False
        for subscription in self._handlers(type(event)):
            if subscription.at_once:
                subscription.tell(event)
            else:
                others = True
        return others

    def publish_later(self, event: Notice) -> None:
        """Call the handlers that do not take events at once."""
        found = self._resolved.get(type(event))  # as ``publish``, without calls
        for subscription in self._resolve(type(event)) if found is None else found:
            if not subscription.at_once:
                try:
                    subscription.handler(event)
                except Exception:
                    subscription.report(event)

    def _handlers(self, event_type: type[Notice]) -> tuple[_Subscription, ...]:
        found = self._resolved.get(event_type)
        return self._resolve(event_type) if found is None else found

    def _resolve(self, event_type: type[Notice]) -> tuple[_Subscription, ...]:
        resolved = self._resolved
        found = resolved[event_type] = tuple(
            subscription
            for base in reversed(event_type.__mro__)
            for subscription in self._subscriptions.get(base, ())
        )
        return found


#: A bus without subscribers.
SILENT: Final = MessageBus()


class _Subscription:
    """A handler, and its number of failures."""

    __slots__ = ("at_once", "failures", "handler", "next_report")

    def __init__(self, handler: Callable[[Any], object], at_once: bool) -> None:
        self.handler = handler
        self.at_once = at_once
        self.failures = 0
        self.next_report = 1

    def tell(self, event: Notice) -> None:
        """Call the handler."""
        try:
            self.handler(event)
        except Exception:
            self.report(event)

    def report(self, event: Notice) -> None:
        """Log the current exception, unless there were many before it."""
        self.failures += 1
        if self.failures < self.next_report:
            return
        self.next_report *= 10
        _log.exception(
            "the handler %s failed on %s (failure no. %d of this subscription, no. %d is the next "
            "to be reported)",
            short(self.handler),
            short(event),
            self.failures,
            self.next_report,
        )
