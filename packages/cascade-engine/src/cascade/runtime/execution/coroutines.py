"""Coroutines of tasks, driven step by step: in their context, with marks, counting cancels."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from math import inf
from time import perf_counter
from types import coroutine
from typing import Any, TypeVar

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
    budget: YieldBudget | None = None,
) -> Generator[Any, Any, T]:
    """Await ``work`` in this asyncio task, but with every step of it in ``context`` (M12).

    Each step is marked for the monitor of ``watch``, which may be Unwatched.
    """
    monitor: Any = watch.monitor
    marks = monitor.marks
    clock = monitor.clock
    cancelling = cancels.cancelling
    send = work.send
    resume: Callable[[Any], Any] = send
    value: Any = None
    bus = SILENT if budget is None else budget.bus
    waits = 0
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
