"""Calls submitted to executors, and the error for a call that no thread begins.

An executor may fail a call before a thread begins it: it was shut down and has cancelled its queue,
its threads cannot start, or it must pickle objects that only this process can use. And ``submit``
may raise although the call is already queued, as that of ``concurrent.futures.ThreadPoolExecutor``
does if no thread can be started. Each call therefore knows whether it has begun, and a withdrawn
call never begins.

The future of such a call belongs to the executor: a run never cancels it. Some pools set a result
or an error on queued futures without checking for cancels, and some count their free threads by
finished calls. A run that does not need a call withdraws it, which leaves the future alone; the
thread that takes it later makes an empty call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from cascade.adapters.executors.checks import LENDERS, kind_of
from cascade.runtime.clock import VirtualLoop
from cascade.spec.errors import ExecutorError
from cascade.spec.protocols import Executor

T = TypeVar("T")


class WorkerCall(Generic[T]):
    """A call that is made at most once, and never after it was withdrawn. From any thread.

    Attributes:
        withdrawn: Whether ``withdraw`` came before its beginning.
        cascade_priority: A LocalExecutor begins waiting calls with a higher one first (M24).
    """

    __slots__ = ("_args", "_func", "_waits", "cascade_priority", "on_withdrawal", "withdrawn")

    def __init__(self, func: Callable[..., T], /, *args: Any) -> None:
        self._func = func
        self._args = args
        #: Taking the item is atomic: either the thread that begins takes it, or ``withdraw``.
        self._waits = [None]
        self.withdrawn = False
        self.cascade_priority = 0
        #: Called when the call is withdrawn; the executor's future may be done much later.
        self.on_withdrawal: Callable[[], object] | None = None

    def __call__(self) -> T | None:
        """Make the call; nothing if it was withdrawn."""
        if not self._take():
            return None
        args, self._args = self._args, ()  # they may hold this in turn
        return self._func(*args)

    @property
    def waits(self) -> bool:
        """Whether it has neither begun nor been withdrawn."""
        return bool(self._waits)

    def withdraw(self) -> bool:
        """Withdraw the call; False if it has begun, or was withdrawn before."""
        if not self._take():
            return False
        self.withdrawn = True
        self._args = ()  # the executor keeps this object until a thread takes it
        if self.on_withdrawal is not None:
            self.on_withdrawal()
        return True

    def _take(self) -> bool:
        try:
            self._waits.pop()
        except IndexError:
            return False
        return True


def end_of(call: Future[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """A future of ``loop`` that is done once ``call`` is.

    Unlike with ``asyncio.wrap_future``, cancelling it does not cancel ``call``, and the call may
    end after the event loop was closed.
    """
    ended: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_call: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle)

    call.add_done_callback(tell)
    return ended


def submit(
    loop: asyncio.AbstractEventLoop, executor: Executor, name: str, work: WorkerCall[T]
) -> Future[T]:
    """Give a call to ``executor``; the virtual time of ``loop`` stands still until it has ended.

    Raises:
        RuntimeError: The executor refuses; ``work`` is withdrawn, unless it has begun.
    """
    release = loop.hold(name) if isinstance(loop, VirtualLoop) else None
    work.on_withdrawal = release
    try:
        call: Future[Any] = executor.submit(work)
    except BaseException:
        if not work.withdraw() and release is not None:
            release()
        raise
    if release is not None:
        call.add_done_callback(lambda _call: release())
    return call


def hold_until(call: Future[Any], loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Let the virtual time of ``loop`` stand still until ``call`` has ended."""
    if isinstance(loop, VirtualLoop):
        release = loop.hold(name)
        call.add_done_callback(lambda _call: release())


def result_of(call: Future[T]) -> T:
    """The result of a call that has ended; raises its error, even a falsy one."""
    error = call.exception()
    if error is None:
        return call.result()
    try:
        raise error
    finally:
        del error  # its traceback holds this frame


def not_begun(executor: Executor, name: str, call: Future[Any]) -> ExecutorError:
    """The error for a call whose future is done although no thread has begun it."""
    error: BaseException | None = None
    if not call.cancelled():
        try:
            error = call.exception(0)
        except (CancelledError, TimeoutError):  # a foreign kind of future, which may not be done
            error = None
    if error is None:
        reason = "cancelled the call before a thread began it; was it shut down?"
    else:
        reason = f"failed the call before a thread began it: {type(error).__name__}: {error}"
    found = ExecutorError(
        f"{kind_of(executor)} was given a call of {name}, and {reason}\n    {LENDERS}"
    )
    found.__cause__ = error
    return found
