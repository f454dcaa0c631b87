"""Subscriptions: the handlers of messages."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

from cascade.adapters.connectors.topics import check_pattern, matches
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

_log = logging.getLogger("cascade.connectors")

#: Most topics whose handlers are cached.
_TOPICS_KEPT = 1024
#: A function of the topic and the payload of a message.
Handler = Callable[[str, bytes], object]


class Subscription:
    """A handler, its pattern, and its number of failures."""

    __slots__ = ("_failures", "_handler", "_next_report", "is_active", "pattern")

    def __init__(self, pattern: str, handler: Handler) -> None:
        self.pattern = pattern
        self.is_active = True
        self._handler = handler
        self._failures = 0
        self._next_report = 1

    def deliver(self, topic: str, payload: bytes) -> None:
        """Call the handler, unless the subscription has ended; log its exceptions."""
        if not self.is_active:
            return
        try:
            self._handler(topic, payload)
        except Exception:
            self._report(topic)

    def _report(self, topic: str) -> None:
        """Log the current exception, unless there were many before it."""
        self._failures += 1
        if self._failures < self._next_report:
            return
        self._next_report *= 10
        _log.exception(
            "the handler %s of %r failed on a message to %r (failure no. %d of this subscription, "
            "no. %d is the next to be reported)",
            short(self._handler),
            self.pattern,
            topic,
            self._failures,
            self._next_report,
        )


class Subscriptions:
    """The subscriptions of one connector, in the order in which they were made."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []
        #: The list, and a cache of the handlers by topic that is replaced with it.
        self._known: tuple[list[Subscription], dict[str, list[Subscription]]] = (self._all, {})

    def add(self, pattern: str, handler: Handler) -> Subscription:
        """Add one, in force from now on.

        Raises:
            ArgumentError: The pattern or the handler is invalid.
        """
        check_pattern(pattern)
        if pattern.startswith("$share/"):
            raise ArgumentError(
                f"the pattern {short(pattern)} is a shared subscription, which MQTT 3.1.1 does not "
                "have and connectors cannot match; subscribe to the part after the group's name"
            )
        check_handler(handler, "with the topic and the payload")
        subscription = Subscription(pattern, handler)
        # A new list, because another thread may be iterating over the old one.
        self._replace([*self._all, subscription])
        return subscription

    def remove(self, subscription: Subscription) -> bool:
        """End one; whether it was in force and no other has its pattern."""
        if not subscription.is_active:
            return False
        subscription.is_active = False
        self._replace([other for other in self._all if other is not subscription])
        return subscription.pattern not in self.patterns()

    def patterns(self) -> list[str]:
        """The subscribed patterns, each once."""
        return list(dict.fromkeys(subscription.pattern for subscription in self._all))

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    def matching(self, topic: str) -> list[Subscription]:
        """The subscriptions that match ``topic``."""
        subscriptions, known = self._known
        found = known.get(topic)
        if found is None:
            if len(known) >= _TOPICS_KEPT:
                known.clear()
            found = known[topic] = [s for s in subscriptions if matches(s.pattern, topic)]
        return found

    def _replace(self, subscriptions: list[Subscription]) -> None:
        self._all = subscriptions
        self._known = (subscriptions, {})


def check_handler(handler: Any, called: str) -> None:
    """Refuse an object that is not callable, or must be awaited.

    Raises:
        ArgumentError: The handler is not a plain function; ``called`` names its arguments.
    """
    if not callable(handler):
        raise ArgumentError(f"a handler is called {called}, but got {short(handler)}")
    if inspect.iscoroutinefunction(handler):
        raise ArgumentError(
            f"the handler {handler.__qualname__} is a coroutine function, but handlers are called "
            "and not awaited; use a plain function that puts messages into an asyncio.Queue"
        )
