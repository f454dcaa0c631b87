"""Systems that compute the shapes: Cascade, and the tools of the standard library.

Each is a context manager that holds the shared part of its runs (one event loop, one engine, one
pool) and makes contenders from shapes. A run computes a small graph several times, so that it takes
milliseconds and the clock can measure it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol, Self

from cascade.observatory.benchmarks.awaiting import AT_ONCE
from cascade.observatory.benchmarks.rounds import Contender
from cascade.observatory.benchmarks.shapes import PLAIN, Functions, Levels, Shape
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine import Engine
from cascade.spec.task import task

#: Least nodes of a run; smaller graphs are repeated. Plain calls are fast and need more.
_NODES_OF_A_RUN, _PLAIN_CALLS_OF_A_RUN = 5_000, 200_000

TASKS = Functions(task(PLAIN.leaf), task(PLAIN.step), task(PLAIN.add))


class System(Protocol):
    """A system that computes shapes; above size ``largest`` it is not worth the wait."""

    @property
    def name(self) -> str: ...

    def largest(self, shape: Shape) -> int: ...

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender: ...


class PlainCalls:
    """Plain calls of the functions: the lower bound for every graph."""

    name = "plain calls"

    def largest(self, shape: Shape) -> int:
        return 10**6

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender:
        def once() -> Any:
            return shape.calls(PLAIN, size)

        times = max(1, _PLAIN_CALLS_OF_A_RUN // size)
        return repeated(name or self.name, once, shape, size, times)


class _OnALoop:
    """Base of systems that need an event loop; all runs share one."""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait_for(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result of the coroutine that ``work`` makes."""
        return self._runner.run(work())

    def _repeated(
        self, name: str, once: Callable[[], Awaitable[Any]], shape: Shape, size: int
    ) -> Contender:
        times = repetitions(size)

        async def repeat() -> Any:
            for _ in range(times - 1):
                await once()
            return await once()

        def run() -> Any:
            return self._runner.run(repeat())

        return Contender(name, run, times * shape.nodes(size), shape.value(size))


class Cascade(_OnALoop):
    """One engine, as a user makes it; a graph is authored, planned and run.

    Args:
        bus: The engine's bus, if it has subscribers.
        tasks: The functions of the nodes.
        options: More arguments of the engine.
    """

    name = "cascade"

    def __init__(
        self, bus: MessageBus | None = None, tasks: Functions = TASKS, **options: Any
    ) -> None:
        self._bus = bus
        self._tasks = tasks
        self._options = options

    def __enter__(self) -> Self:
        super().__enter__()
        self.engine = Engine(bus=self._bus, **self._options)
        self._stack.callback(lambda: self._runner.run(self.engine.close()))
        return self

    def largest(self, shape: Shape) -> int:
        return 10**6

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender:
        async def once() -> Any:
            return await self.engine.run(shape.calls(self._tasks, size))

        return self._repeated(name or self.name, once, shape, size)

    def run(self, author: Callable[[], Any], *, use_vm: bool = False, times: int = 1) -> Any:
        """The value of the target that ``author`` makes, computed ``times`` times."""

        async def repeat() -> Any:
            for _ in range(times - 1):
                await self.engine.run(author(), use_vm=use_vm)
            return await self.engine.run(author(), use_vm=use_vm)

        return self._runner.run(repeat())


class EventLoop(_OnALoop):
    """An event loop for handwritten coroutines."""


class ByLevels(_OnALoop, ABC):
    """Base of systems that make the calls of a level side by side, and then those of the next.

    Args:
        functions: Coroutine functions; by default those that return at once.
    """

    def __init__(self, functions: Functions = AT_ONCE.functions) -> None:
        self._functions = functions

    def largest(self, shape: Shape) -> int:
        return 10**5

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender:
        async def once() -> Any:
            return await self._compute(shape.levels(size))

        return self._repeated(name or self.name, once, shape, size)

    async def _compute(self, levels: Levels) -> Any:
        results: Any = None
        while True:
            try:
                function, columns = levels.send(results)
            except StopIteration as end:
                return end.value
            results = await self._level(map(getattr(self._functions, function), *columns))

    name: str

    @abstractmethod
    async def _level(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
        """The results of the calls of one level."""


class AsyncioGather(ByLevels):
    """``asyncio.gather`` of coroutines, once per level of the graph."""

    name = "asyncio.gather"

    async def _level(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
        return await asyncio.gather(*calls)


class TaskGroups(ByLevels):
    """An ``asyncio.TaskGroup`` of coroutines, once per level of the graph."""

    name = "TaskGroup"

    async def _level(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
        return [one.result() for one in tasks]


class InARow(ByLevels):
    """Coroutines that are awaited one after the other, without asyncio tasks."""

    name = "awaited in a row"

    async def _level(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
        return [await call for call in calls]


class ThreadPool:
    """``ThreadPoolExecutor.map``, once per level of the graph."""

    name = "thread pool"

    def __init__(self, workers: int = 32) -> None:
        self._workers = workers

    def __enter__(self) -> Self:
        self.pool = ThreadPoolExecutor(self._workers)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def largest(self, shape: Shape) -> int:
        return 10**4

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender:
        def once() -> Any:
            return self._compute(shape.levels(size))

        return repeated(name or self.name, once, shape, size)

    def _compute(self, levels: Levels) -> Any:
        results: Sequence[Any] | None = None
        while True:
            try:
                function, columns = next(levels) if results is None else levels.send(results)
            except StopIteration as end:
                return end.value
            results = list(self.pool.map(getattr(PLAIN, function), *columns))


def repetitions(size: int) -> int:
    """How many times one run computes a graph of ``size`` nodes."""
    return max(1, _NODES_OF_A_RUN // size)


def repeated(
    name: str, once: Callable[[], Any], shape: Shape, size: int, times: int | None = None
) -> Contender:
    """The contender that computes a shape by ``once()``, several times where the shape is small."""
    count = repetitions(size) if times is None else times

    def run() -> Any:
        for _ in range(count - 1):
            once()
        return once()

    return Contender(name, run, count * shape.nodes(size), shape.value(size))
