"""Parts of a run's cost that no engine can avoid, made by hand: rows of other benchmarks.

- ``HandOff``: a plain function may block, so a run hands it to a thread, and needs its value back.
- ``BegunEarly``: a coroutine that waits needs an asyncio task of its own. The cheapest known way
  makes the first step at once, with that task as the current one, and lets the task go on.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from threading import Lock, Thread
from types import coroutine
from typing import Any, Self

from cascade.observatory.benchmarks.contenders import ByLevels
from cascade.runtime.execution.early_calls import task_body


class HandOff:
    """A thread that makes calls while the caller waits for it on a lock, and does nothing else."""

    name = "a thread and back"

    def __enter__(self) -> Self:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._ended = Lock()
        self._ended.acquire()
        self._value: Any = None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.put(None)
        self._thread.join()

    def call(self, function: Callable[[], Any]) -> Any:
        """The value of ``function``, called on the thread."""
        self._calls.put(function)
        self._ended.acquire()
        return self._value

    def _work(self) -> None:
        while (function := self._calls.get()) is not None:
            self._value = function()
            self._ended.release()


class BegunEarly(ByLevels):
    """Coroutines whose first steps are made at once; those that wait get asyncio tasks."""

    name = "begun early"

    async def _level(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        here, context = asyncio.current_task(), copy_context()
        assert here is not None
        results: list[Any] = []
        left, ended = [0], loop.create_future()
        begun: list[Any] | None = None
        _leave_task(loop, here)
        try:
            for call in calls:
                results.append(None)
                if begun is None:
                    begun = [None, None, results, 0, left, ended]
                    rest = task_body(_rest(begun))
                    rest.send(None)
                    task = asyncio.Task(rest, loop=loop, context=copy_context())
                _enter_task(loop, task)
                try:
                    waiting = context.run(call.send, None)
                except StopIteration as end:
                    results[-1] = end.value
                else:
                    begun[0], begun[1], begun[3] = call, waiting, len(results) - 1
                    left[0] += 1
                    begun = None
                finally:
                    _leave_task(loop, task)
        finally:
            _enter_task(loop, here)
        if left[0]:
            await ended
        return results


@coroutine
def _rest(begun: list[Any]) -> Generator[Any, Any, None]:
    """The rest of a call after its first step: the body of its asyncio task."""
    yield
    call, waiting, results, place, left, ended = begun
    if call is None:
        return
    if waiting is not None:
        yield waiting
    results[place] = yield from call
    left[0] -= 1
    if not left[0]:
        ended.set_result(None)
