"""Allowance: how much of an event loop's time may go into work that others cause."""

from __future__ import annotations

from collections.abc import Callable

#: Of the loop's time, in the long run. What is left is the user's.
_SHARE = 0.08
#: Seconds of work that may be done at once after a quiet time, such as reading all that a broker
#: has retained.
_BURST = 0.1


class Allowance:
    """A bucket of seconds that fills by a share of the time that passes.

    Args:
        clock: The loop's; where time is virtual nothing takes any, and nobody has to pause.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _BURST
        self._at = clock()

    def spend(self, seconds: float) -> float:
        """Note that work took so long; how many seconds to pause before there may be more."""
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._at) * _SHARE) - seconds
        self._at = now
        return max(-self._left / _SHARE, 0.0)
