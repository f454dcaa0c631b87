"""Group: the asyncio tasks of one execution, which end with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Self

from cascade.runtime.cancels import Cancels
from cascade.runtime.run import Run


class Group:
    """Tasks that live as long as a block does; the first that fails ends the block and the rest.

    As ``asyncio.TaskGroup``, but a second cancel reaches tasks that are ending already, so that
    they can abandon what they wait for (M8), and the errors of tasks are not put together: whoever
    started them has kept the first. A block that was ended by a task's failure ends without error.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._leaving = False
        self._cancelled_body = False
        #: Cancels of the body so far, minus those that it has undone.
        self._own = 0
        #: How often its tasks were cancelled.
        self._passed_on = 0

    def create_task(self, work: Coroutine[Any, Any, Any], context: Context) -> asyncio.Task[Any]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        for _ in range(self._passed_on):
            task.cancel()
        return task

    def cancel_rest(self) -> None:
        """End the tasks at once, where the body was cancelled and waits before it leaves."""
        if asyncio.current_task() is self._body and not self._ending:
            self._cancel_tasks()

    @property
    def ending(self) -> bool:
        """Whether its tasks were cancelled."""
        return self._ending

    def is_cancelled(self, outside: int) -> bool:
        """Whether the current asyncio task, one of these or the body, was cancelled with these.

        Args:
            outside: How many cancels came from outside of what runs in it; the body's may come from
                wherever the block's caller is cancelled.
        """
        if self._ending:
            return True
        return outside > 0 and (self._run.is_cancelled or asyncio.current_task() is self._body)

    async def __aenter__(self) -> Self:
        body = asyncio.current_task()
        assert body is not None
        self._body = body
        self._cancels = Cancels()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._leaving = True
        if error is not None:
            self._end()
        if self._cancelled_body:
            self._count_own(-1)
            self._body.uncancel()
        by_a_task = self._cancelled_body and self._cancels.count <= 0
        if by_a_task and error is None:
            await self._swallow_cancel()
        again: asyncio.CancelledError | None = None
        while self._tasks:
            if self._ending:
                self._cancel_tasks()  # again, where the body was while it waited
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as request:
                again = request
                self._ending = True
        if again is not None:
            raise again
        return by_a_task and isinstance(error, asyncio.CancelledError)

    async def _swallow_cancel(self) -> None:
        """Let the cancel of the body arrive, which had no more to wait for."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._end()

    def _end(self) -> None:
        if self._ending:
            return
        self._cancel_tasks()
        if not self._leaving and not self._cancelled_body:
            self._cancelled_body = True
            self._count_own(1)
            self._body.cancel()

    def _count_own(self, change: int) -> None:
        self._own += change
        if self._run.is_entered_in(self._body):
            self._run.own_cancels += change

    def _cancel_tasks(self) -> None:
        """Cancel the tasks as often as the body, and once for their end."""
        self._ending = True
        cancels = max(self._cancels.count - self._own, 2 if self._run.abandons else 1)
        for task in self._tasks:
            for _ in range(cancels - self._passed_on):
                task.cancel()
        self._passed_on = max(self._passed_on, cancels)
