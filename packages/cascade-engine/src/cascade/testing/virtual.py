"""VirtualTime: tests a workflow with hours of retries, timeouts and timers in milliseconds."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from inspect import iscoroutinefunction
from typing import Any, TypeVar, overload

from cascade.runtime.clock import run_virtually
from cascade.runtime.runners import run_async
from cascade.spec.errors import RunError
from cascade.spec.lazy_types import LazyResult

R = TypeVar("R")


class VirtualTime:
    """Runs targets and coroutines in virtual time, one after the other.

    Waiting in the event loop (``asyncio.sleep``, delays of retries, timeouts, deadlines) takes no
    real time, and events happen in the same order each time. Plain functions run in the event
    loop's thread, one after the other; ``time.sleep`` in one of them still sleeps.

    Args:
        seed: Seed of the module ``random`` during runs, from which Cascade takes the jitter of
            retries. The same seed gives the same run. Outside of runs the module is left alone.
        start: The initial time in seconds.

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
        """Virtual seconds since the beginning: the duration of all runs so far."""
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
        """The value of ``work``; the clock continues from the end of the run before.

        Args:
            work: A coroutine, a coroutine function without arguments (for example one that makes
                an engine with resources), or a target of ``cs.run``.
            options: For a target: the options of ``cs.run``, such as ``use_vm=True``.

        Raises:
            RunError: An event loop is running in this thread, as in an ``async def`` test.
            StalledError: A coroutine waits for an event that cannot happen.
            Exception: The error of ``work``.
        """
        refuse_running_loop("VirtualTime.run()", work)
        is_target = not (asyncio.iscoroutine(work) or iscoroutinefunction(work))
        if options and not is_target:
            raise TypeError(f"options are for targets, not for coroutines: {', '.join(options)}")
        with self.seeded():
            return run_virtually(self._timed(work, is_target, options), start=self.now)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """In a ``with`` block, the module ``random`` is that of the runs; afterwards as before."""
        outside = random.getstate()
        random.setstate(self._chance)
        try:
            yield
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


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, R]]) -> Callable[..., R]:
    """Make an ``async def`` test a plain one, whose coroutine runs in virtual time.

    pytest gives it the same fixtures. It needs no plugin for coroutines, and plugins for coroutines
    ignore it. Async fixtures do not fit: they belong to the event loop of such a plugin. If
    the test takes a ``virtual_time``, that is its clock.

    >>> @in_virtual_time
    ... async def test_an_hour():
    ...     await asyncio.sleep(3600)
    ...     return asyncio.get_running_loop().time()
    >>> test_an_hour()
    3600.0
    """

    @functools.wraps(test)
    def in_time(*args: Any, **kwargs: Any) -> R:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, VirtualTime)]
        time = given[0] if given else VirtualTime()
        result: R = time.run(test(*args, **kwargs))
        return result

    return in_time


def refuse_running_loop(call: str, work: object) -> None:
    """Raise an error if an event loop is running in this thread."""
    if asyncio._get_running_loop() is None:
        return
    if asyncio.iscoroutine(work):
        work.close()
    name = "virtual_time" if call.startswith("VirtualTime") else "virtual_engine"
    raise RunError(
        f"{call} was called while an event loop is running, whose time is real\n"
        f"    wrong:  async def test_it({name}): {name}.run(main())\n"
        f"    right:  def test_it({name}): {name}.run(main())"
    )
