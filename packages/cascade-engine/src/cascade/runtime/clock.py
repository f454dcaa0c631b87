"""Time as a parameter: real, or virtual and as fast as the machine.

Everything in the engine that waits (delays of retries, timeouts, deadlines) uses ``loop.time`` and
``loop.call_later`` of its event loop. The loop is therefore the clock, and a VirtualLoop is a clock
that jumps: when nothing can run, it advances its time to that of the next timer instead of waiting
for it. An hour of retries takes milliseconds, and all events happen in the same order each time.

Threads live in real time. While one works for a run (``busy``), the virtual clock stands still and
waits for it. If it takes longer than ``STALL_AFTER`` real seconds, a StalledError names it.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from cascade.runtime.context_managers import around
from cascade.spec.errors import StalledError

T = TypeVar("T")

#: Most real seconds for which a virtual clock waits for a working thread.
STALL_AFTER = 10.0
#: Seconds that asyncio adds to the time when it looks for due timers.
_RESOLUTION = time.get_clock_info("monotonic").resolution
#: Real seconds to wait for unknown threads when no timer is set.
GRACE = 0.5
#: Most tasks that an error names; there may be thousands.
_NAMED = 10


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Args:
        start: The initial time in seconds.

    Raises:
        StalledError: Raised by the code that runs the loop: nothing is ready, no timer is set and
            no thread works, so it would wait for ever; or a thread works for too long.
    """

    #: Whether this process has ever had one: if not, the type of a loop need not be checked.
    was_used = False

    def __init__(self, start: float = 0.0) -> None:
        VirtualLoop.was_used = True
        self._now = start
        self._busy: dict[object, str] = {}
        self._busy_lock = threading.Lock()
        self._jumping = _JumpingSelector(self)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def hold(self, name: str) -> Callable[[], None]:
        """Stop the clock while a thread works on ``name``.

        Returns:
            A function that ends that; may be called from any thread, and repeatedly.
        """
        key = object()
        with self._busy_lock:
            self._busy[key] = name

        def release() -> None:
            with self._busy_lock:
                self._busy.pop(key, None)
            with suppress(RuntimeError):  # the loop is closed: the work was abandoned
                self.call_soon_threadsafe(lambda: None)  # wakes the selector

        return release

    @around
    def busy(self, name: str) -> Iterator[None]:
        """``hold`` for the duration of a ``with`` block."""
        release = self.hold(name)
        yield
        release()

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the executor's threads, which live in real time and are not ``busy``."""
        self._jumping.stop_jumping()
        await super().shutdown_default_executor(*args, **kwargs)

    def _advance(self, seconds: float) -> None:
        self._now += seconds
        if self._now + _RESOLUTION == self._now:  # asyncio would not see that the timer is due
            self._now = math.nextafter(self._now, math.inf)

    def _working(self) -> list[str]:
        with self._busy_lock:
            return sorted(self._busy.values())


class _JumpingSelector(selectors.BaseSelector):
    """Waits only for threads: where a real selector would sleep, time jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()
        self._jumps = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._jumps or (timeout is not None and timeout <= 0):
            return self._real.select(timeout)
        # In this order: a thread reports before it ends, so its last report is found.
        working = self._loop._working()
        found = self._real.select(0)
        if found:
            return found
        if working:
            return self._wait(
                STALL_AFTER,
                f"virtual time waited {STALL_AFTER:g} real seconds for {', '.join(working)}; a "
                "task on a thread must not wait for what only virtual time can bring",
            )
        if timeout is None:
            return self._wait(
                GRACE,
                "nothing is ready, no timer is set and no thread works: the event loop would wait "
                f"for ever; pending are {_pending(self._loop)}",
            )
        self._loop._advance(timeout)
        return []

    def stop_jumping(self) -> None:
        """From now on only clean up, in real time."""
        self._jumps = False

    def _wait(self, seconds: float, complaint: str) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait in real time for a thread's report, which wakes the selector."""
        found = self._real.select(seconds)
        if not found:
            self.stop_jumping()
            raise StalledError(complaint)
        return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


def run_virtually(
    main: Callable[[], Coroutine[Any, Any, T]] | Coroutine[Any, Any, T], *, start: float = 0.0
) -> T:
    """Run ``main`` to its end in virtual time: ``asyncio.run`` on a VirtualLoop.

    >>> async def an_hour() -> float:
    ...     await asyncio.sleep(3600)
    ...     return asyncio.get_running_loop().time()
    >>> run_virtually(an_hour())
    3600.0
    """
    coroutine = main if asyncio.iscoroutine(main) else main()
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(coroutine)


def _pending(loop: asyncio.AbstractEventLoop) -> str:
    names = sorted(task.get_name() for task in asyncio.all_tasks(loop))
    if len(names) > _NAMED:
        names[_NAMED:] = [f"{len(names) - _NAMED} more"]
    return ", ".join(names) or "no tasks"
