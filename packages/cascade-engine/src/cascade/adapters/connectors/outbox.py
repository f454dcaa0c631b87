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

    __slots__ = ("attempts", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.attempts = 0


class Outbox:
    """The messages that wait for a connection, the oldest first; thread-safe.

    When it is full, the oldest gives way: what is new says more about now than what is old.

    Args:
        limit: Most messages at once.

    Raises:
        ArgumentError: ``limit`` is no int from 1 up.
    """

    def __init__(self, limit: int) -> None:
        check_count("max_queued", limit)
        self._limit = limit
        self._lock = threading.Lock()
        self._queued: deque[Queued] = deque()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many messages were given up, since the beginning."""
        return self._dropped

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._queued)

    def put(self, message: Message) -> None:
        """Add the newest message."""
        with self._lock:
            self._queued.append(Queued(message))
            self._make_room()

    def take(self, most: int) -> list[Queued]:
        """Remove the oldest messages, to send them."""
        with self._lock:
            return [self._queued.popleft() for _ in range(min(most, len(self._queued)))]

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
                    self._queued.appendleft(queued)
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
            self._dropped += len(self._queued)
            self._queued.clear()

    def _make_room(self) -> None:
        while len(self._queued) > self._limit:
            self._queued.popleft()
            self._dropped += 1
