"""GraphExecutionStrategy: everything that is ready runs, concurrently.

Terms:

- *segment*: a running graph. The target's is the first. A task that returns a lazy value adds one
  for all that this value needs (rule R4); it is dropped when its last node, its target, is done.
- *address*: (segment, node), the destination of a node's value. A target passes its value on to the
  node that it continues. Both therefore have one address, and a loop of tasks that return lazy
  values stays at one address for ever: flat memory.
- *work*: the computation of one node: its present operation and arguments. A tail call changes
  these, never the address (rule R5, M3).
- *lane*: plain calls go to the workers' fast lane; plain calls whose policies act to the workers'
  slow lane; coroutine functions, and calls with async resources of their own, to the event loop's
  lane, which the pump begins.

Lazy values are remembered by address while they live. If a task returns or mentions one that the
run has met, it is not computed again (M14).
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

from cascade.graph.wiring import Wiring
from cascade.runtime.execution.carried_errors import carried
from cascade.runtime.execution.early_calls import EarlyCall
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.compiled_loops.loop_driver import LoopDriver
from cascade.runtime.graph_path.compiled_loops.loop_entries import LoopEntries
from cascade.runtime.graph_path.dispatch import Dispatch
from cascade.runtime.graph_path.lanes.after_call import AfterCall
from cascade.runtime.graph_path.lanes.before_call import BeforeCall
from cascade.runtime.graph_path.lanes.event_loop_lane import EventLoopLane
from cascade.runtime.graph_path.lanes.fast_lane import FastLane
from cascade.runtime.graph_path.lanes.held_calls import HeldCalls
from cascade.runtime.graph_path.lanes.held_jobs import HeldJobs
from cascade.runtime.graph_path.lanes.pump import Pump
from cascade.runtime.graph_path.lanes.slow_lane import SlowLane
from cascade.runtime.graph_path.lanes.timed_calls import TimedCalls
from cascade.runtime.graph_path.lanes.wrapping import Wrapping
from cascade.runtime.graph_path.locating import locate
from cascade.runtime.graph_path.node_rules.cache_waits import CacheWaits
from cascade.runtime.graph_path.node_rules.caching import Caches
from cascade.runtime.graph_path.node_rules.chains import Chains
from cascade.runtime.graph_path.node_rules.commits import Commits
from cascade.runtime.graph_path.node_rules.continuations import Continuations
from cascade.runtime.graph_path.node_rules.failures import Failures
from cascade.runtime.graph_path.node_rules.map_over_map import MapOverMap
from cascade.runtime.graph_path.node_rules.missing_inputs import MissingInputs
from cascade.runtime.graph_path.node_rules.pruning import Pruning, plans_of
from cascade.runtime.graph_path.node_rules.waits import Waits
from cascade.runtime.graph_path.node_table import Nodes
from cascade.runtime.graph_path.queues.stages import Stages
from cascade.runtime.graph_path.run_parts import Rare, RunParts
from cascade.runtime.graph_path.segments import Item, Work
from cascade.runtime.graph_path.small_runs.lone_loops import LoneLoop
from cascade.runtime.graph_path.small_runs.shared_runs import small_run
from cascade.runtime.graph_path.small_runs.worker_batches import Batch
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.run import Run
from cascade.runtime.semantics.outcomes import value_or_raise
from cascade.runtime.straightline.stops import Begun, Stop
from cascade.spec.caching import CachePolicy
from cascade.spec.lazy_types import LazyResult
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
        begun = None
        small = small_run(run, target) if getattr(self._solver, "in_order", False) else None
        if small is not None:
            begun = await small.outcome()
            if type(begun) is not Begun:
                return begun
            del small
        outcome = await GraphRun(run, self._solver, self._tier).value(target, begun)
        return value_or_raise(outcome, target.name, target)


def _remote_lane(parts: RunParts) -> Any:
    # Imported at the first use: few programs need it, and pickle.
    from cascade.runtime.graph_path.lanes.remote_lane import RemoteLane

    return RemoteLane(parts)


def _staying(parts: RunParts) -> Any:
    # As above.
    from cascade.runtime.graph_path.lanes.staying import Staying

    return Staying(parts)


#: Makers of the parts that a run makes when they are first used.
_MAKERS = {
    "before_call": BeforeCall,
    "cache_waits": CacheWaits,
    "caches": Caches,
    "chains": Chains,
    "commits": Commits,
    "continuations": Continuations,
    "driver": LoopDriver,
    "entries": LoopEntries.of,
    "failures": Failures,
    "fast_lane": FastLane,
    "after_call": AfterCall,
    "missing_inputs": MissingInputs,
    "map_over_map": MapOverMap,
    "event_loop_lane": EventLoopLane,
    "held_calls": HeldCalls,
    "held_jobs": HeldJobs,
    "pruning": Pruning,
    "pump": Pump,
    "remote_lane": _remote_lane,
    "slow_lane": SlowLane,
    "staying": _staying,
    "timed_calls": TimedCalls,
    "waits": Waits,
    "wrapping": Wrapping,
}

#: The parts that have something to close at the end of a run, if they were used.
_CLOSED: Final[tuple[Rare, ...]] = (
    "driver",
    "pump",
    "waits",
    "cache_waits",
    "commits",
    "remote_lane",
    "pruning",
    "caches",
)


class GraphRun:
    """One run of one target: makes its parts, starts the target, and ends the parts.

    Args:
        run: The run.
        solver: See GraphExecutionStrategy.
        tier: See GraphExecutionStrategy.
        compiled: Whether a target that is a lone call of a loop task begins as a compiled loop.
        reports: Publishes the events of nodes; by default for the present subscribers.
    """

    def __init__(
        self,
        run: Run,
        solver: Solver,
        tier: Tier = "auto",
        compiled: bool = False,
        reports: Reports | None = None,
    ) -> None:
        self._run = run
        self._parts = parts = RunParts(run, _MAKERS, tier, reports)
        self._lock, self._end = parts.lock, parts.end
        in_order = getattr(solver, "in_order", False)
        stages = None if in_order else Stages()
        parts.dispatch = self._dispatch = Dispatch(parts, stages)
        parts.nodes = self._nodes = Nodes(parts, None if in_order else solver, stages)
        #: Starts the target in its loop; None if it starts as an ordinary call.
        self._entries = parts.entries if compiled else None
        self._dispatch.lanes = self

    async def value(
        self,
        target: LazyResult[Any],
        begun: Begun | None = None,
        lone: LoneLoop | None = None,
    ) -> Any:
        """The result of a strategy for ``target``.

        Args:
            target: The target.
            begun: The point where straight-line code for it has stopped, to continue from there.
            lone: The same of the loop that was the whole run.
        """
        self._run.watch_waits(self._lacking)
        self._run.locate = partial(locate, self._parts)
        self._run.inside = self._parts
        journal = self._run.journal
        if begun is None and lone is None and not self._run.is_recorded:
            wiring = self._wired(target)
        else:
            wiring = self._nodes.wire(target)
        self._run.check(wiring.special)
        try:
            if lone is None:
                self._run.report_plan(wiring.nodes)
            if journal is not None:
                self._parts.commits.begin()
            if begun is not None:
                self._go_on_from(wiring, begun)
            elif lone is not None:
                self._go_on_after(wiring, lone)
            elif self._starts_in_loop(wiring):
                await self._start_in_loop(wiring)
            else:
                with self._lock:
                    self._nodes.add(wiring, None)
            self._dispatch.begin(target.task)
            await self._end.reached()
        finally:
            self._end.stop()
            try:
                await self._dispatch.quiet()
            finally:
                self._close()
        return self._end.take()

    def _wired(self, target: LazyResult[Any]) -> Wiring:
        """The graph of ``target``, without what caches know before it runs."""
        policies, wire = target._policies, self._nodes.wire
        pruned = None
        if policies is not None and self._has_plans(policies.calls.cache):
            pruned = self._parts.pruning.pruned(target)
            return wire(target) if pruned is None else pruned
        wiring = wire(target)
        if wiring.caches and any(map(self._has_plans, wiring.caches.values())):
            pruned = self._parts.pruning.pruned(target)
        return wiring if pruned is None else pruned

    def _has_plans(self, cache: CachePolicy | None) -> bool:
        """Whether a cache may know values of nodes before the run."""
        return cache is not None and plans_of(self._run, cache) is not None

    def _close(self) -> None:
        """Forget all nodes, and drop references, so that no cycle needs the collector."""
        if self._run.journal is not None:
            self._run.journal.end()
        for name in _CLOSED:
            part = self._parts.made(name)
            if part is not None:
                part.close()
        self._nodes.close()
        self._end.close()
        if not self._run.abandons:  # abandoned calls use the parts
            self._dispatch.let_go()
            self._parts.let_go()

    def _go_on_from(self, wiring: Wiring, begun: Begun) -> None:
        """Begin at the point where straight-line code for the graph has stopped."""
        with self._lock:
            segment = self._nodes.resume(wiring, None, begun)
        stops = begun.stops()
        values = dict(zip(begun.lazies, begun.stopped.done, strict=False)) if stops else {}
        begun.forget()
        works = [(Work.begun(segment, stop.lazy, values), stop) for stop in stops]
        values.clear()
        stops.clear()
        try:
            # Calls that last come first: an error ends the run, which has to wait for them.
            for work, stop in sorted(works, key=_has_ended):
                self._go_on_with(work, stop)
        finally:
            for _, stop in works:
                if type(stop.result) is Batch:
                    stop.result.drop()
            works.clear()

    def _go_on_with(self, work: Work, stop: Stop) -> None:
        """Go on with a node that was called before the graph has begun."""
        result = stop.result
        if stop.error is not None:
            self._parts.failures.fail(carried(work.operation.func, stop.error), work)
        elif type(result) is EarlyCall:
            self._parts.pump.go_on(work, result)
        elif type(result) is Batch:
            result.joins(self._parts, work)
        elif self._dispatch.is_for_loop(work):
            self._parts.pump.after(work, result)
        else:
            work.handed = result
            with self._lock:  # before nodes that were ready earlier, as if it had stayed
                self._dispatch.send(work, first=True)

    def _go_on_after(self, wiring: Wiring, lone: LoneLoop) -> None:
        """Begin where the loop that was the whole run has ended without a value."""
        wiring.ready.clear()
        work: Work | None = lone.work
        assert work is not None
        with self._lock:
            work.segment = self._nodes.add(wiring, None)
        error, lone.error = lone.error, None  # its traceback has this frame
        try:
            if error is None:
                work = self._parts.after_call.after_batch(lone.work, lone.take())
        except BaseException as failure:
            error = failure
        try:
            if error is not None:
                self._parts.failures.fail(error, lone.work)
            elif work is not None:
                with self._lock:
                    self._dispatch.send(work)
        finally:
            del error

    def _starts_in_loop(self, wiring: Wiring) -> bool:
        """Whether the run begins as a compiled loop."""
        if self._entries is None or self._run.journal is not None or wiring.done:
            return False
        return self._entries.starts_at(wiring.target)

    async def _start_in_loop(self, wiring: Wiring) -> None:
        """Begin with a compiled loop, which is the whole target.

        A loop of plain functions is made in this asyncio task, which saves two turns of the event
        loop. A coroutine gets a task of its own: a cancel of the run that its steps request would
        otherwise look like one of the call itself (M13).
        """
        wiring.ready.clear()
        with self._lock:
            segment = self._nodes.add(wiring, None)
        work = self._parts.before_call.begin((segment, wiring.target))
        assert work is not None
        assert self._entries is not None
        if not self._entries.start(work) or work.operation.is_async:
            with self._lock:
                self._dispatch.send(work)
            return
        with self._lock:
            self._dispatch.begin_in_place()
        await self._parts.event_loop_lane.work_on((segment, work), in_place=True)

    # -- the lanes ----------------------------------------------------------------------------

    def work_on(self, item: Item) -> Coroutine[Any, Any, None]:
        """Handle an item in the event loop's thread."""
        return self._parts.event_loop_lane.work_on(item)

    def pump(self) -> None:
        """Begin the items of the event loop's lane."""
        self._parts.pump.turn()

    def not_opened(self, item: Item, error: BaseException) -> None:
        """A resource of an item could not be opened. In the loop's thread."""
        self._parts.slow_lane.not_opened(item, error)

    def refused(self, error: BaseException) -> None:
        """The executor lends no thread. In the loop's thread."""
        self._parts.failures.fail(error)

    def idle(self) -> None:
        """End a run in which nothing runs or is ready.

        If it has no value, nodes wait for a time or a signal, or for each other.
        """
        if self._end.is_near:
            self._end.wake()
            return
        with self._lock:
            if self._dispatch.busy or self._end.stopping or self._end.is_near:
                if self._run.journal is not None:
                    self._parts.commits.hurry()
                return
            waits = self._parts.made("waits")
            if waits is not None and waits.any:
                suspended = waits.suspends()
                if suspended is not None:
                    self._end.fail(suspended)
                return
            self._end.stop()
            self._end.error = self._nodes.standstill()
        self._end.wake()

    def _lacking(self) -> list[Waiting]:
        """The nodes that wait for their inputs. In the loop's thread."""
        with self._lock:
            return list(self._nodes.lacking())


def _has_ended(called: tuple[Work, Stop]) -> bool:
    """Whether a call has ended."""
    return type(called[1].result) not in (Batch, EarlyCall)
