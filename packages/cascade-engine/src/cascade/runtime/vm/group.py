"""Group: the asyncio tasks of one execution, which end with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Self

from cascade.runtime.run import Cancels


class Group:
    """Tasks that live as long as a block does; the first that fails ends the block and the rest.

    As ``asyncio.TaskGroup``, but a second cancel reaches tasks that are ending already, so that
    they can abandon what they wait for (M8), and the errors of tasks are not put together: whoever
    started them has kept the first. A block that was ended by a task's failure ends without error.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._leaving = False
        self._cancelled_body = False
        self._cancelled_rest = False

    def create_task(self, work: Coroutine[Any, Any, Any], context: Context) -> asyncio.Task[Any]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if self._ending:
            task.cancel()
        return task

    def cancel_rest(self) -> None:
        """End the tasks at once, where the body was cancelled and waits before it leaves."""
        if asyncio.current_task() is self._body and not self._ending:
            self._cancelled_rest = True
            self._cancel_tasks()

    @property
    def ending(self) -> bool:
        """Whether its tasks were cancelled."""
        return self._ending

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
        if self._cancelled_rest and self._cancels.count > 1:
            self._cancel_tasks()  # again, for the body was cancelled again while it waited
        if error is not None:
            self._end()
        if self._cancelled_body:
            self._body.uncancel()
        by_a_task = self._cancelled_body and self._cancels.count <= 0
        if by_a_task and error is None:
            await self._swallow_cancel()
        again: asyncio.CancelledError | None = None
        while self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as request:
                again = request
                self._ending = False
                self._end()
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
            self._body.cancel()

    def _cancel_tasks(self) -> None:
        self._ending = True
        for task in self._tasks:
            task.cancel()
            if self._cancels.count > 1:  # both have come as one
                task.cancel()
