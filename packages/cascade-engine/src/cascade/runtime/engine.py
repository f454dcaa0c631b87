"""Engine: wires the parts together and gives a run its life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, overload

from cascade.adapters.executors.checks import check_executor
from cascade.adapters.executors.inline import InlineExecutor
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.around import in_time
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.diagnostics.blocking_calls import BlockedStep, BlockingMonitor, warn
from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.events import (
    ConstraintRemoved,
    ConstraintSet,
    Event,
    RunFinished,
    RunStarted,
    TaskBlocking,
)
from cascade.runtime.execution.abandoned import AbandonedCalls
from cascade.runtime.execution.placement import Durations
from cascade.runtime.graph_path.strategy import GraphExecutionStrategy
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.limits.rules import Constraint
from cascade.runtime.loops.tiers import Tier, check_tier
from cascade.runtime.program import Program, ProgramExecution
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.resources.instance import TEARDOWN_TIMEOUT
from cascade.runtime.run import STEP_INTERVAL, Run, Waiting
from cascade.runtime.semantics.recording import Record, recorder
from cascade.runtime.straightline import Begun
from cascade.runtime.vm import BlueprintRegistry, VirtualMachine
from cascade.runtime.vm.strategy import VMExecutionStrategy
from cascade.spec.blueprint import Blueprint, Literal
from cascade.spec.callsite import users_frame
from cascade.spec.checks import check_count, check_seconds
from cascade.spec.errors import (
    ArgumentError,
    DeadlineError,
    DefinitionError,
    DependencyMissingError,
    RunError,
)
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.operation import Operation
from cascade.spec.params import check_params
from cascade.spec.protocols import ExecutionStrategy, Executor, Solver, StateBackend
from cascade.spec.resource import Provider, ResourceDefinition
from cascade.spec.wording import short

R = TypeVar("R")

_log = logging.getLogger("cascade.engine")
#: Seconds after its end for which an engine says nothing of runs that are under way.
TELL_AFTER = 5.0
#: Of so many.
_RUNS_TOLD = 10


class RunInfo(NamedTuple):
    """How far a run is."""

    run_id: str
    #: Name of what it computes.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str
    #: How long it has been under way.
    seconds: float
    #: Calls that tail calls and returned lazy values have asked for so far.
    steps: int
    #: Over the last second or two.
    steps_per_second: float
    #: The task that made the last step that was looked at; None before.
    task: str | None


class Engine:
    """Runs targets, on the graph path or on the virtual machine.

    Several runs may be under way at once. ``async with Engine() as engine`` ends its threads; so
    does ``await engine.close()``.

    Args:
        solver: Orders nodes that could run at the same time; NativeSolver if left out.
        executor: Lends threads for plain functions; a LocalExecutor of the engine's own, ended
            with it, if left out. Not one that makes calls in other processes.
        bus: Where events are published.
        state_backend: Keeps every node's outcome for reading after a run; none if left out.
        resources: Resources to register.
        teardown_timeout: Seconds that closing a resource may take which does not say so itself
            (``@cs.resource(teardown_timeout=…)``). What takes longer is cancelled or, on a thread,
            abandoned; that is an error of the run, and the rest is closed all the same.
        tier: How the virtual machine makes steps; see ``VirtualMachine``.
        step_interval: Seconds between two StepsMade events of a run, at least.
        capacities: How much there is of each capacity that ``with_capacity`` takes, by
            name; or a Capacities that several engines share. None of any if left out.

    Raises:
        ExecutorError: ``executor`` lends no threads of this process.

    Attributes:
        bus: Tells of what happens.
        constraints: The rules that hold for what runs; may be changed at any time, in any thread.
        capacities: Has the capacities.
        record: Called with each node of each run and its outcome, for journals; None at first. See
            ``cascade.runtime.semantics.recording``.

    >>> import cascade as cs
    >>> @cs.task
    ... def double(n):
    ...     return 2 * n
    >>> async def main():
    ...     async with cs.Engine() as engine:
    ...         return await engine.run(double(double(10)))
    >>> asyncio.run(main())
    40
    """

    def __init__(
        self,
        solver: Solver | None = None,
        executor: Executor | None = None,
        bus: MessageBus | None = None,
        *,
        state_backend: StateBackend | None = None,
        resources: Iterable[ResourceDefinition[Any]] = (),
        teardown_timeout: float = TEARDOWN_TIMEOUT,
        tier: Tier = "auto",
        step_interval: float = STEP_INTERVAL,
        capacities: Capacities | Mapping[str, float] | None = None,
    ) -> None:
        check_tier(tier)
        if executor is not None:
            check_executor(executor)
        self.tier: Tier = tier
        check_seconds("step_interval", step_interval)
        self._step_interval = step_interval
        self.bus = bus or MessageBus()
        self.state_backend = state_backend
        self.record: Record | None = None
        self.resource_container = ResourceContainer(self.bus, teardown_timeout)
        self.blueprints = BlueprintRegistry()
        self._executor = LocalExecutor() if executor is None else executor
        self._owns_executor = executor is None
        if not isinstance(capacities, Capacities):
            capacities = Capacities(capacities)
        self.capacities = capacities
        self.constraints = ConstraintManager(capacities, self._tell_of_constraint)
        #: Which functions were found to be slow in the event loop's thread (M6).
        self.durations = Durations()
        self._closed = False
        self._runs: dict[Run, tuple[str, str, float]] = {}
        self._abandoned = AbandonedCalls()
        #: Of the thread of each event loop that the engine has been used in.
        self._monitors: dict[int, BlockingMonitor] = {}
        self._graph = GraphExecutionStrategy(solver or NativeSolver(), tier)
        self._vm = VMExecutionStrategy(self._compile, self._machine)
        for definition in resources:
            self.register(definition)

    # -- runs ---------------------------------------------------------------------------------

    @overload
    async def run(
        self,
        target: LazyResult[R],
        params: Mapping[str, Any] | None = None,
        use_vm: bool = False,
        *,
        fail_fast: bool = True,
        deadline: float | None = None,
        max_steps: int | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        use_vm: bool = False,
        *,
        fail_fast: bool = True,
        deadline: float | None = None,
        max_steps: int | None = None,
    ) -> Any: ...
    async def run(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        use_vm: bool = False,
        *,
        fail_fast: bool = True,
        deadline: float | None = None,
        max_steps: int | None = None,
    ) -> Any:
        """Compute the value of ``target``.

        Args:
            target: A lazy value, or a list, tuple, dict or set with lazy values inside; a plain
                value is itself (R1).
            params: What the target's ``Param`` nodes read.
            use_vm: Compile it and execute the blueprint, instead of running the graph. A choice
                of speed, never of meaning.
            fail_fast: Whether the first error ends the run. If not, all that does not need the
                value of what failed runs, and the errors are raised together at the end.
            deadline: Seconds that the run may take. Plain functions that run then are abandoned,
                because nothing can stop them (M8).
            max_steps: How many steps the run's loops may make in all: calls that a tail call or a
                returned lazy value asks for.

        Raises:
            CascadeError: The program is at fault; see ``cascade.spec.errors``.
            RunError: The engine is closed.
            DeadlineError: The run took longer than ``deadline`` (a TimeoutError).
            StepLimitError: The run wants to make more than ``max_steps``.
            ExceptionGroup: Tasks failed, and ``fail_fast`` is false; even if the target has a
                value.
            Exception: The first error that a task raised, with a note on where it comes from.

        Guarantees: when this ends, however it does, no task of the run is running but for those
        that were abandoned, and every resource is closed but for what those use and what took
        longer than its ``teardown_timeout``.
        """
        self._check_open()
        if deadline is not None:
            check_seconds("deadline", deadline)
        if max_steps is not None:
            check_count("max_steps", max_steps)
        params = check_params(params)
        if not isinstance(target, LazyResult):
            frame = users_frame(sys._getframe(1))
            target = as_lazy(target, frame.f_code, frame.f_lasti)
            if not isinstance(target, LazyResult):
                return _plain(target)
        strategy: ExecutionStrategy = self._vm if use_vm else self._graph
        run = self._new_run(params, fail_fast=fail_fast, max_steps=max_steps)
        try:
            return await self._execute(run, target, strategy, deadline)
        except BaseException as error:
            leave_out_machinery(error)
            raise

    def compile(self, target: LazyResult[R], *, params: Iterable[str] = ()) -> Program[R]:
        """Compile ``target`` once, to be run often: ``await engine.compile(target).run(…)``.

        Args:
            target: A lazy value. Policies that it is given later do not count.
            params: Names of ``Param`` nodes that are first met in what tasks return, so that
                nothing can find them before a run (M22).

        Raises:
            DefinitionError: It is none.
            ArgumentError: ``params`` are no names.
            CycleError: Nodes wait for each other.
            ResourceNotFoundError, ResourceError: What is injected somewhere is not to be had.
            CapacityError: A node takes more of a capacity than there is.
        """
        self._check_open()
        names = _param_names(params)
        frame = users_frame(sys._getframe(1))
        lazy = as_lazy(target, frame.f_code, frame.f_lasti)
        blueprint = BlueprintBuilder().build(lazy)  # refuses what is no lazy value
        program = Program(self, lazy, blueprint, names)
        self.resource_container.check(program.special)
        self.capacities.check_nodes(program.special)
        return program

    async def execute(
        self,
        program: Program[Any],
        params: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        begun: Begun | None = None,
    ) -> Any:
        """Run a program the long way; ``Program.run`` is what users call."""
        self._check_open()
        run = self._new_run(params)
        way = ProgramExecution(program, args, kwargs, begun, self._machine)
        return await self._execute(run, program.target, way, None)

    @property
    def is_unwatched(self) -> bool:
        """Whether nobody wants to know of what runs, nor limits it: programs go the short way."""
        return (
            self.bus.is_silent
            and self.state_backend is None
            and self.record is None
            and not self.constraints.any
            and not self._closed
        )

    def _machine(self, run: Run) -> Any:
        # The class is looked up when a machine is made, so that it can be replaced in this module.
        return VirtualMachine(run=run, tier=self.tier)

    def _new_run(
        self, params: Mapping[str, Any], *, fail_fast: bool = True, max_steps: int | None = None
    ) -> Run:
        return Run(
            params=params,
            bus=self.bus,
            executor=self._executor_here(),
            container=self.resource_container,
            blueprints=self.blueprints,
            record=recorder(self.state_backend, self.record),
            fail_fast=fail_fast,
            abandoned=self._abandoned,
            monitor=self._monitor_here(),
            max_steps=max_steps,
            step_interval=self._step_interval,
            capacities=self.capacities,
            constraints=self.constraints,
            durations=self.durations,
        )

    def _tell_of_constraint(self, constraint: Constraint, what: str) -> None:
        told: Event
        if what == "set":
            if not self.bus.wants(ConstraintSet):
                return
            told = ConstraintSet("", *constraint.key, constraint.value, constraint.ttl)
        else:
            if not self.bus.wants(ConstraintRemoved):
                return
            told = ConstraintRemoved("", *constraint.key, constraint.value, what)
        self.bus.publish(told)

    async def _execute(
        self,
        run: Run,
        target: LazyResult[Any],
        strategy: ExecutionStrategy,
        deadline: float | None,
    ) -> Any:
        # No context manager of contextlib's: it sets attributes of the error that passes it, which
        # one that is a frozen dataclass refuses.
        started = perf_counter()
        self.constraints.use_clock(run.loop.time)
        run.publish(RunStarted, target.name, strategy.name)
        self._runs[run] = (target.name, strategy.name, started)
        # Each coroutine in between is one more that every wait of the run goes through.
        try:
            async with run:
                try:
                    work = strategy.execute(target, run)
                    value = await (work if deadline is None else _in_time(run, deadline, work))
                except Exception as error:
                    if not run.failures:
                        raise
                    _add_last(run.failures, error)
                if run.failures:  # it went on after its first
                    raise _together(run)
        except BaseException as error:
            self._ended(run, started, error)
            raise
        self._ended(run, started, None)
        return value

    def _ended(self, run: Run, started: float, error: BaseException | None) -> None:
        del self._runs[run]
        run.publish(RunFinished, _status(error), perf_counter() - started, error)

    def runs(self) -> list[RunInfo]:
        """The runs that are under way, and how far their loops are. From any thread."""
        now = perf_counter()
        return [
            RunInfo(
                run.id,
                target,
                strategy,
                now - started,
                run.steps.count,
                run.steps.per_second,
                run.steps.task,
            )
            for run, (target, strategy, started) in list(self._runs.items())
        ]

    def waiting(self, *, inputs: bool = True) -> list[Waiting]:
        """The nodes of all runs that are under way but do not run now, and why.

        They wait for inputs, for their next attempt, or for a capacity or a constraint, which are
        named together with the tasks that hold them. From any thread.

        Args:
            inputs: Whether to list those that wait for inputs, for which all nodes are looked at.
        """
        return [waiting for run in list(self._runs) for waiting in run.waiting(inputs)]

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The plain functions that still run though nobody waits for them any more, by name.

        After a timeout, a deadline, or a second Ctrl-C: nothing can stop a function (M8). Their
        threads are daemons, and do not keep the program from ending.
        """
        return self._abandoned.names

    def _executor_here(self) -> Executor:
        """In virtual time plain functions run inline, unless the engine was given an executor."""
        virtual = isinstance(asyncio.get_running_loop(), VirtualLoop)
        return InlineExecutor() if virtual and self._owns_executor else self._executor

    def _monitor_here(self) -> BlockingMonitor:
        thread = threading.get_ident()
        if thread not in self._monitors:
            self._monitors[thread] = BlockingMonitor(_tell_of_blocking)
        return self._monitors[thread]

    def _compile(self, target: LazyResult[Any]) -> Blueprint:
        # Looked up when it is needed, as the machine is.
        return BlueprintBuilder().build(target)

    # -- what runs are given ------------------------------------------------------------------

    def register(self, definition: ResourceDefinition[Any]) -> None:
        """Make a resource known by its name.

        Raises:
            DefinitionError: It was not made by ``@resource``.
        """
        self.resource_container.register(definition)

    def get_resource_provider(self, name: str) -> Provider[Any]:
        """The provider function of a resource.

        Raises:
            ResourceNotFoundError: Nothing is registered under ``name`` (a NameError).
        """
        return self.resource_container.get_provider(name)

    def override_resource_provider(self, name: str, new_provider: Any) -> None:
        """Use another provider for the resource ``name`` in all runs that begin from now on.

        A plain generator function takes over the scope, the thread and the deadline of the one that
        it replaces. For as long as a test takes, there is ``cs.override_resource``.

        Raises:
            DefinitionError: It is neither a generator function nor what ``@resource`` makes.
        """
        self.resource_container.override_provider(name, new_provider)

    def register_blueprint(self, blueprint_id: str, blueprint: Blueprint) -> None:
        """Let ``TailCall(target_blueprint_id=…)`` find ``blueprint``, on both paths."""
        self.blueprints.register(blueprint_id, blueprint)

    # -- its end ------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the engine's threads, and begin no run any more. May be repeated.

        Runs that are under way should have ended: their plain functions get no thread any more.
        They are not cancelled. If any is left after some seconds, the logger ``cascade.engine``
        says which, and what it waits for, as ``waiting`` does.
        """
        self._closed = True
        if self._runs:
            asyncio.get_running_loop().call_later(TELL_AFTER, self._tell_of_runs)
        for monitor in self._monitors.values():
            monitor.close()
        if self._owns_executor:
            self._executor.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _tell_of_runs(self) -> None:
        """Say which runs are under way though the engine was closed."""
        left = list(self._runs.items())
        if not left:
            return
        told = []
        for run, (target, _, _) in left[:_RUNS_TOLD]:
            waiting = run.waiting(inputs=False)
            why = f", where task '{waiting[0].task}' waits: {waiting[0].reason}" if waiting else ""
            told.append(f"'{target}'{why}")
        more = f" and {len(left) - len(told)} more" if len(left) > len(told) else ""
        _log.warning(
            "the engine was closed %g s ago, and these runs are still active: %s%s; cancel "
            "them, or remove the constraints they wait for",
            TELL_AFTER,
            "; ".join(told),
            more,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise RunError("the engine is closed; make a new one")


async def _in_time(run: Run, deadline: float, work: Awaitable[Any]) -> Any:
    """Await ``work``, at most as long as the run may take."""
    run.scope = asyncio.timeout(deadline)
    run.placement.in_time = True
    try:
        return await in_time(run.scope, work)
    except TimeoutError as error:
        if not run.expired:
            raise
        raise DeadlineError(
            f"the run took longer than its deadline of {deadline:g} s", deadline
        ) from error.__cause__


def _add_last(errors: list[Exception], last: Exception) -> None:
    """Add the error that a run has ended with to those before it, unless it is one of them."""
    known = any(last is error for error in errors)  # by identity: == is the user's
    if not (known or isinstance(last, DependencyMissingError)):
        errors.append(last)


def _together(run: Run) -> ExceptionGroup[Exception]:
    """The errors of a run that went on after its first; they are the run's no more."""
    errors, run.failures = run.failures, []
    count = len(errors)
    return ExceptionGroup(f"{count} task{'s' * (count > 1)} of the run failed", errors)


def _tell_of_blocking(blocked: BlockedStep) -> None:
    """Warn of a coroutine that blocks the event loop, and tell those who watch. In any thread."""
    run, task, node, mode = blocked.owner
    if blocked.plain is not None:
        task, node, mode = blocked.plain, 0, "auto"
    warn(task, blocked, mode)
    with contextlib.suppress(RuntimeError):  # the loop is closed by now
        run.publish(TaskBlocking, task, node, blocked.seconds, blocked.stack)


def _param_names(params: Iterable[str]) -> frozenset[str]:
    names = [params] if isinstance(params, str) else list(params)
    if isinstance(params, str) or not all(isinstance(name, str) for name in names):
        raise ArgumentError(
            f"compile() takes names of parameters, but got params={short(params)}\n"
            "    right:  engine.compile(target, params=['name'])"
        )
    return frozenset(names)


def _plain(target: Any) -> Any:
    if isinstance(target, Operation):
        raise DefinitionError(
            f"task '{target.name}' was passed to run() itself; call it: {target.name}(…)"
        )
    return target.value if isinstance(target, Literal) else target


def _status(error: BaseException | None) -> str:
    if error is None:
        return "succeeded"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
