"""A clock and a run that tests of limits move by hand."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, cast

from cascade.runtime.bus import MessageBus
from cascade.runtime.limits.amounts import exact
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.limits.gate import Gate
from cascade.runtime.limits.permits import Admissions, Permit
from cascade.runtime.run import Run


class Timer:
    """The result of ``FakeLoop.call_at``."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeLoop:
    """The part of an event loop that permits use."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(lambda: call(*args))
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        self.call_at(self.now, call, *args)

    @property
    def pending(self) -> list[float]:
        """The times of timers that have not been cancelled."""
        return sorted(when for when, _, timer in self._timers if timer.call is not None)

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and ring due timers on the way."""
        until = self.now + seconds
        rung = 0
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if timer.call is not None:
                timer.call()
                rung += 1
                assert rung < 1_000, "timers ring again and again"
        self.now = until


class FakeRun:
    """The part of a run that permits and gates use."""

    gate: Gate
    constraints: ConstraintManager

    def __init__(self, loop: FakeLoop | None = None) -> None:
        self.loop = FakeLoop() if loop is None else loop
        self.bus = MessageBus()

    @property
    def admissions(self) -> Admissions:
        return self.gate._admissions

    def admit_no_more(self) -> None:
        self.gate.stop()

    def is_own_thread(self, _ident: int) -> bool:
        return True


class Limits:
    """A Capacities, the constraints of an engine, and permits for both.

    Attributes:
        told: Names of the permits that were let in after they had waited, in that order. They begin
            when they are told, unless they were made with an ``on_admitted`` of their own.
    """

    def __init__(self, capacities: dict[str, float] | None = None) -> None:
        self.run = FakeRun()
        self.loop = self.run.loop
        self.resources = Capacities(capacities)
        self.constraints = self.run.constraints = self.engine()
        self.told: list[str] = []

    def engine(self, changed: Any = lambda *_: None) -> ConstraintManager:
        """The constraints of another engine with the same capacities."""
        constraints = ConstraintManager(self.resources, changed)
        constraints.use_clock(self.loop.time)
        return constraints

    def permit(
        self,
        task: str = "work",
        *,
        most: int = 1,
        constraints: ConstraintManager | None = None,
        on_admitted: Callable[[], None] | None = None,
        **amounts: float,
    ) -> Permit:
        taken = tuple(sorted((name, exact(amount)) for name, amount in amounts.items()))

        def begin() -> None:
            if self.resources.begin(permit):
                self.told.append(task)

        told = on_admitted or begin
        constraints = self.constraints if constraints is None else constraints
        permit = Permit(cast("Run", self.run), constraints, task, None, taken, told, most)
        return permit

    def enter(self, task: str = "work", **options: Any) -> tuple[Permit, bool]:
        """A permit that has asked, and whether it is in."""
        permit = self.permit(task, **options)
        return permit, self.resources.enter(permit)
