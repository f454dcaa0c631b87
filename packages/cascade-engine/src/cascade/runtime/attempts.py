"""Attempts: one call of a node, with its limits, resources and timeout (R10).

An attempt is made in one of these ways, depending on the thread and the needs of its call:

- ``NodeProcessor.call`` in the event loop's thread: limits → task-scoped resources → timeout →
  one call. Coroutine functions are called there; plain functions on a worker, on the thread of
  their resources, or inline. Workers open and close the resources that plain generators provide
  (``graph_path.lanes.held_jobs``).
- ``graph_path.lanes.pump`` in the event loop's thread, and ``slow_lane`` on a worker: calls that
  need no resources of their own; calls by the pump need no permits either. ``fast_lane`` makes the
  first attempt of a node on a worker, if it need not wait (``light_calls``).

One rule decides in all of these whether another attempt follows: ``pause_after``. Its caller,
``graph_path.lanes.after_call``, lets the node wait for its delay and sends it to its lane again.

Functions of tasks are called in these places, and nowhere else:

=============================  =====================================================================
``graph_path.lanes.pump``      coroutines, and inline functions, without limits
``attempts``                   other attempts in the event loop's thread: ``await_once``
                               (coroutines) and ``_inline``; on a thread: ``_in_thread``
``graph_path.lanes.slow_lane`` attempts on a worker; with a timeout: ``timed_calls``; of plain calls
                               that others have returned: ``returned_calls``
``graph_path.lanes.fast_lane`` plain calls on a worker; ``light_calls``: those that hold capacities;
                               ``held_calls``: those with resources of plain generators
``loops.fused``, ``generated`` steps of loops: code that was written for the task
``loops.trampoline``           steps of loops of several tasks
``straightline``               graphs of plain calls: code that was written for their shape
``vm.registers``               instructions of blueprints that were written by hand
``graph_path.small_runs``      runs without a graph: ``small_run`` in the event loop's thread,
                               ``worker_batches`` on a worker
``execution.early_calls``      first steps of calls in the event loop's thread before a run, or its
                               graph, has begun
``durable.kept_calls``         calls in a transaction, on a worker
=============================  =====================================================================

Other functions of users: providers of resources (``resources.instance`` and
``resources.held``); keys and conditions of
caches (``spec.caching``, ``graph_path.node_rules.caching``); ``on`` and ``delay`` of retries
(``spec.retry``); migrations of stored calls (``graph.stored_calls``); handlers of events (``bus``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from cascade.runtime.context_managers import in_time
from cascade.runtime.current import attempt_here
from cascade.runtime.durable.kept_calls import KeptCall
from cascade.runtime.execution.cancels import Cancels, IsCancelled, cancelled_inside
from cascade.runtime.execution.carried_errors import guarded
from cascade.runtime.execution.placement import Place, wants_resources
from cascade.runtime.in_worker import in_worker
from cascade.runtime.limits.admission import needs_another, needs_permit
from cascade.runtime.limits.permits import Permit, current_permit
from cascade.runtime.resources.held import Held
from cascade.runtime.resources.session import Attempt
from cascade.runtime.run import Run
from cascade.spec.errors import TaskTimeoutError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies
from cascade.spec.protocols import Executor

#: The result of an attempt that must ask its limits again.
_NOT_BEGUN: Final = object()
#: Called with the future of an abandoned call.
_OnAbandon: TypeAlias = Callable[[Future[Any]], None]


@dataclass(slots=True)
class NodeCall:
    """A call of a node: the operation, its arguments and its policies."""

    operation: Operation
    #: With markers in place of resources.
    args: Iterable[Any]
    kwargs: Mapping[str, Any]
    policies: CallPolicies = PLAIN_CALLS
    #: Its lazy value, for events.
    source: LazyResult[Any] | None = None
    #: The work of its node, for ``cs.current``.
    work: Any = None
    #: The permit of its attempt, if it needed one.
    permit: Permit | None = None
    #: Called when the next call must wait, and when it goes on.
    waits: Callable[[], None] = lambda: None
    goes_on: Callable[[], None] = lambda: None


class Jobs(Protocol):
    """What workers do for coroutines with held resources; see ``lanes.held_jobs``."""

    def holds(self, args: Any, kwargs: Any) -> bool:
        """Whether workers can open all that a call is given, and have to."""

    def new(self) -> Held:
        """The resources of an attempt, none of which is open."""

    async def open(self, held: Held, work: Any, args: Any, kwargs: Any) -> Any:
        """The arguments of a call, with resources in place of their markers."""

    async def close(self, held: Held, work: Any, error: BaseException | None) -> None:
        """Close all after a call, which ``error`` has ended, if that is not None."""

    async def call(self, work: Any, call: Callable[[], Any], on_abandon: _OnAbandon | None) -> Any:
        """The result of a plain call, made by a worker."""


class NodeProcessor:
    """Makes attempts in the event loop's thread, for one run.

    Args:
        run: The run.
        is_cancelled: Whether the engine has cancelled the current asyncio task.
        on_cancel: Called when an attempt was cancelled and is about to wait for a plain call.
        jobs: Returns what has workers open and close what coroutines hold; None if owners do that.
        wrap: Returns the function that the next call of some work calls, if there are middlewares.
    """

    def __init__(
        self,
        run: Run,
        is_cancelled: IsCancelled,
        on_cancel: Callable[[], None] | None = None,
        jobs: Callable[[], Jobs] | None = None,
        wrap: Callable[[Any], Callable[..., Any]] | None = None,
    ) -> None:
        self._jobs = jobs
        self._wrap = wrap
        self._run = run
        self._is_cancelled = is_cancelled
        self._on_cancel = on_cancel

    async def call(self, call: NodeCall) -> Any:
        """Make one attempt. If its limits change on its way to a thread, it asks them again.

        Raises:
            Exception: The error of the call.
            TaskTimeoutError: The call took too long.
        """
        run = self._run
        result = _NOT_BEGUN
        while result is _NOT_BEGUN:
            if not needs_permit(run.constraints, call.operation, call.policies):
                call.permit = None
                call.goes_on()
                result = await self._with_resources(call, None)
                continue
            call.waits()
            gate = run.gate
            call.permit = permit = await gate.admitted(call.operation, call.source, call.policies)
            call.goes_on()
            abandoned: list[Future[Any]] = []
            try:
                result = await self._with_resources(call, abandoned.append)
            finally:
                if abandoned:  # the call goes on, and uses the permit (M8)
                    gate.leave_after(permit, abandoned[0])
                else:
                    gate.leave(permit)
        return result

    async def _with_resources(self, call: NodeCall, on_abandon: _OnAbandon | None) -> Any:
        if not wants_resources(call.args, call.kwargs):
            return await self._make(call, call.args, call.kwargs, None, on_abandon)
        if self._jobs is not None and call.operation.is_async:
            jobs = self._jobs()
            if jobs.holds(call.args, call.kwargs):
                return await self.call_held(call, jobs, is_all=False)
        async with self._run.resources.attempt() as attempt:
            kept: KeptCall | None = None
            if self._run.journal is not None and call.work is not None:
                kept = KeptCall(self._run.journal, call.work.node, call.operation.name)
                attempt.key = kept.idempotency_key
            args, kwargs = await attempt.resolve(call.args, call.kwargs, call.operation)

            def keep_until(abandoned: Future[Any]) -> None:
                attempt.keep_until(abandoned)
                if on_abandon is not None:
                    on_abandon(abandoned)

            within = kept if attempt.transacts else None
            return await self._make(call, args, kwargs, attempt, keep_until, within)

    async def call_held(self, call: NodeCall, jobs: Jobs, is_all: bool = True) -> Any:
        """The same for a coroutine with resources that workers open and close.

        Without ``is_all`` the caller has a permit, and asks for it again after ``_NOT_BEGUN``. One
        coroutine does all of it, because each wait passes through every further one.
        """
        if is_all:
            call.goes_on()
        held = jobs.new()
        try:
            args, kwargs = await jobs.open(held, call.work, call.args, call.kwargs)
            run = self._run
            if needs_another(run.constraints, call.operation, call.permit):
                value = _NOT_BEGUN
            else:
                value = await self._awaited(call, args, kwargs)
        except BaseException as error:
            await jobs.close(held, call.work, error)
            raise
        await jobs.close(held, call.work, None)
        return await self.call(call) if is_all and value is _NOT_BEGUN else value

    async def _make(
        self,
        call: NodeCall,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        on: Attempt | None,
        on_abandon: _OnAbandon | None,
        within: KeptCall | None = None,
    ) -> Any:
        """One call, with its timeout, in its place; ``within`` a transaction on a worker."""
        run, timeout = self._run, call.policies.timeout
        place = run.placement.place(
            call.operation,
            timeout=timeout,
            bound=on is not None and on.bound,
        )
        if place is Place.LOOP:
            return await self._awaited(call, args, kwargs)
        if place is Place.INLINE and within is None:
            return await self._inline(call.operation, self._func(call), args, kwargs)
        executor: Executor = run.threads
        if place is Place.BOUND:
            executor = run.resources.bound_thread
        func = self._func(call)
        if place is Place.WORKER and timeout is None and within is None and self._jobs is not None:
            make = partial(self._in_thread, call, func, args, kwargs)
            in_context = partial(run.context.copy().run, make)
            return await self._jobs().call(call.work, in_context, on_abandon)
        if within is not None and on is not None:
            func = within.transacting(func, on.is_abandoned)
        return await in_worker(
            run,
            self._in_thread,
            (call, func, args, kwargs),
            {},
            executor,
            name=call.operation.name,
            source=call.source,
            priority=call.policies.priority,
            timeout=timeout,
            on_abandon=on_abandon,
            on_cancel=self._on_cancel,
        )

    def _in_thread(self, call: NodeCall, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The body of the call in a worker thread."""
        operation, permit = call.operation, call.permit
        if call.work is not None:
            attempt_here.set((self._run, call.work))
        if needs_another(self._run.constraints, operation, permit):
            return _NOT_BEGUN
        if permit is not None:
            current_permit.set(permit)
        return guarded(self._run.placement.timed(operation, func), args, kwargs)

    def _func(self, call: NodeCall) -> Callable[..., Any]:
        """The function to call, with middlewares around it if there are any."""
        if self._wrap is None or call.work is None:
            return call.operation.func
        return self._wrap(call.work)

    async def _inline(
        self,
        operation: Operation,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a plain function in the event loop's thread, where a cancel waits for an await."""
        cancels = Cancels()
        try:
            value = self._run.call_here(operation, func, args, kwargs)
        except BaseException as error:
            if cancels.count and not self._is_cancelled(cancels.count):
                await cancels.settle(error, self._is_cancelled)
            raise
        if cancels.count and not self._is_cancelled(cancels.count):
            await cancels.settle(None, self._is_cancelled)
        return value

    def _awaited(
        self, call: NodeCall, args: Iterable[Any], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """An awaitable for a task's coroutine, within its timeout."""
        operation, source, permit = call.operation, call.source, call.permit
        func = self._func(call)
        if call.policies.timeout is not None:
            return self._in_time(call, func, args, kwargs)
        return self.await_once(operation, source, args, kwargs, permit, func=func)

    async def _in_time(
        self,
        call: NodeCall,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        operation, timeout = call.operation, call.policies.timeout
        assert timeout is not None
        scope = asyncio.timeout(timeout)
        work = self.await_once(operation, call.source, args, kwargs, call.permit, scope, func)
        try:
            return await in_time(scope, work)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise timed_out(operation.name, timeout) from error.__cause__

    def await_once(
        self,
        operation: Operation,
        source: LazyResult[Any] | None,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        permit: Permit | None = None,
        scope: asyncio.Timeout | None = None,
        func: Callable[..., Any] | None = None,
    ) -> Awaitable[Any]:
        """An awaitable for a call of a coroutine function without policies.

        Args:
            operation: The operation to call.
            source: Its lazy value, for events.
            args: Its positional arguments; no markers of resources.
            kwargs: Its keyword arguments.
            permit: The permit of the call, if it needed one.
            scope: A timeout that may cancel it.
            func: Called in place of the function of ``operation``.

        Raises, when awaited: See ``Run.awaiting``.
        """
        run = self._run
        context = run.context.copy()
        if permit is not None:
            run.gate.mark(context, permit)
        is_over = self._is_cancelled if scope is None else partial(self._is_over, scope)
        coro = (func or operation.func)(*args, **kwargs)
        return run.awaiting(operation, source, coro, context, is_over)

    def _is_over(self, scope: asyncio.Timeout, outside: int) -> bool:
        """Whether the engine has cancelled a call, or the scope of its timeout has."""
        return self._is_cancelled(outside) or scope.expired()


def pause_after(policies: CallPolicies, attempt: int, error: BaseException) -> float | None:
    """Seconds until the next attempt after a failed one; None if that was the last.

    Raises:
        Exception: An error of the user's functions that decide, which is then the node's.
    """
    retry = policies.retry
    if retry is None:
        return None
    try:
        return retry.pause(attempt, error)
    except asyncio.CancelledError as failure:  # of a function, and no cancel of the run
        raise cancelled_inside() from failure


def timed_out(task: str, seconds: float) -> TaskTimeoutError:
    """The error for an attempt that exceeded its timeout."""
    return TaskTimeoutError(f"an attempt of task '{task}' took longer than {seconds:g} s", seconds)
