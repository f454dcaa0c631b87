"""Context managers that do not touch exceptions of their block."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Around(AbstractContextManager[T_co, None], Generic[T_co]):
    """Runs a generator up to its ``yield`` before the block, and the rest after it."""

    def __init__(self, parts: Iterator[T_co]) -> None:
        self._parts = parts

    def __enter__(self) -> T_co:
        return next(self._parts)

    def __exit__(self, *_error: object) -> None:
        next(self._parts, None)


def around(function: Callable[P, Iterator[T_co]]) -> Callable[P, AbstractContextManager[T_co]]:
    """``contextlib.contextmanager`` for functions that end in the same way after any exception.

    The rest of the generator runs after the block, without a ``try``; it does not see the error.
    contextlib throws the error into the generator and then sets its ``__traceback__``. An exception
    that is a frozen dataclass refuses that, and would be lost.
    """

    @wraps(function)
    def manager(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T_co]:
        return _Around(function(*args, **kwargs))

    return manager


async def in_time(scope: asyncio.Timeout, work: Awaitable[T]) -> T:
    """Await ``work`` in the block of ``scope``, which sees only cancels.

    From 3.13 on, an expired scope sets the ``__context__`` of errors that pass it.

    Raises:
        TimeoutError: The time is over, and the cancel of the scope has ended the work.
    """
    error: BaseException
    async with scope:
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except BaseException as failure:
            error = failure
    try:
        raise error
    finally:
        del error  # otherwise this frame, held by its traceback, would hold it in turn
