"""Permits: what one attempt asks of all limits at once.

The state of a permit is changed under the lock of its Capacities, by these five and by nothing
else, in whatever order threads come to call them::

    NEW ──enter──> INSIDE                            there was room, and the attempt begins
    NEW ──enter──> WAITING ──room──> CALLED          its permits are reserved, and its owner is told
                   WAITING <─recall─ CALLED          a constraint was set before that has begun
                                     CALLED ──begin──> INSIDE
    any ──leave──> OUT                               it has nothing, and waits for nothing

``OUT`` is final: a permit that was left before it was entered is refused. So is one of a run whose
Admissions are closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade.runtime.limits.rules import EARLY, Rule

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope
    from cascade.runtime.limits.constraints import ConstraintManager

#: The states of a permit.
NEW, WAITING, CALLED, INSIDE, OUT = range(5)


class Admissions:
    """The permits of one run that wait or are in. Changed under the manager's lock.

    Attributes:
        permits: Those that were entered and have not left.
        closed: Whether no other may enter.
    """

    __slots__ = ("closed", "permits")

    def __init__(self) -> None:
        self.permits: dict[Permit, None] = {}
        self.closed = False


#: The permit of the call that the current code is part of, if limits have let that in.
current_permit: contextvars.ContextVar[Permit] = contextvars.ContextVar("cascade.current_permit")


class Block(NamedTuple):
    """What keeps a permit out; made at every look, so the rest is found when somebody asks."""

    #: A constraint, or the name of a capacity.
    limit: Rule | str
    #: When there will be room, by the clock of its event loop; inf where nobody knows.
    until: float = math.inf


class Permit:
    """What one attempt, or a batch of steps, needs to begin.

    Args:
        run: The run that it is part of.
        constraints: Those that hold for it.
        task: Name of the task that is to be called.
        node: ``LazyResult.number`` of the node; 0 where there is none.
        amounts: What it takes of capacities, which has been checked.
        on_admitted: Called when it was let in after it had to wait, in any thread.
        most: How many calls it is for at most.
        admissions: Those of the run.

    Attributes:
        calls: For how many it was let in.
        outlives: Whether it may stay in when its run ends, for an abandoned call uses it (M8).
        woken: Whether its owner was told that it is in, and has not looked since.
    """

    __slots__ = (
        "_alarm",
        "_at",
        "admissions",
        "amounts",
        "block",
        "calls",
        "constraints",
        "line",
        "most",
        "node",
        "now",
        "number",
        "on_admitted",
        "outlives",
        "rules",
        "run",
        "since",
        "state",
        "task",
        "was_short",
        "woken",
    )

    def __init__(
        self,
        run: RunScope,
        constraints: ConstraintManager,
        task: str,
        node: int,
        amounts: tuple[tuple[str, Fraction | int], ...],
        on_admitted: Callable[[], None],
        most: int = 1,
        admissions: Admissions | None = None,
    ) -> None:
        self.run = run
        self.admissions = Admissions() if admissions is None else admissions
        self.constraints = constraints
        self.task = task
        self.node = node
        self.amounts = amounts
        self.on_admitted = on_admitted
        self.most = most
        self.calls = 0
        self.state = NEW
        self.outlives = self.woken = False
        self.number = 0
        self.since = monotonic()
        self.now = run.loop.time
        #: Those that are alike wait in one line, and only the first of them is looked at.
        self.line = (constraints, task, amounts)
        #: What it waited for when it was last looked at.
        self.block: Block | None = None
        self.rules: tuple[Rule, ...] = ()
        #: Whether capacities were all that it waited for, at some time.
        self.was_short = False
        self._at = math.inf
        self._alarm: asyncio.TimerHandle | None = None

    def look_again(self, at: float, now: float, look: Callable[[], None]) -> None:
        """Have its event loop call ``look`` at a time, unless it is going to by then."""
        if at >= self._at - EARLY:
            return
        self._at = at
        self._in_loop(self._set_alarm, look)

    def call_off(self) -> None:
        """It does not wait any more."""
        if self._at < math.inf:
            self._at = math.inf
            self._in_loop(self._set_alarm, None)

    def _set_alarm(self, look: Callable[[], None] | None) -> None:
        """In the loop's thread; ``_at`` may have changed since."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if look is not None and self._at < math.inf:
            self._alarm = self.run.loop.call_at(self._at, self._ring, look)

    def _ring(self, look: Callable[[], None]) -> None:
        self._alarm = None
        self._at = math.inf
        look()

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        if self.run.is_own_thread(threading.get_ident()):
            function(*args)
        else:
            with suppress(RuntimeError):  # the loop is closed by now
                self.run.loop.call_soon_threadsafe(function, *args)
