"""Ticker: lets the event loop have its turn while a loop spins without awaiting anything.

Yielding at every step would cost more than the step, and looking at a clock nearly so. The ticker
counts steps instead and adapts the count (M9): it doubles while a batch of steps takes less than
half of the budget, and halves when one takes more than all of it. Loops that spin at the same time
share the budget: the time until the event loop comes back to a loop counts as well.

In virtual time the count is fixed: how far a loop gets between two turns of the others is then the
same each time, whatever the machine.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import perf_counter

from cascade.runtime.clock import VirtualLoop

#: Seconds between two turns of the event loop.
BUDGET = 0.005
#: What a batch may take however long the others take; else many loops would only take turns.
_LEAST = BUDGET / 20
_MOST_STEPS = 1 << 18
#: Steps between two turns in virtual time.
_FIXED_STEPS = 1024


class Turn:
    """Asked between two things that take a while: whether the event loop's turn is due (M9)."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = inf if _is_virtual() else perf_counter() + BUDGET

    def __call__(self) -> bool:
        return perf_counter() > self._until


class Ticker:
    """Counts the steps of one loop; use as ``if ticker.step(): await ticker.pause()``.

    Attributes:
        left: How many steps may still be made before the next pause, one at least.
    """

    __slots__ = ("_batch", "_elsewhere", "_fixed", "_since", "left")

    def __init__(self) -> None:
        self._fixed = _is_virtual()
        self._batch = _FIXED_STEPS if self._fixed else 1
        self.left = self._batch
        self._since = perf_counter()
        #: How long the last turn of the others took.
        self._elsewhere = 0.0

    def step(self) -> bool:
        """Count a step; whether it is time for ``pause``."""
        self.left -= 1
        return self.left <= 0

    def turned(self) -> None:
        """Note that the event loop has had a turn just now."""
        self._since = perf_counter()

    async def pause(self) -> None:
        """Adapt the count to the time that the last batch took, and yield if that was enough."""
        if self._fixed:
            self.left = self._batch
            await asyncio.sleep(0)
            return
        now = perf_counter()
        elapsed = now - self._since
        shared = elapsed + self._elsewhere
        if shared < BUDGET / 2 or elapsed < _LEAST / 2:
            self._batch = min(self._batch * 2, _MOST_STEPS)
        elif shared > BUDGET and elapsed > _LEAST:
            self._batch = max(self._batch // 2, 1)
        self.left = self._batch
        if shared >= BUDGET / 2:
            await asyncio.sleep(0)
            self._since = perf_counter()
            self._elsewhere = self._since - now


def _is_virtual() -> bool:
    return VirtualLoop.was_used and isinstance(asyncio.get_running_loop(), VirtualLoop)
