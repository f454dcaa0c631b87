"""Calls that threads hand to the event loop's thread, and short waits of that thread for them.

Waking an event loop takes two system calls in the thread and three in the loop, which is more than
most small runs need for everything else. So the calls of one run share a wake-up: a call that comes
before the last one was made goes with it. And when a run has given a worker all that it can do now,
the loop's thread may wait a moment for its first call on a lock, which takes a third of the time,
and go on in the same turn.

Whether such a wait pays depends on the tasks: those that wait for a server or a disk take longer
than the moment. ``Patience`` learns that for each target.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

#: Seconds of a short wait: as long as it takes to sleep in the event loop and to be woken.
MOMENT: Final = 0.0001
#: Most runs of one target without a short wait, after several that were in vain.
_MOST_LEFT_OUT: Final = 1024


class EventLoopCalls:
    """The calls that the threads of one run hand to its event loop, made in their order.

    Args:
        loop: The event loop.
    """

    __slots__ = ("_calls", "_loop", "_planned", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        #: Whether ``make`` will be called.
        self._planned = False
        #: Released by the first call that comes during a short wait.
        self._waiter: Lock | None = None

    def add(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` in the loop's thread, soon. From any thread.

        Raises:
            RuntimeError: The loop is closed.
        """
        self._calls.append((function, args))
        waiter = self._waiter
        if waiter is not None:
            with suppress(RuntimeError):  # another call has released it
                waiter.release()
        elif not self._planned:
            self._plan()

    def add_along(self, function: Callable[..., object], *args: Any) -> None:
        """The same for calls that need not end a short wait."""
        self._calls.append((function, args))
        if self._waiter is None and not self._planned:
            self._plan()

    def _plan(self) -> None:
        self._planned = True
        try:
            self._loop.call_soon_threadsafe(self.make)
        except BaseException:
            self._planned = False
            raise

    def make(self) -> None:
        """Make the calls that have come so far. In the loop's thread."""
        self._planned = False  # first: a call that comes later has to plan the next look
        calls = self._calls
        while calls:
            function, args = calls.popleft()
            try:
                function(*args)
            except BaseException:
                if calls and not self._planned:
                    self._plan()
                raise

    def expect(self) -> Callable[[float], bool]:
        """Prepare a short wait for the next call; do this before a thread gets its work.

        Returns:
            A function that waits for so many seconds, makes the calls that have come, and tells
            whether there were any. It must be called.
        """
        waiter = Lock()
        waiter.acquire()
        # In this order: a call that sees one change without the other wakes the loop needlessly.
        self._waiter = waiter
        self._planned = True

        def wait(seconds: float) -> bool:
            try:
                return waiter.acquire(timeout=seconds) if seconds else waiter.acquire(False)
            finally:
                self._waiter = None
                self.make()

        return wait


class Patience:
    """The targets of one engine for which short waits pay. In any thread."""

    __slots__ = ("_in_vain",)

    def __init__(self) -> None:
        #: Target's operation → [short waits in vain, one after the other; runs to leave out]. None
        #: until the first one: most engines have none, and each run asks twice.
        self._in_vain: WeakKeyDictionary[Any, list[int]] | None = None

    def is_worth_it(self, operation: Any) -> bool:
        """Whether the next run of a target should wait."""
        found = None if self._in_vain is None else self._in_vain.get(operation)
        if found is None or not found[1]:
            return True
        found[1] -= 1
        return False

    def note(self, operation: Any, came: bool) -> None:
        """Record whether a wait has ended in time; each one in vain doubles the next pause."""
        if came:
            if self._in_vain is not None:
                self._in_vain.pop(operation, None)
            return
        if self._in_vain is None:
            self._in_vain = WeakKeyDictionary()
        found = self._in_vain.setdefault(operation, [0, 0])
        found[0] += 1
        found[1] = min(1 << found[0], _MOST_LEFT_OUT)
