"""The hub of local connectors: one of their processes routes the messages of all.

It runs in a thread of its own, so that a program that keeps its event loop busy delays no messages
of others. When its process ends, one of the others becomes the hub (``LocalConnector``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections import deque
from contextlib import suppress
from struct import error as StructError

from cascade.adapters.connectors.local_folder import HubLock, LocalFolder
from cascade.adapters.connectors.local_frames import (
    VERSION,
    Frames,
    Kind,
    frame,
    from_json,
    message_body,
    read_message,
)
from cascade.adapters.connectors.outbox import MAX_BYTES_QUEUED, Message
from cascade.adapters.connectors.topics import matches
from cascade.adapters.processes import dead_among

_log = logging.getLogger("cascade.connectors")

#: Seconds that members of a killed hub have to come back, before their last wills are published.
_GRACE = 3.0
#: Most messages that are kept for them; the oldest are dropped.
_MOST_HELD = 10_000
#: Seconds for members to read what was routed to them, when the hub moves.
_FLUSH = 2.0


class _Member(asyncio.Protocol):
    """One connection to the hub; a member once it has greeted."""

    transport: asyncio.Transport

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self._frames = Frames()
        self.name = ""
        self.will: Message | None = None
        #: Pattern → number of its subscriptions.
        self.patterns: dict[str, int] = {}
        #: Whether it, or the hub, has said that it leaves.
        self.leaves = False
        #: Whether it was a member of the last hub, too.
        self.is_back = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Topic → whether it gets its messages; for the latest topics.
        self._wants: dict[str, bool] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._hub.connections.add(self)
        if self._hub.is_parting:  # it was accepted just before
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._frames.feed(data):
                self._hub.hear(self, kind, body)
        except (ValueError, KeyError, StructError) as error:
            _log.warning("a connection to the hub is closed: it sent %s", error)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._hub.connections.discard(self)
        self.closed.set_result(None)
        self._hub.lose(self)

    def change(self, pattern: str, by: int) -> None:
        count = self.patterns.pop(pattern, 0) + by
        if count > 0:
            self.patterns[pattern] = count
        self._wants = {}

    def wants(self, topic: str) -> bool:
        found = self._wants.get(topic)
        if found is None:
            if len(self._wants) > 1000:
                self._wants.clear()
            found = self._wants[topic] = any(matches(p, topic) for p in self.patterns)
        return found

    def send(self, data: bytes) -> None:
        """Queue bytes; a member that does not read them is cut off before they fill the memory."""
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > MAX_BYTES_QUEUED:
            _log.warning("the connector %s does not read its messages, and is cut off", self.name)
            self.transport.abort()


class LocalHub:
    """The hub of a folder, for the process that holds its lock.

    Args:
        folder: Where its socket is, and what it keeps for its successor.
        lock: Held by this process.
    """

    def __init__(self, folder: LocalFolder, lock: HubLock) -> None:
        self._folder = folder
        self._lock = lock
        #: All connections, and those of them that have greeted.
        self.connections: set[_Member] = set()
        self._members: set[_Member] = set()
        self._retained: dict[str, bytes] = {}
        #: Members of the last hub that did not come back yet, and their last wills.
        self._missing: dict[str, Message | None] = {}
        #: Whether some may still come back and subscribe; and the messages since then, for them.
        self._holds = False
        self._held: deque[Message] = deque(maxlen=_MOST_HELD)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve; returns when connectors can connect.

        Raises:
            OSError: The socket cannot be made.
        """
        begun = threading.Event()
        failed: list[OSError] = []

        def work() -> None:
            try:
                asyncio.run(self._serve(begun))
            except OSError as error:
                failed.append(error)
            finally:
                begun.set()

        self._thread = threading.Thread(target=work, name="cascade-hub", daemon=True)
        self._thread.start()
        begun.wait()
        if failed:
            self._thread.join()
            raise failed[0]

    def stop(self) -> None:
        """Close all connections, and give the lock back, which makes another process the hub."""
        if self._thread is not None and self._loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()
        self._lock.release()

    @property
    def is_parting(self) -> bool:
        """Whether it takes no more connections."""
        return self._end.is_set()

    # -- in its thread ------------------------------------------------------------------------

    async def _serve(self, begun: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._folder.socket.unlink(missing_ok=True)  # of a hub that was killed
        self._take_over()
        self._server = await self._loop.create_unix_server(
            lambda: _Member(self), self._folder.socket
        )
        grace = self._loop.call_later(_GRACE, self._miss)
        begun.set()
        try:
            await self._end.wait()
        finally:
            grace.cancel()
            self._server.close()
            await self._part()

    def _take_over(self) -> None:
        """Go on with the state of the last hub, if its process was killed or it was the last."""
        self._retained = self._folder.retained()
        members = self._folder.members()
        dead = set(dead_among({process for process, _ in members.values()}))
        for name, (process, will) in members.items():
            if process not in dead:
                self._missing[name] = will
                self._holds = True
            else:
                self._folder.forget_member(name)
                if will is not None:
                    self._route(will)

    def _miss(self) -> None:
        """Publish the last wills of the members that did not come back."""
        missing, self._missing = self._missing, {}
        self._holds = False
        self._held.clear()
        for name, will in missing.items():
            self._folder.forget_member(name)
            if will is not None:
                self._route(will)

    async def _part(self) -> None:
        """Let all members go, with all that was routed to them."""
        self._folder.socket.unlink(missing_ok=True)
        connections = list(self.connections)
        for member in connections:
            member.leaves = True  # it comes back, to the next hub
            member.transport.pause_reading()  # what it sends now is for the next hub, too
            member.send(frame(Kind.BYE))
            member.transport.close()
        if connections:
            await asyncio.wait([member.closed for member in connections], timeout=_FLUSH)
        while self.connections:
            for member in list(self.connections):
                member.transport.abort()
            await asyncio.sleep(0)

    # -- frames -------------------------------------------------------------------------------

    def hear(self, member: _Member, kind: Kind, body: bytes) -> None:
        """Execute a frame.

        Raises:
            ValueError, KeyError, struct.error: It is invalid, or comes from something else than a
                connector.
        """
        if kind is Kind.HELLO:
            self._greet(member, json.loads(body))
        elif member not in self._members:
            raise ValueError("no greeting")
        elif kind is Kind.PUBLISH:
            self._route(read_message(body))
            member.send(frame(Kind.TAKEN))
        elif kind is Kind.SUBSCRIBE:
            self._subscribe(member, body.decode())
        elif kind is Kind.UNSUBSCRIBE:
            member.change(body.decode(), -1)
        elif kind is Kind.PING:
            member.send(frame(Kind.PONG))
        elif kind is Kind.BYE:
            member.leaves = True
            self._folder.forget_member(member.name)
        else:
            raise ValueError(f"a frame of kind {kind.name}, which only hubs send")

    def _greet(self, member: _Member, hello: object) -> None:
        if not isinstance(hello, dict):
            raise ValueError("no greeting")
        if hello.get("version") != VERSION:
            text = f"the hub in process {os.getpid()} is of another version of Cascade"
            member.send(frame(Kind.REFUSED, text.encode()))
            member.transport.close()
            return
        member.name, process = str(hello["name"]), str(hello["process"])
        member.will = from_json(hello["will"])
        member.is_back = member.name in self._missing
        self._missing.pop(member.name, None)
        self._members.add(member)
        self._folder.keep_member(member.name, process, member.will)
        member.send(frame(Kind.WELCOME))

    def _subscribe(self, member: _Member, pattern: str) -> None:
        messages = [Message(topic, payload, True) for topic, payload in self._retained.items()]
        if member.is_back:
            messages += [message for message in self._held if not member.wants(message.topic)]
        for message in messages:
            if matches(pattern, message.topic):
                member.send(frame(Kind.MESSAGE, message_body(message)))
        member.change(pattern, 1)
        member.send(frame(Kind.DONE))

    def lose(self, member: _Member) -> None:
        """End a connection."""
        if member not in self._members:
            return
        self._members.discard(member)
        if not member.leaves:
            self._folder.forget_member(member.name)
            if member.will is not None:
                self._route(member.will)

    def _route(self, message: Message) -> None:
        topic, payload, retain = message
        if retain:
            self._retained.pop(topic, None)
            if payload:
                self._retained[topic] = payload
            try:
                self._folder.retain(topic, payload)
            except OSError as error:
                _log.warning("the next hub will not know %r: %s", topic, error.strerror)
        elif self._holds:
            self._held.append(message)
        data = frame(Kind.MESSAGE, message_body(message))
        for member in list(self._members):
            if member.wants(topic):
                member.send(data)
