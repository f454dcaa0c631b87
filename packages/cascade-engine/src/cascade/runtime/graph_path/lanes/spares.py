"""Spare asyncio tasks, for calls that may end in their first step.

An asyncio task costs more than a short call, and is of no use to a coroutine that returns without
having waited. So the pump makes the first step of a call by itself, with a *spare* task as the
current one. If the coroutine returns, the next one gets the same spare. If it waits, it keeps the
spare, whose own first step goes on with it.

So ``asyncio.current_task()`` is one real task during the whole call: it can be cancelled, and its
cancels are counted, from the first step on. If a first step keeps any reference to the task, no
other call gets it.

The steps of a call are made in the context of its task, so that a call that waits has one context
and not two. But calls that return share the spare: once one of them has set a variable (M12), the
task that carries it is dropped, and later calls get contexts apart from their tasks. The code that
follows a call in its task runs without the variables that the call has set.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from math import inf
from sys import getrefcount
from types import coroutine
from typing import Any, Protocol, Self
from weakref import getweakrefcount

from cascade.runtime.attempts import timed_out
from cascade.runtime.diagnostics.blocked_stacks import marking
from cascade.runtime.diagnostics.blocking_calls import PLAIN_THRESHOLD, Marked
from cascade.runtime.execution.cancels import Cancels
from cascade.runtime.execution.carried_errors import carried, guarded, in_loop, raise_named
from cascade.runtime.execution.contexts import differs
from cascade.runtime.execution.early_calls import EarlyCall, is_known, task_body
from cascade.runtime.execution.time_limits import TimeLimits
from cascade.runtime.graph_path.lanes.light_calls import marked
from cascade.runtime.graph_path.run_end import RunEnd
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.run import Run
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation


class Lender(Protocol):
    """The owner of spare tasks.

    Attributes:
        run: The run.
        end: Knows whether the engine has cancelled a call.
        limits: Ends calls that take too long.
        is_apart: Whether the steps of calls are made in contexts other than those of their tasks.
        left: Told that the call that had taken a task has ended.
    """

    run: Run
    end: RunEnd
    limits: TimeLimits
    is_apart: bool
    left: Callable[[asyncio.Task[Any]], object]

    def settle(self, call: Spare, value: Any) -> None:
        """A call has returned ``value``."""

    def fails(self, call: Spare, error: BaseException) -> bool:
        """A call has failed; whether the error must be raised as well."""


class Spare(Cancels, Marked):
    """A spare asyncio task, and the call that uses it or has taken it.

    Args:
        lender: Its owner.
        monitor: Watches the steps of the call.

    Attributes:
        task: The asyncio task.
        segment, node: The node of the call.
        work: Its work, if that exists already.
        operation, args, kwargs: The call.
        is_taken: Whether the call has made its first step, and has taken the task.
        coro, context: Its coroutine, and the context of its steps.
        is_apart: Whether that is not the task's own context.
        waiting, blocks: The value that its first step has yielded; whether that is a future that
            it awaits.
        references, weak: The number of references to the task when it was made.
        started, due, is_over: With a timeout: the times of its beginning and of its latest end, and
            whether it has ended.
    """

    __slots__ = (
        "_expired",
        "_lender",
        "args",
        "began",
        "blocks",
        "context",
        "coro",
        "dealt_with",
        "due",
        "is_apart",
        "is_over",
        "is_taken",
        "kwargs",
        "monitor",
        "node",
        "operation",
        "references",
        "segment",
        "started",
        "waiting",
        "weak",
        "work",
    )

    on_late = None
    task: asyncio.Task[Any]
    segment: Any
    node: Any
    work: Work | None
    operation: Operation
    args: Any
    kwargs: Any
    coro: Any
    context: Context
    waiting: Any
    started: float
    due: float
    is_over: bool

    def __init__(self, lender: Lender, monitor: Any) -> None:
        self._lender = lender
        self.monitor = monitor
        self.dealt_with = -inf
        self.before = self.own = 0
        self.work = None
        self._expired: bool | None = None
        self.is_taken = False

    def begin(self) -> Self:
        """Make the task, whose body yields before all else, and gets early cancels there."""
        body = task_body(self.rest())
        body.send(None)
        lender = self._lender
        run, self.is_apart = lender.run, lender.is_apart
        self.context = context = run.context.copy()
        if self.is_apart:
            self.context = run.context.copy()
        self.task = task = asyncio.Task(body, loop=run.loop, context=context)
        # One reference less, as ``task`` is none of the call's.
        self.references, self.weak = getrefcount(task) - 1, getweakrefcount(task)
        return self

    is_known = property(is_known)

    def runs_for(self, run: Run) -> bool:
        """Whether it makes a call of ``run`` at this moment."""
        return self._lender.run is run and self.node is not None

    # -- the mark of a step -------------------------------------------------------------------

    @property
    def owner(self) -> tuple[Run, str, LazyResult[Any] | None, str | None]:
        """The call, for a report."""
        operation = self.operation
        if operation.is_async:
            source = self.node if self.work is None else self.work.source
            return self._lender.run, operation.name, source, None
        return self._lender.run, operation.name, None, operation.mode

    @property
    def threshold(self) -> float:
        """Seconds that a step may take."""
        if not self.operation.is_async:
            return PLAIN_THRESHOLD
        allowed: float = self.monitor.allowed(self.operation.may_block)
        return allowed

    def begin_coroutine(self) -> Any:
        """Make the first step of a coroutine, of any function that makes one; what that yields.

        Raises:
            StopIteration: It has returned.
        """
        func = self.operation.func
        try:
            self.coro = coro = func(*self.args, **self.kwargs)
        except StopIteration as error:
            raise carried(func, error) from error
        return coro.send(None)

    def call(self) -> Any:
        """The value of a plain function, called in the event loop's thread."""
        operation = self.operation
        return in_loop(operation.name, guarded, operation.func, self.args, self.kwargs)

    # -- the call that has taken it -----------------------------------------------------------

    def begun(self) -> Work:
        """The work of the call."""
        if self.work is None:
            args, kwargs = marked(self.node, self.args, self.kwargs)
            self.work = Work.called(self.segment, self.node, args, kwargs)
        return self.work

    def forget(self) -> None:
        """Drop the references to the call."""
        self.args = self.kwargs = self.node = self.segment = self.work = None
        self.coro = self.waiting = None

    def take(self, instead: Coroutine[Any, Any, Any] | None = None) -> None:
        """Let the call, which has made its first step, keep the task.

        ``instead`` goes on in place of its coroutine, and has not begun.
        """
        if instead is not None:
            instead.send(None)
            self.coro, self.waiting = instead, None
        self.is_taken = True
        waiting = self.waiting
        self.blocks = waiting is not None and getattr(waiting, "_asyncio_future_blocking", False)
        if self.blocks:  # as a task does at once; otherwise no other call could await it
            waiting._asyncio_future_blocking = False
        self._lender.run.calls[self] = self.operation.name
        if asked := self.task.cancelling():
            self.changed(asked)
        if self.work is not None and (timeout := self.work.policies.timeout) is not None:
            self.due, self.is_over, self._expired = self.started + timeout, False, False
            self._lender.limits.add(self, timeout)

    def adopt(self, work: Work, early: EarlyCall) -> None:
        """Take over a call that has made its first step with a task of its own."""
        early.enter(self._lender.run)
        self.task, self.context, self.is_apart = early.task, early.context, True
        self.segment, self.node, self.work = work.segment, work.node, work
        self.operation, self.args, self.kwargs = work.operation, work.args, work.kwargs
        self.coro, self.waiting, self.began = early.coro, early.waiting, early.began
        self.take()
        self.blocks = early.blocks
        early.coro = early.waiting = None

    def expire(self) -> None:
        """Cancel the call, which takes too long."""
        self._expired = True
        self.task.cancel()

    def _is_cancelled(self, outside: int) -> bool:
        return bool(self._expired) or self._lender.end.is_cancelled(outside)

    async def end(self, error: BaseException | None) -> None:
        try:
            if error is None or self.own > 0 or isinstance(error, asyncio.CancelledError):
                await self.settle(error, self._is_cancelled)
            if self._expired:
                self.task.uncancel()
            if isinstance(error, RuntimeError):
                raise_named(error, self.operation)
        except asyncio.CancelledError as cancelled:
            if not self._expired or self.task.uncancel() > 0:
                raise
            assert self.work is not None
            assert self.work.policies.timeout is not None
            late = timed_out(self.operation.name, self.work.policies.timeout)
            raise late from cancelled
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn

    @coroutine
    def rest(self, early: EarlyCall | None = None) -> Generator[Any, Any, None]:
        """The body of the task: the rest of the call that has taken it.

        ``early`` is the same call, if it had the task before the run had begun.

        The same as ``watched`` after the first step, and what follows the call, in one frame:
        every wait passes through each frame.
        """
        value: Any = None
        try:
            if early is None:
                yield  # before the task exists, so that an early cancel arrives here
            else:
                value, early.cancel = early.cancel, None
                early = None  # it need not live as long as the call
        except asyncio.CancelledError as error:
            value = error
        if not self.is_taken:
            return
        coro, waiting, task, lender = self.coro, self.waiting, self.task, self._lender
        run = lender.run
        monitor, context, is_apart = self.monitor, self.context, self.is_apart
        marks, clock = monitor.marks, monitor.clock
        resume: Any = coro.send
        before = after = task.cancelling()
        failure: BaseException | None = None
        try:
            # As Task.cancel does: what the coroutine waits for gets the cancel, if it takes that.
            if value is not None and (waiting is None or not waiting.cancel(*value.args)):
                resume = coro.throw
            elif waiting is not None:
                if self.blocks:
                    waiting._asyncio_future_blocking = True
                try:
                    value = yield waiting
                except BaseException as error:
                    resume, value = coro.throw, error
                before = task.cancelling()
            while True:
                outer = marks.current
                try:
                    self.began = clock()
                    marks.current = self
                    if monitor.quiet:
                        monitor.stir(self)
                    # This is a step of the task: ``context`` is entered, if it is the task's.
                    waiting = context.run(resume, value) if is_apart else resume(value)
                    if type(waiting) is Returned:
                        value, waiting.value = waiting.value, None
                        break
                except StopIteration as stop:
                    value = stop.value
                    break
                finally:
                    marks.current = outer
                    if outer is not None:
                        outer.leave_out(clock() - self.began)
                    if (after := task.cancelling()) != before:
                        self.changed(after - before)
                before, value = after, None
                try:
                    resume, value = coro.send, (yield waiting)
                    if waiting is not None and type(waiting) is not Future:
                        before = task.cancelling()
                except BaseException as error:
                    before = task.cancelling()
                    resume, value = coro.throw, error
        except BaseException as error:
            failure, value = error, None
        try:
            if failure is not None or after:
                yield from self.end(failure).__await__()
            if failure is not None:
                raise failure
        except BaseException as error:
            is_raised = run.context.copy().run(lender.fails, self, error)
            self.forget()  # the error keeps this frame
            if is_raised:
                raise
        else:
            if is_apart or (
                len(context) == len(run.context) and not (run.held and differs(context, run.held))
            ):
                lender.settle(self, value)
            else:  # without the variables that the call has set
                run.context.copy().run(lender.settle, self, value)
        finally:
            failure = value = None
            del run.calls[self]
            if self._expired is not None:
                self.is_over = True
                lender.limits.leave()
                self.forget()  # the limits keep it
            lender.left(task)


class Returned:
    """What a coroutine gives in place of something that it awaits: it has returned ``value``."""

    __slots__ = ("value",)
    value: Any


@coroutine
def first_steps() -> Generator[Any, Any, None]:
    """Begins the coroutines that are sent to it, one after the other.

    It yields what a coroutine awaits, and then drives that one to its end; or a Returned. An
    exception, such as the StopIteration of ``coro.send``, takes longer than a short coroutine.
    """
    returned = Returned()
    coro = yield
    while True:
        returned.value = yield from coro
        coro = yield returned


marking.add(first_steps.__code__)
marking.update((Spare.begin_coroutine.__code__, Spare.call.__code__, Spare.rest.__code__))
