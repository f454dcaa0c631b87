"""Retry delays: work whose attempt failed waits for the next one, without holding a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cascade.runtime.graph_path.run_end import RunEnd
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.run import Run


class RetryDelays:
    """The work of one run that waits for its next attempt.

    Args:
        run: The run.
        end: Whether the run is ending.
        resume: Sends work to its lane. Called in the event loop's thread.
    """

    def __init__(self, run: Run, end: RunEnd, resume: Callable[[Work], None]) -> None:
        self._run, self._end = run, end
        self._resume = resume
        #: Work → the timer that resumes it; None until that is set.
        self._timers: dict[Work, asyncio.TimerHandle | None] = {}

    @property
    def any(self) -> bool:
        """Whether some work will go on by itself."""
        return bool(self._timers)

    def begin(self, work: Work, seconds: float) -> None:
        """Resume ``work`` after a delay. From any thread."""
        self._timers[work] = None  # at once: the run must not seem to be idle
        self._run.call_in_loop(self._begin, work, seconds)

    def end(self) -> None:
        """Set the timers off. In the event loop's thread."""
        for timer in list(self._timers.values()):  # workers may be about to add some
            if timer is not None:
                timer.cancel()

    def let_go(self) -> None:
        """Drop the references to other parts of the run, so that no cycle needs the collector."""
        self._resume = _over

    def _begin(self, work: Work, seconds: float) -> None:
        if self._end.stopping:
            return
        waiting = self._run.begin_delay(work.operation.name, work.source, seconds)

        def wake_up() -> None:
            self._run.end_delay(waiting)
            del self._timers[work]
            self._resume(work)

        self._timers[work] = self._run.loop.call_later(seconds, wake_up)


def _over(work: Work) -> None:
    """Takes the place of the function that resumes work, once the run is over: does nothing."""
