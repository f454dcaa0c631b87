"""Callables: their innermost function, their name, and whether a call gives a coroutine."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any


def innermost(func: Any) -> Any:
    """The callable inside of partials."""
    while isinstance(func, functools.partial):
        func = func.func
    return func


def function_of(func: Any) -> Any:
    """The function that a user wrote for ``func``: inside of partials and of ``functools.wraps``.

    For an instance it is the ``__call__`` of its class.
    """
    inner = innermost(_unwrapped(innermost(func)))
    if not hasattr(inner, "__code__"):
        inner = getattr(type(inner), "__call__", inner)  # noqa: B004  # to have it, not to ask
    return _unwrapped(inner)


def called(func: Any) -> Any:
    """The function that decides the kind: of a partial its target, of an instance ``__call__``."""
    func = innermost(func)
    if inspect.isroutine(func) or inspect.isclass(func):
        return func
    return func.__call__


def gives_coroutine(func: Any) -> bool:
    """Whether a call of ``func`` gives a coroutine, as far as Python can tell.

    Coroutine functions do, partials of them, instances whose ``__call__`` is one, functions marked
    by ``inspect.markcoroutinefunction`` or its forerunner in asyncio, and an ``AsyncMock``.
    """
    func = innermost(func)
    if inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(called(func)):
        return True
    # Up to Python 3.11 frameworks mark their functions with this object of asyncio's.
    mark = getattr(sys.modules.get("asyncio.coroutines"), "_is_coroutine", None)
    return mark is not None and getattr(func, "_is_coroutine", None) is mark


def own_name(func: Any) -> str:
    """The name of ``func``, or of its type."""
    func = innermost(func)
    return getattr(func, "__name__", None) or type(func).__name__


def _unwrapped(func: Any) -> Any:
    try:
        return inspect.unwrap(func)
    except ValueError:  # a cycle, or an object that has every attribute
        return func
