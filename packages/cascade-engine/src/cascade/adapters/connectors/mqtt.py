"""MqttConnector: a bus over an MQTT broker."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from typing import TYPE_CHECKING

from cascade.adapters.connectors.mqtt_client import (
    WINDOW,
    close_client,
    explain,
    is_refusal,
    open_client,
    require_aiomqtt,
    require_readers,
)
from cascade.adapters.connectors.mqtt_settings import MqttSettings
from cascade.adapters.connectors.outbox import Message, Queued
from cascade.adapters.connectors.reconnecting import Change, ReconnectingConnector
from cascade.spec.errors import ArgumentError
from cascade.spec.retry import Retry
from cascade.spec.wording import short

if TYPE_CHECKING:
    import aiomqtt

_log = logging.getLogger("cascade.connectors")


class MqttConnector(ReconnectingConnector):
    """A Connector over an MQTT broker (3.1.1); needs ``cascade-engine[mqtt]``.

    After a loss it connects again, with growing pauses up to ``reconnect_max``. Sessions are clean:
    messages that others publish while the connection is lost arrive only if they are retained.

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
        pauses = Retry(sys.maxsize, settings.reconnect_min, 2.0, settings.reconnect_max, jitter=0.5)
        super().__init__(settings.max_queued, will, pauses, settings.reconnect_max)
        self._settings = settings
        self._client_id = settings.client_id or f"cascade-{secrets.token_hex(6)}"

    def __repr__(self) -> str:
        state = "connected" if self._state.connected else self._state.reason
        return f"<MqttConnector {self._client_id} at {self._settings.url}: {state}>"

    async def connect(self, *, wait: bool = True) -> None:
        require_aiomqtt()
        require_readers(asyncio.get_running_loop())
        await super().connect(wait=wait)

    async def _session(self, first: asyncio.Future[None]) -> str:
        client = await open_client(self._settings, self._client_id, self._will, self._deliver)
        return await self._serve(client, first)

    def _unexpected(self, error: Exception) -> str:
        return f"no connection to the broker at {self._settings.url}: {explain(error)}"

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
        self._opened(first)
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

    async def _make(self, client: aiomqtt.Client, change: Change) -> bool:
        """Tell the broker; returns whether it refuses."""
        if change.wanted:
            (code,) = await client.subscribe(change.pattern, self._settings.qos)
            return is_refusal(code)
        # No subscription for it was made again.
        if change.pattern not in self._subscriptions.patterns():
            await client.unsubscribe(change.pattern)
        return False

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
