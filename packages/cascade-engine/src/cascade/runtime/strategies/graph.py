"""GraphExecutionStrategy: everything that is ready runs, concurrently.

State vocabulary:

- *segment*: a graph in execution. The target's is the first; a task that returns a lazy value adds
  one for whatever that needs (rule R4), and it is dropped when its last node, its root, is done.
- *address*: (segment, index), where the value of a node goes. A root hands its value on to the
  node that it continues, so both have one address, and a loop of tasks that return lazy values
  stays at one address for ever: flat memory.
- *work*: one node being computed: the operation that runs now, with its arguments. A tail call
  changes the operation and the arguments, never the address (rule R5, M3).
- *lane*: plain functions go to the workers; coroutine functions, and calls that want resources,
  to the event loop.

Lazy values are remembered by address for as long as they live, so that one that is met again, in
whatever task returns or mentions it, is not computed again (M14).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from cascade.graph.build import build_graph
from cascade.graph.model import Graph
from cascade.runtime.events import (
    NodesPlanned,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.notes import annotate
from cascade.runtime.processor import NodeProcessor, wants_resources
from cascade.runtime.run import Run, stop_iteration
from cascade.runtime.scheduler import ByPriority, Workers
from cascade.runtime.skipping import Skipped, refuse_skipped
from cascade.runtime.strategies.nodes import Nodes
from cascade.runtime.strategies.segment import (
    PENDING,
    Address,
    Resume,
    Segment,
    Work,
    path_to,
)
from cascade.runtime.tailcall import entry, is_baked, lazies_of, misfit, next_call, with_values
from cascade.runtime.ticker import Ticker
from cascade.runtime.vm.machine import VirtualMachine
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.containers import gathered
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, Operation
from cascade.spec.protocols import Solver
from cascade.spec.task import Task


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
        """
        outcome = await _GraphRun(run, self._solver).value(target)
        return refuse_skipped(outcome, target.name, target)


class _GraphRun:
    """One run of one target. ``_lock`` guards the segments' arrays and the memory of addresses."""

    def __init__(self, run: Run, solver: Solver) -> None:
        self._run = run
        in_order = getattr(solver, "in_order", False)
        # Reentrant: a tail call that goes on under it may have to wait for more lazy arguments.
        self._lock = threading.RLock()
        self._thread = threading.get_ident()
        ready = None if in_order else ByPriority(_priority_of)
        self._workers = Workers(
            run, self._work_on, self._look_for_standstill, self._no_workers, ready
        )
        self._processor = NodeProcessor(run)
        self._watched = run.watches_tasks
        self._nodes = Nodes(
            None if in_order else solver, run.state, self._activate, self._have_result
        )
        self._done: asyncio.Future[None] = run.loop.create_future()
        self._result: Any = PENDING
        self._error: BaseException | None = None
        self._stopping = False
        #: Whether any node was skipped so far; until then nobody needs to look.
        self._skips = False
        self._on_loop = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def value(self, target: LazyResult[Any]) -> Any:
        graph = build_graph(target)
        self._run.check(graph)
        try:
            with self._lock:
                self._plan(graph, None)
            self._workers.wake()
            await self._done
        finally:
            await self._stop()
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # or this frame, which its traceback holds, would hold it in turn

    def _plan(self, graph: Graph, continuation: Resume | Address | None) -> None:
        """Add ``graph`` to what the run has to do. Under the lock."""
        if self._run.bus.wants(NodesPlanned):
            tasks = sum(not lazy.task.structural for lazy in graph.lazies)
            self._run.publish(NodesPlanned, tasks)
        self._nodes.add(graph, continuation)

    # -- from ready to running ----------------------------------------------------------------

    def _activate(self, segment: Segment, index: int) -> None:
        """Send a node whose inputs are there to its lane. Under the lock."""
        lazy = segment.lazies[index]
        if (
            lazy.task.is_async
            or (lazy.special and wants_resources(lazy.args, lazy.kwargs))
            or (lazy.policies is not None and lazy.retry is not None)
        ):
            self._send_to_loop((segment, index))
        else:
            self._workers.push((segment, index))

    def _send(self, work: Work) -> None:
        """Send work under way to the lane that its next operation belongs to. Under the lock."""
        if _belongs_on_loop(work):
            self._send_to_loop(work)
        else:
            self._workers.push(work)
            self._wake_later()

    def _wake_later(self) -> None:
        """Have what was pushed worked on. A worker sees to it itself, and needs no hop for it."""
        if threading.get_ident() == self._thread:
            self._run.loop.call_soon(self._workers.wake)

    def _send_to_loop(self, item: Work | tuple[Segment, int]) -> None:
        self._on_loop += 1
        self._call_in_loop(self._start_task, item)

    def _call_in_loop(self, function: Callable[..., None], *args: Any) -> None:
        if threading.get_ident() == self._thread:
            self._run.loop.call_soon(function, *args)
        else:
            self._run.loop.call_soon_threadsafe(function, *args)

    def _start_task(self, item: Work | tuple[Segment, int]) -> None:
        if self._stopping:
            return
        task = self._run.loop.create_task(self._loop_lane(item), context=self._run.context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, segment: Segment, index: int) -> Work | None:
        """The work of a node, or None if it was skipped."""
        lazy = segment.lazies[index]
        values, place = segment.values, segment.index
        if self._skips or lazy.policies is not None:
            skipped = self._why_skipped(lazy, values, place)
            if skipped is not None:
                self._skip(segment, index, skipped)
                return None
        work = Work(segment, index, lazy)
        if lazy.dependencies or lazy.special:
            work.args = [_resolve(v, values, place) for v in lazy.args]
            work.kwargs = {n: _resolve(v, values, place) for n, v in lazy.kwargs.items()}
        else:
            work.args, work.kwargs = lazy.args, lazy.kwargs
        if self._watched:
            self._report_start(work)
        return work

    def _why_skipped(self, lazy: LazyResult[Any], values: list[Any], place: Any) -> Skipped | None:
        if self._skips:
            for dependency in lazy.dependencies:
                if isinstance(value := values[place[dependency]], Skipped):
                    return value
        for condition in lazy.conditions:
            value = values[place[condition]]
            if isinstance(value, Skipped):
                return value
            if not value:
                return Skipped(lazy.name, condition.name)
        return None

    # -- lanes --------------------------------------------------------------------------------

    def _work_on(self, item: Work | tuple[Segment, int]) -> None:
        """The workers' lane: call plain functions, one after the other. In a worker's thread."""
        work: Work | None = None
        try:
            work = item if isinstance(item, Work) else self._begin(*item)
            while work is not None and not self._stopping:
                context = self._run.context.copy()  # what a task writes, others do not see (M12)
                try:
                    result = context.run(work.operation.func, *work.args, **work.kwargs)
                except StopIteration as error:
                    raise stop_iteration(work.operation.func) from error
                work = self._after(work, result, on_loop=False)
        except BaseException as error:
            self._fail(error, work, item)

    async def _loop_lane(self, item: Work | tuple[Segment, int]) -> None:
        """The loop's lane: await coroutine functions, open resources. In the loop's thread."""
        work: Work | None = None
        ticker = Ticker()
        try:
            work = item if isinstance(item, Work) else self._begin(*item)
            while work is not None and not self._stopping:
                operation = work.operation
                result = await self._processor.call(
                    operation.func,
                    operation.is_async,
                    work.args,
                    work.kwargs,
                    retry=work.retry,
                    failed=partial(self._report_retry, work),
                )
                work = self._after(work, result, on_loop=True)
                if ticker.step():
                    await ticker.pause()
        except BaseException as error:
            if not (self._stopping and isinstance(error, asyncio.CancelledError)):
                self._fail(error, work, item)
        finally:
            with self._lock:
                self._on_loop -= 1
            self._workers.wake()
            self._look_for_standstill()

    def _after(self, work: Work, result: Any, on_loop: bool) -> Work | None:
        """What follows a call: the same node's next one, in this lane, or nothing here."""
        if isinstance(result, TailCall):
            going_on = self._tail(work, result)
        elif isinstance(result, LazyResult):
            going_on = self._become(work, result)
        else:
            if self._watched:
                self._report_end(work)
            with self._lock:
                self._nodes.settle(work.segment, work.index, result)
            return None
        if going_on and _belongs_on_loop(work) != on_loop:
            with self._lock:
                self._send(work)
            return None
        return work if going_on else None

    def _tail(self, work: Work, tail: TailCall) -> bool:
        """Rule R5; whether ``work`` is ready for its next call."""
        lazies = lazies_of(tail)
        if lazies:
            self._await(work, lazies, lambda values: self._tail(work, with_values(tail, values)))
            return False
        if tail.target_blueprint_id is not None:
            name = tail.target_blueprint_id
            blueprint = self._run.blueprints.get(name, work.operation.name)
            if blueprint is not work.blueprint:
                return self._enter(work, blueprint, tail, name)
        if work.named is None:
            work.named = _named(work)
        operation, work.named = next_call(work.operation, work.named, tail)
        if operation is not work.operation:
            work.operation, work.blueprint = operation, None
        work.args, work.kwargs = operation.parameters.spread(work.named)
        return True

    def _await(
        self, work: Work, lazies: Sequence[LazyResult[Any]], go_on: Callable[[Any], bool]
    ) -> None:
        """Go on with ``work`` once the lazy arguments of its next call have values (M2)."""
        together = gathered(lazies, work.source._code, work.source._lasti)
        self._expand(together, Resume(work, lambda values: self._resume(work, go_on, values)))

    def _resume(self, work: Work, go_on: Callable[[Any], bool], values: Any) -> None:
        """Make a tail call whose lazy arguments are there now. Under the lock."""
        if isinstance(values, Skipped):
            self._skips = True
            self._nodes.settle(work.segment, work.index, values)
            return
        try:
            if go_on(values):
                self._send(work)
        except BaseException as error:
            self._end_with(error, work, None)

    def _enter(self, work: Work, blueprint: Blueprint, tail: TailCall, name: str) -> bool:
        """Continue as a registered blueprint; whether ``work`` is ready for its next call."""
        if not _is_plain_call(blueprint):
            self._execute(work, blueprint, tail, name)
            return True
        try:
            named = entry(blueprint, tail)
        except ArgumentError as error:
            raise misfit(work.operation.name, blueprint.name, error) from None
        lazies = [v for v in named.values() if isinstance(v, LazyResult)]
        if lazies:
            self._await(work, lazies, lambda values: _enter_with(work, blueprint, named, values))
            return False
        return _enter_with(work, blueprint, named, ())

    def _execute(self, work: Work, blueprint: Blueprint, tail: TailCall, name: str) -> None:
        """Continue as a blueprint that the virtual machine executes for us."""
        machine = VirtualMachine(run=self._run)

        async def execute() -> Any:
            return await machine.outcome(blueprint, tail.args, tail.kwargs)

        work.operation = Operation(execute, f"blueprint {name}", is_async=True)
        work.args, work.kwargs, work.named = (), {}, None
        work.blueprint = None

    def _become(self, work: Work, lazy: LazyResult[Any]) -> bool:
        """Rule R4: continue as ``lazy``; whether ``work`` is ready for its next call."""
        if self._watched:
            self._report_end(work)
        with self._lock:
            if self._nodes.join(work.segment, work.index, work.operation.name, lazy):
                return False
            alone = not lazy.dependencies and lazy.policies is None
            if alone and not lazy.special:
                self._nodes.remember(lazy, self._nodes.address(work.segment, work.index))
                work.source, work.operation = lazy, lazy.task
                work.args, work.kwargs, work.named = lazy.args, lazy.kwargs, None
                work.blueprint = work.retry = None
        if alone and not lazy.special:
            if self._watched:
                self._run.publish(NodesPlanned, 0 if lazy.task.structural else 1)
                self._report_start(work)
            return True
        segment = work.segment
        self._expand(lazy, self._nodes.address(segment, work.index))
        if work.index == segment.root and isinstance(segment.continuation, Address):
            # Nothing of it is left to do. What the memory holds must not hold its keys.
            segment.let_go()
        return False

    def _expand(self, lazy: LazyResult[Any], continuation: Resume | Address) -> None:
        """Add what ``lazy`` needs and the run does not compute yet."""
        with self._lock:
            graph = build_graph(lazy, known=lambda found: self._nodes.known(found) is not None)
            self._run.check(graph)
            self._plan(graph, continuation)
        self._wake_later()

    # -- ends of nodes ------------------------------------------------------------------------

    def _skip(self, segment: Segment, index: int, skipped: Skipped) -> None:
        lazy = segment.lazies[index]
        if not lazy.task.structural:
            self._run.publish(TaskSkipped, lazy.name, lazy.number, skipped.condition)
        with self._lock:
            self._skips = True
            self._nodes.settle(segment, index, skipped)

    # -- ends of runs -------------------------------------------------------------------------

    def _have_result(self, value: Any) -> None:
        self._result = value
        self._call_in_loop(self._finish)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _fail(
        self,
        error: BaseException,
        work: Work | None,
        item: Work | tuple[Segment, int] | None,
    ) -> None:
        """Keep the first error, with its note, and end the run."""
        with self._lock:
            self._end_with(error, work, item)

    def _end_with(
        self,
        error: BaseException,
        work: Work | None,
        item: Work | tuple[Segment, int] | None,
    ) -> None:
        """The same, under the lock."""
        segment, index = item if isinstance(item, tuple) else (None, 0)
        if work is not None:
            segment, index = work.segment, work.index
            if self._watched:
                self._report_failure(work, error)
        if self._error is not None or self._stopping:
            return
        self._error = error
        self._stopping = True
        self._workers.stop()
        if segment is not None:
            source = work.source if work is not None else segment.lazies[index]
            name = work.operation.name if work is not None else source.name
            annotate(error, name, source, path_to(segment, index, name, source))
        self._call_in_loop(self._finish)

    def _no_workers(self, error: BaseException) -> None:
        self._fail(error, None, None)

    def _look_for_standstill(self) -> None:
        """Nothing runs, nothing is ready, and there is no value: nodes wait for each other."""
        with self._lock:
            if self._on_loop or self._workers.busy or self._result is not PENDING:
                return
            if self._stopping or self._done.done():
                return
            self._stopping = True
            self._error = self._nodes.standstill()
        self._finish()

    async def _stop(self) -> None:
        """Wait until nothing of this run runs; a second cancel abandons plain calls (M8)."""
        self._stopping = True
        self._workers.stop()
        abandoned: asyncio.CancelledError | None = None
        while pending := [task for task in self._tasks if not task.done()]:
            for task in pending:
                task.cancel()
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as request:
                abandoned = request  # the tasks are cancelled again, and close what they opened
        if abandoned is not None:
            raise abandoned
        await self._workers.quiet()

    # -- events -------------------------------------------------------------------------------

    def _report_start(self, work: Work) -> None:
        work.started = perf_counter()
        if not work.operation.structural:
            self._run.publish(TaskStarted, work.source.name, work.source.number)

    def _report_end(self, work: Work) -> None:
        if not work.source.task.structural:
            taken = perf_counter() - work.started
            self._run.publish(TaskFinished, work.source.name, work.source.number, taken)

    def _report_retry(self, work: Work, attempt: int, pause: float, error: BaseException) -> None:
        source = work.source
        self._run.publish(TaskRetrying, source.name, source.number, attempt, pause, error)

    def _report_failure(self, work: Work, error: BaseException) -> None:
        if not work.source.task.structural:
            taken = perf_counter() - work.started
            self._run.publish(TaskFailed, work.source.name, work.source.number, taken, error)


def _resolve(value: Any, values: list[Any], place: Any) -> Any:
    if isinstance(value, LazyResult):
        return values[place[value]]
    return value.value if isinstance(value, Literal) else value


def _belongs_on_loop(work: Work) -> bool:
    return (
        work.operation.is_async or work.retry is not None or wants_resources(work.args, work.kwargs)
    )


def _named(work: Work) -> dict[str, Any]:
    assert isinstance(work.operation, Task)
    parameters = work.operation.parameters
    return parameters.complete(parameters.bind(work.args, work.kwargs))


def _priority_of(item: Work | tuple[Segment, int]) -> int:
    segment, index = (item.segment, item.index) if isinstance(item, Work) else item
    return segment.priority[index] if segment.priority else 0


def _is_plain_call(blueprint: Blueprint) -> bool:
    """Whether a blueprint only calls a task, with arguments that its prologue's nodes give."""
    *prologue, root = blueprint.instructions
    return (
        isinstance(blueprint.task, Task)
        and not is_baked(blueprint, blueprint.task)
        and not (root.conditions or root.after)
        and all(call.source is not None for call in prologue)
    )


def _enter_with(
    work: Work,
    blueprint: Blueprint,
    named: Mapping[str, Literal[Any] | LazyResult[Any]],
    values: Sequence[Any],
) -> bool:
    """Enter the task of ``blueprint``, with ``values`` in the place of lazy arguments."""
    assert isinstance(blueprint.task, Task)
    left = iter(values)
    work.named = {n: v.value if isinstance(v, Literal) else next(left) for n, v in named.items()}
    work.operation, work.blueprint = blueprint.task, blueprint
    work.args, work.kwargs = blueprint.task.parameters.spread(work.named)
    return True
