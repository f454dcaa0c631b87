"""Limit waits: plain calls wait here for capacities and constraints, without holding a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from cascade.runtime.graph_path.segments import Work
from cascade.runtime.limits.admission import needs_permit
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

    def acquire(self, work: Work) -> bool:
        """Whether the next call of ``work`` may begin now; otherwise ``go_on`` is called later.

        Call ``release`` after a call that has begun. If ``work`` waits, another thread may own it
        already when this returns.
        """
        run, permit = self._run, work.permit
        if permit is None:
            if not needs_permit(run.constraints, work.operation, work.policies):
                return True
            permit = work.permit = run.gate.permit(
                work.operation, work.source, work.policies, partial(self._go_on, work)
            )
        return run.gate.may_begin(permit)

    def pause(self, work: Work) -> None:
        """Note that ``work``, which was admitted, waits for a resource; then ``acquire`` again.

        It keeps its permit, unless constraints are set meanwhile or the run ends.
        """
        if work.permit is not None:
            self._run.gate.capacities.pause(work.permit)

    def release(self, work: Work) -> None:
        """Return the permit of ``work``, whose call has ended."""
        if work.permit is not None:
            self._run.gate.leave(work.permit)
            work.permit = None

    def release_after(self, work: Work, call: Future[Any]) -> None:
        """The same once ``call`` has ended, which goes on without its work (M8)."""
        if work.permit is not None:
            self._run.gate.leave_after(work.permit, call)
            work.permit = None

    def let_go(self) -> None:
        """Drop the functions that resume work; nothing waits any more."""
        del self._go_on
