"""Parking: plain calls that have to wait for a capacity or a constraint, and hold no thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cascade.runtime.limits.tickets import Ticket
from cascade.runtime.run import Run
from cascade.runtime.strategies.segment import Work


class Parking:
    """The tickets of one run's work on workers. From any thread, but for ``close``.

    Args:
        run: The run.
        go_on: Has work that was let in worked on.
    """

    def __init__(self, run: Run, go_on: Callable[[Work], None]) -> None:
        self._gate = run.gate
        self._go_on = go_on
        #: Of work that waits, and of work that was let in and has not begun.
        self._tickets: dict[Work, Ticket] = {}
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether any work waits."""
        return bool(self._tickets)

    def admits(self, work: Work) -> bool:
        """Whether the next call of ``work`` may begin now; if not, it goes on when it may.

        One that may is to be followed by ``left``.
        """
        if not self._gate.governs(work.operation, work.policies):
            return True
        ticket = self._tickets.pop(work, None)
        if ticket is None:
            ticket = self._gate.ticket(
                work.operation, work.source.number, work.policies, partial(self._go_on, work)
            )
            self._tickets[work] = ticket  # at once: another thread may let it in right away
            is_in = self._gate.resources.enter(ticket)
            if is_in or self._closed:
                # Who takes it out of there sees to it: this thread, another one, or the end.
                is_ours = self._tickets.pop(work, None) is not None
                if self._closed and is_ours:
                    self._gate.leave(ticket)
                if self._closed or not is_ours:
                    return False
            if not is_in:
                self._gate.tell(ticket)
                return False
        work.ticket = ticket
        return True

    def left(self, work: Work) -> None:
        """Give back what the call of ``work`` has, which has ended."""
        if work.ticket is not None:
            self._gate.leave(work.ticket)
            work.ticket = None

    def close(self) -> None:
        """Let nothing wait any more, and nothing in. May be repeated."""
        self._closed = True  # first: an abandoned worker may be about to ask
        while self._tickets:
            try:
                _, ticket = self._tickets.popitem()
            except KeyError:  # an abandoned worker was faster
                return
            self._gate.leave(ticket)
