"""The slow lane: handles nodes that are more than plain calls in workers' threads.

It makes attempts of plain functions that do not need the event loop: with retries, timeouts,
caches, conditions, capacities, constraints and shared resources, and with their continuations. All
others belong to the event loop's lane (``pump``, ``event_loop_lane``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from threading import get_ident
from typing import Any, Final

from cascade.runtime.execution.carried_errors import carried
from cascade.runtime.execution.placement import wants_resources
from cascade.runtime.graph_path.compiled_loops.awaited_loops import NOT_ENTERED
from cascade.runtime.graph_path.compiled_loops.loop_driver import MOVED
from cascade.runtime.graph_path.lanes.held_calls import NOT_BEGUN
from cascade.runtime.graph_path.lanes.returned_calls import ReturnedCalls
from cascade.runtime.graph_path.lanes.timed_calls import GIVEN_UP
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import PENDING, Item, Raised, Work
from cascade.runtime.limits.permits import current_permit
from cascade.runtime.resources.instance import ResourceInstance
from cascade.spec.injection import Inject

#: The result of a call that another thread makes: the work waits, or is on another lane.
LEFT: Final = object()
#: The result of a call that was not made, and may be asked for again at once.
AGAIN: Final = object()


class SlowLane(Part):
    """Handles nodes in workers' threads.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._begin = parts.before_call.begin
        self._after_call = parts.after_call
        self._commits = None if parts.run.journal is None else parts.commits
        #: Whether plain functions are called in other processes.
        self._elsewhere = parts.run.elsewhere.everything
        self._wrap = None if parts.run.middleware is None else parts.wrapping.func
        self._returned_calls = ReturnedCalls(parts)

    def work_on(self, item: Item) -> bool:
        """Call plain functions for a node, one after the other.

        Returns:
            Whether the thread has to leave at once, because its call was given up.
        """
        work: Work | None = None
        cell: list[Any] | None = None
        end, next_work = self._end, self._after_call.next_work
        limit_waits = self._dispatch.limit_waits
        try:
            if end.stopping:
                return False
            work = self._begin(item)
            if work is not None:
                cell = self._dispatch.pool.cell()
                cell[0] = (work.segment, work)  # for ``cs.current``
            while work is not None and not end.stopping:
                if self._commits is not None:
                    self._commits.await_lease()
                try:
                    result = self._next_result(work)
                    if result is AGAIN:
                        continue
                    if result is LEFT or result is GIVEN_UP:
                        # Another thread has the work by now; a call that was given up has cost
                        # the pool this thread.
                        return result is GIVEN_UP
                except (Exception, asyncio.CancelledError) as failure:
                    limit_waits.release(work)  # a node holds no permit during its delay
                    self.fail_attempt(work, failure)
                    return False
                if work.permit is not None:
                    limit_waits.release(work)
                work = next_work(work, result, on_loop=False)
                del result
        except BaseException as error:
            if work is not None:
                limit_waits.release(work)
            self._parts.failures.fail(error, work, item)
        finally:
            if cell is not None:  # the thread may be idle for long, and must not keep the values
                cell[0] = None
        return False

    def _next_result(self, work: Work) -> Any:
        """The result of the next call, or of a batch of a loop, made now if it may begin.

        LEFT and GIVEN_UP if another thread has ``work``; AGAIN if this must be asked once more.

        Raises:
            BaseException: The error of the call.
        """
        if work.handed is not PENDING:
            result, work.handed = work.handed, PENDING
            if type(result) is Raised:
                raise result.error
            return result
        if work.loop is not None:
            if self._reports.wanted:
                self._reports.goes_on(work)
            result = self._spin(work)
            if result is NOT_ENTERED:
                return AGAIN
            return LEFT if result is MOVED else result
        if (
            self._run.constraints.any or work.policies.capacities or work.permit is not None
        ) and not self._may_begin(work):
            return LEFT
        if self._reports.wanted:
            self._reports.goes_on(work)
        if self._returned_calls.fits(work):
            return self._returned_calls.call(work)
        context = self._run.context.copy()  # a task's changes are invisible to others (M12)
        if work.permit is not None:
            context.run(current_permit.set, work.permit)
        result = self._call(context, work)
        if result is NOT_BEGUN:
            self._dispatch.limit_waits.release(work)
            return AGAIN
        return result

    def fail_attempt(self, work: Work, failure: BaseException) -> None:
        """Settle a failed attempt of work that no longer holds a permit, or schedule the next."""
        error = carried(work.operation.func, failure)
        try:
            # In a loop, unless a step has failed, it is the limit of steps.
            is_attempt = work.loop is None and isinstance(error, Exception)
            if is_attempt and self._after_call.tries_again(work, error):  # type: ignore[arg-type]
                return
        except BaseException as fault:  # of the user's functions that decide
            error = fault
        self._parts.failures.fail(error, work)

    def not_opened(self, item: Item, error: BaseException) -> None:
        """Settle an item whose resource could not be opened. In the loop's thread."""
        work: Work | None = None
        try:
            work = self._begin(item)
        except BaseException as fault:
            self._parts.failures.fail(fault, None, item)
        if work is not None:
            if self._reports.wanted:
                self._reports.goes_on(work)
            self._dispatch.limit_waits.release(work)
            self.fail_attempt(work, error)

    def go_on(self, work: Work) -> bool:
        """Continue work that the fast lane has begun; ``work.handed`` is the result of its call.

        Returns:
            See ``work_on``.
        """
        result, work.handed = work.handed, PENDING
        try:
            going_on = self._after_call.next_work(work, result, on_loop=False)
        except BaseException as error:
            self._parts.failures.fail(error, work)
        else:
            del result  # a loop must not hold the arguments of its tail call
            if going_on is not None:
                return self.work_on((going_on.segment, going_on))
        return False

    def _call(self, context: Context, work: Work) -> Any:
        """Make the call of ``work`` in ``context``; LEFT and GIVEN_UP if it has no result yet."""
        if work.operation.mode == "process" or (self._elsewhere and self._is_elsewhere(work)):
            return self._parts.remote_lane.begin(work, LEFT)
        func = work.operation.func if self._wrap is None else self._wrap(work)
        timeout = work.policies.timeout
        if timeout is not None:
            return self._parts.timed_calls.call(context, work, func, timeout)
        if not wants_resources(work.args, work.kwargs):
            return context.run(func, *work.args, **work.kwargs)
        used = self._opened(work)
        if used is None:
            return LEFT
        resources = self._run.resources
        if resources.has_unshared and resources.need_attempt(work.args, work.kwargs):
            return self._parts.held_calls.call(context, work, func, used)
        return context.run(self._call_with, work, func, used)

    def _is_elsewhere(self, work: Work) -> bool:
        """Whether an executor for everything makes the call."""
        run = self._run
        return run.elsewhere.takes_call(work.operation, work.args, work.kwargs, run.resources)

    def _opened(self, work: Work) -> list[ResourceInstance] | None:
        """The shared resources of the next call; None if ``work`` goes on when they are open."""
        dispatch, resources = self._dispatch, self._run.resources
        found = []
        for value in (*work.args, *work.kwargs.values()):
            if type(value) is not Inject:
                continue
            below = resources.below(value)
            if below is None:
                dispatch.limit_waits.release(work)
                with self._lock:
                    dispatch.to_loop((work.segment, work))
                return None
            for wanted in below:
                while (instance := resources.ready(wanted)) is None:
                    dispatch.limit_waits.pause(work)
                    if dispatch.resource_waits.opened(wanted, (work.segment, work)) is None:
                        return None
                    if not dispatch.limit_waits.acquire(work):
                        return None
                found.append(instance)
        return found

    def _call_with(
        self, work: Work, func: Callable[..., Any], used: Sequence[ResourceInstance]
    ) -> Any:
        """Call a function with its resources."""
        resources, me = self._run.resources, get_ident()
        left = iter(used)
        args = [next(left).resource if type(v) is Inject else v for v in work.args]
        kwargs = {
            n: next(left).resource if type(v) is Inject else v for n, v in work.kwargs.items()
        }
        resources.in_use[me] = used
        try:
            return func(*args, **kwargs)
        finally:
            resources.in_use.pop(me, None)

    def _spin(self, work: Work) -> Any:
        """The result of a batch of the loop of ``work``; see ``LoopDriver``."""
        if not self._run.is_own_thread(get_ident()):
            return self._parts.driver.drive_on_worker(work)
        assert work.loop is not None
        work.loop.stays = True  # an inline executor: the event loop needs its turns
        with self._lock:
            self._dispatch.to_loop((work.segment, work))
        return MOVED

    def _may_begin(self, work: Work) -> bool:
        """Whether the next call may begin now; its clock stands still until it does."""
        if self._reports.wanted and not work.waits_since:
            self._reports.waits(work)  # at once: another thread may go on with it
        return self._dispatch.limit_waits.acquire(work)
