"""Outbox: what was published, until a broker has it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cascade.adapters.connectors.topics import MAX_BYTES, check_topic
from cascade.spec.checks import check_count
from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

#: Bytes: what MQTT allows for a whole packet, less the longest topic and what stands before it.
MAX_PAYLOAD = 268_435_455 - MAX_BYTES - 16
#: How often a message is sent without an answer. A broker may close the connection over a message
#: that it does not like, which would come back for ever and hold up all that is behind it.
MAX_ATTEMPTS = 5
#: Bytes that wait at once, connected or not: a program that publishes faster than its network
#: carries shall not fill the memory.
MAX_BYTES_QUEUED = 64 * 1024 * 1024
#: Bytes of a message that waits, besides its topic and payload; about.
_OVERHEAD = 200
#: Entries that do not wait any more and may be in a queue, besides as many as wait.
_SLACK = 64


class Message(NamedTuple):
    """What is published, or left as a last will."""

    topic: str
    payload: bytes
    retain: bool = False

    def check(self) -> None:
        """Refuse what no broker could take.

        Raises:
            ArgumentError: The topic, the payload or ``retain`` is not what it has to be.
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
    """A message in an Outbox, and how often it was sent in vain."""

    __slots__ = ("attempts", "message", "size", "waits")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.attempts = 0
        self.size = len(message.payload) + len(message.topic) + _OVERHEAD
        #: Whether it is in the outbox: neither taken out to be sent, nor given up.
        self.waits = True


class Outbox:
    """The messages that are to be sent, the oldest first; thread-safe.

    While there is a connection they only wait for their turn, and none gives way before they have
    ``max_bytes`` together. Without one, ``limit`` holds as well. The first to give way are retained
    messages that have a newer one on their topic, then the oldest of those that are not retained,
    and last the newest retained message of a topic: it says how something stands, and nothing that
    comes later says it again.

    Args:
        limit: Most messages at once, while there is no connection.
        max_bytes: Most bytes at once.

    Raises:
        ArgumentError: ``limit`` is no int from 1 up.
    """

    def __init__(self, limit: int, max_bytes: int = MAX_BYTES_QUEUED) -> None:
        check_count("max_queued", limit)
        self._limit = limit
        self._max_bytes = max_bytes
        self._is_connected = False
        self._lock = threading.Lock()
        #: All that wait, in their order, and some that do not wait any more.
        self._queued: deque[Queued] = deque()
        #: Those of them that give way, the first first; and some that do not wait any more.
        self._expendable: deque[Queued] = deque()
        #: Topic → its newest retained message, while that waits.
        self._kept: dict[str, Queued] = {}
        self._count = 0
        self._bytes = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many messages were given up, since the beginning."""
        return self._dropped

    def __len__(self) -> int:
        """How many messages wait."""
        return self._count

    def set_connected(self, is_connected: bool) -> None:
        """Say whether there is a connection now that takes messages out."""
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
        """Make the messages that were not sent the oldest ones again, in their order.

        Returns:
            Those that have been tried too often, and are given up.
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
        """Give up all that wait."""
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
        """Bound the queues to twice the number of waiting messages; O(1) a message, amortised."""
        most = 2 * self._count + _SLACK
        if len(self._queued) > most:
            self._queued = deque(queued for queued in self._queued if queued.waits)
        if len(self._expendable) > most:
            self._expendable = deque(queued for queued in self._expendable if queued.waits)
