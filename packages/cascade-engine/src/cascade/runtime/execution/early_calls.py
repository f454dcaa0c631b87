"""Early calls: first steps of calls in the event loop's thread, made before a run has begun.

An asyncio task costs more than a short call, and is of no use to a coroutine that returns without
having waited. So the first step is made with a *spare* task as the current one. If the coroutine
returns, the next call gets the same spare. If it waits, it keeps the spare, whose own first step
goes on with it. So ``asyncio.current_task()`` is one real task during the whole call: it can be
cancelled, and its cancels are counted, from the first step on. If a first step keeps any reference
to the task, no other call gets it.

The pump of a graph run works in the same way, for many calls at once. Here the spare has no owner:
the code that takes over a call that waits decides how it goes on.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from inspect import CO_COROUTINE
from math import inf
from sys import getrefcount
from types import FunctionType, coroutine
from typing import Any, Protocol
from weakref import WeakSet, getweakrefcount

from cascade.runtime.diagnostics.blocked_stacks import marking
from cascade.runtime.diagnostics.blocking_calls import PLAIN_THRESHOLD, Marked
from cascade.runtime.execution.carried_errors import carried, guarded, in_loop, named
from cascade.runtime.execution.contexts import Held
from cascade.runtime.execution.coroutines import Unwatched
from cascade.runtime.execution.fairness import Turn
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation


def may_begin_early(lazy: LazyResult[Any]) -> bool:
    """Whether a node is a mere call in the event loop's thread."""
    task = lazy.task
    return (
        (task.is_async or task.mode == "inline")
        and type(lazy) is LazyResult
        and lazy._policies is None
        and not lazy._special
        and task.may_block is False
    )


class EarlyTasks:
    """The spare task of one event loop, for one engine.

    Args:
        loop: The event loop.
        monitor: Watches the steps of the calls.

    Attributes:
        lasting: Operations that were the target of a run, and of which a call did not end in its
            first step.
    """

    __slots__ = ("lasting", "loop", "monitor", "spare")

    def __init__(self, loop: asyncio.AbstractEventLoop, monitor: Any) -> None:
        self.loop = loop
        self.monitor: Any = monitor or Unwatched()
        #: A spare task without a call, until the event loop's next turn.
        self.spare: EarlyCall | None = None
        self.lasting: WeakSet[Operation] = WeakSet()

    def take(self) -> EarlyCall:
        """A spare task for the next call."""
        call, self.spare = self.spare, None
        return EarlyCall(self) if call is None or call.is_known else call


class EarlyTurn(Turn):
    """A turn of the event loop in which calls are begun before there is a run.

    Args:
        tasks: The spare tasks.
        owner: Publishes that a step blocks the event loop.
        context: The context of the calls.
        held: The result of ``held_in`` for it. With variables of a caller, it gets spare tasks of
            its own, because a task keeps the variables of the code that has made it.
    """

    __slots__ = ("_outer", "_owner", "_tasks", "context")

    def __init__(self, tasks: EarlyTasks, owner: Any, context: Context, held: Held) -> None:
        super().__init__()
        self._tasks = EarlyTasks(tasks.loop, tasks.monitor) if held else tasks
        self._outer = asyncio.current_task(tasks.loop)
        self._owner = owner
        self.context = context

    def begin(self, operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make the first step of a call; the caller is in ``context``.

        Returns:
            The value; or the EarlyCall, which has not ended.

        Raises:
            BaseException: The call has failed.
        """
        tasks, outer_task, func = self._tasks, self._outer, operation.func
        loop, monitor = tasks.loop, tasks.monitor
        marks, clock = monitor.marks, monitor.clock
        call = tasks.take()
        call.operation, call.run = operation, self._owner
        task, outer = call.task, marks.current
        is_hidden = events._get_running_loop() is None
        if is_hidden:  # from the plain functions around this call
            events._set_running_loop(loop)
        if outer_task is not None:
            _leave_task(loop, outer_task)
        value: Any = None
        error: BaseException | None = None
        _enter_task(loop, task)
        try:
            call.began = clock()
            marks.current = call
            if monitor.quiet:
                monitor.stir(call)
            if not operation.is_async:
                value = in_loop(operation.name, guarded, func, args, kwargs)
            else:
                if type(func) is FunctionType and func.__code__.co_flags & CO_COROUTINE:
                    call.coro = func(*args, **kwargs)
                else:
                    call.coro = _called(operation, args, kwargs)
                waiting = call.coro.send(None)
                call.waits(waiting, self.context)
                return call
        except StopIteration as stop:
            value = stop.value
        except BaseException as failure:
            error = failure
        finally:
            marks.current = outer
            if outer is not None:
                outer.leave_out(clock() - call.began)
            _leave_task(loop, task)
            if outer_task is not None:
                _enter_task(loop, outer_task)
            if is_hidden:
                events._set_running_loop(None)
        call.coro = None
        try:
            if task.cancelling() or isinstance(error, asyncio.CancelledError):
                call.has_ended(value, error, self.context)
                return call
            tasks.spare = call
            call.run = None
            if error is None:
                return value
            raise named(error, operation) if isinstance(error, RuntimeError) else error
        finally:
            del error, value  # this frame lives as long as the error does


class References(Protocol):
    """The numbers of references to a spare task when it was made."""

    task: asyncio.Task[Any]
    references: int
    weak: int


def is_known(spare: References) -> bool:
    """Whether a call has kept a reference to the task, or waits for its end."""
    return (
        getrefcount(spare.task) != spare.references
        or getweakrefcount(spare.task) != spare.weak
        or getattr(spare.task, "_callbacks", None) is not None
    )


class EarlyCall(Marked):
    """A spare task, and the call that uses it or has taken it.

    Args:
        tasks: Has the event loop, and the monitor of the step.

    Attributes:
        task: The asyncio task.
        run: Publishes that the step blocks the event loop.
        operation: The operation of the call.
        context: The context of its steps.
        coro, waiting: Its coroutine, and the value that its first step has yielded.
        blocks: Whether that is a future that it awaits.
        cancel: The cancel that came before it went on, or None.
    """

    __slots__ = (
        "_rest",
        "_task_context",
        "_tasks",
        "began",
        "blocks",
        "cancel",
        "context",
        "coro",
        "dealt_with",
        "monitor",
        "operation",
        "references",
        "run",
        "task",
        "waiting",
        "weak",
    )

    on_late = None
    operation: Operation
    context: Context

    def __init__(self, tasks: EarlyTasks) -> None:
        self._tasks = tasks
        self.monitor = tasks.monitor
        self.dealt_with = -inf
        self.run: Any = None
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.waiting: Any = None
        self.blocks = False
        self.cancel: BaseException | None = None
        self._rest: Generator[Any, Any, None] | None = None
        body = task_body(_taken(self))
        body.send(None)
        self._task_context = around = copy_context()
        self.task = asyncio.Task(body, loop=tasks.loop, context=around)
        self.references, self.weak = getrefcount(self.task), getweakrefcount(self.task)

    is_known = property(is_known)

    @property
    def owner(self) -> tuple[Any, str, LazyResult[Any] | None, str | None]:
        """The call, for a report."""
        operation = self.operation
        return self.run, operation.name, None, None if operation.is_async else operation.mode

    @property
    def threshold(self) -> float:
        """Seconds that the step may take."""
        if not self.operation.is_async:
            return PLAIN_THRESHOLD
        allowed: float = self.monitor.allowed(False)
        return allowed

    def waits(self, waiting: Any, context: Context) -> None:
        """Its first step, in ``context``, has yielded ``waiting``."""
        self.waiting, self.context = waiting, context
        self.blocks = getattr(waiting, "_asyncio_future_blocking", False)
        if self.blocks:  # as a task does at once; otherwise no other call could await it
            waiting._asyncio_future_blocking = False

    def has_ended(self, value: Any, error: BaseException | None, context: Context) -> None:
        """It has ended in its first step, but was cancelled: that is dealt with in its task."""
        self.coro, self.waiting, self.context = ended(value, error), None, context
        self.coro.send(None)

    def begins(self) -> None:
        """The task makes its first step, so that it is spare no more."""
        if self._tasks.spare is self:
            self._tasks.spare = None

    def enter(self, run: Any) -> None:
        """Let the later steps, and the task, belong to a run."""
        self.context.run(run.enter)
        self._task_context.run(run.enter)

    def goes_on_as(self, rest: Generator[Any, Any, None]) -> None:
        """Let the task go on with ``rest``, before the next turn of the event loop."""
        self._rest = rest

    def resumed(self) -> Resumed:
        """Its coroutine, as one that has not begun."""
        return Resumed(self)

    def drop(self) -> None:
        """End a call that waits, and that was not taken over."""
        if self.coro is not None and self._rest is None:
            self.coro.close()


class Resumed:
    """The coroutine of an early call. Its first step yields the future that the call waits for."""

    __slots__ = ("_call", "_send", "throw")

    def __init__(self, call: EarlyCall) -> None:
        assert call.coro is not None
        self._call: EarlyCall | None = call
        self._send = call.coro.send
        self.throw = call.coro.throw

    def send(self, value: Any) -> Any:
        """Make a step."""
        call = self._call
        if call is None:
            return self._send(value)
        waiting, cancel = call.waiting, call.cancel
        self._call = call.coro = call.waiting = call.cancel = None
        # As Task.cancel does: what the coroutine waits for gets the cancel, if it takes that.
        if cancel is not None and (waiting is None or not waiting.cancel(*cancel.args)):
            return self.throw(cancel)
        if waiting is None:
            return self._send(None)
        if call.blocks:
            waiting._asyncio_future_blocking = True
        return waiting


@coroutine
def ended(value: Any, error: BaseException | None) -> Generator[None, None, Any]:
    """A coroutine that has ended in its first step, to be driven on; it takes no cancels."""
    try:
        with suppress(asyncio.CancelledError):
            yield
        if error is not None:
            raise error
        return value
    finally:
        del error


def _called(
    operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Coroutine[Any, Any, Any]:
    """The coroutine of any function that makes one."""
    try:
        made: Coroutine[Any, Any, Any] = operation.func(*args, **kwargs)
    except StopIteration as error:
        raise carried(operation.func, error) from error
    return made


@coroutine
def _taken(call: EarlyCall) -> Generator[Any, Any, Any]:
    """The body of a spare task: the rest of the call that has taken it, if one has."""
    try:
        yield  # before the task exists, so that an early cancel arrives here
    except asyncio.CancelledError as error:
        call.cancel = error
    call.begins()
    rest, call._rest = call._rest, None
    del call  # otherwise a cycle: it has the task, which has an error that passes this frame
    return None if rest is None else (yield from rest)


def _itself(body: Any) -> Any:
    return body


async def _awaited(body: Generator[Any, Any, Any]) -> Any:
    return await body  # type: ignore[misc]  # one of ``types.coroutine``


#: asyncio makes tasks of generators before Python 3.12 only.
task_body: Any = _awaited if sys.version_info >= (3, 12) else _itself


def has_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``loop.create_task`` makes an ``asyncio.Task``, and nothing else."""
    if loop.get_task_factory() is not None:
        return False
    kind = type(loop)
    found = getattr(kind, "create_task", None)
    return found is asyncio.BaseEventLoop.create_task or kind.__module__ == "uvloop"


marking.add(EarlyTurn.begin.__code__)
