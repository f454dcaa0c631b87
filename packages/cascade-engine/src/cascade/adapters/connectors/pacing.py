"""Allowance: how much of an event loop's time may go into work that others cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds of work that may be done at once after a quiet time, such as reading all that a broker
#: has retained.
_BURST = 0.1
#: Seconds of a pause at least: many short ones would cost more than the work between them.
_PAUSE = 0.01


class Allowance:
    """A bucket of seconds that fills by a share of the time that passes.

    Args:
        share: Of the loop's time, in the long run; what is left is the user's.
        clock: The loop's; where time is virtual nothing takes any, and nobody has to pause.
    """

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._left = _BURST
        self._at = clock()

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Note how long the work of the block took."""
        began = self._clock()
        try:
            yield
        finally:
            self.spend(self._clock() - began)

    def spend(self, seconds: float) -> None:
        """Note that work took so long."""
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._at) * self._share) - seconds
        self._at = now

    @property
    def pause(self) -> float:
        """How many seconds to wait before there may be more."""
        if self._left >= _BURST / 2:
            return 0.0
        return max(-self._left / self._share, _PAUSE)
