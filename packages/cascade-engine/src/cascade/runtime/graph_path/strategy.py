"""GraphExecutionStrategy: everything that is ready runs, concurrently.

State vocabulary:

- *segment*: a running graph. The target's is the first. A task that returns a lazy value adds one
  for all that this value needs (rule R4); it is dropped when its last node, its target, is done.
- *address*: (segment, node), the destination of a node's value. A target passes its value on to the
  node that it continues. Both therefore have one address, and a loop of tasks that return lazy
  values stays at one address for ever: flat memory.
- *work*: the computation of one node: its present operation and arguments. A tail call changes
  these, never the address (rule R5, M3).
- *lane*: plain calls go to the workers' fast lane; plain calls with policies to the workers' slow
  lane; coroutine functions, and calls that need resources or have a timeout, to the event loop.

Lazy values are remembered by address while they live. If a task returns or mentions one that the
run has met, it is not computed again (M14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from threading import get_ident
from typing import Any

from cascade.graph.wiring import Wiring, wire
from cascade.runtime.attempts import NodeProcessor
from cascade.runtime.diagnostics.error_notes import annotate
from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.fairness import YieldBudget
from cascade.runtime.execution.placement import belongs_on_loop, wants_resources
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.caching import Caches
from cascade.runtime.graph_path.continuations import Continuations
from cascade.runtime.graph_path.dispatch import Dispatch, call_of
from cascade.runtime.graph_path.fast_lane import FastLane
from cascade.runtime.graph_path.loop_driver import MOVED, NOT_ENTERED, LoopDriver
from cascade.runtime.graph_path.node_table import Nodes
from cascade.runtime.graph_path.segments import (
    PENDING,
    Item,
    Segment,
    Work,
    path_to,
)
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.graph_path.templates import TemplateNode
from cascade.runtime.limits.permits import current_permit
from cascade.runtime.loops.protocol import PAUSED
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.run import Run, Waiting, carried
from cascade.runtime.semantics.outcomes import Failed, Missing, refuse_coroutine, value_or_raise
from cascade.runtime.straightline import Begun
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult, result_of
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.protocols import Solver


class GraphExecutionStrategy:
    """Runs a target as a graph; a node starts when it has its inputs, without barriers.

    Args:
        solver: Orders nodes that could run at the same time.
        tier: The tier for nodes that have proven to be loops.
    """

    name = "graph"

    def __init__(self, solver: Solver, tier: Tier = "auto") -> None:
        self._solver = solver
        self._tier: Tier = tier

    async def execute(self, target: LazyResult[Any], run: Run) -> Any:
        """The value of ``target``.

        Raises:
            DependencyMissingError: It was skipped (R6).
            CycleError: Nodes wait for each other.
            ExceptionGroup: Tasks failed, in a run that goes on nevertheless.
        """
        outcome = await GraphRun(run, self._solver, self._tier).value(target)
        return value_or_raise(outcome, target.name, target)


class GraphRun:
    """One run of one target. ``_lock`` guards the segments and the memory of addresses.

    Args:
        run: The run that it belongs to.
        solver: See GraphExecutionStrategy.
        tier: See GraphExecutionStrategy.
        compiled: Whether a target that is a lone call of a loop task begins as a compiled loop.
    """

    def __init__(
        self, run: Run, solver: Solver, tier: Tier = "auto", compiled: bool = False
    ) -> None:
        self._run = run
        self._compiled = compiled
        in_order = getattr(solver, "in_order", False)
        self._lock = BiasedLock()
        self._processor = NodeProcessor(run, self._is_cancelled)
        self._reports = Reports(run)
        self._dispatch = Dispatch(
            run,
            self._lock,
            lambda pool: self._fast.drain(pool),
            self._loop_lane,
            self._look_for_standstill,
            lambda error: self._fail(error, None, None),
            None if in_order else lambda: self._nodes.first,
        )
        self._nodes = Nodes(
            None if in_order else solver,
            run.record,
            self._dispatch.activate,
            lambda segment, node, value: self._caches.settled(segment, node, value),
            self._goes_on_without,
            self._have_result,
        )
        self._loop_driver = LoopDriver(
            run,
            tier,
            self._is_cancelled,
            lambda: self._dispatch.stopping,
            lambda: self._dispatch.has_one,
        )
        self._dispatch.pool.on_look = self._loop_driver.end_long_batches
        self._caches = Caches(self._lock, self._nodes, self._reports, self._not_kept)
        self._continuations = Continuations(
            run,
            self._lock,
            self._nodes,
            self._dispatch,
            self._reports,
            self._loop_driver.promote,
            self._leave_out_rest,
            self._fail,
        )
        self._fast = FastLane(
            run,
            self._lock,
            self._nodes,
            self._reports,
            self._dispatch.activate,
            self._work_on,
            self._go_on,
            self._fail,
        )
        self._done: asyncio.Future[None] = run.loop.create_future()
        self._result: Any = PENDING
        self._error: BaseException | None = None

    async def value(self, target: LazyResult[Any], begun: Begun | None = None) -> Any:
        """The result of a strategy for ``target``; with ``begun``, continue from there."""
        self._run.watch_waits(self._lacking)
        wiring = wire(target)
        self._run.check(wiring.special)
        try:
            self._run.report_plan(wiring.nodes)
            if begun is not None:
                self._go_on_from(wiring, begun)
            elif self._compiled and self._loop_driver.starts_at(target):
                await self._start_in_loop(wiring)
            else:
                with self._lock:
                    self._nodes.add(wiring, None)
            self._dispatch.pool.wake()
            if self._result is PENDING and self._error is None:
                await self._done
        finally:
            self._stop()
            self._loop_driver.close()
            try:
                await self._dispatch.ended()
            finally:
                self._nodes.close()
        error, self._error = self._error, None
        result, self._result = self._result, None  # the parts of a run refer to each other
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn

    def _go_on_from(self, wiring: Wiring, begun: Begun) -> None:
        """Begin at the point where straight-line code for the graph has stopped."""
        with self._lock:
            segment = self._nodes.resume(wiring, None, begun)
        work = None if begun.called is None else Work.begun(segment, begun)
        begun.forget()
        if work is None:
            return
        error, begun.stopped.error = begun.stopped.error, None  # its traceback has this frame
        if error is not None:
            self._fail(carried(work.operation.func, error), work, None)
            return
        work.handed = begun.stopped.result
        with self._lock:
            self._dispatch.send(work)

    async def _start_in_loop(self, wiring: Wiring) -> None:
        """Begin with a compiled loop, which is the whole target; in this asyncio task."""
        wiring.ready.clear()
        with self._lock:
            segment = self._nodes.add(wiring, None)
        work = self._begin((segment, wiring.target))
        assert work is not None
        if not self._loop_driver.start(work):
            with self._lock:
                self._dispatch.send(work)
            return
        with self._lock:
            self._dispatch.begin_in_place()
        await self._loop_lane((segment, work), in_place=True)

    # -- from ready to running ----------------------------------------------------------------

    def _begin(self, item: Item) -> Work | None:
        """The work of a node, or None if it makes no call."""
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
        """Whether the amounts given by nodes can be granted; otherwise the node has failed."""
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
        dispatch, copied = self._dispatch, self._run.context.copy
        admission, constraints = dispatch.admission, self._run.gate.constraints
        watched = self._reports.wanted
        try:
            if dispatch.stopping:
                return
            work = self._begin(item)
            while work is not None and not dispatch.stopping:
                try:
                    if work.handed is not PENDING:
                        result, work.handed = work.handed, PENDING
                    elif work.loop is not None:
                        if watched:
                            self._reports.goes_on(work)
                        result = self._drive_on_worker(work)
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
                        # Tasks must not see each other's context variables (M12).
                        context = copied()
                        if work.permit is not None:
                            context.run(current_permit.set, work.permit)
                        result = context.run(work.operation.func, *work.args, **work.kwargs)
                except (Exception, asyncio.CancelledError) as failure:
                    admission.left(work)  # no permits are held during the backoff
                    error = carried(work.operation.func, failure)
                    if isinstance(error, Exception) and self._tries_again(work, error):
                        del error  # its traceback holds this frame
                        return
                    raise error from error.__cause__
                if work.permit is not None:
                    admission.left(work)
                work = self._after(work, result, on_loop=False)
                del result
        except BaseException as error:
            if work is not None:
                self._dispatch.admission.left(work)
            self._fail(error, work, item)

    def _drive_on_worker(self, work: Work) -> Any:
        """The result of the loop of ``work``; see ``LoopDriver``."""
        if not self._run.is_own_thread(get_ident()):
            return self._loop_driver.drive_on_worker(work)
        assert work.loop is not None
        work.loop.stays = True  # the executor has no threads, and the event loop needs its turns
        with self._lock:
            self._dispatch.to_loop((work.segment, work))
        return MOVED

    def _admits(self, work: Work) -> bool:
        """Whether the next call may begin now; its clock stands still until it does."""
        if self._reports.wanted and not work.waits_since:
            self._reports.waits(work)  # at once: another thread may resume it
        return self._dispatch.admission.admits(work)

    def _go_on(self, work: Work) -> None:
        """Continue, in a worker's thread, work that the fast lane has begun."""
        result, work.handed = work.handed, PENDING
        try:
            following = self._after(work, result, on_loop=False)
        except BaseException as error:
            self._fail(error, work, None)
        else:
            del result  # a tail call has arguments, which a loop must not hold
            if following is not None:
                self._work_on((following.segment, following))

    async def _loop_lane(self, item: Item, in_place: bool = False) -> None:
        """The loop's lane: await coroutine functions, open resources. In the loop's thread.

        With ``in_place`` the asyncio task is that of the run, and its cancels are passed on.
        """
        work: Work | None = None
        budget: YieldBudget | None = None
        try:
            work = self._begin(item)
            while work is not None and not self._dispatch.stopping:
                if work.loop is None:
                    work = self._after(work, await self._call(work), on_loop=True)
                else:
                    budget = budget or YieldBudget()
                    work = self._after_loop(
                        work, await self._loop_driver.drive(work, budget, self._reports)
                    )
                if work is not None:
                    budget = budget or YieldBudget()
                    if budget.step():
                        await budget.pause()
        except BaseException as error:
            if self._is_cancelled(1) and isinstance(error, asyncio.CancelledError):
                if in_place:
                    raise
                return
            if self._dispatch.stopping and not isinstance(error, Exception):
                if error is self._error:
                    return
                raise  # Ctrl-C while the run ends: the event loop cancels the run again
            # User code has cancelled this asyncio task (M13).
            if isinstance(error, asyncio.CancelledError):
                inside = cancelled_inside()
                inside.__cause__ = error
                error = inside
            self._fail(error, work, item)
        finally:
            self._dispatch.left()

    def _after_loop(self, work: Work, result: Any) -> Work | None:
        """The next work after a batch of steps of a loop; see ``_after``."""
        if result is PAUSED:
            return work
        if result is not NOT_ENTERED and result is not MOVED:
            return self._after(work, result, on_loop=True)
        if belongs_on_loop(work.operation, work.args, work.kwargs, work.policies):
            return work
        with self._lock:
            self._dispatch.send(work)
        return None

    def _is_cancelled(self, outside: int) -> bool:
        """Whether the engine has cancelled the current asyncio task; ``outside``: see Cancels."""
        return self._dispatch.stopping or (outside > 0 and self._run.is_cancelled)

    def _call(self, work: Work) -> Awaitable[Any]:
        """An awaitable for the call of ``work``."""
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
        """The work after a call: the same node's next call in this lane, or none here."""
        kind = type(result)  # isinstance would read its __class__, which may run user code
        if not (
            kind is LazyResult
            or kind is TailCall
            or kind in ATOMS
            or work.operation.structural
            or issubclass(kind, Missing)
        ):
            result = result_of(result, work.source._code, work.source._lasti)
            kind = type(result)
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
            with self._lock:
                self._nodes.settle(work.segment, work.node, result)
            return None
        if not going_on:
            return None
        if work.source._plain and not on_loop and issubclass(kind, LazyResult):
            return work
        lane = belongs_on_loop(work.operation, work.args, work.kwargs, work.policies)
        if lane != on_loop:
            with self._lock:
                self._dispatch.send(work)
            return None
        return work

    def _tries_again(self, work: Work, error: Exception) -> bool:
        """Whether a failed attempt on a worker is followed by another, which is then scheduled."""
        retry = work.policies.retry
        pause = None if retry is None else retry.pause(work.attempt, error)
        if pause is None:
            return False
        self._reports.retrying(work, work.attempt, pause, error)
        work.attempt += 1
        if self._reports.wanted:
            self._reports.waits(work)
        self._dispatch.rest(work, pause)
        return True

    # -- ends of nodes ------------------------------------------------------------------------

    def _leave_out_rest(self, work: Work, missing: Missing) -> None:
        """Settle a node that has begun, and cannot continue."""
        self._leave_out(work.segment, work.node, missing, work.source)

    def _leave_out(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        source: LazyResult[Any] | None = None,
    ) -> None:
        """Settle a node that does not run; ``source`` is its last continuation."""
        with self._lock:
            if self._goes_on_without(segment, node, missing, source=source):
                self._nodes.settle(segment, node, missing)

    def _goes_on_without(
        self,
        segment: Segment,
        node: LazyResult[Any],
        missing: Missing,
        goes_on: bool = False,
        source: LazyResult[Any] | None = None,
    ) -> bool:
        """Publish that a node does not run; whether the run goes on. Under the lock."""
        self._reports.skipped(node if source is None else source, missing)
        if goes_on:
            return True
        self._have_gap()
        return type(missing) is not Failed or self._goes_on_after(segment, node, missing)

    def _have_gap(self) -> None:
        self._nodes.gaps = True
        self._fast.on = False

    def _goes_on_after(self, segment: Segment, node: LazyResult[Any], failed: Failed) -> bool:
        """Whether the run goes on after a failure of ``node``, or ends now. Under the lock."""
        self._have_gap()
        if failed.counted or (failed.can_be_value and self._nodes.is_caught(segment, node)):
            return True
        if self._run.fail_fast:
            self._end(failed.error)
            return False
        failed.count(self._run.failures)
        return True

    def _not_kept(self, error: Exception, segment: Segment, node: LazyResult[Any]) -> Missing:
        """The outcome of a node whose value a cache could not keep. Under the lock."""
        annotate(error, node.name, node, path_to(segment, node, node.name, node))
        failed = Failed(node.name, error)
        self._goes_on_after(segment, node, failed)
        return failed

    def _fail(self, error: BaseException, work: Work | None, item: Item | None) -> None:
        """Add the origin of an error, and end the run, or go on without the node's value."""
        with self._lock:
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
            if not self._dispatch.stopping:
                path = path_to(segment, node, name, source)
                annotate(error, name, None if type(source) is TemplateNode else source, path)
            if not isinstance(error, Exception):
                self._end(error)
                return
            failed = Failed(name, error)
            goes_on = self._goes_on_after(segment, node, failed)
            try:
                if goes_on:
                    self._nodes.settle(segment, node, failed)
                elif self._run.record is not None:
                    self._run.record(node, failed)  # nothing else is told of it
            except Exception as fault:  # of what records outcomes
                self._end(fault)

    # -- ends of runs -------------------------------------------------------------------------

    def _have_result(self, value: Any) -> None:
        if type(value) is Failed and not self._run.fail_fast:
            value.count(self._run.failures)
        self._result = value
        self._dispatch.call_in_loop(self._finish)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _end(self, error: BaseException) -> None:
        """End the run with the first error. Under the lock."""
        if self._error is not None or self._dispatch.stopping:
            return
        self._error = error
        self._stop()
        self._dispatch.call_in_loop(self._finish)

    def _stop(self) -> None:
        self._fast.on = False
        self._dispatch.stop()
        self._loop_driver.end_batches()

    def _look_for_standstill(self) -> None:
        """Nothing runs, nothing is ready, and there is no value: nodes wait for each other."""
        with self._lock:
            if self._dispatch.busy or self._dispatch.stopping:
                return
            if self._result is not PENDING or self._done.done():
                return
            self._stop()
            self._error = self._nodes.standstill()
        self._finish()

    def _lacking(self) -> list[Waiting]:
        """The nodes that wait for their inputs. In the loop's thread."""
        with self._lock:
            return list(self._nodes.lacking())
