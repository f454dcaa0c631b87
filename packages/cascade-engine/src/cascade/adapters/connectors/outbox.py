"""Outbox: published messages until a broker has them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cascade.adapters.connectors.topics import MAX_BYTES, check_topic
from cascade.spec.checks import check_count
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

#: Bytes: the MQTT limit of a packet, less the longest topic and the header.
MAX_PAYLOAD = 268_435_455 - MAX_BYTES - 16
#: Times that a message is sent without an answer. A broker may close the connection over a message
#: that it does not accept; such a message would block all later ones for ever.
MAX_ATTEMPTS = 5
#: Most bytes that wait, connected or not: a program that publishes faster than its network must not
#: fill the memory.
MAX_BYTES_QUEUED = 64 * 1024 * 1024
#: Approximate bytes of a waiting message besides its topic and payload.
_OVERHEAD = 200
#: Stale entries that a queue may have, besides as many as there are waiting ones.
_SLACK = 64


class Message(NamedTuple):
    """A message to publish, or a last will."""

    topic: str
    payload: bytes
    retain: bool = False

    def check(self) -> None:
        """Refuse a message that no broker accepts.

        Raises:
            ArgumentError: The topic, the payload or ``retain`` is invalid.
        """
        check_topic(self.topic)
        if not isinstance(self.payload, bytes):
            raise ArgumentError(
                f"the payload for {short(self.topic)} must be bytes, but is "
                f"{short(self.payload)} of type {type(self.payload).__name__}; encode it, a text "
                "with .encode()"
            )
        if len(self.payload) > MAX_PAYLOAD:
            raise ArgumentError(
                f"the payload for {short(self.topic)} has {len(self.payload)} bytes, and MQTT "
                f"carries {MAX_PAYLOAD}; publish where it is kept instead"
            )
        if not isinstance(self.retain, bool):
            raise ArgumentError(f"retain must be True or False, but is {short(self.retain)}")


class Queued:
    """A message in an Outbox, and its failed attempts."""

    __slots__ = ("attempts", "message", "size", "waits")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.attempts = 0
        self.size = len(message.payload) + len(message.topic) + _OVERHEAD
        #: Whether it is in the outbox: neither taken for sending, nor dropped.
        self.waits = True


class Outbox:
    """The messages to send, oldest first; thread-safe.

    While connected they only wait for their turn, and none is dropped until they have ``max_bytes``
    together. While disconnected, ``limit`` applies as well. The first to be dropped are retained
    messages with a newer one on their topic, then the oldest messages that are not retained, and
    last the newest retained message of a topic: it describes a state, and no later message repeats
    it.

    Args:
        limit: Most messages at once, while disconnected.
        max_bytes: Most bytes at once.

    Raises:
        ArgumentError: ``limit`` is not an int ≥ 1.
    """

    def __init__(self, limit: int, max_bytes: int = MAX_BYTES_QUEUED) -> None:
        check_count("max_queued", limit)
        self._limit = limit
        self._max_bytes = max_bytes
        self._is_connected = False
        self._lock = threading.Lock()
        #: All waiting messages in order, and some stale ones.
        self._queued: deque[Queued] = deque()
        #: The waiting messages that may be dropped, in that order; and some stale ones.
        self._expendable: deque[Queued] = deque()
        #: Topic → its newest retained message, while it waits.
        self._kept: dict[str, Queued] = {}
        self._count = 0
        self._bytes = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """The number of messages dropped since the beginning."""
        return self._dropped

    def __len__(self) -> int:
        """The number of waiting messages."""
        return self._count

    def set_connected(self, is_connected: bool) -> None:
        """Tell whether there is a connection that takes messages out."""
        with self._lock:
            self._is_connected = is_connected
            self._make_room()

    def put(self, message: Message) -> None:
        """Add the newest message."""
        with self._lock:
            queued = Queued(message)
            self._queued.append(queued)
            if message.retain:
                before = self._kept.pop(message.topic, None)
                if before is not None:
                    self._expendable.appendleft(before)
                self._kept[message.topic] = queued
            else:
                self._expendable.append(queued)
            self._count_in(queued)
            self._make_room()

    def take(self, most: int) -> list[Queued]:
        """Remove the oldest messages, to send them."""
        with self._lock:
            taken: list[Queued] = []
            while self._queued and len(taken) < most:
                queued = self._queued.popleft()
                if queued.waits:
                    self._count_out(queued)
                    taken.append(queued)
            self._forget_those_gone()
            return taken

    def put_back(self, unsent: Sequence[Queued]) -> list[Message]:
        """Make messages that could not be sent the oldest ones again, in their order.

        Returns:
            The messages that were tried too often, and are dropped.
        """
        given_up = []
        with self._lock:
            for queued in reversed(unsent):
                queued.attempts += 1
                if queued.attempts < MAX_ATTEMPTS:
                    self._put_first(queued)
                else:
                    given_up.append(queued.message)
            self._dropped += len(given_up)
            self._make_room()
        return given_up

    def give_up(self, unsent: Iterable[Queued]) -> None:
        """Count the messages as dropped."""
        with self._lock:
            self._dropped += len(list(unsent))

    def clear(self) -> None:
        """Drop all waiting messages."""
        with self._lock:
            self._dropped += self._count
            self._queued.clear()
            self._expendable.clear()
            self._kept.clear()
            self._count = self._bytes = 0

    # -- under the lock -----------------------------------------------------------------------

    def _put_first(self, queued: Queued) -> None:
        queued.waits = True
        self._queued.appendleft(queued)
        topic = queued.message.topic
        if queued.message.retain and topic not in self._kept:
            self._kept[topic] = queued
        else:
            self._expendable.appendleft(queued)
        self._count_in(queued)

    def _make_room(self) -> None:
        while self._count and not self._fits():
            self._count_out(self._next_to_go())
            self._dropped += 1
        self._forget_those_gone()

    def _fits(self) -> bool:
        if self._bytes > self._max_bytes:
            return self._count == 1  # the only one has to go out as it is
        return self._is_connected or self._count <= self._limit

    def _next_to_go(self) -> Queued:
        while self._expendable:
            queued = self._expendable.popleft()
            if queued.waits:
                return queued
        return next(iter(self._kept.values()))

    def _count_in(self, queued: Queued) -> None:
        self._count += 1
        self._bytes += queued.size

    def _count_out(self, queued: Queued) -> None:
        queued.waits = False
        self._count -= 1
        self._bytes -= queued.size
        if self._kept.get(queued.message.topic) is queued:
            del self._kept[queued.message.topic]

    def _forget_those_gone(self) -> None:
        """Bound the queues to twice the number of waiting messages; O(1) per message, amortised."""
        most = 2 * self._count + _SLACK
        if len(self._queued) > most:
            self._queued = deque(queued for queued in self._queued if queued.waits)
        if len(self._expendable) > most:
            self._expendable = deque(queued for queued in self._expendable if queued.waits)
