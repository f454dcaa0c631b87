"""Coroutines of tasks, driven step by step: in their context, with marks, counting cancels."""

from __future__ import annotations

import inspect
from asyncio import Future, Task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from functools import update_wrapper
from math import inf
from time import perf_counter
from types import FunctionType, coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from cascade.runtime.bus import MessageBus
from cascade.runtime.diagnostics.blocked_stacks import marking
from cascade.runtime.diagnostics.blocking_calls import Marked
from cascade.runtime.execution.cancels import Cancels

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Unwatched:
    """Replaces a Watch, its monitor and its marks for a coroutine that may block.

    Attributes:
        began: When the present or the last step began.
    """

    __slots__ = ("began", "current")

    quiet = False
    clock = staticmethod(perf_counter)

    def __init__(self) -> None:
        self.began = 0.0
        self.current: Any = None

    @staticmethod
    def allowed(_may_block: bool | float) -> float:
        """Seconds that a step may take."""
        return inf

    @property
    def monitor(self) -> Any:
        return self

    @property
    def marks(self) -> Any:
        return self


@coroutine
def watched(
    context: Context,
    work: Coroutine[Any, Any, T],
    watch: Marked | Unwatched,
    cancels: Cancels,
) -> Generator[Any, Any, T]:
    """Await ``work`` in this asyncio task, but with every step of it in ``context`` (M12).

    Each step is marked for the monitor of ``watch``, which may be Unwatched.
    """
    monitor: Any = watch.monitor
    marks = monitor.marks
    clock = monitor.clock
    cancelling = cancels.task.cancelling
    send = work.send
    resume: Callable[[Any], Any] = send
    value: Any = None
    before = cancelling()
    try:
        while True:
            # A step is inside another one only if a task starts eagerly.
            outer = marks.current
            try:
                watch.began = clock()
                marks.current = watch
                if monitor.quiet:
                    monitor.stir(watch)
                waiting = context.run(resume, value)
            except StopIteration as end:
                result: T = end.value
                break
            finally:
                marks.current = outer
                if outer is not None:
                    outer.leave_out(clock() - watch.began)
                if (after := cancelling()) != before:
                    cancels.changed(after - before)
                value = None  # an error's traceback holds this frame, which must not hold the error
            before = after
            try:
                resume, value = send, (yield waiting)
                if waiting is not None and type(waiting) is not Future:
                    before = cancelling()  # it may have swallowed a cancel, as any task may
            except BaseException as error:
                before = cancelling()
                resume, value = work.throw, error
    except BaseException as error:
        yield from cancels.end(error)
        raise
    else:
        if cancels.own > 0 or cancelling() > cancels.before:
            yield from cancels.end(None)
        return result
    finally:
        cancels.over()


class Batches(Protocol[T_co]):
    """The batches of steps of one loop: coroutines that are awaited one after the other.

    Attributes:
        context: The context of all steps of the next one.
        task_context: The context of the asyncio task, if that was made for the steps.
        watch: The mark for its steps.
        bus: If it has subscribers, ``tell`` is called after each wait.
        own: Number of cancels that the steps have requested, minus those that they undid.
        before: The count of cancels at the start of the present batch.
        outcome: The result, once there is no further batch.
    """

    @property
    def context(self) -> Context: ...
    @property
    def task_context(self) -> Context | None: ...
    @property
    def watch(self) -> Marked | Unwatched: ...
    @property
    def bus(self) -> MessageBus: ...
    @property
    def own(self) -> int: ...
    @property
    def before(self) -> int: ...
    @property
    def outcome(self) -> T_co: ...

    def start(self) -> Task[Any]:
        """Begin in the current asyncio task, which is returned."""

    def begin(self) -> Coroutine[Any, Any, Any] | None:
        """The next coroutine; None if there is none."""

    def ended(self, result: Any, waits: int, since: float) -> bool:
        """A batch has ended; whether the event loop may be due for a turn of its own.

        Args:
            result: What its coroutine has returned.
            waits: The number of its waits.
            since: Start of its last step.
        """

    def pause(self) -> Coroutine[Any, Any, None]:
        """Yield to the event loop if its turn is due."""

    def tell(self) -> None:
        """A wait is over."""

    def changed(self, change: int) -> None:
        """See ``Cancels``."""

    async def end(self, error: BaseException | None) -> bool:
        """See ``Cancels``; whether the error is dealt with, so that nothing raises it."""

    def over(self) -> None:
        """See ``Cancels``."""


def _native(generator: Callable[P, Generator[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a generator function make coroutines, which may be those of asyncio tasks.

    It can pass on whatever a coroutine waits for, which ``await`` cannot. ``types.coroutine`` makes
    a function whose generators can be awaited, but Python 3.12 and later want coroutines for tasks.
    """
    code = generator.__code__
    flags = code.co_flags & ~inspect.CO_GENERATOR | inspect.CO_COROUTINE
    native = FunctionType(code.replace(co_flags=flags), generator.__globals__)
    return update_wrapper(native, generator)


@_native
def driven(batches: Batches[T]) -> Generator[Any, Any, T]:
    """Await all ``batches``, each step as in ``watched``; returns the outcome.

    A loop may wait millions of times, and each wait passes through every coroutine around it. So
    this frame is the only one, also between the batches. If its asyncio task was made in the
    context of the steps, that needs not be entered for each step.
    """
    task = batches.start()
    bus = batches.bus
    error: BaseException | None = None
    value: Any = None
    try:
        while (work := batches.begin()) is not None:
            context, watch = batches.context, batches.watch
            monitor: Any = watch.monitor
            marks = monitor.marks
            clock = monitor.clock
            is_entered = context is batches.task_context
            waits = 0
            before = task.cancelling()
            while True:
                outer = marks.current
                try:
                    watch.began = clock()
                    marks.current = watch
                    if monitor.quiet:
                        monitor.stir(watch)
                    if is_entered:
                        waiting = work.send(value) if error is None else work.throw(error)
                    elif error is None:
                        waiting = context.run(work.send, value)
                    else:
                        waiting = context.run(work.throw, error)
                except StopIteration as end:
                    result = end.value
                    break
                finally:
                    marks.current = outer
                    if outer is not None:
                        outer.leave_out(clock() - watch.began)
                    if (after := task.cancelling()) != before:
                        batches.changed(after - before)
                    error = value = None  # an error's traceback holds this frame, but not the error
                before = after
                try:
                    value = yield waiting
                    if waiting is not None and type(waiting) is not Future:
                        before = task.cancelling()  # it may have swallowed a cancel
                except BaseException as thrown:
                    before = task.cancelling()
                    error = thrown
                waits += 1
                if not bus.is_silent:
                    batches.tell()
            if batches.own > 0 or task.cancelling() > batches.before:
                yield from batches.end(None)  # type: ignore[misc]
            work = None
            is_due = batches.ended(result, waits, watch.began)
            result = None  # the next steps free the values of the last ones
            if is_due:
                yield from batches.pause()  # type: ignore[misc]
    except BaseException as failure:
        if not (yield from batches.end(failure)):  # type: ignore[misc]
            raise
    finally:
        batches.over()
    return batches.outcome


marking.update((watched.__code__, driven.__code__))
