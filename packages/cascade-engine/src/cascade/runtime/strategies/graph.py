"""GraphExecutionStrategy: everything that is ready runs, concurrently.

State vocabulary:

- *segment*: a graph in execution. The target's is the first; a task that returns a lazy value adds
  one for whatever that needs (rule R4), and it is dropped when its last node, its target, is done.
- *address*: (segment, node), where the value of a node goes. A target hands its value on to the
  node that it continues, so both have one address, and a loop of tasks that return lazy values
  stays at one address for ever: flat memory.
- *work*: one node being computed: the operation that runs now, with its arguments. A tail call
  changes the operation and the arguments, never the address (rule R5, M3).
- *lane*: plain calls go to the workers' fast lane; what has policies, but is called on a worker,
  takes their slow one; coroutine functions, and calls that want resources or have a timeout, go to
  the event loop.

Lazy values are remembered by address for as long as they live, so that one that is met again, in
whatever task returns or mentions it, is not computed again (M14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any

from cascade.graph.wiring import wire
from cascade.runtime.cancels import cancelled_inside
from cascade.runtime.guard import Guard
from cascade.runtime.limits.tickets import current_ticket
from cascade.runtime.notes import annotate
from cascade.runtime.outcomes import Failed, Missing, refuse_coroutine, value_or_raise
from cascade.runtime.placement import belongs_on_loop, wants_resources
from cascade.runtime.processor import NodeProcessor
from cascade.runtime.run import Run, Waiting, carried
from cascade.runtime.strategies.caches import Caches
from cascade.runtime.strategies.continuations import Continuations
from cascade.runtime.strategies.fastlane import FastLane
from cascade.runtime.strategies.lanes import Lanes, call_of
from cascade.runtime.strategies.nodes import Nodes
from cascade.runtime.strategies.reports import Reports
from cascade.runtime.strategies.segment import (
    PENDING,
    Item,
    Segment,
    Work,
    path_to,
)
from cascade.runtime.ticker import Ticker
from cascade.runtime.tracebacks import leave_out_machinery
from cascade.spec.blueprint import TailCall
from cascade.spec.lazy_types import LazyResult
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.protocols import Solver


class GraphExecutionStrategy:
    """Runs a target as a graph; a node starts when its inputs are there, there are no barriers."""

    name = "graph"

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    async def execute(self, target: LazyResult[Any], run: Run) -> Any:
        """The value of ``target``.

        Raises:
            DependencyMissingError: It was skipped (R6).
            CycleError: Nodes wait for each other.
            ExceptionGroup: Tasks failed, in a run that goes on nevertheless.
        """
        outcome = await _GraphRun(run, self._solver).value(target)
        return value_or_raise(outcome, target.name, target)


class _GraphRun:
    """One run of one target. ``_guard`` guards the segments and the memory of addresses."""

    def __init__(self, run: Run, solver: Solver) -> None:
        self._run = run
        in_order = getattr(solver, "in_order", False)
        self._guard = Guard()
        self._processor = NodeProcessor(run, self._is_cancelled)
        self._reports = Reports(run)
        self._lanes = Lanes(
            run,
            self._guard,
            lambda workers: self._fast.drain(workers),
            self._loop_lane,
            self._look_for_standstill,
            lambda error: self._fail(error, None, None),
            None if in_order else lambda: self._nodes.first,
        )
        self._nodes = Nodes(
            None if in_order else solver,
            run.state,
            self._lanes.activate,
            lambda segment, node, value: self._caches.settled(segment, node, value),
            self._have_result,
        )
        self._caches = Caches(self._guard, self._nodes, self._reports, self._not_kept)
        self._continuations = Continuations(
            run,
            self._guard,
            self._nodes,
            self._lanes,
            self._reports,
            self._leave_out_rest,
            self._fail,
        )
        self._fast = FastLane(
            run,
            self._guard,
            self._nodes,
            self._reports,
            self._lanes.activate,
            self._work_on,
            self._go_on,
            self._fail,
        )
        self._done: asyncio.Future[None] = run.loop.create_future()
        self._result: Any = PENDING
        self._error: BaseException | None = None

    async def value(self, target: LazyResult[Any]) -> Any:
        self._run.watch_waits(self._lacking)
        wiring = wire(target)
        self._run.check(wiring.special)
        try:
            self._run.report_plan(wiring.nodes)
            with self._guard:
                self._nodes.add(wiring, None)
            self._lanes.workers.wake()
            await self._done
        finally:
            self._stop()
            try:
                await self._lanes.ended()
            finally:
                self._nodes.close()
        error, self._error = self._error, None
        result, self._result = self._result, None  # what belongs to a run refers to each other
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # or this frame, which its traceback holds, would hold it in turn

    # -- from ready to running ----------------------------------------------------------------

    def _begin(self, item: Item) -> Work | None:
        """The work of a node, or None if there is nothing to call for it."""
        segment, node = item
        if isinstance(node, Work):
            return node
        if self._nodes.gaps or node._policies is not None:
            missing = self._nodes.missing(segment, node)
            if missing is not None:
                segment.let_go_inputs(node)
                self._leave_out(segment, node, missing)
                return None
        work = Work(segment, node)
        if node._dependencies or node._special:
            work.take_inputs()
        amounts = work.amounts() if node._amounts else {}
        segment.let_go_inputs(node)
        if work.policies.cache is not None and self._finds(work):
            return None
        if self._reports.wanted:
            self._reports.started(work)
        return work if not amounts or self._takes(work, amounts) else None

    def _takes(self, work: Work, amounts: Mapping[str, Any]) -> bool:
        """Whether what nodes have given as amounts can be taken; if not, the node has failed."""
        try:
            work.policies = self._run.gate.taking(work.policies, amounts, work.node.name)
        except Exception as error:
            self._fail(error, work, None)
            return False
        return True

    def _finds(self, work: Work) -> bool:
        """Whether the value comes from elsewhere, or the cache has failed."""
        try:
            return self._caches.finds(work)
        except BaseException as error:
            if self._reports.wanted:
                self._reports.started(work)
            self._fail(error, work, None)
            return True

    # -- lanes --------------------------------------------------------------------------------

    def _work_on(self, item: Item) -> None:
        """The workers' slow lane: call plain functions, one after the other."""
        work: Work | None = None
        lanes, copied = self._lanes, self._run.context.copy
        parking, constraints = lanes.parking, self._run.gate.constraints
        watched = self._reports.wanted
        try:
            if lanes.stopping:
                return
            work = self._begin(item)
            while work is not None and not lanes.stopping:
                try:
                    if work.handed is not PENDING:
                        result, work.handed = work.handed, PENDING
                    elif (
                        constraints.any or work.policies.capacities or work.ticket is not None
                    ) and not self._admits(work):
                        return
                    else:
                        if watched:
                            self._reports.goes_on(work)
                        context = copied()  # what a task writes, others do not see (M12)
                        if work.ticket is not None:
                            context.run(current_ticket.set, work.ticket)
                        result = context.run(work.operation.func, *work.args, **work.kwargs)
                except (Exception, asyncio.CancelledError) as failure:
                    parking.left(work)  # backoff holds nothing
                    error = carried(work.operation.func, failure)
                    if isinstance(error, Exception) and self._tries_again(work, error):
                        del error  # its traceback holds this frame
                        return
                    raise error from error.__cause__
                if work.ticket is not None:
                    parking.left(work)
                work = self._after(work, result, on_loop=False)
                del result
        except BaseException as error:
            if work is not None:
                self._lanes.parking.left(work)
            self._fail(error, work, item)

    def _admits(self, work: Work) -> bool:
        """Whether the next call may begin now; its clock stands still until it does."""
        if self._reports.wanted and not work.waits_since:
            self._reports.waits(work)  # at once: another thread may go on with it
        return self._lanes.parking.admits(work)

    def _go_on(self, work: Work) -> None:
        """Go on, in a worker's thread, with what the fast lane has begun."""
        result, work.handed = work.handed, PENDING
        try:
            following = self._after(work, result, on_loop=False)
        except BaseException as error:
            self._fail(error, work, None)
        else:
            del result  # a tail call has arguments, which a loop is not to hold
            if following is not None:
                self._work_on((following.segment, following))

    async def _loop_lane(self, item: Item) -> None:
        """The loop's lane: await coroutine functions, open resources. In the loop's thread."""
        work: Work | None = None
        ticker: Ticker | None = None
        try:
            work = self._begin(item)
            while work is not None and not self._lanes.stopping:
                work = self._after(work, await self._call(work), on_loop=True)
                if work is not None:
                    ticker = ticker or Ticker()
                    if ticker.step():
                        await ticker.pause()
        except BaseException as error:
            if self._is_cancelled(1) and isinstance(error, asyncio.CancelledError):
                return
            if self._lanes.stopping and not isinstance(error, Exception):
                if error is self._error:
                    return
                raise  # Ctrl-C while the run ends: for the event loop, which cancels the run again
            if isinstance(error, asyncio.CancelledError):  # by a handle on this asyncio task (M13)
                inside = cancelled_inside()
                inside.__cause__ = error
                error = inside
            self._fail(error, work, item)
        finally:
            self._lanes.left()

    def _is_cancelled(self, outside: int) -> bool:
        """Whether the engine has cancelled the current asyncio task; ``outside`` as it counts."""
        return self._lanes.stopping or (outside > 0 and self._run.is_cancelled)

    def _call(self, work: Work) -> Awaitable[Any]:
        """The call of ``work``, to be awaited."""
        operation, args, kwargs, gate = work.operation, work.args, work.kwargs, self._run.gate
        bare = operation.is_async and work.policies is PLAIN_CALLS
        bare = bare and not (gate.constraints.any and gate.governs(operation, PLAIN_CALLS))
        if bare and not wants_resources(args, kwargs):
            if self._reports.wanted:
                self._reports.goes_on(work)
            return self._processor.await_once(operation, work.source.number, args, kwargs)
        call = call_of(work)
        if self._reports.wanted:
            call.waits = partial(self._reports.waits, work)
            call.goes_on = partial(self._reports.goes_on, work)
        return self._processor.call(call, partial(self._reports.retrying, work))

    def _after(self, work: Work, result: Any, on_loop: bool) -> Work | None:
        """What follows a call: the same node's next one, in this lane, or nothing here."""
        kind = type(result)  # isinstance would ask for its __class__, which may be a user's code
        if issubclass(kind, TailCall):
            going_on = self._continuations.tail(work, result)
        elif issubclass(kind, LazyResult):
            going_on = self._continuations.become(work, result, on_loop)
        elif issubclass(kind, Missing):  # of a blueprint that the virtual machine executed
            self._leave_out_rest(work, result)
            return None
        else:
            refuse_coroutine(result, work.operation.name)
            if self._reports.wanted:
                self._reports.finished(work)
            with self._guard:
                self._nodes.settle(work.segment, work.node, result)
            return None
        if not going_on:
            return None
        if work.source._plain and not on_loop and issubclass(kind, LazyResult):
            return work
        lane = belongs_on_loop(work.operation, work.args, work.kwargs, work.policies)
        if lane != on_loop:
            with self._guard:
                self._lanes.send(work)
            return None
        return work

    def _tries_again(self, work: Work, error: Exception) -> bool:
        """Whether a failed attempt on a worker is followed by another, and that on its way."""
        retry = work.policies.retry
        pause = None if retry is None else retry.pause(work.attempt, error)
        if pause is None:
            return False
        self._reports.retrying(work, work.attempt, pause, error)
        work.attempt += 1
        if self._reports.wanted:
            self._reports.waits(work)
        self._lanes.rest(work, pause)
        return True

    # -- ends of nodes ------------------------------------------------------------------------

    def _leave_out_rest(self, work: Work, missing: Missing) -> None:
        """Settle a node that has begun, and does not go on."""
        self._leave_out(work.segment, work.node, missing, work.source)

    def _leave_out(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        source: LazyResult[Any] | None = None,
    ) -> None:
        """Settle a node that does not run; ``source`` is what it has continued as."""
        self._reports.skipped(node if source is None else source, missing)
        with self._guard:
            self._have_gap()
            if type(missing) is not Failed or self._goes_on_after(segment, node, missing):
                self._nodes.settle(segment, node, missing)

    def _have_gap(self) -> None:
        self._nodes.gaps = True
        self._fast.on = False

    def _goes_on_after(self, segment: Segment, node: LazyResult[Any], failed: Failed) -> bool:
        """Whether the run goes on after a failure of ``node``; if not, it ends. Under the guard."""
        self._have_gap()
        if failed.can_be_value and self._nodes.is_caught(segment, node):
            leave_out_machinery(failed.error)  # the value of an item: the user's frames only (R9)
            return True
        if self._run.fail_fast:
            self._end(failed.error)
            return False
        failed.count(self._run.failures)
        return True

    def _not_kept(self, error: Exception, segment: Segment, node: LazyResult[Any]) -> Missing:
        """The outcome of a node whose value a cache could not keep. Under the guard."""
        annotate(error, node.name, node, path_to(segment, node, node.name, node))
        failed = Failed(node.name, error)
        self._goes_on_after(segment, node, failed)
        return failed

    def _fail(self, error: BaseException, work: Work | None, item: Item | None) -> None:
        """Note where an error comes from, and end the run, or go on without the node's value."""
        with self._guard:
            if work is None and item is not None and isinstance(item[1], Work):
                work = item[1]
            if work is not None:
                self._reports.failed(work, error)
                segment, node = work.segment, work.node
                source, name = work.source, work.operation.name
            elif item is not None:
                segment, node = item  # type: ignore[assignment]  # no Work, as said above
                source, name = node, node.name
            else:
                self._end(error)
                return
            if not self._lanes.stopping:
                annotate(error, name, source, path_to(segment, node, name, source))
            if not isinstance(error, Exception):
                self._end(error)
                return
            failed = Failed(name, error)
            if self._goes_on_after(segment, node, failed):
                self._nodes.settle(segment, node, failed)

    # -- ends of runs -------------------------------------------------------------------------

    def _have_result(self, value: Any) -> None:
        if type(value) is Failed and not self._run.fail_fast:
            value.count(self._run.failures)
        self._result = value
        self._lanes.call_in_loop(self._finish)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _end(self, error: BaseException) -> None:
        """End the run with the first error. Under the guard."""
        if self._error is not None or self._lanes.stopping:
            return
        self._error = error
        self._stop()
        self._lanes.call_in_loop(self._finish)

    def _stop(self) -> None:
        self._fast.on = False
        self._lanes.stop()

    def _look_for_standstill(self) -> None:
        """Nothing runs, nothing is ready, and there is no value: nodes wait for each other."""
        with self._guard:
            if self._lanes.busy or self._lanes.stopping:
                return
            if self._result is not PENDING or self._done.done():
                return
            self._stop()
            self._error = self._nodes.standstill()
        self._finish()

    def _lacking(self) -> list[Waiting]:
        """The nodes that wait for their inputs. In the loop's thread."""
        with self._guard:
            return list(self._nodes.lacking())
