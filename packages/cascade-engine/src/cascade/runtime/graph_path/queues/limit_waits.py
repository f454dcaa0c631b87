"""Limit waits: plain calls wait here for capacities and constraints, without holding a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from cascade.runtime.graph_path.segments import Work
from cascade.runtime.run import Run


class LimitWaits:
    """The permits of one run's work on workers. From any thread.

    Args:
        run: The run.
        go_on: Resumes admitted work.
    """

    def __init__(self, run: Run, go_on: Callable[[Work], None]) -> None:
        self._run = run
        self._go_on = go_on

    @property
    def busy(self) -> bool:
        """Whether any work waits."""
        return bool(self._run.admissions.permits)

    def admits(self, work: Work) -> bool:
        """Whether the next call of ``work`` may begin now; otherwise ``go_on`` is called later.

        Call ``left`` after a call that was admitted.
        """
        gate, permit = self._run.gate, work.permit
        if permit is not None:  # it was told that it is in
            if gate.capacities.begin(permit):
                return True
        elif not gate.governs(work.operation, work.policies):
            return True
        else:
            permit = work.permit = gate.permit(
                work.operation, work.source, work.policies, partial(self._go_on, work)
            )
            if gate.capacities.enter(permit):
                return True
        # From here on another thread may own the work, if it was told that it is in.
        gate.tell(permit)
        return False

    def pause(self, work: Work) -> None:
        """Note that ``work``, which was admitted, waits for a resource; then ask ``admits`` again.

        It keeps its permit, unless constraints are set meanwhile or the run ends.
        """
        if work.permit is not None:
            self._run.gate.capacities.pause(work.permit)

    def left(self, work: Work) -> None:
        """Return the permit of ``work``, whose call has ended."""
        if work.permit is not None:
            self._run.gate.leave(work.permit)
            work.permit = None

    def left_after(self, work: Work, call: Future[Any]) -> None:
        """The same once ``call`` has ended, which goes on without its work (M8)."""
        if work.permit is not None:
            self._run.gate.leave_after(work.permit, call)
            work.permit = None

    def close(self) -> None:
        """End all waits, and admit nothing more."""
        self._run.admit_no_more()

    def let_go(self) -> None:
        """Drop the functions that resume work; nothing waits any more."""
        del self._go_on

    def abandon(self) -> None:
        """Let abandoned calls keep their permits until they end (M8)."""
        self._run.gate.abandon()
