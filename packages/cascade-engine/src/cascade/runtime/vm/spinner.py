"""The spinner: has fused and generated loops make many steps at once, for the interpreter.

The interpreter comes to a frame's root, and where that is a call of a task that has a loop, and
nothing stands between (no policies of steps, nothing injected), the loop is entered with the
frame's inputs instead of the function. It comes back when it has a value that is no tail call of
its own, or when it has made as many steps as it was given; then the frame's inputs are those of the
step that it has come to. So whatever else is to happen, happens in the interpreter, between two
batches: the event loop's turns and with them cancelling, the limit of steps, events.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from itertools import repeat
from operator import length_hint
from typing import Any, Final

from cascade.graph.compiler import template_of
from cascade.runtime.run import Cancels, Run, stop_iteration
from cascade.runtime.tailcall import is_baked
from cascade.runtime.ticker import Ticker
from cascade.runtime.vm.frame import Frame
from cascade.runtime.vm.fuser import Fused, is_traced
from cascade.runtime.vm.generator import Generated
from cascade.runtime.vm.loops import PAUSED
from cascade.runtime.vm.tiers import Tier, loop_of
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.errors import TaskStopIterationError
from cascade.spec.task import Task

#: What ``spin`` gives where the step has to be made as an ordinary call.
NOT_ENTERED: Final = object()

#: Iterating over a list is what CPython 3.12 and later do fastest, and 3.11 over ``repeat``.
_NONES = [None] * (1 << 16) if sys.version_info >= (3, 12) else []


#: A frame that goes from task to task is not worth entering the loop of each.
_LEFT_FOR_GOOD = 8


class Loop:
    """A loop as the root of one frame."""

    __slots__ = ("code", "context", "is_inline", "places", "state")

    def __init__(self, code: Fused | Generated, blueprint: Blueprint, context: Context) -> None:
        task = blueprint.task
        assert isinstance(task, Task)
        self.code = code
        self.state = code.state_of(task)
        #: Whether it always runs in the event loop's thread.
        self.is_inline = code.is_async or task.mode == "inline"
        #: What all steps see; none writes to it, or the loop ends (M12).
        self.context = context
        inputs = dict(zip(task.parameters.positional, blueprint.input_args, strict=True))
        inputs |= blueprint.input_kwargs
        #: Register of each of the loop's parameters; None for those of its other tasks.
        self.places = tuple([inputs.get(name) for name in code.parameters])


class Spinner:
    """Enters loops for one run. In the event loop's thread.

    Args:
        run: The run.
        tier: The best that there may be.
        on_cancel: Called when a batch on a worker was cancelled and is about to be waited for.
    """

    def __init__(self, run: Run, tier: Tier, on_cancel: Callable[[], None]) -> None:
        self._run = run
        self._on_cancel = on_cancel
        self._tier = tier

    def loop(self, frame: Frame) -> Loop | None:
        """The loop that ``frame``, which is at its root, can enter; looked for once."""
        if frame.loop is False or frame.left > _LEFT_FOR_GOOD:
            return None
        if frame.loop is None or (type(frame.loop.code) is Fused and is_traced()):
            frame.loop = self._found(frame.blueprint) or False
        return frame.loop or None

    def _found(self, blueprint: Blueprint) -> Loop | None:
        task = blueprint.task
        if not isinstance(task, Task) or is_baked(blueprint, task):
            return None
        code = loop_of(task, self._tier)
        return None if code is None else Loop(code, blueprint, self._run.context.copy())

    async def spin(self, frame: Frame, loop: Loop, ticker: Ticker, node: int, here: bool) -> Any:
        """What a step gives that is no tail call of the loop's own; PAUSED if it goes on.

        The frame is then at that step: at the task's root, with its arguments.

        Args:
            frame: At the loop's root.
            loop: Its loop.
            ticker: Counts the steps.
            node: Of the lazy value that is computed, for events.
            here: Whether a plain function may be called in this thread (M6); else on a worker.

        Raises:
            BaseException: That of a step; the frame is at its task's root.
            StepLimitError: The run may make no more.
        """
        registers = frame.registers
        values: Sequence[Any] = [None if p is None else registers[p] for p in loop.places]
        enter = loop.code.loop_for(values)
        if enter is None:
            return NOT_ENTERED
        steps = _steps(self._allowed(ticker.left))
        calls = length_hint(steps)
        try:
            if loop.code.is_async:
                outcome = await self._awaited(loop, enter, steps, values, ticker, node)
            elif here:
                outcome = loop.context.run(enter, steps, loop.state, *values)
            else:
                outcome = await self._run.in_worker(
                    loop.context.run,
                    (enter, steps, loop.state, *values),
                    {},
                    name=loop.code.tasks[loop.state].name,
                    node=node,
                    on_cancel=self._on_cancel,
                )
        except BaseException as error:
            self._count(frame, loop, ticker, calls - length_hint(steps) - 1)
            stopped = error.__cause__ if isinstance(error, TaskStopIterationError) else error
            state = loop.code.state_at(stopped or error, loop.state)
            self._be_at(frame, loop, state, None)
            if isinstance(error, StopIteration):
                raise stop_iteration(loop.code.tasks[state].func) from error
            if stopped is not error:  # it names what was entered
                error.args = stop_iteration(loop.code.tasks[state].func).args
            raise
        value, state, *values = outcome
        made = calls - length_hint(steps) - (value is not PAUSED)
        self._count(frame, loop, ticker, made)
        self._be_at(frame, loop, state, values)
        frame.left = frame.left + 1 if not made and type(value) is TailCall else 0
        if _differ(loop.context, self._run.context):
            frame.loop = False  # a step has written to it, which the next ones must not see
        return value

    async def _awaited(
        self,
        loop: Loop,
        enter: Any,
        steps: Iterator[None],
        values: Sequence[Any],
        ticker: Ticker,
        node: int,
    ) -> Any:
        task = asyncio.current_task()
        assert task is not None
        cancels = Cancels()
        work = enter(steps, loop.state, task.cancelling(), task.cancelling, *values)
        operation = loop.code.tasks[loop.state]
        run = self._run
        outcome = await run.awaiting(operation, node, work, loop.context, ticker.turned)
        if cancels.count > 0:  # a step has swallowed it
            raise asyncio.CancelledError
        return outcome

    def _allowed(self, calls: int) -> int:
        """Where steps are limited, the call that may ask for one too many is made by itself."""
        left = self._run.steps.left
        return calls if left is None else max(min(calls, left), 1)

    def _count(self, frame: Frame, loop: Loop, ticker: Ticker, made: int) -> None:
        ticker.left -= made
        if made > 0:
            frame.looped = True
            self._run.made(made, loop.code.tasks[loop.state].name)

    def _be_at(self, frame: Frame, loop: Loop, state: int, values: Sequence[Any] | None) -> None:
        """Let ``frame`` be at the root of the task of ``state``, with its arguments if known."""
        if state == loop.state:
            for place, value in zip(loop.places, values or (), strict=values is not None):
                if place is not None:
                    frame.registers[place] = value
            return
        task = loop.code.tasks[state]
        blueprint = template_of(task)
        if values is None:
            frame.leave(blueprint)
            return
        named = {n: Literal(v) for n, v in zip(loop.code.parameters, values, strict=True)}
        given = task.parameters
        by_name = [name for name in given.keyword if name not in given.positional]
        frame.enter(blueprint, [named[n] for n in given.positional], {n: named[n] for n in by_name})
        frame.advance()
        frame.loop = Loop(loop.code, blueprint, loop.context)


def _differ(one: Context, other: Context) -> bool:
    try:
        return one != other
    except Exception:  # one holds values that cannot be compared, so new ones
        return True


def _steps(count: int) -> Iterator[None]:
    """An iterator of about ``count`` items, that knows how many are left."""
    if not _NONES:
        return repeat(None, count)
    steps: Any = iter(_NONES)
    steps.__setstate__(max(len(_NONES) - count, 0))
    return steps  # type: ignore[no-any-return]
