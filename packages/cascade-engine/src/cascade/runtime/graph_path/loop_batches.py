"""Batches: so many steps of a loop, made in one go; what a loop that a node is in consists of."""

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
from cascade.runtime.execution.placement import SLOW, begin, starts_loop
from cascade.runtime.loops.fused import Fused
from cascade.runtime.loops.generated import Generated
from cascade.runtime.loops.trampoline import Trampoline
from cascade.runtime.run import carried
from cascade.spec.task import Task

#: An iterator over a list can be moved to its end, and is as fast as any.
_NONES = [None] * (1 << 16)

Code: TypeAlias = Fused | Generated | Trampoline


class Loop:
    """A loop that one node goes on in.

    Attributes:
        code: The loop.
        state: Which of its tasks is next.
        values: The arguments of that, in the order that the loop takes them in.
        context: What all steps see; none writes to it, or the loop ends (M12).
        has_moved: Whether its steps have a worker from now on; once they do it stays so (M6).
        stays: Whether its steps never have a worker, as there is none but this thread.
        made: How many steps it has made.
    """

    __slots__ = (
        "code",
        "context",
        "has_moved",
        "is_fresh",
        "made",
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
        self.made = 0
        #: Whether a step may come to ``asyncio.run``.
        self.starts_loop = type(code) is Trampoline or any(map(starts_loop, code.tasks))
        #: Marks its batches in the event loop's thread.
        self.watch: Watch | None = None
        #: Whether its next batch is to be one step, which may show that steps write to it.
        self.is_fresh = not code.is_async

    @property
    def task(self) -> Task[..., Any]:
        """The task that is next, or whose step was the last."""
        return self.code.tasks[self.state]


def made_here(loop: Loop, enter: Callable[..., Any], steps: Steps) -> tuple[Any, ...]:
    """What a batch of steps gives, made in this thread."""
    began = begin()
    try:
        return _entered(loop, enter, steps)
    finally:
        seconds = perf_counter() - began
        steps.seconds = seconds if seconds <= SLOW else usage.blame(began, seconds)


def made_aside(loop: Loop, enter: Callable[..., Any], steps: Steps) -> tuple[Any, ...]:
    """The same on a worker, where nobody is to blame for the time that it takes."""
    steps.began = perf_counter()
    try:
        return _entered(loop, enter, steps)
    finally:
        steps.seconds = perf_counter() - steps.began


def _entered(loop: Loop, enter: Callable[..., Any], steps: Steps) -> tuple[Any, ...]:
    try:
        outcome: tuple[Any, ...] = loop.context.run(enter, steps.items, loop.state, *loop.values)
        return outcome
    except asyncio.CancelledError as error:
        state = loop.code.state_at(error, loop.state)
        raise carried(loop.code.tasks[state].func, error) from error


class Steps:
    """An iterator of about so many items, that knows how many were taken.

    Args:
        count: How many.

    Attributes:
        items: For the loop.
        count: How many there were.
        began: When a thread has begun to make them; 0 for steps that are awaited.
        seconds: How long it took to make them, once they were made.
    """

    __slots__ = ("_left", "began", "count", "items", "seconds")

    def __init__(self, count: int) -> None:
        items = cast("Any", iter(_NONES))
        items.__setstate__(max(len(_NONES) - count, 0))
        self.items: Any = items
        self.count = length_hint(items)
        self._left: int | None = None
        self.began = self.seconds = 0.0

    @property
    def made(self) -> int:
        """How many the loop has taken."""
        return self.count - (length_hint(self.items) if self._left is None else self._left)

    @property
    def left(self) -> int:
        """How many more it may take."""
        return length_hint(self.items)

    def end(self) -> None:
        """Let there be no more. From any thread, also while the loop makes steps."""
        if self._left is None:
            items: Any = self.items
            to_end = partial(items.__setstate__, len(_NONES))
            # Both in one instruction of the interpreter, so that no step is made in between.
            self._left, _ = map(call, (items.__length_hint__, to_end))
