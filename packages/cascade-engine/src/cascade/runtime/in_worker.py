"""Calls of plain functions on threads that are awaited in the event loop (M8, M12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from cascade.runtime.execution.carried_errors import guarded, overran
from cascade.runtime.execution.worker_calls import WorkerCall, end_of, not_begun, result_of
from cascade.runtime.run import Run
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import Executor
from cascade.spec.wording import short

T = TypeVar("T")


async def in_worker(
    run: Run,
    func: Callable[..., T],
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    executor: Executor | None = None,
    *,
    name: str = "",
    source: LazyResult[Any] | None = None,
    priority: int = 0,
    timeout: float | None = None,  # noqa: ASYNC109  # of the call, not of this
    on_abandon: Callable[[Future[T]], None] | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> T:
    """Call ``func`` on a thread of the executor, in a copy of the caller's context (M12).

    Cancelling waits for the call to end, because it cannot be stopped (M8). A second cancel of
    the run abandons it, and so does the timeout.

    Args:
        run: The run of the call.
        func: A plain function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        executor: The run's by default.
        name: Its name in events and errors.
        source: The lazy value of the call, for events.
        priority: The priority of the node (M24).
        timeout: Seconds from the beginning on a thread.
        on_abandon: Called with the call when it is abandoned.
        on_cancel: Called when this was cancelled and is about to wait for the call.

    Raises:
        TaskTimeoutError: It took longer than ``timeout``.
        ExecutorError: The executor ended the call before a thread had begun it.
    """
    executor = executor or run.threads
    name = name or getattr(func, "__qualname__", short(func))
    begun: asyncio.Future[None] = run.loop.create_future()
    work: WorkerCall[T] = WorkerCall(
        run.context.copy().run,
        guarded if timeout is None else _telling(run, begun),
        func,
        args,
        kwargs,
    )
    work.cascade_priority = run.priority + priority
    call = run.submit(executor, name, work)
    run.calls[call] = name
    timer = run.thread_waits.submitted(call, work, executor, name, source)
    call.add_done_callback(run.call_ended)
    ended = end_of(call, run.loop)
    try:
        if timeout is not None:
            await asyncio.wait([begun, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await asyncio.wait([ended], timeout=timeout)
    except asyncio.CancelledError:
        if on_cancel is not None and not ended.done():
            on_cancel()
        if work.withdraw():
            run.calls.pop(call, None)
        else:
            await _end_of(run, call, ended, name, source, executor, on_abandon)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if ended.done():
        if work.withdraw():
            raise not_begun(executor, f"task '{name}'", call)
        return result_of(call)
    assert timeout is not None  # otherwise the call has ended
    _leave(run, call, name, source, executor, on_abandon)
    raise overran(name, timeout)


def _telling(run: Run, begun: asyncio.Future[None]) -> Callable[..., Any]:
    """``guarded``, which also reports its beginning to the event loop."""

    def begin() -> None:
        if not begun.done():
            begun.set_result(None)

    def call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        run.loop.call_soon_threadsafe(begin)
        return guarded(func, args, kwargs)

    return call


async def _end_of(run: Run, call: Future[T], ended: asyncio.Future[None], *abandon: Any) -> None:
    """Wait for a call that was cancelled and has begun, until the run abandons it."""
    try:
        while not (ended.done() or run.abandons):
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ended])
    finally:
        if not ended.done():
            _leave(run, call, *abandon)


def _leave(
    run: Run,
    call: Future[T],
    name: str,
    source: LazyResult[Any] | None,
    executor: Executor,
    on_abandon: Callable[[Future[T]], None] | None,
) -> None:
    if on_abandon is not None:
        on_abandon(call)
    run.abandon(call, name, source, executor)
