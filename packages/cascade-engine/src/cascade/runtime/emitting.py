"""``cs.emit``: partial results of tasks, for the stream of the run that they belong to."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from cascade.runtime.current import call_here
from cascade.spec.turns import Turn
from cascade.spec.windowing import Resting

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class StreamItem(Generic[T_co]):
    """The value of an item of a streamed map or list; of any other target its value, as item 0."""

    #: Its position in the list.
    index: int
    value: T_co


@dataclass(frozen=True, slots=True)
class Emitted:
    """A value that a task of a streamed run has given to ``cs.emit``."""

    value: Any
    #: The id of its run: the streamed one, or one that a task of it has begun.
    run_id: str | None
    #: The task, its node (``LazyResult.number``), and its position in a map; None where the call
    #: cannot be told from others, as in an asyncio task that the task has started.
    task: str | None = None
    node: int | None = None
    item: int | None = None


class Sink:
    """What a run hands to its stream. Filled from any thread, emptied in its event loop's thread.

    Args:
        loop: The event loop.
        keeps_emitted: Whether the stream gives what tasks emit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keeps_emitted: bool) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._keeps_emitted = keeps_emitted
        #: Parts, each with the turn that ends when the stream has given it, if a slot waits for it.
        self.parts: deque[tuple[Any, Turn | None]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, index: int, value: Any) -> None:
        """Hand over the value of an item. From any thread."""
        self._add(StreamItem(index, value), None)

    async def take(self, index: int, value: Any, run: Resting | None) -> None:
        """The same, and wait until the stream has given it."""
        given = Turn(run, rests=False)
        self._add(StreamItem(index, value), given)
        await given.come()

    def emit(self, value: Any) -> None:
        """Hand over a value that a task has emitted. From any thread."""
        if self._keeps_emitted:
            here = call_here()
            names = ("run_id", "task", "node", "item")
            self._add(Emitted(value, *map(here.get, names)), None)

    def _add(self, part: Any, given: Turn | None) -> None:
        self.parts.append((part, given))  # before the look at the waiter; ``more`` looks after it
        if self._waiter is None:
            return
        if threading.get_ident() == self._thread:
            self.wake()
        else:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.wake)

    def wake(self, _ended: object = None) -> None:
        """There may be more, or the run has ended. In the event loop's thread."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def more(self) -> None:
        """Wait for the next part, or the end of the run."""
        waiter = self._waiter = self._loop.create_future()
        if self.parts:  # it came before the waiter
            self._waiter = None
            return
        try:
            await waiter
        finally:
            self._waiter = None


#: Of the stream of the run that the current code belongs to.
current_sink: Final[ContextVar[Sink | None]] = ContextVar("cascade.sink", default=None)


def emit(value: Any) -> None:
    """Hand a partial result to the stream of this run, and go on.

    ``engine.stream(target, emitted=True)`` gives it as an ``Emitted``, in the order of these calls.
    In a run that is not streamed, in another process, and outside of runs nothing happens.

    >>> import asyncio, cascade as cs
    >>> @cs.task
    ... def count(n):
    ...     cs.emit(n)
    ...     return count.tail(n - 1) if n else "done"
    >>> async def main():
    ...     async with cs.Engine() as engine:
    ...         return [part.value async for part in engine.stream(count(2), emitted=True)]
    >>> asyncio.run(main())
    [2, 1, 0, 'done']

    Args:
        value: Any object. The stream gives it as it is; do not change it later.

    Cost: some microseconds in a streamed run, a tenth of one elsewhere.
    """
    sink = current_sink.get()
    if sink is not None:
        sink.emit(value)
