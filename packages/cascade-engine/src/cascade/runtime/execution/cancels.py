"""Cancels of calls: those of the engine, and those that a call has asked for itself (M8, M13).

asyncio counts how often a task was cancelled, and does not say by whom. So the count is compared
before and after each step of a task's coroutine: what has changed in a step the call has asked for
itself, by ``current_task().cancel()`` or by leaving an ``asyncio.timeout``; all else came between
two steps, from outside. At the end of the call its own cancels are taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

from cascade.runtime.execution.interrupts import is_interrupted
from cascade.spec.errors import TaskCancelledError

#: Told how many cancels of the current asyncio task came from outside of the call; whether the
#: engine, or its caller, has cancelled it.
IsCancelled: TypeAlias = Callable[[int], bool]


class Cancels:
    """How often the current asyncio task was cancelled since this was made.

    Two cancels that come in one turn of the event loop arrive as one CancelledError, but they are
    two: the second abandons plain calls (M8).

    Attributes:
        before: How often it had been cancelled then; it may be one that goes on after that.
        cancelling: That method of the asyncio task.
        own: How many cancels its own steps have asked for, less those that they took back.
    """

    __slots__ = ("_task", "before", "cancelling", "own")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self.cancelling = task.cancelling
        self.before = task.cancelling()
        self.own = 0

    @property
    def count(self) -> int:
        """The number of cancels, minus those undone by ``uncancel``."""
        return self.cancelling() - self.before

    def are_of(self, task: asyncio.Task[Any]) -> bool:
        """Whether they are those of that task."""
        return task is self._task

    def changed(self, change: int) -> None:
        """A step has asked for so many cancels, or has taken some back."""
        if change < 0 or not is_interrupted(self._task):  # whose handler may break into a step
            self.own += change

    async def end(self, error: BaseException | None) -> None:
        """What drives the coroutine of a call asks for this at its end, if that is no mere value.

        Args:
            error: What the coroutine has raised; None if it has returned, and cancels are left.
        """

    def over(self) -> None:
        """The same calls this after all else."""

    async def settle(self, error: BaseException | None, is_cancelled: IsCancelled) -> None:
        """End a call that was cancelled, or has asked for it.

        Args:
            error: What the call has raised; None if it has returned.
            is_cancelled: See there.

        Raises:
            CancelledError: The engine has cancelled it, whatever else has.
            TaskCancelledError: It was cancelled, and not by the engine.
        """
        asked = self.own > 0
        await self._take_back(max(self.own, 0))
        self.own = 0
        outside = self.count
        cancelled = is_cancelled(outside)
        if outside > 0 and not cancelled:  # by a handle on this asyncio task, from the user's code
            await self._take_back(outside)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            return  # it stays, and the caller of this raises it
        try:
            if cancelled and (error is not None or outside > 0):
                raise error or asyncio.CancelledError
            if not cancelled and (error is not None or asked or outside > 0):
                raise cancelled_inside(asked) from error or asyncio.CancelledError()
        finally:
            del error  # or this frame, which its traceback holds, would hold it in turn

    async def _take_back(self, count: int) -> None:
        for _ in range(count):
            self._task.uncancel()
        if count and getattr(self._task, "_must_cancel", False):
            # No await has brought it yet, and before Python 3.13 ``uncancel`` does not stop it.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


def cancelled_inside(asked: bool = False) -> TaskCancelledError:
    """The error for a call that was cancelled, and not by the engine (M13).

    Args:
        asked: Whether it has cancelled its own asyncio task.
    """
    if asked:
        return TaskCancelledError(
            "the task cancelled its own asyncio task; to end it early, return or raise an error"
        )
    return TaskCancelledError(
        "the task raised CancelledError, but its run was not cancelled: something that it awaits "
        "was; to go on then, catch CancelledError around that await"
    )
