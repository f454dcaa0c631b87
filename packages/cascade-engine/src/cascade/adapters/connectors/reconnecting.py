"""Connectors that keep a connection: they connect, serve, and connect again after a loss."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from cascade.adapters.connectors.base import CLOSED, ConnectorBase
from cascade.adapters.connectors.outbox import Message
from cascade.adapters.connectors.subscriptions import Handler
from cascade.spec.errors import ArgumentError, ConnectorError
from cascade.spec.protocols import ConnectionState
from cascade.spec.retry import Retry
from cascade.spec.wording import short

_log = logging.getLogger("cascade.connectors")


class Change(NamedTuple):
    """A subscription that the other side must be told to add or to remove."""

    pattern: str
    wanted: bool
    #: The result: True if it is refused.
    refused: asyncio.Future[bool]


class ReconnectingConnector(ConnectorBase):
    """A connector with one asyncio task that keeps the connection.

    The task opens a session and serves it. After a loss it pauses and opens the next, with growing
    pauses. Subclasses have the session: ``_session`` opens one, calls ``_opened`` when messages can
    be sent, makes the ``_changes``, and sends the queue whenever ``_wake`` is set.

    Args:
        max_queued: Most messages that wait for a connection.
        will: Published by others when the connection is lost without a ``disconnect``.
        pauses: The pauses between attempts.
        steady: A connection that held for so many seconds begins the pauses anew.
    """

    def __init__(self, max_queued: int, will: Message | None, pauses: Retry, steady: float) -> None:
        super().__init__(max_queued, will)
        self._pauses = pauses
        self._steady = steady
        self._runner: asyncio.Task[None] | None = None
        self._changes: deque[Change] = deque()
        self._in_session = False
        # Whether the loop has already been asked to set ``_wake``; saves a call per message.
        self._is_signalled = False

    @abstractmethod
    async def _session(self, first: asyncio.Future[None]) -> str:
        """Open a connection and use it until it is lost, or ``_closing`` is done.

        Args:
            first: To be passed to ``_opened``.

        Returns:
            The reason of its end.

        Raises:
            ConnectorError, ArgumentError: It cannot be opened.
        """

    @abstractmethod
    def _unexpected(self, error: Exception) -> str:
        """The reason of an end by an error that is none of the above."""

    async def connect(self, *, wait: bool = True) -> None:
        self._check_loop()
        if self._runner is not None:
            return
        loop = self._loop = asyncio.get_running_loop()
        self._is_signalled = False  # a loop that was closed meanwhile may have left it set
        self._closing: asyncio.Future[None] = loop.create_future()
        self._wake = asyncio.Event()
        first: asyncio.Future[None] = loop.create_future()
        self._runner = asyncio.create_task(self._keep(first, wait), name=f"keep {self!r}")
        if not wait:
            return
        try:
            await first
        except asyncio.CancelledError:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        self._check_loop()
        if self._runner is not None:
            if not self._closing.done():
                self._closing.set_result(None)
            await asyncio.shield(self._runner)  # it cleans up, even if its waiter is cancelled

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        message = Message(topic, payload, retain)
        message.check()
        self._outbox.put(message)  # first, because a session that begins now looks there
        loop = self._loop
        if loop is not None and self._in_session and not self._is_signalled:
            self._is_signalled = True
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._signal)

    async def subscribe(self, pattern: str, handler: Handler) -> Callable[[], None]:
        self._check_loop()
        subscription = self._subscriptions.add(pattern, handler)

        def cancel() -> None:
            if self._subscriptions.remove(subscription) and self._in_session:
                self._ask_for(pattern, wanted=False)

        try:
            refused = self._in_session and await self._ask_for(pattern, wanted=True)
        except BaseException:  # the caller is cancelled, and gets no function to end it
            cancel()
            raise
        if refused:
            self._subscriptions.remove(subscription)
            raise ConnectorError(f"the broker refuses the subscription to {short(pattern)}")
        return cancel

    def _signal(self) -> None:
        self._is_signalled = False
        self._wake.set()

    def _ask_for(self, pattern: str, *, wanted: bool) -> asyncio.Future[bool]:
        change = Change(pattern, wanted, asyncio.get_running_loop().create_future())
        self._changes.append(change)
        self._wake.set()
        return change.refused

    # The task that keeps the connection.

    async def _keep(self, first: asyncio.Future[None], wait: bool) -> None:
        """Connect, serve, pause, until ``disconnect``.

        Args:
            first: Gets the first connection, or the reason why there is none.
            wait: Whether to give up if the first attempt fails.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        try:
            while not self._closing.done():
                began = loop.time()
                state = ConnectionState(False, await self._connect_and_serve(first))
                if self._closing.done():
                    break
                gives_up = wait and not first.done()
                if state != self._state and not gives_up:
                    _log.warning("%s; connecting again", state.reason)
                self._tell(state)
                if gives_up:
                    break
                # Only a connection that held resets the pause; otherwise a broker that closes at
                # once would be called again and again.
                held = loop.time() - began >= self._steady
                failures = 1 if held else failures + 1
                pause = self._pauses.pause(failures, ConnectorError(state.reason))
                await asyncio.wait({self._closing}, timeout=pause)
        finally:
            await self._end(first, wait)

    async def _end(self, first: asyncio.Future[None], wait: bool) -> None:
        """Become closed; waiters for the first connection get an error."""
        self._runner = self._loop = None
        if self._closing.done():
            self._outbox.clear()
            self._tell(CLOSED)
        if wait and not first.done():
            first.set_exception(ConnectorError(self._state.reason))

    async def _connect_and_serve(self, first: asyncio.Future[None]) -> str:
        """One session; returns the reason of its end."""
        try:
            return await self._session(first)
        except (ConnectorError, ArgumentError) as error:
            return str(error)
        except Exception as error:  # an error of a library must not end the attempts
            _log.exception("%r failed unexpectedly, and connects again", self)
            return self._unexpected(error)
        finally:
            self._in_session = False
            self._outbox.set_connected(False)
            while self._changes:  # the next session includes them
                self._settle(self._changes.popleft(), refused=False)

    def _opened(self, first: asyncio.Future[None]) -> None:
        """The connection has all subscriptions, and takes messages."""
        self._tell(ConnectionState(True))
        _log.info("opened %r", self)
        if not first.done():
            first.set_result(None)

    def _deliver(self, topic: str, payload: bytes) -> None:
        for subscription in self._subscriptions.matching(topic):
            subscription.deliver(topic, payload)

    def _settle(self, change: Change, refused: bool) -> None:
        if not change.refused.done():
            change.refused.set_result(refused)
