"""Plain providers on threads: the thread of bound resources, and calls that may be abandoned.

A thread cannot be stopped. A call that takes too long is left to itself; if it opens a resource
then, it also closes it, because no other code will.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.execution.worker_calls import WorkerCall, not_begun, result_of

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope
    from cascade.spec.protocols import Executor


#: Numbers for yields of providers, in their order, on whatever threads: an event loop may learn of
#: them in another order.
yields = itertools.count(1)


class BoundThread(LocalExecutor):
    """The thread of bound resources. No other can take its place."""

    def __init__(self) -> None:
        super().__init__(1, name="cascade-bound")
        self._abandoned: Future[Any] | None = None

    def replace_thread(self, call: Future[Any]) -> None:
        """Note that the abandoned ``call`` occupies the thread."""
        self._abandoned = call

    @property
    def is_stuck(self) -> bool:
        """Whether it is running an abandoned call."""
        return self._abandoned is not None and not self._abandoned.done()


class _End:
    """The end of a call on a thread, as the event loop knows it.

    Apart from the call, which the future of the executor would hold otherwise, and it the future.

    Attributes:
        is_reached: Whether it has ended.
    """

    __slots__ = ("_change", "_loop", "is_reached")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.is_reached = False
        self._change: asyncio.Future[None] | None = None

    def reach(self, _call: Future[Any]) -> None:
        """It has ended. In its thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: it was abandoned
            self._loop.call_soon_threadsafe(self._reached)

    def _reached(self) -> None:
        self.is_reached = True
        self.tell()

    async def change(self) -> None:
        """Wait until it has ended, or for ``tell``. One waits at a time."""
        self._change = self._loop.create_future()
        await self._change

    def tell(self) -> None:
        """Go on with what waits for a ``change``. In the event loop's thread."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)


class ThreadCall:
    """One call on a thread that advances or shuts a plain generator.

    Attributes:
        call: The executor's future of it.
        end: Its end, as the event loop knows it.
        yielded_as: A number that is higher than those of all earlier yields; 0 if it yielded
            nothing.
    """

    call: Future[Any]
    executor: Executor

    def __init__(self, run: RunScope, generator: Any, resource: str) -> None:
        self.name = f"resource {resource}"
        self.yielded_as = 0
        self.end = _End(run.loop)
        self._run = run
        self._generator = generator
        #: When a thread has begun it, by the event loop's clock; and the function that is called in
        #: the event loop then.
        self._begun_at: float | None = None
        self._when_begun: Callable[[], object] | None = None
        self._lock = threading.Lock()
        #: Whether it was abandoned; whether it has given its result.
        self._is_left = self._has_given = False

    def submit(self, executor: Executor, *work: Any) -> None:
        """Have ``executor`` call ``work``.

        Raises:
            RuntimeError: The executor was shut down.
        """
        self.executor = executor
        self._work: WorkerCall[Any] = WorkerCall(*work)
        self.call = self._run.submit(executor, self.name, self._work)
        self._run.note_call(self.call, self._work, executor, self.name)
        self.call.add_done_callback(self.end.reach)

    def withdraw(self) -> bool:
        """Cancel it; False if a thread has begun it."""
        return self._work.withdraw()

    @property
    def was_dropped(self) -> bool:
        """Whether the executor ended it before a thread began it."""
        return self.end.is_reached and self._work.waits

    @property
    def seconds(self) -> float:
        """Seconds since a thread has begun it; 0 if none has."""
        return 0 if self._begun_at is None else self._run.loop.time() - self._begun_at

    def when_begun(self, act: Callable[[], object]) -> None:
        """Call ``act`` in the event loop when a thread has begun this and not ended it.

        Only this has the thread wake the event loop, which costs as much as all else at its begin.
        """
        self._when_begun = act
        if self._begun_at is not None:  # perhaps before the thread could see the function
            self._act()

    def _act(self) -> None:
        act, self._when_begun = self._when_begun, None
        if act is not None and not self.end.is_reached:
            act()

    def _begin(self) -> None:
        """It begins. In its thread."""
        self._begun_at = self._run.loop.time()
        if self._when_begun is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it was abandoned
                self._run.loop.call_soon_threadsafe(self._act)

    def advance(self) -> tuple[bool, Any]:
        """``next`` of the generator, on a thread: (whether it yielded, the value)."""
        self._begin()
        try:
            value = next(self._generator)
            self.yielded_as = next(yields)
        except StopIteration:  # it cannot pass through a future
            return self._give((False, None))
        given = self._give((True, value))
        if self._is_left:  # no other code will close a late resource
            with contextlib.suppress(StopIteration):
                next(self._generator)
            self._generator.close()
        return given

    def shut(self) -> tuple[bool, Any]:
        """Close the generator, on a thread."""
        self._begin()
        self._generator.close()
        return self._give((True, None))

    def _give(self, result: tuple[bool, Any]) -> tuple[bool, Any]:
        with self._lock:
            self._has_given = not self._is_left
        return result

    def leave(self) -> bool:
        """Abandon it; False if it has just given its result."""
        with self._lock:
            self._is_left = not self._has_given and not self.call.done()
            return self._is_left

    def result(self) -> Any:
        """The value that the generator yielded, once this is done.

        Raises:
            StopAsyncIteration: The generator has ended, or the call was abandoned.
            ExecutorError: No thread has begun it.
            BaseException: The generator raised it.
        """
        if self._is_left:
            raise StopAsyncIteration
        if self.was_dropped:
            raise not_begun(self.executor, self.name, self.call)
        went_on, value = result_of(self.call)
        if not went_on:
            raise StopAsyncIteration
        return value
