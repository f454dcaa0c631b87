"""The event loop's lane: handles nodes that are more than a call, each in an asyncio task.

In the event loop's thread. The pump makes calls of coroutines and inline functions that have no
resources of their own and no limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from cascade.runtime.attempts import NodeCall, NodeProcessor
from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.fairness import YieldBudget
from cascade.runtime.execution.placement import wants_resources
from cascade.runtime.graph_path.lanes.held_jobs import HeldJobs
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Item, Work
from cascade.runtime.limits.admission import needs_permit
from cascade.spec.policies import PLAIN_CALLS


class EventLoopLane(Part):
    """Awaits coroutine functions, opens resources, ends calls in time.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._begin = parts.before_call.begin
        self._after_call = parts.after_call
        self._commits = None if parts.run.journal is None else parts.commits
        #: Asyncio task → its work, for ``cs.current``.
        self.working: dict[asyncio.Task[Any], Work] = {}
        self._jobs: Callable[[], HeldJobs] = lambda: parts.held_jobs
        self._processor = NodeProcessor(
            self._run,
            self._end.is_cancelled,
            jobs=self._jobs,
            wrap=None if self._run.middleware is None else parts.wrapping.func,
        )

    async def work_on(self, item: Item, in_place: bool = False) -> None:
        """Handle a node in the current asyncio task.

        ``in_place`` means that this is the run's own task, from which a cancel is raised.
        """
        work: Work | None = None
        budget: YieldBudget | None = None
        task: Any = asyncio.current_task()
        end, next_work = self._end, self._after_call.next_work
        try:
            work = self._begin(item)
            if work is not None:
                self.working[task] = work
            while work is not None and not end.stopping:
                if work.operation.is_wait and not self._run.replaces(work):
                    self._parts.waits.begin(work)
                    return
                is_batch = work.loop is not None
                if self._commits is not None:
                    await self._commits.renewed_lease()
                try:
                    if is_batch:
                        budget = budget or YieldBudget()
                        result = await self._parts.driver.drive(work, budget, self._reports)
                    else:
                        result = await self._call(work)
                except Exception as error:
                    # In a loop, unless a step has failed, it is the limit of steps.
                    if work.loop is None and self._after_call.tries_again(work, error):
                        return
                    raise
                if is_batch:
                    work = self._after_call.after_batch(work, result)
                else:
                    work = next_work(work, result, on_loop=True)
                del result
                if work is not None:
                    budget = budget or YieldBudget()
                    if budget.step():
                        await budget.pause()
        except BaseException as error:
            if self.failed(error, work, item, in_place):
                raise
        finally:
            self.working.pop(task, None)
            self._dispatch.left(task)

    def failed(
        self, error: BaseException, work: Work | None, item: Item, in_place: bool = False
    ) -> bool:
        """Settle a failed node; whether the caller must raise the error as well."""
        if self._end.is_cancelled(1) and isinstance(error, asyncio.CancelledError):
            return in_place
        if self._end.stopping and not isinstance(error, Exception):
            # Ctrl-C while the run ends is for the event loop, which cancels the run again.
            return error is not self._end.error
        # Not by the engine: through a handle on this asyncio task (M13).
        if isinstance(error, asyncio.CancelledError):
            inside = cancelled_inside()
            inside.__cause__ = error
            error = inside
        self._parts.failures.fail(error, work, item)
        return False

    def _is_bare(self, work: Work) -> bool:
        """Whether the next call of ``work`` awaits a coroutine, without limits and policies."""
        if not work.operation.is_async or work.policies is not PLAIN_CALLS:
            return False
        if self._run.middleware is not None:
            return False
        return not needs_permit(self._run.constraints, work.operation, PLAIN_CALLS)

    def _call(self, work: Work) -> Awaitable[Any]:
        """An awaitable for the call of ``work``."""
        operation, args, kwargs = work.operation, work.args, work.kwargs
        is_held = False
        if self._is_bare(work):
            given: Any = args, kwargs
            if wants_resources(args, kwargs):
                is_held = self._run.resources.has_unshared and self._jobs().holds(args, kwargs)
                given = None if is_held else self._run.resources.filled(args, kwargs)
            if given is not None:
                if self._reports.wanted:
                    self._reports.goes_on(work)
                return self._processor.await_once(operation, work.source, *given)
        call = NodeCall(operation, args, kwargs, work.policies, work.source, work)
        if self._reports.wanted:
            call.waits = partial(self._reports.waits, work)
            call.goes_on = partial(self._reports.goes_on, work)
        return (
            self._processor.call_held(call, self._jobs()) if is_held else self._processor.call(call)
        )
