"""VirtualTime: a workflow with hours of retries, timeouts and timers, tested in milliseconds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, TypeVar, overload

from cascade.runtime.clock import run_virtually
from cascade.runtime.runners import run_async
from cascade.spec.errors import RunError
from cascade.spec.lazy_types import LazyResult

R = TypeVar("R")


class VirtualTime:
    """Runs targets and coroutines in virtual time, one after the other.

    Whatever waits by the event loop (``asyncio.sleep``, delays of retries, timeouts, deadlines)
    takes no real time, and happens in the same order each time. Plain functions run in the event
    loop's thread, one after the other; ``time.sleep`` in one of them still sleeps.

    Args:
        seed: Of the module ``random`` while something runs, from which Cascade takes the jitter of
            retries; what runs is the same for the same seed. Otherwise that module is left alone.
        start: The time to begin with, in seconds.

    >>> import cascade as cs
    >>> calls = []
    >>> @cs.task
    ... def fetch():
    ...     calls.append("fetch")
    ...     if len(calls) < 5:
    ...         raise ConnectionError("no answer")
    ...     return "the news"
    >>> time = VirtualTime()
    >>> time.run(fetch().with_retry(10, delay=60, backoff=3))
    'the news'
    >>> time.elapsed  # 1 + 3 + 9 + 27 minutes
    2400.0
    """

    def __init__(self, seed: int = 0, *, start: float = 0.0) -> None:
        self.seed = seed
        #: The time now, in seconds.
        self.now = start
        self._start = start
        self._chance = random.Random(seed).getstate()

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning: what all runs so far have taken."""
        return self.now - self._start

    @overload
    def run(self, work: Coroutine[Any, Any, R]) -> R: ...
    @overload
    def run(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R: ...
    @overload
    def run(self, work: LazyResult[R], **options: Any) -> R: ...
    @overload
    def run(self, work: Any, **options: Any) -> Any: ...
    def run(self, work: Any, **options: Any) -> Any:
        """The value of ``work``; the clock goes on where the run before it has ended.

        Args:
            work: A coroutine, a coroutine function without arguments (say, one that makes an
                engine with resources), or what ``cs.run`` takes.
            options: For a target: those of ``cs.run``, as ``use_vm=True``.

        Raises:
            RunError: An event loop is running in this thread, as in an ``async def`` test.
            StalledError: What runs waits for something that nothing can bring.
            Exception: That of ``work``.
        """
        if asyncio._get_running_loop() is not None:
            if asyncio.iscoroutine(work):
                work.close()
            raise RunError(
                "VirtualTime.run() was called while an event loop is running, whose time is real\n"
                "    wrong:  async def test_it(virtual_time): virtual_time.run(main())\n"
                "    right:  def test_it(virtual_time): virtual_time.run(main())"
            )
        is_target = not (asyncio.iscoroutine(work) or iscoroutinefunction(work))
        if options and not is_target:
            raise TypeError(f"options are for targets, not for coroutines: {', '.join(options)}")
        outside = random.getstate()
        random.setstate(self._chance)
        try:
            return run_virtually(self._timed(work, is_target, options), start=self.now)
        finally:
            self._chance = random.getstate()
            random.setstate(outside)

    async def _timed(self, work: Any, is_target: bool, options: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        try:
            if is_target:
                return await run_async(work, **options)
            return await (work if asyncio.iscoroutine(work) else work())
        finally:
            self.now = loop.time()

    def __repr__(self) -> str:
        return f"<virtual time {self.now:g} s, seed {self.seed}>"
