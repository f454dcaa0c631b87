"""MqttConnector: a bus over an MQTT broker."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from cascade.adapters.connectors.base import CLOSED, ConnectorBase
from cascade.adapters.connectors.mqtt_client import (
    WINDOW,
    close_client,
    explain,
    is_refusal,
    open_client,
    require_aiomqtt,
)
from cascade.adapters.connectors.mqtt_settings import MqttSettings
from cascade.adapters.connectors.outbox import Message, Queued
from cascade.adapters.connectors.subscriptions import Handler
from cascade.spec.errors import ArgumentError, ConnectorError
from cascade.spec.protocols import ConnectionState
from cascade.spec.retry import Retry
from cascade.spec.wording import short

if TYPE_CHECKING:
    import aiomqtt

_log = logging.getLogger("cascade.connectors")


class _Change(NamedTuple):
    """A subscription that the broker must be told to add or to remove."""

    pattern: str
    wanted: bool
    #: The result: True if the broker refuses.
    refused: asyncio.Future[bool]


class MqttConnector(ConnectorBase):
    """A Connector over an MQTT broker (3.1.1); needs ``cascade-engine[mqtt]``.

    One task keeps the connection: it connects and serves; after a loss it pauses and connects
    again, with growing pauses up to ``reconnect_max``. Sessions are clean: messages that others
    publish while the connection is lost arrive only if they are retained.

    A message over which the connection is lost five times is dropped, because some brokers close
    the connection when a message is too long for them.

    Args:
        settings: The broker's settings, or only its URL; read from the environment by default.
        will: The broker publishes this when the connection is lost without a ``disconnect``.

    Raises:
        ArgumentError: The settings or the will are invalid.
    """

    def __init__(
        self, settings: MqttSettings | str | None = None, *, will: Message | None = None
    ) -> None:
        if settings is None:
            settings = MqttSettings.from_env()
        elif isinstance(settings, str):
            settings = MqttSettings(url=settings)
        elif not isinstance(settings, MqttSettings):
            raise ArgumentError(
                f"settings must be MqttSettings or a URL, but are {short(settings)}"
            )
        super().__init__(settings.max_queued, will)
        self._settings = settings
        self._client_id = settings.client_id or f"cascade-{secrets.token_hex(6)}"
        self._pauses = Retry(
            sys.maxsize, settings.reconnect_min, 2.0, settings.reconnect_max, jitter=0.5
        )
        self._runner: asyncio.Task[None] | None = None
        self._changes: deque[_Change] = deque()
        self._in_session = False
        # Whether the loop has already been asked to set ``_wake``; saves a call per message.
        self._is_signalled = False

    def __repr__(self) -> str:
        state = "connected" if self._state.connected else self._state.reason
        return f"<MqttConnector {self._client_id} at {self._settings.url}: {state}>"

    async def connect(self, *, wait: bool = True) -> None:
        require_aiomqtt()
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
        change = _Change(pattern, wanted, asyncio.get_running_loop().create_future())
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
                held = loop.time() - began >= self._settings.reconnect_max
                failures = 1 if held else failures + 1
                pause = self._pauses.pause(failures, ConnectorError(state.reason))
                await asyncio.wait({self._closing}, timeout=pause)
        finally:
            self._end(first, wait)

    def _end(self, first: asyncio.Future[None], wait: bool) -> None:
        """Become closed; waiters for the first connection get an error."""
        self._runner = self._loop = None
        if self._closing.done():
            self._outbox.clear()
            self._tell(CLOSED)
        if wait and not first.done():
            first.set_exception(ConnectorError(self._state.reason))

    async def _connect_and_serve(self, first: asyncio.Future[None]) -> str:
        """Open a connection and use it; returns the reason of its end."""
        try:
            client = await open_client(self._settings, self._client_id, self._will, self._deliver)
            return await self._serve(client, first)
        except (ConnectorError, ArgumentError) as error:
            return str(error)
        except Exception as error:  # an error of the library must not end the attempts
            _log.exception("%r failed unexpectedly, and connects again", self)
            return f"no connection to the broker at {self._settings.url}: {explain(error)}"
        finally:
            self._in_session = False
            self._outbox.set_connected(False)
            while self._changes:  # the next session includes them
                self._settle(self._changes.popleft(), refused=False)

    async def _serve(self, client: aiomqtt.Client, first: asyncio.Future[None]) -> str:
        """Read and write until the connection is lost or ``disconnect`` is called; the reason."""
        reader = asyncio.create_task(self._read(client), name=f"read {self!r}")
        writer = asyncio.create_task(self._write(client, first), name=f"write {self!r}")
        try:
            await asyncio.wait({reader, writer, self._closing}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done():
                self._wake.set()  # the queue goes out first, if there is time
                await asyncio.wait(
                    {reader, writer},
                    timeout=self._settings.timeout,
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            writer.cancel()
            try:
                # Then the reader ends by itself, after delivering all received messages.
                await close_client(client)
            except BaseException:
                reader.cancel()
                raise
            finally:
                ends = await asyncio.gather(writer, reader, return_exceptions=True)
        why = next(
            (end for end in ends if end and not isinstance(end, asyncio.CancelledError)), None
        )
        return (
            f"the connection to the broker at {self._settings.url} was lost: "
            f"{explain(why) if why else 'it was closed'}"
        )

    async def _read(self, client: aiomqtt.Client) -> None:
        """Wait until the connection is lost."""
        async for _message in client.messages:  # they were delivered when they were read
            pass

    def _deliver(self, topic: str, payload: bytes) -> None:
        for subscription in self._subscriptions.matching(topic):
            subscription.deliver(topic, payload)

    async def _write(self, client: aiomqtt.Client, first: asyncio.Future[None]) -> None:
        """Subscribe, then send the queue, until ``disconnect``."""
        self._in_session = True  # from now on new subscriptions are changes
        self._outbox.set_connected(True)
        patterns = self._subscriptions.patterns()
        if patterns:
            qos = self._settings.qos
            codes = await client.subscribe([(pattern, qos) for pattern in patterns])
            for pattern, code in zip(patterns, codes, strict=False):
                if is_refusal(code):
                    _log.warning("the broker refuses the subscription to %r", pattern)
        _log.info("%r is connected", self)
        self._tell(ConnectionState(True))
        if not first.done():
            first.set_result(None)
        while True:
            while self._changes or len(self._outbox):
                await self._write_next(client)
            if self._closing.done():
                return
            await self._wake.wait()
            self._wake.clear()

    async def _write_next(self, client: aiomqtt.Client) -> None:
        while self._changes:
            change = self._changes.popleft()
            refused = False
            try:
                refused = await self._make(client, change)
            finally:
                self._settle(change, refused)
        await self._send_queued(client)

    async def _make(self, client: aiomqtt.Client, change: _Change) -> bool:
        """Tell the broker; returns whether it refuses."""
        if change.wanted:
            (code,) = await client.subscribe(change.pattern, self._settings.qos)
            return is_refusal(code)
        # No subscription for it was made again.
        if change.pattern not in self._subscriptions.patterns():
            await client.unsubscribe(change.pattern)
        return False

    def _settle(self, change: _Change, refused: bool) -> None:
        if not change.refused.done():
            change.refused.set_result(refused)

    async def _send_queued(self, client: aiomqtt.Client) -> None:
        """Send the queue in order, until the broker has it or there is a change to make.

        Several messages are in transit at once. Waiting for each answer, or for the answers of a
        whole batch, would also wait for TCP's delayed acknowledgements, 40 ms each time.
        """
        unsent: dict[Queued, None] = {}
        room = asyncio.Semaphore(WINDOW)

        async def send(queued: Queued) -> None:
            topic, payload, retain = queued.message
            await client.publish(topic, payload, self._settings.qos, retain)
            del unsent[queued]
            room.release()

        try:
            async with asyncio.TaskGroup() as group:
                while not self._changes and (taken := self._outbox.take(1)):
                    (queued,) = taken
                    unsent[queued] = None
                    await room.acquire()
                    task = group.create_task(send(queued))
                    if queued.attempts:
                        # One at a time: if the broker closes the connection over a message, that
                        # one uses up its attempts, and not its neighbours.
                        await asyncio.wait({task})
        finally:
            self._keep_unsent(list(unsent))

    def _keep_unsent(self, unsent: list[Queued]) -> None:
        """Unanswered messages are sent again over the next connection, unless qos is 0."""
        if not self._settings.qos:
            self._outbox.give_up(unsent)
            return
        for message in self._outbox.put_back(unsent):
            _log.warning("a message to %r is dropped: no answer to it", message.topic)
