"""YieldBudget: lets the event loop have its turn while a loop spins without awaiting anything.

Yielding at every step would cost more than the step, and looking at a clock nearly so. The budget
counts steps instead and adapts the count to the time that the last batch of steps took (M9). Loops
that spin at the same time, in any number of runs and engines, have equal shares of the budget: a
batch is made for as long as the budget lasts, divided by the number of loops that wait for their
turn.

In virtual time the count is fixed: how far a loop gets between two turns of the others is then the
same each time, whatever the machine.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.usage import usage

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.runtime.execution.scope import RunScope

#: Seconds between two turns of the event loop.
BUDGET = 0.005
#: The least share of a loop, however many others there are; else many loops would only take turns.
_LEAST = BUDGET / 20
#: The part of a share for which a batch is made, as batches of the same steps differ in length.
_AIM = 0.75
_MOST_STEPS = 1 << 18
#: Steps between two turns in virtual time.
_FIXED_STEPS = 1024


class Turn:
    """Looked at between two things that take a while: whether the event loop's turn is due (M9).

    Written out where that is: ``if (now := perf_counter()) > turn.until: …``, and else
    ``turn.began = now``.

    Attributes:
        until: When the turn is due.
        began: When the last of the things has begun.
    """

    __slots__ = ("began", "until")

    def __init__(self) -> None:
        self.began = now = perf_counter()
        if now > usage.stale:
            usage.read(now)
        self.until = inf if VirtualLoop.was_used and _is_virtual() else now + BUDGET

    @property
    def is_endless(self) -> bool:
        """Whether it is one of virtual time, in which real time decides nothing."""
        return self.until == inf


class _Contention:
    """The loops of one event loop that have had their share, and wait for their next turn."""

    __slots__ = ("__weakref__", "waiting")

    def __init__(self) -> None:
        self.waiting = 0

    def share(self) -> float:
        """The seconds that the loop which asks may take between two turns."""
        return max(BUDGET / (self.waiting + 1), _LEAST)


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Contention] = WeakKeyDictionary()


class YieldBudget:
    """Counts the steps of one loop; use as ``if budget.step(): await budget.pause()``.

    Attributes:
        left: How many steps may still be made before the next pause, one at least.
        since: When the event loop had its last turn.
        turns: How often it has had one since the last pause, because a step has waited.
        bus: That of the run which is to tell of steps, once ``tells`` was called.
    """

    __slots__ = (
        "_batch",
        "_fixed",
        "_made",
        "_run",
        "_contention",
        "_task",
        "_took",
        "bus",
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
        self.bus: MessageBus
        self._run: RunScope
        self._task: str
        #: Seconds from the last turn because a step has waited to the end of the batch.
        self._took = 0.0
        #: Steps made since the last turn, in batches before this one.
        self._made = 0
        self._contention = _by_loop.setdefault(asyncio.get_running_loop(), _Contention())

    def step(self) -> bool:
        """Count a step; whether it is time for ``pause``."""
        self.left -= 1
        return self.left <= 0

    def tells(self, run: RunScope, task: str) -> None:
        """From now on, let ``run`` tell of the steps of ``task`` where ``tell`` asks for that."""
        self._run, self._task, self.bus = run, task, run.bus

    def turned(self, count: int, since: float) -> None:
        """Note that the event loop has had so many turns, as steps have waited, the last then.

        To be called when the last step has ended: what follows takes longer than many steps do.
        """
        self.since = since
        self._took = perf_counter() - since
        self.turns += count

    def tell(self) -> None:
        """Let somebody know of the steps so far, soon; to be called where the bus is not silent."""
        self._run.tell_soon(self._task)

    def restart(self) -> None:
        """Begin again with a batch of one step: steps take longer than those before."""
        if not self._fixed:
            self._batch = self.left = 1

    async def pause(self) -> None:
        """Adapt the count to the time that the last batch took, and yield if that was enough."""
        if self._fixed:
            self.left = self._batch
            await asyncio.sleep(0)
            return
        elapsed = self._took if self.turns else perf_counter() - self.since
        share = self._contention.share()
        growth = 8 if self.turns else 2  # a batch whose steps wait keeps nobody waiting
        made = self._batch - self.left
        # Where steps wait, the time is that since the last one that did, and so is the count.
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
