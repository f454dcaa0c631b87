"""Inbox: the signals of one run, in the order in which they came (D11)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Letter(NamedTuple):
    """A signal that no node has taken yet."""

    name: str
    #: Its value; of a durable run, as it is stored.
    value: Any
    #: Its number in the store; 0 in a run without one.
    number: int = 0


class Receiver(Protocol):
    """Waits for one signal."""

    def receive(self, letter: Letter) -> None:
        """Take the signal; the receiver waits no longer. In the loop's thread."""


class Inbox:
    """The signals of one run, and the nodes that wait for one. Used in the loop's thread.

    Attributes:
        seen: The highest number of all signals that were ever put in.
        ask: Called when a node begins to wait; may ask a store for news.
    """

    __slots__ = ("_letters", "_receivers", "ask", "seen")

    def __init__(self) -> None:
        self._letters: dict[str, deque[Letter]] = {}
        #: Name → the receivers that wait for a signal of that name, the first one first.
        self._receivers: dict[str, dict[Receiver, None]] = {}
        self.seen = 0
        self.ask: Callable[[], object] = _no_store

    @property
    def is_awaited(self) -> bool:
        """Whether any node waits."""
        return bool(self._receivers)

    def put(self, letter: Letter) -> None:
        """Give a signal to the receiver that has waited longest for its name, or keep it."""
        self.seen = max(self.seen, letter.number)
        receivers = self._receivers.get(letter.name)
        if receivers is None:
            self._letters.setdefault(letter.name, deque()).append(letter)
            return
        first = next(iter(receivers))
        self.leave(letter.name, first)
        first.receive(letter)

    def take(self, name: str) -> Letter | None:
        """Take the first signal of a name, if there is one."""
        letters = self._letters.get(name)
        if letters is None:
            return None
        letter = letters.popleft()
        if not letters:
            del self._letters[name]
        return letter

    def wait(self, name: str, receiver: Receiver) -> None:
        """Let ``receiver`` wait for the next signal of a name; the inbox has none of that name."""
        self._receivers.setdefault(name, {})[receiver] = None
        self.ask()

    def leave(self, name: str, receiver: Receiver) -> None:
        """Let ``receiver`` wait no longer."""
        receivers = self._receivers.get(name)
        if receivers is not None:
            receivers.pop(receiver, None)
            if not receivers:
                del self._receivers[name]

    def close(self) -> None:
        """Forget all receivers."""
        self._receivers.clear()
        self.ask = _no_store


def _no_store() -> None:
    """Ask nothing: the signals of a run without a store are put in as they are sent."""
