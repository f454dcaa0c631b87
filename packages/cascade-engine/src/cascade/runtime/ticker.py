"""Ticker: lets the event loop have its turn while a loop spins without awaiting anything.

Yielding at every step would cost more than the step, and looking at a clock nearly so. The ticker
counts steps instead and adapts the count (M9): it doubles while a batch of steps takes less than
half of the budget and halves when one takes more than all of it.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

#: Seconds of steps between two turns of the event loop.
BUDGET = 0.002
_MOST_STEPS = 1 << 14


class Ticker:
    """Counts the steps of one loop; use as ``if ticker.step(): await ticker.pause()``."""

    __slots__ = ("_batch", "_left", "_since")

    def __init__(self) -> None:
        self._batch = 1
        self._left = 1
        self._since = perf_counter()

    def step(self) -> bool:
        """Count a step; whether it is time for ``pause``."""
        self._left -= 1
        return not self._left

    async def pause(self) -> None:
        """Adapt the count to the time that the last batch took, and yield if that was enough."""
        elapsed = perf_counter() - self._since
        if elapsed < BUDGET / 2:
            self._batch = min(self._batch * 2, _MOST_STEPS)
        elif elapsed > BUDGET:
            self._batch = max(self._batch // 2, 1)
        self._left = self._batch
        if elapsed >= BUDGET / 2:
            await asyncio.sleep(0)
            self._since = perf_counter()
