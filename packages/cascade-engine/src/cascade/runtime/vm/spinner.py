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
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from operator import call, length_hint
from time import perf_counter
from typing import Any, Final, cast

from cascade.graph.compiler import template_of
from cascade.runtime.blocking import Watch, marked
from cascade.runtime.cancels import IsCancelled
from cascade.runtime.contexts import is_written
from cascade.runtime.limits.tickets import Ticket, current_ticket
from cascade.runtime.placement import SLOW, Place, begin, outside_loop, starts_loop
from cascade.runtime.run import Run, carried, in_loop, stop_iteration
from cascade.runtime.tailcall import is_baked
from cascade.runtime.ticker import Ticker
from cascade.runtime.usage import usage
from cascade.runtime.vm.frame import UNSET, Frame
from cascade.runtime.vm.fuser import Fused, is_traced
from cascade.runtime.vm.generator import Generated
from cascade.runtime.vm.loops import PAUSED
from cascade.runtime.vm.tiers import Tier, loop_of
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.errors import TaskCancelledError, TaskStopIterationError
from cascade.spec.task import Task

#: What ``spin`` gives where the step has to be made as an ordinary call.
NOT_ENTERED: Final = object()

#: An iterator over a list can be moved to its end, and is as fast as any.
_NONES = [None] * (1 << 16)
#: Most steps of a batch of a coroutine loop.
_FEW = 1024
#: Seconds that a batch on a worker may take before it ends with the step that it is in.
_LONG = 0.02
#: By how many steps the seconds of a batch are divided at most to tell what one of them took.
_ALIKE = 4


#: A frame that goes from task to task is not worth entering the loop of each.
_LEFT_FOR_GOOD = 8


class Loop:
    """A loop as the root of one frame."""

    __slots__ = (
        "code",
        "context",
        "has_moved",
        "is_fresh",
        "places",
        "starts_loop",
        "state",
        "task",
        "watch",
    )

    def __init__(self, code: Fused | Generated, blueprint: Blueprint, context: Context) -> None:
        task = blueprint.task
        assert isinstance(task, Task)
        self.code = code
        self.state = code.state_of(task)
        self.task = task
        #: Whether its steps have a worker from now on; once they do it stays so (M6).
        self.has_moved = False
        #: Whether a step may come to ``asyncio.run``.
        self.starts_loop = any(map(starts_loop, code.tasks))
        #: Marks its batches in the event loop's thread.
        self.watch: Watch | None = None
        #: What all steps see; none writes to it, or the loop ends (M12).
        self.context = context
        #: Whether its next batch is to be one step, which may show that steps write to it.
        self.is_fresh = not code.is_async
        inputs = dict(zip(task.parameters.positional, blueprint.input_args, strict=True))
        inputs |= blueprint.input_kwargs
        #: Register of each of the loop's parameters; None for those of its other tasks.
        self.places = tuple([inputs.get(name) for name in code.parameters])


class Spinner:
    """Enters loops for one run. In the event loop's thread.

    Args:
        run: The run.
        tier: The best that there may be.
        is_cancelled: Whether the engine has cancelled the current asyncio task.
        on_cancel: Called when a batch on a worker was cancelled and is about to be waited for.
    """

    def __init__(
        self, run: Run, tier: Tier, is_cancelled: IsCancelled, on_cancel: Callable[[], None]
    ) -> None:
        self._run = run
        self._is_cancelled = is_cancelled
        self._on_cancel = on_cancel
        self._tier = tier
        #: Batches of loops of coroutines that wait for something.
        self._awaiting: set[_Steps] = set()
        self._stop_listening: Callable[[], object] = _nothing

    def loop(self, frame: Frame) -> Loop | None:
        """The loop that ``frame``, which is at its root, can enter; looked for once."""
        found = frame.loop
        if found is False or frame.left > _LEFT_FOR_GOOD:
            return None
        if not isinstance(found, Loop) or (type(found.code) is Fused and is_traced()):
            found = self._found(frame.blueprint)
            frame.loop = found or False
        return found

    def _found(self, blueprint: Blueprint) -> Loop | None:
        task = blueprint.task
        if not isinstance(task, Task) or is_baked(blueprint, task):
            return None
        code = loop_of(task, self._tier)
        return None if code is None else Loop(code, blueprint, self._run.context.copy())

    def __enter__(self) -> Spinner:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop_listening()

    def spin(
        self, frame: Frame, loop: Loop, ticker: Ticker, node: int, here: Callable[[], bool]
    ) -> Awaitable[Any]:
        """Await what a step gives that is no tail call of the loop's own; PAUSED if it goes on.

        The frame is then at that step: at the task's root, with its arguments. What limits hold for
        a step holds for the batch, which is made only as long as they allow.

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
        # Each coroutine in between is one more that every wait of the loop goes through.
        gate = self._run.gate
        if not (gate.constraints.any or frame.policies.capacities):
            allowed = self._run.steps.allowed(1 if loop.is_fresh else ticker.left)
            return self._batch(frame, loop, ticker, node, here, allowed, None)
        return self._limited(frame, loop, ticker, node, here)

    async def _limited(
        self, frame: Frame, loop: Loop, ticker: Ticker, node: int, here: Callable[[], bool]
    ) -> Any:
        """The same, where there are limits that may hold for it."""
        gate, code = self._run.gate, loop.code
        task = code.tasks[loop.state]
        if not gate.constraints.alike(other.name for other in code.tasks):
            return NOT_ENTERED  # each of its tasks is limited by other ones
        allowed = self._run.steps.allowed(1 if loop.is_fresh else ticker.left)
        if not gate.governs(task, frame.policies):
            return await self._batch(frame, loop, ticker, node, here, allowed, None)
        if _entry(frame, loop)[0] is None:
            return NOT_ENTERED  # the call will ask for itself
        # A coroutine's steps may take long, so each asks by itself.
        most = 1 if code.is_async else allowed
        frame.stands_still()
        ticket = await gate.admitted(task, node, frame.policies, most)
        frame.goes_on()
        allowed = self._run.steps.allowed(ticket.calls)  # others may have made steps meanwhile
        return await self._batch(frame, loop, ticker, node, here, allowed, ticket)

    async def _batch(
        self,
        frame: Frame,
        loop: Loop,
        ticker: Ticker,
        node: int,
        here: Callable[[], bool],
        allowed: int,
        ticket: Ticket | None,
    ) -> Any:
        """One entry of the loop, for so many calls; gives back what ``ticket`` has."""
        made = 0
        abandoned: list[Future[Any]] = []
        context = loop.context
        token = None if ticket is None else context.run(current_ticket.set, ticket)
        try:
            enter, values = _entry(frame, loop)
            if enter is None:
                return NOT_ENTERED
            place = self._place(loop, here)
            steps = _Steps(min(allowed, _FEW) if place is Place.LOOP else allowed)
            self._run.steps.begin(steps)
            try:
                if place is Place.LOOP:
                    work = self._entered(frame, loop, enter, steps, values)
                    del values  # the arguments of a step live as long as the loop needs them
                    outcome = await self._awaited(loop, work, steps, ticker, node)
                elif place is Place.INLINE:
                    outcome = self._made_here(loop, enter, steps, values)
                else:
                    outcome = await self._on_worker(loop, enter, steps, values, node, abandoned)
            except BaseException as error:
                self._awaiting.discard(steps)
                made = steps.made
                self._note(loop, steps, place, ticker)
                if place is Place.WORKER and isinstance(error, asyncio.CancelledError):
                    self._count(frame, loop, ticker, steps, made - 1)
                    raise  # the wait was cancelled; a step's own CancelledError was replaced
                self._failed(error, frame, loop, ticker, steps, made - 1)
                raise
            self._awaiting.discard(steps)
            made = steps.made
            self._note(loop, steps, place, ticker)
        finally:
            if token is not None and not abandoned:  # or its thread is inside of the context
                context.run(current_ticket.reset, token)
            if ticket is not None and abandoned:  # it goes on (M8)
                self._run.gate.leave_after(ticket, abandoned[0])
            elif ticket is not None:
                self._run.gate.leave(ticket, ticket.calls - made)
        value, state, *values = outcome
        made -= value is not PAUSED
        self._count(frame, loop, ticker, steps, made)
        loop.is_fresh = False
        self._be_at(frame, loop, state, values)
        frame.left = frame.left + 1 if not made and type(value) is TailCall else 0
        if is_written(loop.context, len(self._run.context), self._run.held):
            self._renew(frame, loop)
        return value

    def _renew(self, frame: Frame, loop: Loop) -> None:
        """Let no later step see what one has written to the context of the loop (M12)."""
        if not loop.code.is_async:
            frame.loop = False  # a step may write in the midst of a batch, which would go on
            return
        loop = frame.loop if isinstance(frame.loop, Loop) else loop
        loop.context = self._run.context.copy()

    # -- where steps are made (M6) ------------------------------------------------------------

    def _place(self, loop: Loop, here: Callable[[], bool]) -> Place:
        """Where the next batch is made."""
        alone = here()
        place = self._run.placement.place(
            loop.task, short=not loop.has_moved, alone=alone, loop=loop.code
        )
        if alone and place is Place.WORKER:
            loop.has_moved = True
        return place

    def _made_here(
        self, loop: Loop, enter: Callable[..., Any], steps: _Steps, values: Sequence[Any]
    ) -> Any:
        if loop.watch is None:
            loop.watch = self._run.watch_call(loop.code.tasks[loop.state])
        if loop.watch is not None:
            loop.watch.end = steps.end
        args = (loop.watch, _made, loop, enter, steps, values)
        if loop.task.mode == "inline":
            return in_loop(loop.task.name, marked, *args)
        return outside_loop(marked, *args) if loop.starts_loop else marked(*args)

    async def _on_worker(
        self,
        loop: Loop,
        enter: Callable[..., Any],
        steps: _Steps,
        values: Sequence[Any],
        node: int,
        abandoned: list[Future[Any]],
    ) -> Any:
        def cancelled() -> None:
            steps.end()
            self._on_cancel()

        def abandon(call: Future[Any]) -> None:
            steps.end()
            abandoned.append(call)

        # Steps that come to wait are not to be made as many at once as the quick ones before.
        timer = self._run.loop.call_later(_LONG, steps.end)
        try:
            return await self._run.in_worker(
                _made,
                (loop, enter, steps, values),
                {},
                name=loop.code.tasks[loop.state].name,
                node=node,
                on_abandon=abandon,
                on_cancel=cancelled,
            )
        finally:
            timer.cancel()

    def _note(self, loop: Loop, steps: _Steps, place: Place, ticker: Ticker) -> None:
        """Remember how long steps take; those that took long are the last in this thread."""
        if place is Place.LOOP or loop.task.mode == "inline" or not steps.seconds:
            return  # or they have not ended: not begun, or abandoned
        placement = self._run.placement
        took = steps.seconds / min(max(steps.made, 1), _ALIKE)
        placement.note(loop.code, took)
        if took > SLOW:
            if steps.made <= 1:
                placement.note(loop.code.tasks[loop.state], took)
            ticker.restart()
            loop.has_moved = placement.durations is not None

    def _failed(
        self,
        error: BaseException,
        frame: Frame,
        loop: Loop,
        ticker: Ticker,
        steps: _Steps,
        made: int,
    ) -> None:
        """Let ``frame`` be at the step that has failed."""
        self._count(frame, loop, ticker, steps, made)
        replaced = isinstance(error, (TaskStopIterationError, TaskCancelledError))
        stopped = error.__cause__ if replaced else error
        state = loop.code.state_at(error if stopped is None else stopped, loop.state)
        self._be_at(frame, loop, state, None)
        if isinstance(error, StopIteration) or (
            isinstance(error, asyncio.CancelledError) and not loop.code.is_async
        ):
            raise carried(loop.code.tasks[state].func, error) from error
        if isinstance(error, TaskStopIterationError):  # it names the first task of the loop
            error.args = stop_iteration(loop.code.tasks[state].func).args

    def _entered(
        self, frame: Frame, loop: Loop, enter: Any, steps: _Steps, values: Sequence[Any]
    ) -> Any:
        """The coroutine of a loop, which takes the arguments over from ``frame``."""
        task = asyncio.current_task()
        assert task is not None
        context, held = self._run.context, self._run.held
        now = (task.cancelling(), task.cancelling, loop.context, len(context), held)
        for place in loop.places:
            if place is not None:
                frame.registers[place] = UNSET
        return enter(steps.items, loop.state, *now, *values)

    def _awaited(
        self, loop: Loop, work: Any, steps: _Steps, ticker: Ticker, node: int
    ) -> Awaitable[Any]:
        """What to await for a batch of a loop of coroutines, until ``steps`` has an end."""
        operation = loop.code.tasks[loop.state]
        ticker.tells(self._run, operation.name)
        self._listen()
        self._awaiting.add(steps)
        return self._run.awaiting(operation, node, work, loop.context, self._is_cancelled, ticker)

    # -- constraints that change --------------------------------------------------------------

    def _listen(self) -> None:
        """From now on, have a loop of coroutines end its batch when constraints change."""
        if self._stop_listening is _nothing:
            self._stop_listening = self._run.gate.constraints.listen(self._changed)

    def _changed(self) -> None:
        if self._run.is_own_thread(threading.get_ident()):
            self._end_batches()  # now, or steps that are ready already were made before that
            return
        with contextlib.suppress(RuntimeError):  # the event loop is closed by now
            self._run.loop.call_soon_threadsafe(self._end_batches)

    def _end_batches(self) -> None:
        for steps in self._awaiting:
            steps.end()

    def _count(self, frame: Frame, loop: Loop, ticker: Ticker, steps: _Steps, made: int) -> None:
        ticker.left -= made
        if made > 0:
            frame.looped = True
        self._run.made(max(made, 0), loop.code.tasks[loop.state].name, steps)

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
        frame.looped = True  # the node has begun
        frame.loop = Loop(loop.code, blueprint, loop.context)
        frame.loop.is_fresh = loop.is_fresh
        frame.loop.has_moved = loop.has_moved


def _entry(frame: Frame, loop: Loop) -> tuple[Callable[..., Any] | None, Sequence[Any]]:
    """The function to enter, if what the frame's inputs are allows that, and its arguments."""
    registers = frame.registers
    values = [None if place is None else registers[place] for place in loop.places]
    return loop.code.loop_for(values), values


def _nothing() -> None:
    """What ends no subscription."""


def _made(
    loop: Loop, enter: Callable[..., Any], steps: _Steps, values: Sequence[Any]
) -> tuple[Any, ...]:
    """What a batch of steps gives, made in this thread."""
    began = begin()
    try:
        outcome: tuple[Any, ...] = loop.context.run(enter, steps.items, loop.state, *values)
        return outcome
    except asyncio.CancelledError as error:
        state = loop.code.state_at(error, loop.state)
        raise carried(loop.code.tasks[state].func, error) from error
    finally:
        seconds = perf_counter() - began
        steps.seconds = seconds if seconds <= SLOW else usage.blame(began, seconds)


class _Steps:
    """An iterator of about so many items, that knows how many were taken.

    Args:
        count: How many.

    Attributes:
        items: For the loop.
        count: How many there were.
        seconds: How long it took to make them, once they were made.
    """

    __slots__ = ("_left", "count", "items", "seconds")

    def __init__(self, count: int) -> None:
        items = cast("Any", iter(_NONES))
        items.__setstate__(max(len(_NONES) - count, 0))
        self.items: Any = items
        self.count = length_hint(items)
        self._left: int | None = None
        self.seconds = 0.0

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
