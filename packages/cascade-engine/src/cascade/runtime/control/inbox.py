"""Inbox: the newest unread message of each topic, for an engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

#: Most waiting topics, for pauses and for others each. More come only from an attacker.
MOST_PENDING = 10_000
#: Most waiting messages per topic, until they are read to find the newest valid one.
MOST_UNSURE = 4

_Check: TypeAlias = Callable[[bytes], re.Match[bytes] | None]

#: Payloads as commands write them, which are valid in every case, for kinds with these endings. The
#: match costs a fiftieth of reading them.
_TIME = rb'"(?:ttl|until)": [1-9][0-9]{0,9}(?:\.[0-9]{1,9})?'
_REMOVE = rb'(?:\{"remove": true\})?'
_is_removal = re.compile(_REMOVE).fullmatch
_is_pause = re.compile(rb"\{(?:" + _TIME + rb")?\}|" + _REMOVE).fullmatch
_is_concurrency = re.compile(
    rb'\{"value": [1-9][0-9]{0,9}(?:, ' + _TIME + rb")?\}|" + _REMOVE
).fullmatch


class Inbox:
    """Messages by topic: the newest valid one of each counts. Pauses come out first.

    If its form shows that a message is valid, it replaces the waiting messages of its topic. An
    uncertain message joins them, because if it is malformed the one before it counts. When there
    are ``MOST_UNSURE`` of them, they are read, and only the newest valid one is kept. Each message
    is therefore read at most once, few valid ones are read at all, and the number of waiting
    messages is bounded, whatever the order of valid and malformed ones.

    Args:
        first: The topic that always has room.
        is_valid: Reads a message; False if it is malformed.
    """

    def __init__(self, first: str, is_valid: Callable[[str, bytes], bool]) -> None:
        self._first = first
        self._is_valid = is_valid
        self._pauses: dict[str, list[bytes]] = {}
        self._others: dict[str, list[bytes]] = {}
        #: Topic → check for valid forms, and the messages, which are those of one of the two
        #: mappings above: a message in a flood costs one look-up.
        self._unread: dict[str, tuple[_Check, list[bytes]]] = {}

    def __len__(self) -> int:
        return len(self._unread)

    def __contains__(self, topic: str) -> bool:
        return topic in self._unread

    def put(self, topic: str, payload: bytes) -> bool:
        """Keep a message; False if there is no room for it."""
        found = self._unread.get(topic)
        if found is None:
            return self._add(topic, payload)
        is_surely_valid, unread = found
        if is_surely_valid(payload):
            unread[:] = (payload,)
        else:
            unread.append(payload)
            if len(unread) > MOST_UNSURE:
                self._settle(topic, unread)
        return True

    def _add(self, topic: str, payload: bytes) -> bool:
        waiting, check = self._others, _is_removal
        if topic.endswith("/pause"):
            waiting, check = self._pauses, _is_pause
        elif topic.endswith("/concurrency"):
            check = _is_concurrency
        if len(waiting) >= MOST_PENDING and topic != self._first:
            return False
        unread = waiting[topic] = [payload]
        self._unread[topic] = (check, unread)
        return True

    def take(self, most: int) -> list[tuple[str, list[bytes]]]:
        """Remove the oldest topics, pauses before others, and the topic ``first`` before all.

        Returns:
            Each with its messages, the newest last; the newest valid one counts.
        """
        taken = []
        if self._first in self._pauses:
            taken.append((self._first, self._pop(self._pauses, self._first)))
        for waiting in (self._pauses, self._others):
            while waiting and len(taken) < most:
                topic = next(iter(waiting))
                taken.append((topic, self._pop(waiting, topic)))
        return taken

    def _pop(self, waiting: dict[str, list[bytes]], topic: str) -> list[bytes]:
        del self._unread[topic]
        return waiting.pop(topic)

    def _settle(self, topic: str, unread: list[bytes]) -> None:
        """Keep the newest valid message; if there is none, the topic waits no more."""
        while unread and not self._is_valid(topic, unread[-1]):
            unread.pop()
        del unread[:-1]
        if not unread:
            self._pop(self._pauses if topic in self._pauses else self._others, topic)
