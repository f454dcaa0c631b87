"""RunHandle: a run begun by ``engine.start``, with its result, its status and its cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

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
    ) -> None:
        self.run_id = run_id
        self.target = target
        self._work = work
        self._before_cancel = before_cancel

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

    @property
    def status(self) -> str:
        """``"running"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
        if not self._work.done():
            return "running"
        if self._work.cancelled():
            return "cancelled"
        return "succeeded" if self._work._exception is None else "failed"

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} of '{self.target}', {self.status}>"
