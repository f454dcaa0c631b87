"""Permits: the request of one attempt to all limits at once.

Six methods of Capacities change the state of a permit, under its lock, in whatever order threads
call them::

    NEW ──enter──> INSIDE                            there was room, and the attempt begins
    NEW ──enter──> WAITING ──room──> CALLED          it has all it needs, and its owner is told
                   WAITING <─recall─ CALLED          a constraint was set before the owner began
                                     CALLED ──begin──> INSIDE
                                     CALLED <──pause── INSIDE    it waits for a resource
    any ──leave──> OUT                               it holds nothing, and waits for nothing

``OUT`` is final: a permit that was left before it was entered is refused. So is a permit of a run
whose Admissions are closed.
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
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import number_of

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope
    from cascade.runtime.limits.constraints import ConstraintManager

#: The states of a permit.
NEW, WAITING, CALLED, INSIDE, OUT = range(5)


class Admissions:
    """The permits of one run that wait or are in. Changed under the lock of Capacities.

    Attributes:
        caller: The permit of the call that started the run, if limits have admitted that call.
        permits: The permits that were entered and have not left.
        closed: Whether no other may enter.
    """

    __slots__ = ("caller", "closed", "permits")

    def __init__(self, caller: Holding | None = None) -> None:
        self.caller = caller
        self.permits: dict[Holding, None] = {}
        self.closed = False


#: The permit of the call that the current code belongs to, if limits have admitted that call.
current_permit: contextvars.ContextVar[Holding] = contextvars.ContextVar("cascade.current_permit")


class Block(NamedTuple):
    """The limit that keeps a permit out. Made at every look; details are found on demand."""

    #: A constraint, or the name of a capacity.
    limit: Rule | str
    #: When there will be room, on the clock of its event loop; inf if unknown.
    until: float = math.inf


class Holding:
    """What a call holds: the part of a permit that is needed while the call runs.

    A call that need not wait makes no more than this; see ``Capacities.take``.

    Args:
        run: The run that it belongs to.
        task: Name of the task to call.
        amounts: Amounts of capacities, already checked.
        admissions: Those of the run.

    Attributes:
        calls: The number of calls that it was admitted for.
        outlives: Whether it may stay in when its run ends, because an abandoned call uses it (M8).
        rules: The constraints that it counts under.
    """

    __slots__ = ("admissions", "amounts", "calls", "outlives", "rules", "run", "state", "task")

    def __init__(
        self,
        run: RunScope,
        task: str,
        amounts: tuple[tuple[str, Fraction | int], ...],
        admissions: Admissions,
    ) -> None:
        self.run = run
        self.task = task
        self.amounts = amounts
        self.admissions = admissions
        self.state = NEW
        self.calls = 0
        self.outlives = False
        self.rules: tuple[Rule, ...] = ()


class Permit(Holding):
    """The needs of one attempt, or of a batch of steps.

    Args:
        run: The run that it belongs to.
        constraints: The engine's constraints.
        task: Name of the task to call.
        source: The lazy value of the call, for events.
        amounts: Amounts of capacities, already checked.
        on_admitted: Called when it is admitted after a wait, in any thread.
        most: Most calls that it may be for.
        admissions: Those of the run.

    Attributes:
        priority: Permits of higher priority are before it (M24).
        entered: When it began to wait, on the clock of its event loop.
        woken: Whether its owner was told that it is in, and has not looked since.
    """

    __slots__ = (
        "_alarm",
        "_at",
        "block",
        "constraints",
        "entered",
        "line",
        "most",
        "now",
        "number",
        "on_admitted",
        "priority",
        "since",
        "source",
        "was_short",
        "woken",
    )

    # Eight parameters: an object that groups some of them would be made for each attempt.
    def __init__(
        self,
        run: RunScope,
        constraints: ConstraintManager,
        task: str,
        source: LazyResult[Any] | None,
        amounts: tuple[tuple[str, Fraction | int], ...],
        on_admitted: Callable[[], None],
        most: int = 1,
        admissions: Admissions | None = None,
    ) -> None:
        super().__init__(run, task, amounts, Admissions() if admissions is None else admissions)
        self.constraints = constraints
        self.source = source
        self.on_admitted = on_admitted
        self.most = most
        self.woken = False
        self.number = self.priority = 0
        self.entered = 0.0
        self.since = monotonic()
        self.now = run.loop.time
        #: Permits with equal needs wait in one line, and only its head is examined.
        self.line: tuple[Any, ...] = (constraints, task, amounts)
        #: The limit that it waited for at the last look.
        self.block: Block | None = None
        #: Whether, at some time, it lacked nothing but capacities.
        self.was_short = False
        self._at = math.inf
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def node(self) -> int:
        """The number of the node, for events."""
        return number_of(self.source)

    def prefer(self, priority: int) -> None:
        """Give it a priority before it is entered."""
        self.priority = priority
        self.line = (*self.line[:3], priority)

    def look_again(self, at: float, now: float, look: Callable[[], None]) -> None:
        """Have its event loop call ``look`` at a time, unless an earlier call is due."""
        if at >= self._at - EARLY:
            return
        self._at = at
        self._in_loop(self._set_alarm, look)

    def call_off(self) -> None:
        """Cancel the alarm: it no longer waits."""
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
            with suppress(RuntimeError):  # the loop is closed
                self.run.loop.call_soon_threadsafe(function, *args)


def by_number(permit: Permit) -> Any:
    """Sorts permits by their order of entry."""
    return permit.number


def by_rank(permit: Permit) -> Any:
    """The same by priority, which grows by 1 a second; so the order of two permits is constant."""
    return permit.entered - permit.priority, permit.number
