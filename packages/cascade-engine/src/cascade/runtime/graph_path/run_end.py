"""RunEnd: the result or the first error of a graph run, and the steps of ending it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cascade.runtime.graph_path.segments import PENDING
from cascade.runtime.run import Run
from cascade.runtime.semantics.outcomes import Failed


class RunEnd:
    """The end of one graph run. Made in the event loop's thread.

    Attributes:
        stopping: Whether the run starts nothing new.
        any_missing: Whether any node was skipped or has failed so far.
        smooth: True until a node is skipped or fails, or the run stops. Until then the fast lane
            calls plain nodes without checking their inputs. False from the beginning if these are
            called in other processes.
        result: The outcome of the target, or PENDING.
        error: The error that ends the run, or None.
    """

    __slots__ = (
        "_done",
        "_run",
        "_stops",
        "error",
        "any_missing",
        "leaves_next",
        "result",
        "smooth",
        "stopping",
    )

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stops: list[Callable[[], object]] = []
        self._done: asyncio.Future[None] | None = None
        #: Whether the calling thread is a worker that is about to be idle, and to report it.
        self.leaves_next: Callable[[], bool] = _no
        self.stopping = False
        self.any_missing = False
        self.smooth = run.short_cuts
        self.result: Any = PENDING
        self.error: BaseException | None = None

    @property
    def is_near(self) -> bool:
        """Whether the run has a result, or an error that ends it."""
        return self.result is not PENDING or self.error is not None

    def at_stop(self, stop: Callable[[], object]) -> None:
        """Call ``stop`` when the run stops; from any thread, possibly more than once."""
        self._stops.append(stop)

    def is_cancelled(self, outside: int) -> bool:
        """Whether the engine has cancelled the current asyncio task; ``outside``: see Cancels."""
        return self.stopping or (outside > 0 and self._run.is_cancelled)

    def note_missing(self) -> None:
        """A node was skipped, or has failed. Under the lock."""
        self.any_missing, self.smooth = True, False

    def succeed(self, outcome: Any) -> None:
        """The target has its outcome. Under the lock."""
        if type(outcome) is Failed and not self._run.fail_fast:
            outcome.count(self._run.failures)
        self.result = outcome
        if not self.leaves_next():  # otherwise the pool reports this
            self._run.call_in_loop(self.wake)

    def fail(self, error: BaseException) -> None:
        """End the run with its first error; later ones are dropped. Under the lock."""
        if self.error is not None or self.stopping:
            return
        self.error = error
        self.stop()
        self._run.call_in_loop(self.wake)

    def stop(self) -> None:
        """Start nothing new."""
        self.stopping, self.smooth = True, False
        for stop in self._stops:
            stop()

    async def reached(self) -> None:
        """Wait for a result or an error. In the event loop's thread."""
        if not self.is_near:
            self._done = self._run.loop.create_future()
            await self._done

    def wake(self) -> None:
        """Let ``reached`` return. In the event loop's thread."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def close(self) -> None:
        """Drop the references to other parts of the run, so that no cycle needs the collector."""
        self._stops.clear()
        self.leaves_next = _no

    def take(self) -> Any:
        """The outcome of the target; raises the error of the run instead, if there is one.

        Both are forgotten, so that nothing keeps them.
        """
        error, self.error = self.error, None
        result, self.result = self.result, None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # otherwise a cycle: the traceback holds this frame, and the frame the error


def _no() -> bool:
    """The answer of a run without workers."""
    return False
