"""Parts of a run's cost that no engine can avoid, made by hand: rows of other benchmarks.

- ``HandOff``: a plain function may block, so a run hands it to a thread, and needs its value back.
- ``BegunEarly``: a coroutine that waits needs an asyncio task of its own. The cheapest known way
  makes the first step at once, with that task as the current one, and lets the task go on.
- ``Watched``: the same, with what Cascade promises of each call besides. Other threads find each
  step and its start (reports of blocked event loops, ``cs.current``); no call sees the context
  variables of another one (M12); cancels of a call by itself are told from those by others (M13);
  cancels arrive where a call waits; a task that a call has kept is no other call's; the first
  failure ends the others.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context, copy_context
from queue import SimpleQueue
from sys import getrefcount
from threading import Lock, Thread
from time import perf_counter
from types import coroutine
from typing import Any, Self

from cascade.observatory.benchmarks.contenders import ByLevels
from cascade.runtime.execution.contexts import differs, held_in
from cascade.runtime.execution.early_calls import task_body
from cascade.runtime.graph_path.lanes.spares import Returned, first_steps


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


class Watched(ByLevels):
    """The same, while each step is marked, and its context and its cancels are looked after."""

    name = "begun early, watched"

    async def _level(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
        level = _Level(asyncio.get_running_loop(), copy_context())
        here = asyncio.current_task()
        assert here is not None
        _leave_task(level.loop, here)
        try:
            level.begin(calls)
        finally:
            _enter_task(level.loop, here)
        if level.under_way:
            level.ended = level.loop.create_future()
            await level.ended
        if level.failure is not None:
            raise level.failure
        return level.results


class _Level:
    """The calls of one level."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.loop = loop
        self.context = context
        self.results: list[Any] = []
        #: The call that is in a step; those that have made their first one.
        self.current: _Call | None = None
        self.under_way: dict[_Call, None] = {}
        self.failure: BaseException | None = None
        self.ended: asyncio.Future[None] | None = None

    def begin(self, calls: Iterable[Any]) -> None:
        """Make the first steps."""
        loop, results, variables, clock = self.loop, self.results, len(self.context), perf_counter
        held = held_in(self.context)
        lasts = False  # whether the last call has not returned at once
        starter = first_steps()
        starter.send(None)
        call: _Call | None = None
        for coro in calls:
            results.append(None)
            if call is None:
                call = _Call(self)
            context = call.context
            _enter_task(loop, call.task)
            try:
                call.began = clock()
                self.current = call
                try:
                    if lasts:
                        waiting = context.run(coro.send, None)
                    else:
                        waiting = context.run(starter.send, coro)
                finally:
                    self.current = None
                    _leave_task(loop, call.task)
            except StopIteration as end:
                results[-1], lasts = end.value, False
            except BaseException as error:
                self.fail(error)
                return
            else:
                if type(waiting) is Returned:
                    results[-1] = waiting.value
                else:
                    if not lasts:
                        coro, lasts, starter = starter, True, first_steps()
                        starter.send(None)
                    call.takes(coro, waiting, len(results) - 1)
                    call = None
                    continue
            if (
                len(context) != variables
                or (held and differs(context, held))
                or getrefcount(call.task) != call.references
                or call.task.cancelling()
            ):
                call = None

    def fail(self, error: BaseException) -> None:
        """A call has failed: the first failure cancels the others."""
        if self.failure is None:
            self.failure = error
            for call in self.under_way:
                call.task.cancel()

    def left(self, call: _Call) -> None:
        """A call that had waited has ended."""
        del self.under_way[call]
        if not self.under_way and self.ended is not None:
            self.ended.set_result(None)


class _Call:
    """A spare asyncio task, and the call that has taken it."""

    __slots__ = ("began", "context", "coro", "level", "own", "place", "references", "task", "waits")

    def __init__(self, level: _Level) -> None:
        self.level = level
        self.coro: Any = None
        self.own = 0
        self.context = context = level.context.copy()
        rest = task_body(self.rest())
        rest.send(None)
        self.task = asyncio.Task(rest, loop=level.loop, context=context)
        self.references = getrefcount(self.task)

    def takes(self, coro: Any, waiting: Any, place: int) -> None:
        """A call that waits goes on in the task."""
        self.coro, self.waits, self.place = coro, waiting, place
        self.level.under_way[self] = None
        self.own = self.task.cancelling()

    @coroutine
    def rest(self) -> Generator[Any, Any, None]:
        """The body of the task."""
        cancel: BaseException | None = None
        try:
            yield
        except asyncio.CancelledError as error:
            cancel = error
        if self.coro is None:
            return
        coro, level, cancelling, clock = self.coro, self.level, self.task.cancelling, perf_counter
        value: Any = None
        resume: Any = coro.send
        try:
            # As Task.cancel does: what the call waits for gets the cancel, if it takes that.
            if cancel is not None and (self.waits is None or not self.waits.cancel()):
                resume, value = coro.throw, cancel
            elif self.waits is not None:
                try:
                    value = yield self.waits
                except BaseException as error:
                    resume, value = coro.throw, error
            while True:
                before = cancelling()
                self.began = clock()
                level.current = self
                try:
                    waiting = resume(value)
                    if type(waiting) is Returned:
                        level.results[self.place] = waiting.value
                        break
                finally:
                    level.current = None
                    self.own += cancelling() - before
                try:
                    resume, value = coro.send, (yield waiting)
                except BaseException as error:
                    resume, value = coro.throw, error
        except StopIteration as end:
            level.results[self.place] = end.value
        except BaseException as error:
            level.fail(error)
        level.left(self)
