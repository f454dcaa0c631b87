"""Spare asyncio tasks, for calls that may end in their first step.

An asyncio task costs more than a short call, and is of no use to a coroutine that returns without
having waited. So the pump makes the first step of a call by itself, with a *spare* task as the
current one. If the coroutine returns, the next one gets the same spare. If it waits, it keeps the
spare, whose own first step goes on with it.

So ``asyncio.current_task()`` is one real task during the whole call: it can be cancelled, and its
cancels are counted, from the first step on. If a first step keeps any reference to the task, no
other call gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from math import inf
from sys import getrefcount
from typing import Any, Protocol
from weakref import getweakrefcount

from cascade.runtime.attempts import timed_out
from cascade.runtime.diagnostics.blocking_calls import PLAIN_THRESHOLD, Marked
from cascade.runtime.execution.cancels import Cancels
from cascade.runtime.execution.carried_errors import raise_named
from cascade.runtime.execution.early_calls import EarlyCall, is_known
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
    """

    run: Run
    end: RunEnd
    limits: TimeLimits


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
        value: The value that the call has returned.
        is_taken: Whether the call has made its first step, and has taken the task.
        coro, context: Its coroutine, and the context of its steps.
        waiting, blocks: The value that its first step has yielded; whether that is a future that
            it awaits.
        started, due, is_over: With a timeout: the times of its beginning and of its latest end, and
            whether it has ended.
    """

    __slots__ = (
        "_expired",
        "_lender",
        "_references",
        "_weak",
        "args",
        "began",
        "blocks",
        "cancelling",
        "context",
        "coro",
        "dealt_with",
        "due",
        "is_over",
        "is_taken",
        "kwargs",
        "monitor",
        "node",
        "operation",
        "segment",
        "started",
        "value",
        "waiting",
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
    value: Any
    context: Context | None
    waiting: Any
    started: float
    due: float
    is_over: bool

    def __init__(self, lender: Lender, monitor: Any) -> None:
        self._lender = lender
        self.monitor = monitor
        self.dealt_with = -inf
        self.before = self.own = 0
        self.coro: Coroutine[Any, Any, Any] | None = None
        self._expired: bool | None = None
        self.is_taken = False

    def begin(self, body: Coroutine[Any, Any, None]) -> None:
        """Make the task of ``body``, which yields before all else, and gets early cancels there."""
        body.send(None)
        run = self._lender.run
        self.task = asyncio.Task(body, loop=run.loop, context=run.context.copy())
        self.cancelling = self.task.cancelling
        self._references, self._weak = getrefcount(self.task), getweakrefcount(self.task)

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

    # -- the call that has taken it -----------------------------------------------------------

    def begun(self) -> Work:
        """The work of the call."""
        if self.work is None:
            args, kwargs = marked(self.node, self.args, self.kwargs)
            self.work = Work.called(self.segment, self.node, args, kwargs)
        return self.work

    def forget(self) -> None:
        """Drop the references to the call."""
        self.args = self.kwargs = self.value = self.node = self.segment = self.work = None
        self.context = None

    def take(self, context: Context, coro: Coroutine[Any, Any, Any] | None = None) -> None:
        """Let the call, which has made its first step in ``context``, keep the task.

        ``coro`` replaces its coroutine.
        """
        if coro is not None:
            coro.send(None)
            self.coro, self.waiting = coro, None
        self.context = context
        self.is_taken = True
        self.blocks = getattr(self.waiting, "_asyncio_future_blocking", False)
        if self.blocks:  # as a task does at once; otherwise no other call could await it
            self.waiting._asyncio_future_blocking = False
        self._lender.run.calls[self] = self.operation.name
        if asked := self.cancelling():
            self.changed(asked)
        if self.work is not None and (timeout := self.work.policies.timeout) is not None:
            self.due, self.is_over, self._expired = self.started + timeout, False, False
            self._lender.limits.add(self, timeout)

    def adopt(self, work: Work, early: EarlyCall) -> None:
        """Take over a call that has made its first step with a task of its own."""
        early.enter(self._lender.run)
        self.task, self.cancelling = early.task, early.task.cancelling
        self.segment, self.node, self.work = work.segment, work.node, work
        self.operation, self.args, self.kwargs = work.operation, work.args, work.kwargs
        self.coro, self.waiting, self.began = early.coro, early.waiting, early.began
        self.take(early.context)
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

    def over(self) -> None:
        """The call has ended."""
        lender = self._lender
        del lender.run.calls[self]
        if self._expired is not None:
            self.is_over = True
            lender.limits.leave()
        self.forget()
