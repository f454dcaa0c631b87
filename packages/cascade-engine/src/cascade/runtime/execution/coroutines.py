"""Coroutines of tasks, driven step by step: in their context, with marks, counting cancels."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from time import perf_counter
from types import coroutine
from typing import Any, Protocol, TypeVar

from cascade.runtime.bus import SILENT
from cascade.runtime.diagnostics.blocking_calls import Marked, marking
from cascade.runtime.execution.cancels import Cancels
from cascade.runtime.execution.fairness import YieldBudget

T = TypeVar("T")


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

    @property
    def monitor(self) -> Any:
        return self

    @property
    def marks(self) -> Any:
        return self


class FirstStep(Protocol):
    """The first step of a coroutine, if it is made before its asyncio task begins.

    Attributes:
        is_taken: Whether a coroutine has made its first step, and goes on.
        coro: The coroutine.
        context: The context of its steps.
        waiting: The value that the step has yielded.
    """

    is_taken: bool
    coro: Coroutine[Any, Any, Any] | None
    context: Context | None
    waiting: Any


@coroutine
def watched(
    context: Context | None,
    work: Coroutine[Any, Any, T] | None,
    watch: Marked | Unwatched,
    cancels: Cancels,
    budget: YieldBudget | None = None,
    first: FirstStep | None = None,
) -> Generator[Any, Any, T | None]:
    """Await ``work`` in this asyncio task, but with every step of it in ``context`` (M12).

    Each step is marked for the monitor of ``watch``, which may be Unwatched.

    With ``first``, which replaces ``context`` and ``work``, this is begun before its asyncio task
    is, and waits for the first turn of that. The first step is made elsewhere meanwhile.
    """
    value: Any = None
    if first is not None:
        try:
            yield
        except asyncio.CancelledError as error:
            value = error
        if not first.is_taken:
            return None
        context, work, first.context, first.coro = first.context, first.coro, None, None
    assert context is not None
    assert work is not None
    monitor: Any = watch.monitor
    marks = monitor.marks
    clock = monitor.clock
    cancelling = cancels.cancelling
    send = work.send
    resume: Callable[[Any], Any] = send
    bus = SILENT if budget is None else budget.bus
    waits = 0
    before = cancelling()
    try:
        if first is not None:
            waiting, first.waiting = first.waiting, None
            # As Task.cancel does: what the coroutine waits for gets the cancel, if it takes that.
            if value is not None and (waiting is None or not waiting.cancel(*value.args)):
                resume = work.throw
            elif waiting is not None:
                try:
                    value = yield waiting
                    before = cancelling()  # as below
                except BaseException as error:
                    before = cancelling()
                    resume, value = work.throw, error
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
            waits += 1
            if not bus.is_silent and budget is not None:
                budget.tell()
    except BaseException as error:
        yield from cancels.end(error)
        raise
    else:
        if cancels.own > 0 or cancelling() > cancels.before:
            yield from cancels.end(None)
        return result
    finally:
        if budget is not None and waits:
            budget.turned(waits, watch.began)
        cancels.over()


marking.add(watched.__code__)
