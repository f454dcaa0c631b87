"""Ctrl-C for ``cs.run``: it cancels the run, and never breaks into the machinery.

``asyncio.run`` raises the second KeyboardInterrupt wherever the main thread happens to be, which is
mostly in the middle of the run's own end. Here each of them cancels: the first ends the run and
waits for plain functions, the second abandons those (M8). Only code of the user's that has kept the
event loop's own thread since the first, so that no cancel can arrive, is broken into by the second.
The third is raised wherever it arrives, for a run that cannot end.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar
from weakref import WeakSet

from cascade.runtime.around import around

R = TypeVar("R")

#: Tasks that were cancelled by a signal.
_cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()

_MACHINERY = ("cascade.spec", "cascade.graph", "cascade.runtime", "cascade.adapters")


def run_interruptibly(work: Coroutine[Any, Any, R]) -> R:
    """``asyncio.run``, with Ctrl-C as this module says.

    Where this is not the main thread, or the program handles SIGINT itself, just ``asyncio.run``.

    Raises:
        KeyboardInterrupt: Ctrl-C has ended it.
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return asyncio.run(work)
    interrupts = _Interrupts()
    with interrupts.handled(), asyncio.Runner() as runner:
        try:
            return runner.run(interrupts.reach(work))
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
        # Not in the handler, whose CancelledError would stand before the user's line.
        raise KeyboardInterrupt


class _Interrupts:
    """The handler of SIGINT while one main task runs."""

    def __init__(self) -> None:
        self.count = 0
        #: Whether the loop has had no turn since it was to cancel.
        self._on_its_way = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    async def reach(self, work: Coroutine[Any, Any, R]) -> R:
        """Await ``work`` in the task that interrupts cancel."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        with contextlib.suppress(NotImplementedError):  # Windows has no need of it
            # For the pipe that this has the signal written to: without one, a signal that comes
            # between the loop's last look and its sleep is not seen until something else wakes it.
            self._loop.add_signal_handler(signal.SIGINT, self._arrived)
            signal.signal(signal.SIGINT, self._handle)
        if self.count:  # it came while the loop was being made
            work.close()
            raise asyncio.CancelledError
        return await work

    @around
    def handled(self) -> Iterator[None]:
        """Handle SIGINT in this block."""
        signal.signal(signal.SIGINT, self._handle)
        yield
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 2 or (self._on_its_way and _is_users(frame)):
            raise KeyboardInterrupt
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            _cancelled.add(self._task)
            self._task.cancel()
            self._on_its_way = True
            self._loop.call_soon_threadsafe(self._arrived)  # which also wakes it

    def _arrived(self) -> None:
        self._on_its_way = False


def _is_users(frame: FrameType | None) -> bool:
    """Whether code that is neither ours nor the standard library's runs in the event loop."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module in ("asyncio.events", __name__):  # what calls tasks, what began all
            return False
        root = module.partition(".")[0]
        if not (module.startswith(_MACHINERY) or root in sys.stdlib_module_names):
            return True
        frame = frame.f_back
    return False


def is_interrupted(task: asyncio.Task[Any]) -> bool:
    """Whether a signal handler has cancelled ``task``, perhaps in the middle of one of its steps.

    That of this module, or that of ``asyncio.Runner``.
    """
    if task in _cancelled:
        return True
    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    if not isinstance(runner, asyncio.Runner):
        return False
    # Its handler is bound to the one task that it cancels, and counts.
    of_this = getattr(handler, "keywords", {}).get("main_task") is task
    return of_this and bool(getattr(runner, "_interrupt_count", 0))
