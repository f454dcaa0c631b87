"""Reading from an MQTT broker: messages are handed over at once, within a share of the loop's time.

aiomqtt reads one packet in each turn of the event loop, with three system calls, and takes a task
and a queue without a bound for each message. In a flood its queue grows, and the one message that
matters waits behind all others. Here one call reads all that has come, messages of QoS 0 are taken
apart at once (with their way to the control plane 2 µs of CPU each), and all else is left to
paho-mqtt. A turn reads for two milliseconds at most, and when the connection has had its share of
the time, it pauses.

This overrides methods of ``aiomqtt.Client`` and paho-mqtt that are not public, which is why their
versions have upper bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from cascade.adapters.connectors.pacing import Allowance

#: Seconds that one turn of the loop reads at most.
_TURN = 0.002
#: Of the loop's time that may go into reading.
_SHARE = 0.08
#: Bytes that are read by one call.
_AT_ONCE = 65_536
#: Messages that are delivered before somebody looks at the time.
_MESSAGES = 32


@cache
def reading_client() -> Any:
    """The class of clients that read like this; aiomqtt is imported when one is needed."""
    import aiomqtt

    class ReadingClient(aiomqtt.Client):
        """Calls ``deliver(topic, payload)`` for each message, in the loop's thread."""

        deliver: Callable[[str, bytes], None]
        #: How many messages came.
        came = 0

        def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
            self.came += 1
            try:
                topic = message.topic
            except UnicodeDecodeError:  # no topic can be so; brokers refuse it
                return
            self.deliver(topic, message.payload)

        def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
            super()._on_socket_open(client, userdata, sock)
            # In the thread that connects; after what the line above has asked the loop for.
            self._loop.call_soon_threadsafe(_Reader(self, client, sock).start)

    return ReadingClient


class _Reader:
    """Reads one connection.

    Args:
        owner: The client of aiomqtt's.
        client: That of paho's.
        sock: The connection.
    """

    def __init__(self, owner: Any, client: Any, sock: Any) -> None:
        self._owner = owner
        self._client = client
        self._sock = sock
        self._loop = owner._loop
        self._allowance = Allowance(_SHARE, self._loop.time)
        self._receive = client._sock_recv
        #: Bytes from ``_at`` on were read and are not parsed yet.
        self._buffer = bytearray()
        self._at = 0
        #: Whether the message that comes next cannot be read; paho knows what to do.
        self._is_malformed = False

    def start(self) -> None:
        """Start reading, and replace the reader that paho has registered."""
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
            if not self._owner._disconnected.done():
                self._owner._disconnected.set_exception(error)
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
        """Whether a packet begins here that is a message of QoS 0, and not malformed so far."""
        return self._buffer[self._at] & 0xF6 == 0x30 and not self._is_malformed

    def _fill(self) -> bool:
        """Read from the socket; return whether any bytes were there."""
        del self._buffer[: self._at]
        self._at = 0
        try:
            data = self._receive(_AT_ONCE)
        except BlockingIOError:
            return False
        if not data:  # the end, which paho has to see for itself
            self._client._sock_recv = self._receive
            self._client.loop_read()
            return False
        self._buffer += data
        return True

    def _from_buffer(self, size: int) -> bytes:
        """What paho reads from, in place of the connection."""
        if self._at == len(self._buffer) and not self._fill():
            raise BlockingIOError
        found = bytes(self._buffer[self._at : self._at + size])
        self._at += len(found)
        return found

    def _deliver_messages(self) -> bool:
        """Deliver the messages of QoS 0 that the buffer begins with; whether there were any."""
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
        """The topic of a message that begins here, and where its payload begins and ends.

        None if it is not all there, or something else: then paho reads it.
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
