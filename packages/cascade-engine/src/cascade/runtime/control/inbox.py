"""Inbox: what has come for an engine and was not looked at yet, the newest of each topic."""

from __future__ import annotations

#: Topics that wait, of pauses and of others. More come only from those who want to do harm.
MOST_PENDING = 10_000


class Inbox:
    """Messages by topic. A later one takes the place of an earlier one; pauses come out first.

    Each call costs the same however much waits.

    Args:
        first: The topic that there is always room for.
    """

    def __init__(self, first: str) -> None:
        self._first = first
        self._pauses: dict[str, bytes] = {}
        self._others: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._pauses) + len(self._others)

    def __contains__(self, topic: str) -> bool:
        return topic in self._pauses or topic in self._others

    def put(self, topic: str, payload: bytes) -> bool:
        """Keep a message; False if there is no room for it."""
        waiting = self._pauses if topic.endswith("/pause") else self._others
        if len(waiting) >= MOST_PENDING and topic not in waiting and topic != self._first:
            return False
        waiting[topic] = payload
        return True

    def take(self, most: int) -> list[tuple[str, bytes]]:
        """Remove the oldest, pauses before others, and the first of all before them."""
        taken = []
        if self._first in self._pauses:
            taken.append((self._first, self._pauses.pop(self._first)))
        for waiting in (self._pauses, self._others):
            while waiting and len(taken) < most:
                topic = next(iter(waiting))
                taken.append((topic, waiting.pop(topic)))
        return taken
