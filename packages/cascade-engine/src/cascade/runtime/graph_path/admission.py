"""Admission: plain calls wait for capacities and constraints here, and hold no thread meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cascade.runtime.graph_path.segments import Work
from cascade.runtime.run import Run


class Admission:
    """The permits of one run's work on workers. From any thread.

    Args:
        run: The run.
        go_on: Has work that was let in worked on.
    """

    def __init__(self, run: Run, go_on: Callable[[Work], None]) -> None:
        self._gate = run.gate
        self._go_on = go_on

    @property
    def busy(self) -> bool:
        """Whether any work waits."""
        return self._gate.busy

    def admits(self, work: Work) -> bool:
        """Whether the next call of ``work`` may begin now; if not, it goes on when it may.

        One that may is to be followed by ``left``.
        """
        gate, permit = self._gate, work.permit
        if permit is not None:  # it was told that it is in
            if gate.capacities.begin(permit):
                return True
        elif not gate.governs(work.operation, work.policies):
            return True
        else:
            permit = work.permit = gate.permit(
                work.operation, work.source.number, work.policies, partial(self._go_on, work)
            )
            if gate.capacities.enter(permit):
                return True
        # From here on the work is another thread's, which may have been told that it is in.
        gate.tell(permit)
        return False

    def left(self, work: Work) -> None:
        """Give back what the call of ``work`` has, which has ended."""
        if work.permit is not None:
            self._gate.leave(work.permit)
            work.permit = None

    def close(self) -> None:
        """Let nothing wait any more, and nothing in."""
        self._gate.stop()

    def abandon(self) -> None:
        """Let abandoned calls keep their permits until they end (M8)."""
        self._gate.abandon()
