"""MemoryConnector: a bus inside one process, for tests and for programs that embed an engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from cascade.adapters.connectors.base import CLOSED, ConnectorBase
from cascade.adapters.connectors.outbox import Message
from cascade.adapters.connectors.subscriptions import Handler, Subscription
from cascade.adapters.connectors.topics import matches
from cascade.spec.errors import ArgumentError, ConnectorError
from cascade.spec.protocols import ConnectionState
from cascade.spec.wording import short

_CONNECTED = ConnectionState(True)
_STOPPED = "the broker is stopped"


class MemoryBroker:
    """The meeting point of MemoryConnectors; thread-safe.

    Tests can stop and start it and cut a connection, to see how a program copes. Like a broker
    without a disk, it has no retained messages after a restart.
    """

    def __init__(self) -> None:
        # Guards the broker, and the parts of its connectors that other threads read. Reentrant,
        # because a connector that opens publishes its queue.
        self._lock = threading.RLock()
        self._members: list[MemoryConnector] = []
        self._retained: dict[str, bytes] = {}
        self._is_running = True

    @property
    def is_running(self) -> bool:
        """Whether connectors can connect to it."""
        return self._is_running

    def stop(self) -> None:
        """Cut all connections, and accept none until ``start``; a no-op when stopped."""
        with self._lock:
            self._is_running = False
            self._retained.clear()
            for member in self._members:
                member._lose(_STOPPED)

    def start(self) -> None:
        """Reconnect all connectors that were connected or wait for that; a no-op when running."""
        with self._lock:
            self._is_running = True
            for member in list(self._members):
                member._open()

    def cut(self, connector: MemoryConnector) -> None:
        """Cut one connection: its last will is published, and it reconnects."""
        with self._lock:
            if connector._is_open:
                connector._lose("the connection was cut")
                if connector._will is not None:
                    self._route(connector._will)
                connector._open()

    def _route(self, message: Message) -> None:
        topic, payload, retain = message
        if retain:
            self._retained.pop(topic, None)
            if payload:
                self._retained[topic] = payload
        for member in self._members:
            if member._is_open:
                for subscription in member._subscriptions.matching(topic):
                    member._soon(subscription.deliver, topic, payload)


class MemoryConnector(ConnectorBase):
    """A Connector without a network.

    Messages are delivered by the event loop, never from inside of ``publish``, in the order of
    publishing and exactly once. Works in virtual time.

    Args:
        broker: Connects it to the others.
        will: What the broker publishes when ``MemoryBroker.cut`` loses the connection.
        max_queued: Most messages that wait for a connection.

    Raises:
        ArgumentError: The broker, the will or the number is invalid.

    >>> async def main() -> None:
    ...     async with MemoryConnector(MemoryBroker()) as connector:
    ...         heard = asyncio.Event()
    ...         def show(topic: str, payload: bytes) -> None:
    ...             print(topic, payload)
    ...             heard.set()
    ...         await connector.subscribe("agents/+/state", show)
    ...         connector.publish("agents/7/state", b"idle")
    ...         await heard.wait()
    >>> asyncio.run(main())
    agents/7/state b'idle'
    """

    def __init__(
        self, broker: MemoryBroker, *, will: Message | None = None, max_queued: int = 1000
    ) -> None:
        if not isinstance(broker, MemoryBroker):
            raise ArgumentError(f"broker must be a MemoryBroker, but is {short(broker)}")
        super().__init__(max_queued, will)
        self._broker = broker
        self._is_open = False
        # The current connection. Deliveries of an earlier one are dropped.
        self._session = 0

    def __repr__(self) -> str:
        return f"<MemoryConnector {'connected' if self._state.connected else self._state.reason}>"

    async def connect(self, *, wait: bool = True) -> None:
        self._check_loop()
        with self._broker._lock:
            if self in self._broker._members:
                return
            if wait and not self._broker._is_running:
                self._tell(ConnectionState(False, _STOPPED))
                raise ConnectorError(f"cannot connect: {_STOPPED}; call its start()")
            self._loop = asyncio.get_running_loop()
            self._broker._members.append(self)
            # Before any delivery, which the loop makes later.
            is_running = self._broker._is_running
            self._tell(_CONNECTED if is_running else ConnectionState(False, _STOPPED))
            if is_running:
                self._open()

    async def disconnect(self) -> None:
        self._check_loop()
        with self._broker._lock:
            if self not in self._broker._members:
                return
            self._broker._members.remove(self)
            self._is_open = False
            self._session += 1
            self._loop = None
            self._outbox.clear()
        self._tell(CLOSED)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        message = Message(topic, payload, retain)
        message.check()
        with self._broker._lock:
            if self._is_open:
                self._broker._route(message)
            else:
                self._outbox.put(message)

    async def subscribe(self, pattern: str, handler: Handler) -> Callable[[], None]:
        self._check_loop()
        with self._broker._lock:
            subscription = self._subscriptions.add(pattern, handler)
            if self._is_open:
                self._deliver_retained(subscription)

        def cancel() -> None:
            self._subscriptions.remove(subscription)

        return cancel

    def _open(self) -> None:
        """Become connected; holds the broker's lock, from any thread."""
        if self._is_open:
            return
        self._is_open = True
        self._soon(self._tell, _CONNECTED)
        for subscription in self._subscriptions:
            self._deliver_retained(subscription)
        for queued in self._outbox.take(len(self._outbox)):
            self._broker._route(queued.message)

    def _lose(self, reason: str) -> None:
        """Become disconnected; holds the broker's lock, from any thread."""
        if self._is_open:
            self._is_open = False
            self._soon(self._tell, ConnectionState(False, reason))

    def _deliver_retained(self, subscription: Subscription) -> None:
        for topic, payload in self._broker._retained.items():
            if matches(subscription.pattern, topic):
                self._soon(subscription.deliver, topic, payload)

    def _soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Let the loop make the call, unless the connector is closed before."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(partial(self._now, self._session, call, *args))

    def _now(self, session: int, call: Callable[..., Any], *args: Any) -> None:
        if session == self._session:
            call(*args)
