"""Allowance: bounds the share of an event loop's time for work that others cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds of work that are allowed at once by default, for example to read all retained messages of
#: a broker.
_BURST = 0.1
#: Shortest pause in seconds: many short pauses would cost more than the work between them.
_PAUSE = 0.01


class Allowance:
    """A bucket of seconds that fills by a share of the time that passes.

    Args:
        share: Share of the loop's time in the long run; the rest is the user's.
        clock: The loop's. In virtual time nothing takes time, so no pause is needed.
        burst: Seconds of work allowed at once after a quiet time.
    """

    def __init__(self, share: float, clock: Callable[[], float], burst: float = _BURST) -> None:
        self._share = share
        self._clock = clock
        self._burst = burst
        self._left = burst
        self._at = clock()

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Measure the work of the block."""
        began = self._clock()
        try:
            yield
        finally:
            self.spend(self._clock() - began)

    def spend(self, seconds: float) -> None:
        """Add work that took so long."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._share) - seconds
        self._at = now

    @property
    def pause(self) -> float:
        """Seconds to wait before more work is allowed."""
        if self._left >= self._burst / 2:
            return 0.0
        return max(-self._left / self._share, _PAUSE)
