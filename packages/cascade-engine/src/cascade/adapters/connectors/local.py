"""LocalConnector: a bus between the processes of one user on one machine, without a broker."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from cascade.adapters.connectors.local_folder import HubLock, LocalFolder, default_folder
from cascade.adapters.connectors.local_frames import (
    VERSION,
    Kind,
    as_json,
    frame,
    message_body,
    read_frame,
    read_message,
)
from cascade.adapters.connectors.local_hub import LocalHub
from cascade.adapters.connectors.outbox import Message, Queued
from cascade.adapters.connectors.reconnecting import Change, ReconnectingConnector
from cascade.adapters.processes import own_name
from cascade.spec.checks import check_seconds
from cascade.spec.errors import ArgumentError, ConnectorError
from cascade.spec.retry import Retry
from cascade.spec.wording import short

#: Messages that are sent before an answer.
_WINDOW = 256
#: Frames that are read before the loop has its turn.
_SLICE = 64
#: How often, and after how many seconds each time, a connector looks for the socket of a hub that
#: has its place, but does not serve yet.
_TRIES, _PAUSE = 50, 0.01


class LocalConnector(ReconnectingConnector):
    """A Connector between the processes of one user on one machine; needs no broker.

    Connectors meet in a private folder. The process of the first one is the *hub*, which routes the
    messages of all in a thread of its own; when it ends, even by ``kill -9``, another process takes
    its place. Retained messages stay in the folder, also while no connector is there. Other users
    cannot connect: the folder is closed to them.

    On Windows, use ``MqttConnector``.

    Args:
        folder: Where the connectors meet; by default ``$XDG_RUNTIME_DIR/cascade``, or
            ``cascade-UID`` in the folder for temporary files.
        will: Published by the hub when the connection is lost without a ``disconnect``.
        max_queued: Most messages that wait for a connection.
        timeout: Seconds for the hub to answer. A hub whose process was stopped (``SIGSTOP``) keeps
            its place, so its connectors lose their connections and wait for it.

    Raises:
        ArgumentError: An argument is invalid.
        ConnectorError: The system has no Unix sockets, or the folder's path is too long for one.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        will: Message | None = None,
        max_queued: int = 1000,
        timeout: float = 10.0,
    ) -> None:
        if folder is not None and not isinstance(folder, (str, Path)):
            raise ArgumentError(f"folder must be a path, but is {short(folder)}")
        check_seconds("timeout", timeout)
        pauses = Retry(sys.maxsize, 0.02, 2.0, 1.0, jitter=0.5)
        super().__init__(max_queued, will, pauses, 1.0)
        self._folder = LocalFolder(default_folder() if folder is None else Path(folder))
        self._name = secrets.token_hex(8)
        self._timeout = timeout
        self._hub: LocalHub | None = None

    def __repr__(self) -> str:
        state = "connected" if self._state.connected else self._state.reason
        return f"<LocalConnector {self._name} in {self._folder.path}: {state}>"

    async def _end(self, first: asyncio.Future[None], wait: bool) -> None:
        hub, self._hub = self._hub, None
        if hub is not None:
            await asyncio.shield(asyncio.to_thread(hub.stop))
        await super()._end(first, wait)

    def _unexpected(self, error: Exception) -> str:
        return f"no connection to the hub in {self._folder.path}: {error!r}"

    async def _session(self, first: asyncio.Future[None]) -> str:
        while True:
            reason = await self._serve(first)
            if reason is not None or self._closing.done():
                return reason or "disconnect() was called"
            # The hub has said that it leaves. Another has its place within milliseconds, which is
            # no loss to report.

    async def _serve(self, first: asyncio.Future[None]) -> str | None:
        """One connection to a hub: the reason of its end, or None if the hub moves."""
        self._folder.prepare()
        reader, writer = await self._connected()
        session = _Session(self, reader, writer)
        try:
            await session.open()
            return await session.serve(first)
        finally:
            await _close(writer, self._timeout)
            # Sent again over the next connection: the hub has not taken them.
            self._outbox.put_back(list(session.unanswered))

    async def _try_to_be_hub(self) -> None:
        trying = asyncio.ensure_future(asyncio.to_thread(_become_hub, self._folder))
        try:
            self._hub = await asyncio.shield(trying)
        except asyncio.CancelledError:
            self._hub = await trying  # it would go on, and keep the place for ever
            raise

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the hub, which may be this process, or about to begin in another."""
        for left in reversed(range(_TRIES)):
            if self._hub is None:
                await self._try_to_be_hub()
            try:
                return await asyncio.open_unix_connection(self._folder.socket)
            except OSError as error:
                if not left:
                    raise ConnectorError(
                        f"cannot connect: {HubLock(self._folder).holder()} is the hub in "
                        f"{self._folder.path}, and does not serve ({error.strerror})"
                    ) from None
            await asyncio.sleep(_PAUSE)
        raise AssertionError


class _Session:
    """One connection to a hub."""

    def __init__(
        self,
        connector: LocalConnector,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._connector = connector
        self._reader = reader
        self._writer = writer
        #: Messages that were sent, until the hub has answered.
        self.unanswered: deque[Queued] = deque()
        #: Subscriptions that the hub has yet to confirm; None for those made on opening.
        self._unconfirmed: deque[Change | None] = deque()
        self._confirmed = asyncio.Event()
        #: Set by each answer to a ping, and by every other frame.
        self._alive = asyncio.Event()

    async def open(self) -> None:
        """Greet the hub.

        Raises:
            ConnectorError: It does not answer in time, or refuses.
        """
        connector = self._connector
        hello = {
            "version": VERSION,
            "name": connector._name,
            "process": own_name(),
            "will": as_json(connector._will),
        }
        self._writer.write(frame(Kind.HELLO, json.dumps(hello).encode()))
        holder = HubLock(connector._folder).holder()
        try:
            async with asyncio.timeout(connector._timeout):
                kind, body = await read_frame(self._reader)
        except TimeoutError:
            raise ConnectorError(
                f"cannot connect: {holder} is the hub in {connector._folder.path}, and did not "
                f"answer within {connector._timeout:g} s; is it stopped?"
            ) from None
        except (EOFError, OSError, ValueError):
            raise ConnectorError(
                f"cannot connect: {holder}, the hub in {connector._folder.path}, has ended"
            ) from None
        if kind is not Kind.WELCOME:
            raise ConnectorError(f"cannot connect: {body.decode(errors='replace')}")

    async def serve(self, first: asyncio.Future[None]) -> str | None:
        """Read and write until the connection is lost or closed; the reason, None for a move."""
        connector = self._connector
        connector._in_session = True  # from now on new subscriptions are changes
        tasks = [
            asyncio.create_task(work, name=f"{name} {connector!r}")
            for name, work in (
                ("read", self._read()),
                ("write", self._write(first)),
                ("watch", self._watch()),
            )
        ]
        ended: set[asyncio.Task[str | None]] = set()
        try:
            waits: set[asyncio.Future[Any]] = {*tasks, connector._closing}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if connector._closing.done():
                connector._wake.set()  # the queue goes out first, if there is time
                await asyncio.wait(
                    tasks, timeout=connector._timeout, return_when=asyncio.FIRST_COMPLETED
                )
            ended = {task for task in tasks if task.done()}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return next((task.result() for task in ended), "disconnect() was called")

    async def _read(self) -> str | None:
        lost = f"the hub in {self._connector._folder.path} has ended"
        count = 0
        while True:
            try:
                kind, body = await read_frame(self._reader)
            except (EOFError, OSError):
                return lost
            self._alive.set()
            if kind is Kind.MESSAGE:
                topic, payload, _ = read_message(body)
                self._connector._deliver(topic, payload)
            elif kind is Kind.TAKEN:
                self.unanswered.popleft()
                self._connector._wake.set()
            elif kind is Kind.DONE:
                self._confirm()
            elif kind is Kind.BYE:
                return None
            count += 1
            if count % _SLICE == 0:
                await asyncio.sleep(0)

    def _confirm(self) -> None:
        change = self._unconfirmed.popleft()
        if change is not None:
            self._connector._settle(change, refused=False)
        if not self._unconfirmed:
            self._confirmed.set()

    async def _write(self, first: asyncio.Future[None]) -> str:
        """Subscribe, then send the queue, until ``disconnect``."""
        connector = self._connector
        for subscription in connector._subscriptions:
            self._subscribe(subscription.pattern, None)
        if self._unconfirmed:
            await self._confirmed.wait()
        connector._outbox.set_connected(True)
        connector._opened(first)
        while True:
            self._make_changes()
            room = _WINDOW - len(self.unanswered)
            sent = connector._outbox.take(room) if room > 0 else []
            for queued in sent:
                self.unanswered.append(queued)
                self._writer.write(frame(Kind.PUBLISH, message_body(queued.message)))
            if sent:
                await self._writer.drain()
                continue
            if connector._closing.done() and not self.unanswered:
                self._writer.write(frame(Kind.BYE))
                await self._writer.drain()
                return "disconnect() was called"
            await connector._wake.wait()
            connector._wake.clear()

    def _make_changes(self) -> None:
        changes = self._connector._changes
        while changes:
            change = changes.popleft()
            if change.wanted:
                self._subscribe(change.pattern, change)
            else:
                self._writer.write(frame(Kind.UNSUBSCRIBE, change.pattern.encode()))
                self._connector._settle(change, refused=False)

    def _subscribe(self, pattern: str, change: Change | None) -> None:
        self._unconfirmed.append(change)
        self._writer.write(frame(Kind.SUBSCRIBE, pattern.encode()))

    async def _watch(self) -> str:
        """Ask the hub whether it is there, while it says nothing."""
        timeout = self._connector._timeout
        while True:
            self._alive.clear()
            await asyncio.sleep(timeout / 2)
            if not self._alive.is_set():
                self._writer.write(frame(Kind.PING))
                try:
                    async with asyncio.timeout(timeout):
                        await self._alive.wait()
                except TimeoutError:
                    return (
                        f"the hub in {self._connector._folder.path}, "
                        f"{HubLock(self._connector._folder).holder()}, does not answer"
                    )


async def _close(writer: asyncio.StreamWriter, patience: float) -> None:
    """Send the buffer, and close the connection."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience):
            await writer.wait_closed()
    writer.transport.abort()


def _become_hub(folder: LocalFolder) -> LocalHub | None:
    """The hub, if there is none."""
    lock = HubLock(folder)
    try:
        if not lock.take():
            return None
        hub = LocalHub(folder, lock)
        hub.start()
    except OSError as error:
        lock.release()
        raise ConnectorError(
            f"cannot connect: no hub can be made in {folder.path}: {error.strerror}"
        ) from None
    return hub
