"""InlineExecutor: no threads, for debuggers and virtual time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from cascade.spec.errors import RunError

T = TypeVar("T")


class InlineExecutor:
    """Makes each call at once, in the thread that submits it.

    Plain functions of an engine with this executor run in the event loop's thread, one after the
    other, in the order in which they become ready: ``breakpoint()`` works in them, and every run
    is the same. They do not overlap, and the event loop stands still while one runs.
    """

    max_workers = 1

    def __init__(self) -> None:
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` now; the future is done when this returns.

        Raises:
            RunError: After ``shutdown`` (a RuntimeError).
        """
        if self._closed:
            raise RunError("the executor has been shut down and takes no more calls")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True) -> None:
        """Accept no more calls."""
        self._closed = True
