"""Early calls: first steps of calls in the event loop's thread, made before a run has begun.

An asyncio task costs more than a short call, and is of no use to a coroutine that returns without
having waited. So the first step is made with a *spare* task as the current one. If the coroutine
returns, the next call gets the same spare. If it waits, it keeps the spare, whose own first step
goes on with it. So ``asyncio.current_task()`` is one real task during the whole call: it can be
cancelled, and its cancels are counted, from the first step on. If a first step keeps any reference
to the task, no other call gets it.

The pump of a graph run works in the same way, for many calls at once. Here the spare has no owner:
whoever takes over a call that waits says how it goes on.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator, Mapping, Sequence
from contextvars import Context, copy_context
from inspect import CO_COROUTINE
from math import inf
from sys import getrefcount
from types import FunctionType, coroutine
from typing import Any, Protocol
from weakref import getweakrefcount

from cascade.runtime.diagnostics.blocking_calls import PLAIN_THRESHOLD, Marked, marking
from cascade.runtime.execution.carried import carried, guarded, in_loop, named
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


class EarlyTurn(Turn):
    """A turn of the event loop in which calls are begun before there is a run.

    Args:
        loop: The event loop.
        monitor: Watches the steps of the calls.
        owner: Publishes that a step blocks the event loop.

    Attributes:
        context: The context of the calls; set before the first.
    """

    __slots__ = ("_call", "_loop", "_monitor", "_owner", "context")

    context: Context

    def __init__(self, loop: asyncio.AbstractEventLoop, monitor: Any, owner: Any) -> None:
        super().__init__()
        self._loop = loop
        self._monitor = monitor
        self._owner = owner
        self._call: EarlyCall | None = None

    def begin(self, operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make the first step of a call; the caller is in ``context``.

        Returns:
            The value; or the EarlyCall, which has not ended.

        Raises:
            BaseException: The call has failed.
        """
        call, self._call = self._call, None
        if call is None:
            call = EarlyCall(self._loop, self._monitor, self._owner)
        value = call.made(operation, args, kwargs, self.context)
        if value is not call and not call.is_known:
            self._call = call
        return value


class References(Protocol):
    """The numbers of references to a spare task when it was made."""

    task: asyncio.Task[Any]
    _references: int
    _weak: int


def is_known(spare: References) -> bool:
    """Whether a call has kept a reference to the task, or waits for its end."""
    return (
        getrefcount(spare.task) != spare._references
        or getweakrefcount(spare.task) != spare._weak
        or getattr(spare.task, "_callbacks", None) is not None
    )


class EarlyCall(Marked):
    """A spare task, and the call that uses it or has taken it.

    Args:
        loop: The event loop.
        monitor: Watches the step.
        owner: Publishes that it blocks the event loop.

    Attributes:
        task: The asyncio task.
        operation: The operation of the call.
        context: The context of its steps.
        coro, waiting: Its coroutine, and the value that its first step has yielded.
        end: Its value and its error, if it has ended but was cancelled.
        cancel: The cancel that came before it went on, or None.
    """

    __slots__ = (
        "_loop",
        "_owner",
        "_references",
        "_rest",
        "_weak",
        "began",
        "cancel",
        "context",
        "coro",
        "dealt_with",
        "end",
        "monitor",
        "operation",
        "task",
        "waiting",
    )

    on_late = None
    operation: Operation
    context: Context
    end: tuple[Any, BaseException | None] | None

    def __init__(self, loop: asyncio.AbstractEventLoop, monitor: Any, owner: Any) -> None:
        self._loop = loop
        self._owner = owner
        self.monitor = monitor
        self.dealt_with = -inf
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.waiting: Any = None
        self.end = None
        self.cancel: BaseException | None = None
        self._rest: Generator[Any, Any, None] | None = None
        body = task_body(_taken(self))
        body.send(None)
        self.task = asyncio.Task(body, loop=loop, context=copy_context())
        self._references, self._weak = getrefcount(self.task), getweakrefcount(self.task)

    is_known = property(is_known)

    @property
    def owner(self) -> tuple[Any, str, LazyResult[Any] | None, str | None]:
        """The call, for a report."""
        operation = self.operation
        return self._owner, operation.name, None, None if operation.is_async else operation.mode

    @property
    def threshold(self) -> float:
        """Seconds that the step may take."""
        if not self.operation.is_async:
            return PLAIN_THRESHOLD
        allowed: float = self.monitor.allowed(False)
        return allowed

    def made(
        self,
        operation: Operation,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        context: Context,
    ) -> Any:
        """Make the first step; see ``EarlyTurn.begin``."""
        self.operation = operation
        loop, task, monitor, func = self._loop, self.task, self.monitor, operation.func
        marks, clock = monitor.marks, monitor.clock
        outer_task, outer = asyncio.current_task(loop), marks.current
        is_hidden = events._get_running_loop() is None
        if is_hidden:  # from the plain functions around this call
            events._set_running_loop(loop)
        if outer_task is not None:
            _leave_task(loop, outer_task)
        value: Any = None
        error: BaseException | None = None
        _enter_task(loop, task)
        try:
            self.began = clock()
            marks.current = self
            if monitor.quiet:
                monitor.stir(self)
            if not operation.is_async:
                value = in_loop(operation.name, guarded, func, args, kwargs)
            else:
                if type(func) is FunctionType and func.__code__.co_flags & CO_COROUTINE:
                    self.coro = func(*args, **kwargs)
                else:
                    self.coro = _called(operation, args, kwargs)
                self.waiting = self.coro.send(None)
                self.context = context
                return self
        except StopIteration as stop:
            value = stop.value
        except BaseException as failure:
            error = failure
        finally:
            marks.current = outer
            if outer is not None:
                outer.leave_out(clock() - self.began)
            _leave_task(loop, task)
            if outer_task is not None:
                _enter_task(loop, outer_task)
            if is_hidden:
                events._set_running_loop(None)
        self.coro = None
        try:
            if task.cancelling() or isinstance(error, asyncio.CancelledError):
                self.end, self.context = (value, error), context
                return self
            if error is None:
                return value
            raise named(error, operation) if isinstance(error, RuntimeError) else error
        finally:
            del error, value  # this frame lives as long as the error does

    def goes_on_as(self, rest: Generator[Any, Any, None]) -> None:
        """Let the task go on with ``rest``, before the next turn of the event loop."""
        self._rest = rest

    def drop(self) -> None:
        """End a call that waits, and that nobody takes over."""
        if self.coro is not None and self._rest is None:
            self.coro.close()


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
def _taken(call: EarlyCall) -> Generator[Any, Any, None]:
    """The body of a spare task: the rest of the call that has taken it, if one has."""
    try:
        yield  # before the task exists, so that an early cancel arrives here
    except asyncio.CancelledError as error:
        call.cancel = error
    rest, call._rest = call._rest, None
    if rest is not None:
        yield from rest


def _itself(body: Any) -> Any:
    return body


async def _awaited(body: Generator[Any, Any, None]) -> None:
    await body  # type: ignore[misc]  # one of ``types.coroutine``


#: asyncio makes tasks of generators before Python 3.12 only.
task_body: Any = _awaited if sys.version_info >= (3, 12) else _itself


def has_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``loop.create_task`` makes an ``asyncio.Task``, and nothing else."""
    if loop.get_task_factory() is not None:
        return False
    kind = type(loop)
    found = getattr(kind, "create_task", None)
    return found is asyncio.BaseEventLoop.create_task or kind.__module__ == "uvloop"


marking.add(EarlyCall.made.__code__)
