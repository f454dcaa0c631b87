"""RunHandle: a run begun by ``engine.start``: its result, its status, its figures, its cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

from cascade.runtime.telemetry.summary import RunSummary, Summing
from cascade.runtime.telemetry.wording import error_text
from cascade.spec.errors import RunCancelledError

R = TypeVar("R")


class RunHandle(Generic[R]):
    """A run under way: ``handle = engine.start(target)``, ``value = await handle.result()``.

    Attributes:
        run_id: Names the run in events and in ``engine.runs()``.
        target: Name of the target.
    """

    def __init__(
        self,
        run_id: str,
        target: str,
        work: asyncio.Task[R],
        before_cancel: Callable[[str], object] | None = None,
        summing: Summing | None = None,
    ) -> None:
        self.run_id = run_id
        self.target = target
        self._work = work
        self._before_cancel = before_cancel
        self._summing = summing
        self._began = perf_counter()
        self._seconds: float | None = None
        work.add_done_callback(self._has_ended)

    def _has_ended(self, _work: asyncio.Task[R]) -> None:
        self._seconds = perf_counter() - self._began
        if self._summing is not None:
            self._summing.close()  # also if the run was cancelled before it began

    async def result(self) -> R:
        """The value of the target, once the run has ended; may be awaited more than once.

        Cancelling the waiting task does not cancel the run; ``cancel`` does.

        Raises:
            RunCancelledError: The run was cancelled.
            Exception: As ``Engine.run``.
        """
        try:
            return await asyncio.shield(self._work)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if not self._work.cancelled() or (waiter is not None and waiter.cancelling()):
                raise
        raise RunCancelledError(f"run {self.run_id} of '{self.target}' was cancelled", self.run_id)

    def cancel(self) -> bool:
        """Ask the run to end, from any thread; False if it has ended already.

        It ends as a cancelled ``engine.run`` does: coroutines are cancelled, resources are closed,
        and plain functions are waited for, until a second ``cancel`` abandons them (M8). In a store
        it is cancelled for good, while a run whose engine is closed can be resumed.
        """
        if self._work.done():
            return False
        if self._before_cancel is not None:
            self._before_cancel(self.run_id)
        loop = self._work.get_loop()
        if asyncio._get_running_loop() is loop:
            self._work.cancel()
        else:
            loop.call_soon_threadsafe(self._work.cancel)
        return True

    def at_end(self, call: Callable[[asyncio.Task[R]], object]) -> None:
        """Have ``call`` called when the run has ended. In the event loop's thread."""
        self._work.add_done_callback(call)

    async def ended(self) -> None:
        """Wait for the end of the run, whatever that is; its error counts as seen."""
        await asyncio.wait([self._work])
        if not self._work.cancelled():
            self._work.exception()

    @property
    def status(self) -> str:
        """``"running"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
        if not self._work.done():
            return "running"
        if self._work.cancelled():
            return "cancelled"
        return "succeeded" if self._work._exception is None else "failed"

    def summary(self) -> RunSummary:
        """The figures of the run: those so far, or those of its end.

        After ``start(target, summary=True)`` it has counts, durations, retries, failures and the
        slowest nodes, by task; otherwise only the status, the error and the duration of the run.
        From any thread.
        """
        seconds, status, summing = self._seconds, self.status, self._summing
        error = self._work.exception() if status == "failed" else None
        return RunSummary(
            self.run_id,
            self.target,
            status,
            perf_counter() - self._began if seconds is None else seconds,
            "" if error is None else error_text(error),
            *(() if summing is None else summing.figures),
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The figures so far, for notebooks."""
        return {"text/plain": repr(self), "text/html": self.summary()._repr_html_()}

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} of '{self.target}', {self.status}>"
