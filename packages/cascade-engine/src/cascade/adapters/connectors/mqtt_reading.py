"""Reading from an MQTT broker: messages are delivered at once, within a share of the loop's time.

aiomqtt reads one packet per turn of the event loop, with three system calls, and uses a task and an
unbounded queue for each message. In a flood its queue grows, and an important message waits behind
all others. Here one call reads all available bytes. Messages of QoS 0 are parsed at once (2 µs of
CPU each, with their way to the control plane); paho-mqtt handles all else. A turn reads for at most
two milliseconds, and a connection that has used up its share of the time pauses.

This overrides methods of ``aiomqtt.Client`` and paho-mqtt that are not public, which is why their
versions have upper bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from cascade.adapters.connectors.pacing import Allowance

#: Most seconds of reading in one turn of the loop.
_TURN = 0.002
#: Share of the loop's time for reading.
_SHARE = 0.08
#: Bytes per read call.
_AT_ONCE = 65_536
#: Messages delivered between two looks at the clock.
_MESSAGES = 32


@cache
def reading_client() -> Any:
    """The class of clients that read in this way; aiomqtt is imported on demand."""
    import aiomqtt

    class ReadingClient(aiomqtt.Client):
        """Calls ``deliver(topic, payload)`` for each message, in the loop's thread."""

        deliver: Callable[[str, bytes], None]
        #: Number of received messages.
        came = 0

        def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
            self.came += 1
            try:
                topic = message.topic
            except UnicodeDecodeError:  # no valid topic; brokers refuse it
                return
            self.deliver(topic, message.payload)

        def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
            super()._on_socket_open(client, userdata, sock)
            # Called in the connecting thread; must run after the callbacks of the line above.
            self._loop.call_soon_threadsafe(_Reader(self, client, sock).start)

    return ReadingClient


class _Reader:
    """Reads one connection.

    Args:
        owner: The client of aiomqtt.
        client: The client of paho-mqtt.
        sock: The connection.
    """

    def __init__(self, owner: Any, client: Any, sock: Any) -> None:
        self._owner = owner
        self._client = client
        self._sock = sock
        self._loop = owner._loop
        self._allowance = Allowance(_SHARE, self._loop.time)
        self._receive = client._sock_recv
        #: Received bytes; those from ``_at`` on are not parsed yet.
        self._buffer = bytearray()
        self._at = 0
        #: Whether the next message is malformed; paho-mqtt handles it.
        self._is_malformed = False

    def start(self) -> None:
        """Start reading, and replace the reader that paho-mqtt has registered."""
        if self._is_open():
            self._client._sock_recv = self._from_buffer
            self._go_on()

    def _go_on(self) -> None:
        if self._is_open():
            self._loop.add_reader(self._sock.fileno(), self._read)
            self._read()  # buffered or TLS-decoded bytes do not wake the loop

    def _is_open(self) -> bool:
        return self._client.socket() is self._sock and self._sock.fileno() >= 0

    def _read(self) -> None:
        until = self._loop.time() + _TURN
        try:
            with self._allowance.spending():
                while self._is_open() and self._read_some() and self._loop.time() < until:
                    pass
        except Exception as error:  # a broken connection; aiomqtt does the same
            lost = self._owner._disconnected
            if not lost.done():
                lost.set_exception(error)
                # Marks it as retrieved: before the broker's first answer no task awaits it.
                lost.exception()
            return
        pause = self._allowance.pause
        if (pause or self._loop.time() >= until) and self._is_open():
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(pause, self._go_on)

    def _read_some(self) -> bool:
        """Parse some of the received bytes; return whether there may be more."""
        if not self._client._in_packet["command"]:
            if self._deliver_messages():
                return True
            if self._at == len(self._buffer) or self._is_message():
                return self._fill()
        before = (self._at, len(self._buffer))
        self._client.loop_read()
        return before != (self._at, len(self._buffer))

    def _is_message(self) -> bool:
        """Whether a packet of QoS 0 begins here that is not known to be malformed."""
        return self._buffer[self._at] & 0xF6 == 0x30 and not self._is_malformed

    def _fill(self) -> bool:
        """Read from the socket; return whether any bytes were there."""
        del self._buffer[: self._at]
        self._at = 0
        try:
            data = self._receive(_AT_ONCE)
        except BlockingIOError:
            return False
        if not data:  # the end of the stream, which paho-mqtt must see itself
            self._client._sock_recv = self._receive
            self._client.loop_read()
            return False
        self._buffer += data
        return True

    def _from_buffer(self, size: int) -> bytes:
        """Bytes for paho-mqtt, in place of the connection."""
        if self._at == len(self._buffer) and not self._fill():
            raise BlockingIOError
        found = bytes(self._buffer[self._at : self._at + size])
        self._at += len(found)
        return found

    def _deliver_messages(self) -> bool:
        """Deliver the messages of QoS 0 at the start of the buffer; whether there were any."""
        buffer, deliver = self._buffer, self._owner.deliver
        self._is_malformed = False
        for count in range(_MESSAGES):
            found = self._next_message(buffer, self._at)
            if found is None:
                return count > 0
            topic, start, self._at = found
            deliver(topic, bytes(buffer[start : self._at]))
        return True

    def _next_message(self, buffer: bytearray, at: int) -> tuple[str, int, int] | None:
        """The topic of the message that begins here, and the bounds of its payload.

        None if it is incomplete, or another packet: then paho-mqtt reads it.
        """
        end = len(buffer)
        if at >= end or buffer[at] & 0xF6 != 0x30:
            return None
        length = shift = 0
        while True:
            at += 1
            if at >= end:
                return None
            length |= (buffer[at] & 0x7F) << shift
            shift += 7
            if buffer[at] < 0x80:
                break
            if shift > 21:
                self._is_malformed = True
                return None
        start = at + 3
        if at + 1 + length > end:
            return None
        payload = start + (buffer[at + 1] << 8 | buffer[at + 2]) if length >= 2 else end + 1
        try:
            if payload > at + 1 + length:
                raise ValueError(payload)
            return buffer[start:payload].decode(), payload, at + 1 + length
        except ValueError:
            self._is_malformed = True
            return None
