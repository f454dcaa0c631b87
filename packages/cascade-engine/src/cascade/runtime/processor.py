"""NodeProcessor: the attempts of a node that needs more than a plain call.

Rule R10's inner part: repeat { task resources → one call }. It also decides where the call is made:
coroutine functions on the loop, users of thread-bound resources on their thread, the rest on a
worker, or inline where the caller allows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from cascade.runtime.run import Run, guarded, within
from cascade.spec.resource import Inject
from cascade.spec.retry import Retry


class NodeProcessor:
    """Makes the attempts of one run that the fast lanes leave out."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def call(
        self,
        func: Callable[..., Any],
        is_async: bool,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        *,
        inline: bool = False,
        retry: Retry | None = None,
        failed: Callable[[int, float, BaseException], None] = lambda *_: None,
    ) -> Any:
        """Open what the arguments ask for, call ``func``, close what was opened for the call.

        Args:
            func: A function, or coroutine function if ``is_async``.
            is_async: Whether to await what ``func`` returns.
            args: Positional arguments; resources by their Inject markers.
            kwargs: The same by name.
            inline: Let a plain function run in the loop's thread.
            retry: When a failed attempt is followed by another; None for never.
            failed: Called before another attempt: with the number of the one that failed, the
                seconds until the next, and the error.
        """
        attempt = 1
        while True:
            try:
                return await self._attempt(func, is_async, args, kwargs, inline)
            except Exception as error:
                pause = retry.pause(attempt, error) if retry is not None else None
                if pause is None:
                    raise
                failed(attempt, pause, error)
            attempt += 1
            await asyncio.sleep(pause)  # by the loop's clock; also lets others go first

    async def _attempt(
        self,
        func: Callable[..., Any],
        is_async: bool,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        inline: bool,
    ) -> Any:
        if not wants_resources(args, kwargs):
            return await self._make(func, is_async, args, kwargs, inline, bound=False)
        async with self._run.resources.attempt() as attempt:
            args, kwargs = await attempt.resolve(args, kwargs)
            return await self._make(func, is_async, args, kwargs, inline, attempt.bound)

    async def _make(
        self,
        func: Callable[..., Any],
        is_async: bool,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        inline: bool,
        bound: bool,
    ) -> Any:
        if is_async:
            return await self._await(func(*args, **kwargs))
        if bound:
            thread = self._run.resources.bound_thread
            return await self._run.in_worker(func, args, kwargs, thread)
        if inline:
            return self._run.context.copy().run(guarded, func, args, kwargs)
        return await self._run.in_worker(func, args, kwargs)

    async def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await a task's coroutine; one that swallows a cancel cannot keep the run going."""
        task = asyncio.current_task()
        assert task is not None
        requests = task.cancelling()
        value = await within(self._run.context.copy(), work)
        if task.cancelling() > requests:
            raise asyncio.CancelledError
        return value


def wants_resources(args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument is the marker of a resource."""
    return any(isinstance(v, Inject) for v in args) or any(
        isinstance(v, Inject) for v in kwargs.values()
    )
