"""Signals that ask a worker to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

#: Ctrl-C is here for a main thread in which ``asyncio.run`` has not its own handler.
_NAMES = ("SIGTERM", "SIGHUP", "SIGINT")


@contextlib.contextmanager
def on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` at SIGTERM, SIGHUP and Ctrl-C; cancel the current task at the second of them.

    In the main thread, and for signals that the program does not handle itself. The handler of
    ``asyncio.run`` for Ctrl-C counts as none.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def handle() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    handled: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            handler = signal.getsignal(number)
            if not _is_default(handler):
                continue
            with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows
                loop.add_signal_handler(number, handle)
                handled[number] = handler
    try:
        yield
    finally:
        for number, handler in handled.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _is_default(handler: Any) -> bool:
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return isinstance(runner, asyncio.Runner)
