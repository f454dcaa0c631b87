"""VirtualEngine: an engine in virtual time, for plain test functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar, Unpack

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.engine import Engine
from cascade.runtime.engine_options import EngineOptions
from cascade.runtime.options import RunOptions
from cascade.testing.events import EventRecorder
from cascade.testing.virtual import VirtualTime, refuse_running_loop

R = TypeVar("R")


class VirtualEngine:
    """An engine, its event loop in virtual time, and a record of its events.

    All runs use the same engine and the same event loop, so resources of scope ``engine``, caches
    and capacities last from one to the next. ``with`` ends them.

    Args:
        seed: See ``VirtualTime``.
        options: Those of ``cs.Engine``.

    Attributes:
        engine: The engine. Its methods that are coroutine functions: ``do(engine.close())``.
        events: All events so far.
        time: The virtual time.

    >>> import cascade as cs
    >>> @cs.task
    ... def fail():
    ...     raise ConnectionError("no answer")
    >>> with VirtualEngine() as virtual:
    ...     virtual.run(fail().with_retry(3, delay=600).catch(ConnectionError, "gave up"))
    ...     virtual.events.assert_retried("fail", times=2)
    ...     virtual.time.elapsed
    'gave up'
    1200.0
    """

    def __init__(self, seed: int = 0, **options: Unpack[EngineOptions]) -> None:
        self.time = VirtualTime(seed)
        self.engine = Engine(**options)
        self.events = EventRecorder(self.engine.bus)
        self._runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(self.time.now))
        self._is_closed = False

    def run(self, target: Any, params: Any = None, **options: Unpack[RunOptions]) -> Any:
        """The value of ``target``, as ``await engine.run(target, params, …)`` gives it.

        Raises:
            RunError: An event loop is running in this thread, as in an ``async def`` test.
            Exception: As ``Engine.run``.
        """
        refuse_running_loop("VirtualEngine.run()", None)
        return self.do(self.engine.run(target, params, **options))

    def do(self, work: Coroutine[Any, Any, R] | Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The value of a coroutine, or of a coroutine function without arguments."""
        refuse_running_loop("VirtualEngine.do()", work)
        with self.time.seeded():
            try:
                value: R = self._runner.run(_awaited(work))
                return value
            finally:
                self.time.now = self._runner.get_loop().time()

    def close(self) -> None:
        """Close the engine and its event loop. May be repeated."""
        if asyncio._get_running_loop() is None:
            self._close()
            return
        # In a coroutine, where only an error leads: a second event loop needs a thread of its own.
        closing = threading.Thread(target=self._close)
        closing.start()
        closing.join()

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._runner.run(self.engine.close())
        finally:
            self.events.close()
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


async def _awaited(work: Any) -> Any:
    return await (work if asyncio.iscoroutine(work) else work())
