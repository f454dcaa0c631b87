"""The loop's lane: handles each node in an asyncio task, in the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any

from cascade.runtime.attempts import NodeCall, NodeProcessor
from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.fairness import YieldBudget
from cascade.runtime.graph_path.beginnings import Beginnings
from cascade.runtime.graph_path.dispatch import Dispatch
from cascade.runtime.graph_path.failures import Failures
from cascade.runtime.graph_path.following import Following
from cascade.runtime.graph_path.loop_driver import LoopDriver
from cascade.runtime.graph_path.segments import Item, Work
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.spec.policies import PLAIN_CALLS


class LoopLane:
    """Awaits coroutine functions, opens resources, ends calls in time.

    Args:
        surroundings: The shared parts of the run.
        beginnings: Begins nodes.
        following: Returns the work after a call.
        driver: Makes steps of loops.
        dispatch: Counts the asyncio tasks that end.
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
        self._run, _, self._reports, self._end = surroundings
        self._begin = beginnings.begin
        self._following = following
        self._driver = driver
        self._dispatch = dispatch
        self._failures = failures
        self._processor = NodeProcessor(self._run, self._end.is_cancelled)

    async def work_on(self, item: Item, in_place: bool = False) -> None:
        """Handle a node in the current asyncio task.

        ``in_place`` means that this is the run's own task, from which a cancel is raised.
        """
        work: Work | None = None
        budget: YieldBudget | None = None
        end, after = self._end, self._following.after
        try:
            work = self._begin(item)
            while work is not None and not end.stopping:
                if work.loop is None:
                    try:
                        result = await self._call(work)
                    except Exception as error:
                        if self._following.tries_again(work, error):
                            return
                        raise
                    work = after(work, result, on_loop=True)
                    del result
                else:
                    budget = budget or YieldBudget()
                    work = self._following.after_batch(
                        work, await self._driver.drive(work, budget, self._reports)
                    )
                if work is not None:
                    budget = budget or YieldBudget()
                    if budget.step():
                        await budget.pause()
        except BaseException as error:
            if self._failed(error, work, item, in_place):
                raise
        finally:
            self._dispatch.left()

    def _failed(self, error: BaseException, work: Work | None, item: Item, in_place: bool) -> bool:
        """Settle a failed node; whether its asyncio task must raise the error as well."""
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
        self._failures.fail(error, work, item)
        return False

    def _is_bare(self, work: Work) -> bool:
        """Whether the next call of ``work`` awaits a coroutine, without limits and policies."""
        gate = self._run.gate
        if not work.operation.is_async or work.policies is not PLAIN_CALLS:
            return False
        return not (gate.constraints.any and gate.governs(work.operation, PLAIN_CALLS))

    def _call(self, work: Work) -> Awaitable[Any]:
        """An awaitable for the call of ``work``."""
        operation, args, kwargs = work.operation, work.args, work.kwargs
        if self._is_bare(work):
            given = self._run.resources.filled(args, kwargs)
            if given is not None:
                if self._reports.wanted:
                    self._reports.goes_on(work)
                return self._processor.await_once(operation, work.source, *given)
        call = NodeCall(operation, args, kwargs, work.policies, work.source)
        if self._reports.wanted:
            call.waits = partial(self._reports.waits, work)
            call.goes_on = partial(self._reports.goes_on, work)
        return self._processor.call(call)
