"""``run_beside``: ``cs.run`` in the cell of a notebook, whose thread has an event loop that runs.

An event loop cannot wait for another one in the same thread, so the run gets a thread and a loop of
its own, and the cell waits for the thread as it waits for any other plain call. The kernel answers
other requests after the cell, as usual. A run in the kernel's own loop would need that loop to turn
inside of one of its own callbacks, which asyncio does not allow; ``await cs.run_async(…)`` is that
run.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import threading
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, Generic, TypeVar

from cascade.runtime.context_managers import around
from cascade.runtime.execution.interrupts import PATIENCE, tell_waiting

R = TypeVar("R")

#: Interrupts after which the cell waits for nothing.
_MOST = 2
#: Seconds between two looks for an interrupt. On Windows an interrupt ends no wait; elsewhere it
#: ends none if it comes between the interpreter's last look and the wait.
_LOOK = 0.2


def run_beside(work: Coroutine[Any, Any, R]) -> R:
    """``asyncio.run`` in another thread, with the context variables of this one.

    Interrupts of the kernel act as Ctrl-C does in a script (M8): the first ends the run and waits
    for plain functions, the second abandons them, the third leaves the thread to itself.

    Raises:
        KeyboardInterrupt: It was interrupted.
    """
    return _Beside(work).value()


class _Beside(Generic[R]):
    """One run in a thread."""

    def __init__(self, work: Coroutine[Any, Any, R]) -> None:
        self._work = work
        self._context = contextvars.copy_context()
        self._is_done = threading.Event()
        self._result: R
        self._error: BaseException | None = None
        self._interrupts = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def value(self) -> R:
        """Start the thread, and wait for its result."""
        with self._interruptible():
            try:
                threading.Thread(target=self._run, name="cascade-cell", daemon=True).start()
            except RuntimeError:  # the system refuses a thread
                self._work.close()
                raise
            while not self._is_done.wait(_LOOK):
                pass
        if self._interrupts:
            cancelled = isinstance(self._error, asyncio.CancelledError)
            raise KeyboardInterrupt from None if cancelled else self._error
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._result = runner.run(self._reach(), context=self._context)
        except BaseException as error:
            self._error = error
        finally:
            self._is_done.set()

    async def _reach(self) -> R:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._interrupts:  # before there was a loop
            self._work.close()
            raise asyncio.CancelledError
        return await self._work

    @around
    def _interruptible(self) -> Iterator[None]:
        """Handle interrupts in this block; without signals in a thread that does not get them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        yield
        signal.signal(signal.SIGINT, before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        last = self._interrupts > _MOST
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(loop.stop if last else self._cancel)
        if last:
            raise KeyboardInterrupt

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._interrupts == 1 and self._loop is not None:
            self._loop.call_later(PATIENCE, self._tell)

    def _tell(self) -> None:
        if self._interrupts == 1:
            tell_waiting(self._loop, signal.SIGINT)
