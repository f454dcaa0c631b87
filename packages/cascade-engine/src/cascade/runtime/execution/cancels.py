"""Cancels of calls: by the engine, or requested by the call itself (M8, M13).

asyncio counts how often a task was cancelled, and does not record by whom. So the count is compared
before and after each step of a task's coroutine. A change within a step was requested by the call
itself, with ``current_task().cancel()`` or by leaving an ``asyncio.timeout``; all other changes
came between two steps, from outside. At the end of the call its own cancels are undone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

from cascade.runtime.execution.interrupts import is_interrupted
from cascade.spec.errors import TaskCancelledError

#: Called with the number of cancels of the current asyncio task from outside the call; tells
#: whether the engine, or its caller, has cancelled it.
IsCancelled: TypeAlias = Callable[[int], bool]


class Cancels:
    """The cancels of the current asyncio task, of this ``loop``, since this was made.

    Two cancels in one turn of the event loop arrive as one CancelledError, but they count as two:
    the second abandons plain calls (M8).

    Attributes:
        before: The count at that time; the asyncio task may have gone on after earlier cancels.
        task: The asyncio task.
        own: Number of cancels that its own steps have requested, minus those that they undid.
    """

    __slots__ = ("before", "own", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self.task = task
        self.before = task.cancelling()
        self.own = 0

    @property
    def count(self) -> int:
        """The number of cancels, minus those undone by ``uncancel``."""
        return self.task.cancelling() - self.before

    def are_of(self, task: asyncio.Task[Any]) -> bool:
        """Whether these are the cancels of that task."""
        return task is self.task

    def changed(self, change: int) -> None:
        """A step has requested ``change`` cancels, or has undone some."""
        if change < 0 or not is_interrupted(self.task):  # a signal handler may interrupt a step
            self.own += change

    async def end(self, error: BaseException | None) -> None:
        """Called by the driver of a call's coroutine at its end, unless it simply returned.

        Args:
            error: The error of the coroutine; None if it has returned, and cancels are left.
        """

    def over(self) -> None:
        """Called by the driver after all else."""

    async def settle(self, error: BaseException | None, is_cancelled: IsCancelled) -> None:
        """End a call that was cancelled, or has requested it.

        Args:
            error: The error of the call; None if it has returned.
            is_cancelled: See ``IsCancelled``.

        Raises:
            CancelledError: The engine has cancelled it, perhaps among others.
            TaskCancelledError: It was cancelled, but not by the engine.
        """
        asked = self.own > 0
        await self._take_back(max(self.own, 0))
        self.own = 0
        outside = self.count
        cancelled = is_cancelled(outside)
        if outside > 0 and not cancelled:  # user code has cancelled this asyncio task
            await self._take_back(outside)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            return  # the error stays, and the caller raises it
        try:
            if cancelled and (error is not None or outside > 0):
                raise error or asyncio.CancelledError
            if not cancelled and (error is not None or asked or outside > 0):
                raise cancelled_inside(asked) from error or asyncio.CancelledError()
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn

    async def _take_back(self, count: int) -> None:
        for _ in range(count):
            self.task.uncancel()
        if count and getattr(self.task, "_must_cancel", False):
            # No await has delivered it yet, and before Python 3.13 ``uncancel`` does not stop it.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


def cancelled_inside(asked: bool = False) -> TaskCancelledError:
    """The error for a call that was cancelled, but not by the engine (M13).

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
