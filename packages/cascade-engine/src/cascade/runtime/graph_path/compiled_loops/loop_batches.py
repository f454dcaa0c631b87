"""Batches: a number of steps of a loop, made in one go; and the loop that a node is in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from operator import call, length_hint
from time import perf_counter
from typing import Any, TypeAlias, cast

from cascade.runtime.diagnostics.blocking_calls import Watch
from cascade.runtime.diagnostics.usage import usage
from cascade.runtime.execution.carried_errors import carried
from cascade.runtime.execution.placement import SLOW, begin, starts_loop
from cascade.runtime.loops.fused import Fused
from cascade.runtime.loops.generated import Generated
from cascade.runtime.loops.trampoline import AsyncTrampoline, Trampoline
from cascade.runtime.loops.unrolled import Unrolled
from cascade.spec.task import Task

#: An iterator over a list can be moved to its end, and is as fast as any.
_NONES = [None] * (1 << 16)

Code: TypeAlias = Fused | Generated | Trampoline | AsyncTrampoline


class Loop:
    """The loop that one node continues in.

    Attributes:
        code: The loop's code.
        state: Which of its tasks is next.
        values: The arguments of that task, in the loop's order.
        context: The context of all steps; if a step sets a variable in it, the loop ends (M12).
        has_moved: Whether its steps run on a worker from now on; this never changes back (M6).
        stays: Whether its steps never run on a worker, because this is the only thread.
        made: Number of steps that it has made.
        recorded: How many of these the journal of a durable run knows of.
    """

    __slots__ = (
        "code",
        "context",
        "has_moved",
        "is_fresh",
        "made",
        "recorded",
        "starts_loop",
        "state",
        "stays",
        "values",
        "watch",
    )

    def __init__(self, code: Code, state: int, values: Sequence[Any], context: Context) -> None:
        self.code = code
        self.state = state
        self.values = values
        self.context = context
        self.has_moved = self.stays = False
        self.made = self.recorded = 0
        #: Whether a step may reach ``asyncio.run``.
        self.starts_loop = type(code) is Trampoline or any(map(starts_loop, code.tasks))
        #: Marks its batches in the event loop's thread.
        self.watch: Watch | None = None
        #: Whether its next batch is a single step, to detect steps that set context variables.
        self.is_fresh = not code.is_async

    @property
    def task(self) -> Task[..., Any]:
        """The task that is next, or whose step was the last."""
        return self.code.tasks[self.state]


def made_here(loop: Loop, enter: Callable[..., Any], steps: Steps) -> tuple[Any, ...]:
    """The result of a batch of steps made in this thread."""
    began = begin()
    try:
        return _entered(loop, enter, steps)
    finally:
        seconds = perf_counter() - began
        steps.seconds = seconds if seconds <= SLOW else usage.blame(began, seconds)


def made_aside(loop: Loop, enter: Callable[..., Any], steps: Steps) -> tuple[Any, ...]:
    """The same on a worker, where its duration is not recorded against a task."""
    steps.began = perf_counter()
    try:
        return _entered(loop, enter, steps)
    finally:
        steps.seconds = perf_counter() - steps.began


def _entered(loop: Loop, enter: Callable[..., Any], steps: Steps) -> tuple[Any, ...]:
    if steps.unrolled is not None:
        return _entered_unrolled(loop, steps.unrolled, steps)
    try:
        outcome: tuple[Any, ...] = loop.context.run(enter, steps.items, loop.state, *loop.values)
        return outcome
    except asyncio.CancelledError as error:
        state = loop.code.state_at(error, loop.state)
        raise carried(loop.code.tasks[state].func, error) from error


def _entered_unrolled(loop: Loop, unrolled: Unrolled, steps: Steps) -> tuple[Any, ...]:
    """The same with several steps for each item, of which the last ones may not be made."""
    try:
        enter = unrolled.loop
        value, place, *values = loop.context.run(enter, steps.items, loop.state, *loop.values)
    except BaseException as error:
        steps.unmade, _ = unrolled.failed_at(error, loop.state)
        raise
    steps.unmade, state = unrolled.place_of(place)
    return value, state, *values


class Steps:
    """A batch of about ``count`` steps, as an iterator that knows how many were made.

    Args:
        count: Number of steps.
        unrolled: The loop that makes them, several for each item, if there are so many.

    Attributes:
        items: The iterator for the loop.
        unrolled: As given; None if there are too few steps.
        unmade: Steps of the last item that were not made. Until it is known, all but one.
        began: Start of the batch on a thread; 0 for awaited steps.
        seconds: Duration of the batch, after its end.
    """

    __slots__ = ("_count", "_each", "_left", "began", "items", "seconds", "unmade", "unrolled")

    def __init__(self, count: int, unrolled: Unrolled | None = None) -> None:
        each = 1 if unrolled is None else unrolled.steps
        if count < each:
            each, unrolled = 1, None
        items = cast("Any", iter(_NONES))
        items.__setstate__(max(len(_NONES) - count // each, 0))
        self.items: Any = items
        self.unrolled = unrolled
        self.unmade = each - 1
        self._each = each
        self._count = length_hint(items)
        #: The number of items that were left at the end.
        self._left: int | None = None
        self.began = self.seconds = 0.0

    @property
    def made(self) -> int:
        """Number of steps that the loop has begun. From any thread."""
        taken = self._taken()
        return taken * self._each - self.unmade if taken else 0

    @property
    def left(self) -> int:
        """Number of further steps that it may begin. From any thread."""
        rest = self._each - 1 if self._taken() else 0
        return length_hint(self.items) * self._each + rest

    def _taken(self) -> int:
        """Number of items that the loop has taken."""
        return self._count - (length_hint(self.items) if self._left is None else self._left)

    def end(self) -> None:
        """Remove the remaining items. From any thread, also while the loop makes steps."""
        if self._left is None:
            items: Any = self.items
            to_end = partial(items.__setstate__, len(_NONES))
            # Both in one instruction of the interpreter, so that no step is made in between.
            self._left, _ = map(call, (items.__length_hint__, to_end))
