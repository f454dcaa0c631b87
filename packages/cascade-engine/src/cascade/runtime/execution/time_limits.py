"""Time limits of calls in the event loop: one timer for any number of calls.

``asyncio.timeout`` sets a timer of its own for each call, although hardly any call takes too long.
Here, calls with equal limits are in one line, because they are due in the order in which they
began. So only the first of each line is ever looked at, and one timer serves all lines.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import Protocol


class Limited(Protocol):
    """A call that must end in time.

    Attributes:
        due: The time at which it is to end, by the clock of the event loop.
        is_over: Whether it has ended.
    """

    due: float
    is_over: bool

    def expire(self) -> None:
        """End the call, which has taken too long."""


class TimeLimits:
    """The calls of one run that must end in time. Used in the event loop's thread.

    Args:
        loop: The event loop, whose clock decides.
        context: For the timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._loop = loop
        self._context = context
        #: Seconds → the calls with that limit, in the order in which they are due. Calls that have
        #: ended stay until they are the first.
        self._lines: dict[float, deque[Limited]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Limited, seconds: float) -> None:
        """Expire a call that began just now at its ``due``, ``seconds`` after its beginning."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = deque()
        line.append(call)
        self._count += 1
        if self._timer is None:
            self._set(call.due)
        elif call.due < self._timer.when():
            self._timer.cancel()
            self._set(call.due)

    def leave(self) -> None:
        """A call has ended, or has expired. Without calls there is no timer."""
        self._count -= 1
        if self._count <= 0:
            self.close()

    def close(self) -> None:
        """Forget all calls."""
        self._lines.clear()
        self._count = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due: float) -> None:
        self._timer = self._loop.call_at(due, self._look, context=self._context)

    def _look(self) -> None:
        """Expire the calls that are due, and set the timer for the next one."""
        assert self._timer is not None
        now, self._timer = max(self._loop.time(), self._timer.when()), None
        for line in self._lines.values():
            while line and (line[0].is_over or line[0].due <= now):
                call = line.popleft()
                if not call.is_over:
                    call.expire()
        heads = [line[0].due for line in self._lines.values() if line]
        if heads:
            self._set(min(heads))
