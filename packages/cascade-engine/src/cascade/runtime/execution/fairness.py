"""YieldBudget: lets the event loop have its turn while a loop spins without awaiting anything.

Yielding at every step would cost more than the step, and reading the clock nearly as much. The
budget counts steps instead, and adapts the count to the duration of the last batch of steps (M9).
Loops that spin at the same time, in any number of runs and engines, have equal shares of the
budget: a batch lasts for the budget divided by the number of loops that wait for their turn.

In virtual time the count is fixed: the progress of a loop between two turns of the others is then
the same on every machine.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import perf_counter
from weakref import WeakKeyDictionary

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.usage import usage

#: Seconds between two turns of the event loop.
BUDGET = 0.005
#: The smallest share of a loop; with many loops, even smaller ones would be all overhead.
_LEAST = BUDGET / 20
#: The part of a share that a batch aims at, because batches of equal steps differ in duration.
_AIM = 0.75
_MOST_STEPS = 1 << 18
#: Steps between two turns in virtual time.
_FIXED_STEPS = 1024


class Turn:
    """Tells between two pieces of work whether the event loop's turn is due (M9).

    The test is inlined: ``if (now := perf_counter()) > turn.until: …``, otherwise
    ``turn.began = now``.

    Attributes:
        until: Time at which the turn is due.
        began: Start of the last piece of work.
    """

    __slots__ = ("began", "until")

    def __init__(self) -> None:
        self.began = now = perf_counter()
        if now > usage.stale:
            usage.read(now)
        self.until = inf if VirtualLoop.was_used and _is_virtual() else now + BUDGET

    async def pause(self) -> None:
        """Let the event loop have its turn, and then begin another one, with an equal share."""
        contention = _by_loop.setdefault(asyncio.get_running_loop(), _Contention())
        contention.waiting += 1
        try:
            await asyncio.sleep(0)
        finally:
            contention.waiting -= 1
        self.began = now = perf_counter()
        if now > usage.stale:
            usage.read(now)
        self.until = now + contention.share()

    @property
    def is_endless(self) -> bool:
        """Whether it belongs to virtual time, in which real time decides nothing."""
        return self.until == inf


class _Contention:
    """The loops of one event loop that have used their share, and wait for their next turn."""

    __slots__ = ("__weakref__", "waiting")

    def __init__(self) -> None:
        self.waiting = 0

    def share(self) -> float:
        """Seconds that the calling loop may take between two turns."""
        return max(BUDGET / (self.waiting + 1), _LEAST)


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Contention] = WeakKeyDictionary()


class YieldBudget:
    """Counts the steps of one loop; use as ``if budget.step(): await budget.pause()``.

    Attributes:
        left: Steps until the next pause; at least one.
        since: Time of the event loop's last turn.
        turns: Number of its turns since the last pause that came because a step has waited.
    """

    __slots__ = (
        "_batch",
        "_fixed",
        "_made",
        "_contention",
        "_took",
        "left",
        "since",
        "turns",
    )

    def __init__(self) -> None:
        self._fixed = _is_virtual()
        self._batch = _FIXED_STEPS if self._fixed else 1
        self.left = self._batch
        self.since = perf_counter()
        self.turns = 0
        #: Seconds from the last turn given by a waiting step to the end of the batch.
        self._took = 0.0
        #: Steps since the last turn, in earlier batches.
        self._made = 0
        loop = asyncio.get_running_loop()
        found = _by_loop.get(loop)
        self._contention = found or _by_loop.setdefault(loop, _Contention())

    def step(self) -> bool:
        """Count a step; whether ``pause`` is due."""
        self.left -= 1
        return self.left <= 0

    def turned(self, count: int, since: float) -> None:
        """Note ``count`` turns of the event loop while steps waited; ``since`` is the last one.

        Call it when the last step has ended: the code after it takes longer than many steps.
        """
        self.since = since
        self._took = perf_counter() - since
        self.turns += count

    def restart(self) -> None:
        """Start again with a batch of one step: steps take longer than before."""
        if not self._fixed:
            self._batch = self.left = 1

    async def pause(self) -> None:
        """Adapt the count to the duration of the last batch, and yield if that was long enough."""
        if self._fixed:
            self.left = self._batch
            await asyncio.sleep(0)
            return
        elapsed = self._took if self.turns else perf_counter() - self.since
        share = self._contention.share()
        # A batch whose steps wait delays no other work. Of short steps eight times as many fit, and
        # the monitor ends a batch of steps that are suddenly slow.
        growth = 8 if self.turns or elapsed < share / 16 else 2
        made = self._batch - self.left
        # If steps wait, both time and count start at the last step that did.
        made = made // (self.turns + 1) if self.turns else made + self._made
        self._made = made = max(made, 1)
        self.turns = 0
        if elapsed < share / 2:
            self._batch = min(self._batch * growth, _MOST_STEPS)
            if elapsed:
                fits = int(made * (share * _AIM / elapsed - 1))
                self._batch = max(min(self._batch, fits), 1)
            self.left = self._batch
            return
        fits = int(made * share * _AIM / elapsed)
        self._batch = max(min(fits, made * 2, _MOST_STEPS), 1)
        self.left = self._batch
        self._made = 0
        self._contention.waiting += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._contention.waiting -= 1
        self.since = perf_counter()


def _is_virtual() -> bool:
    return VirtualLoop.was_used and isinstance(asyncio.get_running_loop(), VirtualLoop)
