"""Waits on the graph path: nodes that wait for a time or a signal (D10, D11).

A waiting node is an entry in a heap and a place in the run's inbox. One timer of the event loop
serves all nodes of a run. In a durable run times are those of the wall clock (UTC), so that another
process can go on waiting; all others use the clock of the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.durable.suspended import Suspended
from cascade.runtime.events import TaskWaiting
from cascade.runtime.execution.fairness import BUDGET
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Segment, Work
from cascade.runtime.inbox import Letter
from cascade.spec.errors import TaskTimeoutError
from cascade.spec.fallbacks import NOT_GIVEN
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import number_of
from cascade.spec.map_items import item_of
from cascade.spec.waits import Plan, Wait

if TYPE_CHECKING:
    import asyncio

#: Seconds after which the wall clock is read again: it may be set, and the machine may sleep.
_LOOK_AGAIN = 60.0
#: Seconds by which a time may be missed without another timer.
_NEAR = 1e-6
#: How many nodes may be left in the heap that wait no longer, besides as many as wait.
_MOST_STALE = 50


class Waiter:
    """A node that waits."""

    __slots__ = ("plan", "since", "until", "waits", "work")

    def __init__(self, waits: Waits, work: Work, plan: Plan, until: float) -> None:
        self.waits = waits
        self.work = work
        self.plan = plan
        #: When the wait is over, by the clock of ``waits``.
        self.until = until
        self.since = monotonic()

    def receive(self, letter: Letter) -> None:
        self.waits.receive(self, letter)


class Waits(Part):
    """The waiting nodes of one run. Used in the event loop's thread.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        loop = self._run.loop
        self._is_virtual = VirtualLoop.was_used and isinstance(loop, VirtualLoop)
        self._is_wall = self._run.journal is not None and not self._is_virtual
        self._now: Callable[[], float] = time.time if self._is_wall else loop.time
        self._waiters: dict[Waiter, None] = {}
        #: Waiters by their time; those that wait no longer are left in it.
        self._times: list[tuple[float, int, Waiter]] = []
        self._next = count().__next__
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        self._run.watch_timed(self.waiting)

    def awaited(self) -> list[tuple[Segment, LazyResult[Any], str]]:
        """The nodes that wait for a signal, and its name."""
        return [
            (waiter.work.segment, waiter.work.node, waiter.plan.signal)
            for waiter in list(self._waiters)
            if waiter.plan.signal is not None
        ]

    # -- begin and end ------------------------------------------------------------------------

    def begin(self, work: Work) -> None:
        """Let a node wait, whose call would be next."""
        operation = work.operation
        assert isinstance(operation, Wait)
        try:
            plan = operation.plan(work.args, work.kwargs)
        except Exception as error:
            self._parts.failures.fail(error, work)
            return
        waiter = Waiter(self, work, plan, self._until(work, plan))
        letter = None if plan.signal is None else self._run.inbox.take(plan.signal)
        if self._parts.reports.wanted:
            self._parts.reports.goes_on(work)
        if letter is not None:
            self.receive(waiter, letter)
        elif waiter.until <= self._now():
            self._over(waiter)
        else:
            self._wait(waiter)

    def _until(self, work: Work, plan: Plan) -> float:
        """When a wait is over; recorded when it begins, so that a crash does not prolong it."""
        if plan.seconds is None:
            return inf
        until = self._now() + plan.seconds
        journal = self._run.journal
        if journal is not None:
            with self._lock:
                until = journal.begin_wait(work.source, until)
        return until

    def _wait(self, waiter: Waiter) -> None:
        work, plan = waiter.work, waiter.plan
        self._waiters[waiter] = None
        if self._parts.reports.wanted:
            self._parts.reports.waits(work)
        if self._run.bus.wants(TaskWaiting):
            told = self._waiting(waiter)
            self._run.publish(TaskWaiting, *told[:5], item=told.item)
        if plan.seconds is not None:
            heappush(self._times, (waiter.until, self._next(), waiter))
            self._set_timer()
        if plan.signal is not None:
            self._run.inbox.wait(plan.signal, waiter)

    def receive(self, waiter: Waiter, letter: Letter) -> None:
        """A signal ends the wait of a node."""
        if self._end.stopping:
            return  # it is not taken
        journal = self._run.journal
        try:
            value = letter.value if journal is None else journal.read(letter.value)
        except Exception as error:
            self._finish(waiter, None, letter, error)
        else:
            self._finish(waiter, value, letter)
        self._dispatch.released()

    def _over(self, waiter: Waiter) -> None:
        """The time of a node is over."""
        plan = waiter.plan
        if plan.signal is not None:
            self._run.inbox.leave(plan.signal, waiter)
        if plan.value is not NOT_GIVEN:
            self._finish(waiter, plan.value)
            return
        assert plan.seconds is not None
        error = TaskTimeoutError(
            f"no signal {plan.signal!r} came within {plan.seconds:g} s; give wait_for() a default "
            "to go on without one",
            plan.seconds,
        )
        self._finish(waiter, None, error=error)

    def _finish(
        self,
        waiter: Waiter,
        value: Any,
        letter: Letter | None = None,
        error: Exception | None = None,
    ) -> None:
        """Settle a node that waits no longer.

        The outcome, the end of the wait, and that a signal was taken are in one commit.
        """
        self._waiters.pop(waiter, None)
        if len(self._times) > 2 * len(self._waiters) + _MOST_STALE:
            self._times = [entry for entry in self._times if entry[2] in self._waiters]
            heapify(self._times)
        work, journal = waiter.work, self._run.journal
        node = work.source  # it may continue as another one
        with self._lock, _together(journal):
            if error is not None:
                self._parts.slow_lane.fail_attempt(work, error)
            else:
                if self._parts.reports.wanted:
                    self._parts.reports.goes_on(work)
                self._parts.after_call.go_on(work, value)
            if journal is not None:
                journal.end_wait(node)
                if letter is not None:
                    journal.desk.take(letter.number)

    # -- the timer ----------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Have ``_fire`` called when the first time is over."""
        if not self._times or self._times[0][0] >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = first = self._times[0][0]
        loop, context = self._run.loop, self._run.context.copy()
        if self._is_wall:
            pause = min(max(first - self._now(), 0.0), _LOOK_AGAIN)
            self._timer = loop.call_later(pause, self._fire, context=context)
        else:
            self._timer = loop.call_at(first, self._fire, context=context)

    def _fire(self) -> None:
        """End the waits whose time is over, for a few milliseconds; the others soon (M9)."""
        self._timer, self._due = None, inf
        now = self._now() + _NEAR
        stop = inf if self._is_virtual else perf_counter() + BUDGET
        while self._times and self._times[0][0] <= now:
            if self._end.stopping:
                return
            waiter = heappop(self._times)[2]
            if waiter in self._waiters:
                self._over(waiter)
                if perf_counter() > stop:
                    break
        self._set_timer()
        self._dispatch.released()

    # -- for others ---------------------------------------------------------------------------

    def suspends(self) -> Suspended | None:
        """The error that ends this run in this process, now that it does nothing but wait.

        None if it goes on waiting here.
        """
        journal = self._run.journal
        if journal is None or journal.unload is None or not self._waiters:
            return None
        while self._times and self._times[0][2] not in self._waiters:
            heappop(self._times)
        due = self._times[0][0] if self._times else None
        if due is not None and due - self._now() < journal.unload:
            return None
        return Suspended(due, self._run.inbox.seen)

    @property
    def any(self) -> bool:
        """Whether a node waits."""
        return bool(self._waiters)

    def waiting(self) -> Iterator[Waiting]:
        """The waiting nodes. From any thread."""
        return map(self._waiting, list(self._waiters))

    def _waiting(self, waiter: Waiter) -> Waiting:
        source, plan = waiter.work.source, waiter.plan
        left = None if plan.seconds is None else max(waiter.until - self._now(), 0.0)
        if plan.signal is not None:
            reason = f"signal {plan.signal}"
        else:
            assert left is not None
            reason = f"sleep until {_utc(waiter.until if self._is_wall else time.time() + left)}"
        name, number = waiter.work.operation.name, number_of(source)
        return Waiting(name, number, reason, (), left, waiter.since, item_of(source))

    def close(self) -> None:
        """Forget all waiters. In the loop's thread."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._waiters.clear()
        self._times.clear()
        self._run.inbox.close()


def _together(journal: Any) -> AbstractContextManager[object]:
    return nullcontext() if journal is None else journal.desk.together


def _utc(seconds: float) -> str:
    """A time for people, ``"2026-11-30 12:30:00 UTC"``."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # after the year 9999
        return "the end of time"
