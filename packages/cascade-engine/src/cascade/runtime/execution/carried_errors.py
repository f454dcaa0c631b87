"""Errors of user functions in a form that futures and coroutines can carry (M13)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.placement import refused_loop
from cascade.spec.errors import TaskStopIterationError, TaskTimeoutError
from cascade.spec.operation import Operation

T = TypeVar("T")
#: The errors that ``carried`` replaces.
REPLACED: Final = (StopIteration, asyncio.CancelledError)


def raise_named(error: RuntimeError, operation: Operation) -> NoReturn:
    """Raise ``error``; or one with the task's name if Python raised it for a StopIteration (M13).

    Raises:
        TaskStopIterationError: A coroutine of ``operation`` let a StopIteration escape.
        RuntimeError: ``error`` has another cause.
    """
    raise named(error, operation)


def named(error: RuntimeError, operation: Operation) -> RuntimeError:
    """``error``; or one with the task's name if Python raised it for a StopIteration (M13)."""
    if type(error) is not RuntimeError or not isinstance(error.__cause__, StopIteration):
        return error
    replaced = TaskStopIterationError.of(operation.func)
    replaced.__cause__, replaced.__context__ = error.__cause__, error  # as if raised by its handler
    return replaced


def overran(task: str, seconds: float) -> TaskTimeoutError:
    """The error for a call on a thread that has exceeded its timeout."""
    return TaskTimeoutError(
        f"an attempt of task '{task}' took longer than {seconds:g} s; it goes on in its thread, "
        "because a plain function cannot be stopped, and its result is dropped",
        seconds,
    )


def guarded(func: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call ``func``; errors are replaced by ones that futures and coroutines can carry (M13).

    Raises:
        TaskStopIterationError: The function let a StopIteration escape.
        TaskCancelledError: It raised CancelledError.
    """
    try:
        return func(*args, **kwargs)
    except REPLACED as error:
        raise carried(func, error) from error


def in_loop(task: str, func: Callable[..., T], *args: Any) -> T:
    """Call a function of the task ``task`` that asked for the event loop's thread.

    Raises:
        RunError: It starts an event loop there.
    """
    try:
        return func(*args)
    except RuntimeError as error:
        refused = refused_loop(error, task)
        if refused is None:
            raise
        raise refused from error


def carried(func: Callable[..., Any], error: BaseException) -> BaseException:
    """``error`` of a call of ``func``; or a replacement that futures can carry (M13).

    ``error`` is the cause of the replacement.
    """
    if isinstance(error, StopIteration):
        replaced: BaseException = TaskStopIterationError.of(func)
    elif isinstance(error, asyncio.CancelledError):
        replaced = cancelled_inside()
    else:
        return error
    replaced.__cause__ = replaced.__context__ = error  # as if raised by its handler
    return replaced
