"""The slow lane: handles nodes that are more than plain calls in workers' threads.

It makes attempts of plain functions that need neither the event loop nor a timeout: with retries,
caches, conditions, capacities and constraints, and with their continuations. All others belong to
the event loop's lane (``loop_lane``).
"""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import Any

from cascade.runtime.graph_path.awaited_loops import NOT_ENTERED
from cascade.runtime.graph_path.beginnings import Beginnings
from cascade.runtime.graph_path.dispatch import Dispatch
from cascade.runtime.graph_path.failures import Failures
from cascade.runtime.graph_path.following import Following
from cascade.runtime.graph_path.loop_driver import MOVED, LoopDriver
from cascade.runtime.graph_path.segments import PENDING, Item, Work
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.runtime.limits.permits import current_permit
from cascade.runtime.run import carried


class SlowLane:
    """Handles nodes in workers' threads.

    Args:
        surroundings: The shared parts of the run.
        beginnings: Begins nodes.
        following: Returns the work after a call.
        driver: Makes steps of loops.
        dispatch: Receives nodes of the event loop's lane; admits calls that have limits.
        failures: Receives errors.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        beginnings: Beginnings,
        following: Following,
        driver: LoopDriver,
        dispatch: Dispatch,
        failures: Failures,
    ) -> None:
        self._run, self._lock, self._reports, self._end = surroundings
        self._begin = beginnings.begin
        self._following = following
        self._driver = driver
        self._dispatch = dispatch
        self._failures = failures

    def work_on(self, item: Item) -> None:
        """Call plain functions for a node, one after the other."""
        work: Work | None = None
        end, copied, after = self._end, self._run.context.copy, self._following.after
        admission, constraints = self._dispatch.admission, self._run.gate.constraints
        watched = self._reports.wanted
        try:
            if end.stopping:
                return
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
                            return
                    elif (
                        constraints.any or work.policies.capacities or work.permit is not None
                    ) and not self._admits(work):
                        return
                    else:
                        if watched:
                            self._reports.goes_on(work)
                        context = copied()  # a task's changes are invisible to others (M12)
                        if work.permit is not None:
                            context.run(current_permit.set, work.permit)
                        result = context.run(work.operation.func, *work.args, **work.kwargs)
                except (Exception, asyncio.CancelledError) as failure:
                    admission.left(work)  # a node holds no permit during its delay
                    error = carried(work.operation.func, failure)
                    if isinstance(error, Exception) and self._following.tries_again(work, error):
                        del error  # its traceback holds this frame
                        return
                    raise error from error.__cause__
                if work.permit is not None:
                    admission.left(work)
                work = after(work, result, on_loop=False)
                del result
        except BaseException as error:
            if work is not None:
                admission.left(work)
            self._failures.fail(error, work, item)

    def go_on(self, work: Work) -> None:
        """Continue work that the fast lane has begun; ``work.handed`` is the result of its call."""
        result, work.handed = work.handed, PENDING
        try:
            following = self._following.after(work, result, on_loop=False)
        except BaseException as error:
            self._failures.fail(error, work)
        else:
            del result  # a loop must not hold the arguments of its tail call
            if following is not None:
                self.work_on((following.segment, following))

    def _spin(self, work: Work) -> Any:
        """The result of a batch of the loop of ``work``; see ``LoopDriver``."""
        if not self._run.is_own_thread(get_ident()):
            return self._driver.drive_on_worker(work)
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
