"""The slow lane: handles nodes that are more than plain calls in workers' threads.

It makes attempts of plain functions that do not need the event loop: with retries, timeouts,
caches, conditions, capacities and constraints, and with their continuations. All others belong to
the event loop's lane (``pump``, ``loop_lane``).
"""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import Any

from cascade.runtime.execution.carried import carried
from cascade.runtime.graph_path.awaited_loops import NOT_ENTERED
from cascade.runtime.graph_path.loop_driver import MOVED
from cascade.runtime.graph_path.segments import PENDING, Item, Work
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.runtime.graph_path.timed_calls import GIVEN_UP
from cascade.runtime.limits.permits import current_permit


class SlowLane:
    """Handles nodes in workers' threads.

    Args:
        around: The other parts of the run.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._run = around.run
        self._lock = around.lock
        self._reports = around.reports
        self._end = around.end
        self._begin = around.beginnings.begin
        self._following = around.following
        self._dispatch = around.dispatch

    def work_on(self, item: Item) -> bool:
        """Call plain functions for a node, one after the other.

        Returns:
            Whether the thread has to leave at once, because its call was given up.
        """
        work: Work | None = None
        end, copied, after = self._end, self._run.context.copy, self._following.after
        admission, constraints = self._dispatch.admission, self._run.constraints
        watched = self._reports.wanted
        try:
            if end.stopping:
                return False
            work = self._begin(item)
            while work is not None and not end.stopping:
                try:
                    if work.handed is not PENDING:
                        result, work.handed = work.handed, PENDING
                    elif work.loop is not None:
                        if watched:
                            self._reports.goes_on(work)
                        result = self._spin(work)
                        if result is NOT_ENTERED:
                            continue
                        if result is MOVED:
                            return False
                    elif (
                        constraints.any or work.policies.capacities or work.permit is not None
                    ) and not self._admits(work):
                        return False
                    else:
                        if watched:
                            self._reports.goes_on(work)
                        context = copied()  # a task's changes are invisible to others (M12)
                        if work.permit is not None:
                            context.run(current_permit.set, work.permit)
                        timeout = work.policies.timeout
                        if timeout is None:
                            result = context.run(work.operation.func, *work.args, **work.kwargs)
                        else:
                            result = self._around.timed_calls.call(context, work, timeout)
                            if result is GIVEN_UP:  # the work is another thread's by now
                                return True
                except (Exception, asyncio.CancelledError) as failure:
                    admission.left(work)  # a node holds no permit during its delay
                    error = carried(work.operation.func, failure)
                    if (
                        work.loop is None  # a step has failed, not the limit of steps
                        and isinstance(error, Exception)
                        and self._following.tries_again(work, error)
                    ):
                        del error  # its traceback holds this frame
                        return False
                    raise error from error.__cause__
                if work.permit is not None:
                    admission.left(work)
                work = after(work, result, on_loop=False)
                del result
        except BaseException as error:
            if work is not None:
                admission.left(work)
            self._around.failures.fail(error, work, item)
        return False

    def go_on(self, work: Work) -> bool:
        """Continue work that the fast lane has begun; ``work.handed`` is the result of its call.

        Returns:
            See ``work_on``.
        """
        result, work.handed = work.handed, PENDING
        try:
            following = self._following.after(work, result, on_loop=False)
        except BaseException as error:
            self._around.failures.fail(error, work)
        else:
            del result  # a loop must not hold the arguments of its tail call
            if following is not None:
                return self.work_on((following.segment, following))
        return False

    def _spin(self, work: Work) -> Any:
        """The result of a batch of the loop of ``work``; see ``LoopDriver``."""
        if not self._run.is_own_thread(get_ident()):
            return self._around.driver.drive_on_worker(work)
        assert work.loop is not None
        work.loop.stays = True  # an inline executor: the event loop needs its turns
        with self._lock:
            self._dispatch.to_loop((work.segment, work))
        return MOVED

    def _admits(self, work: Work) -> bool:
        """Whether the next call may begin now; its clock stands still until it does."""
        if self._reports.wanted and not work.waits_since:
            self._reports.waits(work)  # at once: another thread may go on with it
        return self._dispatch.admission.admits(work)
