"""Ctrl-C, SIGTERM, SIGHUP for ``cs.run``: they cancel the run, and never interrupt Cascade's own
code.

``asyncio.run`` raises the second KeyboardInterrupt wherever the main thread is, mostly in the
middle of the run's own end. It does not handle SIGTERM, which ends a process at once. Here each
signal cancels. The first ends the run and waits for plain functions, whose names are written to
standard error; the second abandons them (M8). Only user code that has occupied the event loop's
thread since the first signal, so that no cancel can arrive, is interrupted by the second. The third
is raised wherever it arrives, for a run that cannot end, and the event loop then waits for nothing.

Signals that the program handles itself, or ignores, are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar
from weakref import WeakSet

from cascade.runtime.console import write_line
from cascade.runtime.context_managers import around
from cascade.runtime.execution.active_runs import runs

R = TypeVar("R")

#: Name → default handler; only signals with it are handled here. Windows has no SIGHUP.
_DEFAULTS: dict[str, Any] = {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}
_MACHINERY = ("cascade.spec", "cascade.graph", "cascade.runtime", "cascade.adapters")
#: Seconds between the first signal and the message about the calls that the run waits for.
PATIENCE = 0.1
#: Most names of calls in the message.
_LISTED = 5
#: Number of signals after which the run waits for nothing.
_MOST = 2

#: Tasks that were cancelled by a signal.
_cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()


class Terminated(SystemExit):
    """SIGTERM or SIGHUP has ended a run; the exit status is 128 and the signal's number.

    Attributes:
        signal: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


def run_interruptibly(
    work: Coroutine[Any, Any, R],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> R:
    """``asyncio.run`` with this module's handling of signals.

    Outside the main thread, or if the program handles all these signals, plain ``asyncio.run``.

    Args:
        work: What is awaited.
        loop_factory: Makes the event loop; None for the system's own.

    Raises:
        KeyboardInterrupt: Ctrl-C has ended it.
        Terminated: SIGTERM or SIGHUP has ended it.
    """
    if threading.current_thread() is not threading.main_thread():
        return run_on(work, loop_factory)
    found = {getattr(signal, n): handler for n, handler in _DEFAULTS.items() if hasattr(signal, n)}
    ours = {n: handler for n, handler in found.items() if signal.getsignal(n) is handler}
    if not ours:
        return run_on(work, loop_factory)
    interrupts = _Interrupts(ours)
    with interrupts.handled():
        return interrupts.run(work, loop_factory)


def run_on(
    work: Coroutine[Any, Any, R], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> R:
    """``asyncio.run`` with a ``loop_factory``, which it has from Python 3.12 on."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(work)


class _Interrupts:
    """The handler of signals while one main task runs.

    Args:
        handlers: Signal → the handler to put back at the end.
    """

    def __init__(self, handlers: dict[signal.Signals, Any]) -> None:
        self._handlers = handlers
        self._count = 0
        self._first = signal.SIGINT
        #: Whether a cancel was requested and the loop has had no turn since.
        self._on_its_way = False
        self._has_told = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(
        self,
        work: Coroutine[Any, Any, R],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> R:
        """Run ``work`` on an event loop of its own.

        Raises:
            KeyboardInterrupt, Terminated: A signal came, whatever the result of the work.
        """
        runner = asyncio.Runner(loop_factory=loop_factory)
        try:
            value = runner.run(self._reach(work))
            ended = True
        except asyncio.CancelledError:
            if not self._count:
                raise
            ended = False
        except Exception:
            if self._count:
                raise _error_of(self._first)  # noqa: B904  # the other is shown, too
            raise
        finally:
            self._close(runner)
        # Not in the handler: there, CancelledError would appear before the user's line.
        if self._count or not ended:
            raise _error_of(self._first)
        return value

    async def _reach(self, work: Coroutine[Any, Any, R]) -> R:
        """Await ``work`` in the task that signals cancel."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        with contextlib.suppress(NotImplementedError):  # Windows does not need it
            # Makes asyncio write all signals to its pipe. Without that, a signal between the loop's
            # last look and its sleep has no effect until something else wakes it. One is enough:
            # asyncio looks through all signals of the system for each that it gets, 50 µs long.
            self._loop.add_signal_handler(next(iter(self._handlers)), self._arrived)
            for number in self._handlers:
                signal.signal(number, self._handle)
            # Threads may fill the pipe; it then wakes the loop all the same, without a warning.
            signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
        if self._count:  # a signal came while the loop was being made
            work.close()
            raise asyncio.CancelledError
        return await work

    @around
    def handled(self) -> Iterator[None]:
        """Handle the signals in this block."""
        for number in self._handlers:
            signal.signal(number, self._handle)
        yield
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self._first = signal.Signals(number)
        blocked = _users(frame)
        if self._count > _MOST or (self._on_its_way and blocked is not None):
            if self._count > _MOST and self._loop is not None:
                self._loop.stop()  # in case the task in which this is raised catches it
            raise _error_of(number)
        if self._loop is None or self._task is None or self._loop.is_closed():
            return
        _cancelled.add(self._task)
        self._task.cancel()
        self._on_its_way = True
        self._loop.call_soon_threadsafe(self._arrived)  # also wakes the loop
        if blocked is not None and self._count == 1:
            where = f"{os.path.basename(blocked.f_code.co_filename)}:{blocked.f_lineno}"
            again = _again(self._first, "breaks into it")
            _write(f"cascade: {_said(self._first)}; waiting for the call at {where} ({again})\n")

    def _arrived(self) -> None:
        self._on_its_way = False
        if self._count and not self._has_told and self._loop is not None:
            self._has_told = True
            self._loop.call_later(PATIENCE, self._tell)

    def _tell(self) -> None:
        if self._count == 1:
            tell_waiting(self._loop, self._first)

    def _close(self, runner: asyncio.Runner) -> None:
        """Close the event loop; at once, if a signal was raised in the middle of it."""
        if self._count <= _MOST or self._loop is None:
            runner.close()
            return
        loop = self._loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # as gather() does
        for _ in range(3):  # for tasks that end at once
            with contextlib.suppress(RuntimeError):  # the loop was stopped
                loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()


def tell_waiting(loop: asyncio.AbstractEventLoop | None, number: signal.Signals) -> None:
    """Write the names of the calls that the runs on ``loop`` still wait for, if any."""
    names = Counter(n for run in runs if run.loop is loop for n in run.under_way())
    if names:
        again = _again(number, "abandons plain functions")
        write_line(None, f"cascade: {_said(number)}; waiting for {_listed(names)} ({again})")


def _error_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


def _said(number: signal.Signals) -> str:
    return "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"


def _again(number: signal.Signals, does: str) -> str:
    return f"{'Ctrl-C' if number == signal.SIGINT else 'a signal'} again {does}"


def _listed(names: Counter[str]) -> str:
    """The names, with a number for several equal ones."""
    shown = [f"{count} × {n!r}" if count > 1 else repr(n) for n, count in names.items()]
    more = len(shown) - _LISTED
    return ", ".join([*shown[:_LISTED], *([f"{more} more"] if more > 0 else [])])


def _write(text: str) -> None:
    """Write to standard error in a signal handler, which may have interrupted a write to it."""
    with contextlib.suppress(Exception):  # it may be missing, or closed
        os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))


def _users(frame: FrameType | None) -> FrameType | None:
    """The frame of code in the event loop that is neither ours nor the standard library's."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        # The callers of tasks, and of everything. An earlier signal handler may be below those.
        if module == "asyncio.events" or frame.f_code is _Interrupts.run.__code__:
            return None
        root = module.partition(".")[0]
        if not (module.startswith(_MACHINERY) or root in sys.stdlib_module_names):
            return frame
        frame = frame.f_back
    return None


def is_interrupted(task: asyncio.Task[Any]) -> bool:
    """Whether a signal handler has cancelled ``task``, perhaps in the middle of one of its steps.

    The handler is that of this module or that of ``asyncio.Runner``.
    """
    if task in _cancelled:
        return True
    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    if not isinstance(runner, asyncio.Runner):
        return False
    # Its handler is bound to the one task that it cancels, and has a counter.
    of_this = getattr(handler, "keywords", {}).get("main_task") is task
    return of_this and bool(getattr(runner, "_interrupt_count", 0))
