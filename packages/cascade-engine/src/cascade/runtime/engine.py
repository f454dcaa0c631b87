"""Engine: wires the parts together and starts and ends runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from cascade.adapters.solvers.native import NativeSolver
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.bus import MessageBus
from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.programs import Program as StoredProgram
from cascade.runtime.durable.programs import wanted
from cascade.runtime.durable.runs import Begin
from cascade.runtime.durable.starting import value_of_run
from cascade.runtime.durable.stored_options import options_of
from cascade.runtime.durable_methods import DurableMethods
from cascade.runtime.elsewhere.executors import refuse_in_import
from cascade.runtime.engine_options import EngineOptions, EngineSettings
from cascade.runtime.engine_runs import EngineRuns, RunInfo
from cascade.runtime.execution.early_calls import EarlyTasks
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.strategy import GraphExecutionStrategy
from cascade.runtime.handle import RunHandle
from cascade.runtime.inbox import Letter
from cascade.runtime.lending import Lending, telling_of_constraints
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.loops.tiers import Tier, check_tier
from cascade.runtime.options import (
    DEFAULTS,
    ProgramOptions,
    RunOptions,
    RunSettings,
    new_id,
    settings,
    takes,
)
from cascade.runtime.program import Program, ProgramExecution
from cascade.runtime.run import Run
from cascade.runtime.semantics.parameter_names import check_parameter_names
from cascade.runtime.semantics.recording import Record
from cascade.runtime.straightline.stops import Begun
from cascade.runtime.streaming import StreamMethods
from cascade.runtime.telemetry.summary import Summing
from cascade.runtime.vm import VirtualMachine
from cascade.runtime.vm.strategy import VMExecutionStrategy
from cascade.spec.blueprint import Blueprint, Literal, TailCall
from cascade.spec.callsite import users_frame
from cascade.spec.checks import check_seconds
from cascade.spec.containers import refused
from cascade.spec.errors import (
    DefinitionError,
    RunError,
    RunNotFoundError,
)
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.operation import Operation
from cascade.spec.params import check_param_names, check_params
from cascade.spec.protocols import ExecutionStrategy
from cascade.spec.resource import Provider, ResourceDefinition
from cascade.spec.waits import check_signal
from cascade.spec.wording import short

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
K = TypeVar("K")

_ON_VM = RunSettings(use_vm=True)


class Engine(DurableMethods, StreamMethods):
    """Runs targets, on the graph path or on the virtual machine.

    Several runs may be active at once. ``async with Engine() as engine`` ends its threads; so does
    ``await engine.close()``.

    Attributes:
        constraints: The rules for running tasks; may be changed at any time, in any thread.
        capacities: The capacities.
        record: Called with each node of each run and its outcome, for journals; None by default.
            See ``cascade.runtime.semantics.recording``.

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

    @takes(EngineOptions, EngineSettings)
    def __init__(self, **options: Unpack[EngineOptions]) -> None:
        """Make an engine; it starts no thread and no run yet.

        Raises:
            ArgumentError: An option is unknown or has an impossible value.
            ExecutorError: ``threads`` or ``executor`` lends no threads of this process.
            RunError: A worker process imports the script, which makes the engine meanwhile.
        """
        refuse_in_import()
        made = settings(EngineSettings, "Engine", options, EngineOptions.__optional_keys__)
        check_tier(made.tier)
        check_seconds("step_interval", made.step_interval)
        self.tier: Tier = made.tier
        self._bus = made.bus or MessageBus()
        self.state_backend = made.state_backend
        self.record: Record | None = None
        capacities = made.capacities
        if not isinstance(capacities, Capacities):
            capacities = Capacities(capacities)
        self.capacities = capacities
        self._runs = EngineRuns()
        telling = telling_of_constraints(self._bus, self._runs.active)
        self.constraints = ConstraintManager(capacities, telling)
        self._lending = Lending(made, self._bus, self.constraints)
        self.resource_container = self._lending.container
        self.blueprints = self._lending.blueprints
        #: The functions found to be slow in the event loop's thread (M6).
        self.durations = self._lending.durations
        self._set_up_store(made)
        self._closed = False
        self._graph = GraphExecutionStrategy(made.solver or NativeSolver(), made.tier)
        self._vm = VMExecutionStrategy(self._compile, self._machine)
        for definition in made.resources:
            self.register(definition)

    @property
    def bus(self) -> MessageBus:
        """Publishes the events, of all runs and for all subscribers, whenever these come.

        It stays the same object, because runs and limits hold it: ``Engine(bus=…)`` chooses it.
        """
        return self._bus

    # -- runs ---------------------------------------------------------------------------------

    @overload
    async def run(
        self,
        target: LazyResult[R],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> R: ...
    @overload
    async def run(
        self,
        target: list[LazyResult[R]],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> list[R]: ...
    @overload
    async def run(
        self,
        target: tuple[LazyResult[R], LazyResult[S]],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> tuple[R, S]: ...
    @overload
    async def run(
        self,
        target: tuple[LazyResult[R], LazyResult[S], LazyResult[T]],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> tuple[R, S, T]: ...
    @overload
    async def run(
        self,
        target: dict[K, LazyResult[R]],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> dict[K, R]: ...
    @overload
    async def run(
        self, target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
    ) -> Any: ...
    @takes(RunOptions, RunSettings)
    async def run(
        self, target: Any, params: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
    ) -> Any:
        """Compute the value of ``target``.

        Args:
            target: A lazy value, or a list, tuple, dict or set with lazy values inside; a plain
                value is itself (R1).
            params: Values for the target's ``Param`` nodes; other names are refused (M22).

        Raises:
            CascadeError: The program is at fault; see ``cascade.spec.errors``.
            RunError: The engine is closed.
            DeadlineError: The run took longer than ``deadline`` (a TimeoutError).
            StepLimitError: The run needs more than ``max_steps``.
            ExceptionGroup: Tasks failed, and ``fail_fast`` is false; even if the target has a
                value.
            Exception: The first error that a task raised, with a note on its origin.

        Guarantees: when this ends, for whatever reason, no task of the run is running except
        abandoned calls, and every resource is closed except those that such calls use and those
        that exceeded their ``teardown_timeout``.
        """
        how = self._how("run", options)
        if params is not None:
            params = check_params(params)
        if not isinstance(target, LazyResult):
            frame = users_frame(sys._getframe(1))
            target = as_lazy(target, frame.f_code, frame.f_lasti)
            if not isinstance(target, LazyResult):
                value = _plain(target)
                check_parameter_names(params or {}, target, how.late_params)
                return value
        if params:
            check_parameter_names(params, target, how.late_params)
        try:
            return await self._computing(target, params, how)
        except BaseException as error:
            leave_out_machinery(error)
            raise

    @overload
    def start(
        self,
        target: LazyResult[R],
        params: Mapping[str, Any] | None = None,
        *,
        summary: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunHandle[R]: ...
    @overload
    def start(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        summary: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunHandle[Any]: ...
    @takes(RunOptions, RunSettings)
    def start(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        summary: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunHandle[Any]:
        """Begin a run and return its handle at once. Call it in the event loop's thread.

        >>> import cascade as cs
        >>> @cs.task
        ... def double(n):
        ...     return 2 * n
        >>> async def main():
        ...     async with cs.Engine() as engine:
        ...         handle = engine.start(double(21))
        ...         return await handle.result()
        >>> asyncio.run(main())
        42

        Closing the engine cancels the started runs that have not ended, and waits for their end.
        If a run fails and ``result`` is never awaited, asyncio logs the error.

        Args:
            target: As for ``run``.
            params: Values for the target's ``Param`` nodes; other names are refused (M22).
            summary: Collect the figures of tasks for ``handle.summary()``. This costs about 2 µs a
                node, also in other runs that begin meanwhile.

        Raises:
            RunError: The engine is closed, there is no event loop, or a run with this ``run_id`` is
                active.
            CascadeError: An argument is at fault. The handle raises the errors of the run.
        """
        how = self._how("start", options)
        params = check_params(params)
        frame = users_frame(sys._getframe(1))
        target = as_lazy(target, frame.f_code, frame.f_lasti)
        name = target.name if isinstance(target, LazyResult) else short(_plain(target))
        check_parameter_names(params, target, how.late_params)
        if asyncio._get_running_loop() is None:
            raise RunError(
                "engine.start() needs the event loop that the run is to belong to\n"
                "    right:  async def main(): handle = engine.start(target); …"
            )
        run_id = how.run_id or new_id()
        computing = self._computed(target, params, replace(how, run_id=run_id))
        work = asyncio.create_task(computing, name=f"cascade run {run_id}")
        self._runs.add_started(work, run_id)
        is_kept = self._durable is not None and how.run_id is not None
        before_cancel = self._stored("start").cancel if is_kept else None
        summing = Summing(self._bus, run_id) if summary else None
        return RunHandle(run_id, name, work, before_cancel, summing)

    def _start_stream(self, target: Any, params: Any, options: RunOptions) -> RunHandle[Any]:
        return self.start(target, params, **options)

    async def _computed(self, target: Any, params: Mapping[str, Any], how: RunSettings) -> Any:
        """The value of a started run."""
        if not isinstance(target, LazyResult):
            return _plain(target)
        try:
            return await self._computing(target, params, how)
        except BaseException as error:
            leave_out_machinery(error)
            raise

    def _computing(
        self, target: LazyResult[Any], params: Mapping[str, Any] | None, how: RunSettings
    ) -> Awaitable[Any]:
        """An awaitable for the value of ``target``; the run is made, but has not begun."""
        if self._durable is not None and how.run_id is not None:
            codec, priority = self._durable.codec, how.priority
            new = wanted(
                codec,
                how.run_id,
                target,
                params or {},
                priority=priority,
                options=options_of(how),
            )
            return value_of_run(self._durable, new, self._beginning(how))
        run = self._new_run(params, how)
        return self._runs.execute(run, target, self._strategy(how), how.deadline)

    def _beginning(self, how: RunSettings) -> Begin:
        """Begins a durable run that is executed so."""

        def begin(program: StoredProgram, journal: Journal) -> Awaitable[Any]:
            run = self._new_run(program.params, how)
            run.keep_journal(journal)
            return self._runs.execute(run, program.target, self._strategy(how), how.deadline)

        return begin

    def _strategy(self, how: RunSettings) -> ExecutionStrategy:
        return self._vm if how.use_vm else self._graph

    async def signal(self, run_id: str, name: str, value: Any = None) -> None:
        """Send a signal to a run, which ``cs.wait_for(name)`` takes (D11).

        A durable run keeps it until it is taken, whichever process executes the run; it may also
        be suspended or enqueued. Other runs get it if they are under way in this engine.

        Args:
            run_id: The id of the run.
            name: The name of the signal.
            value: Its value.

        Raises:
            RunNotFoundError: No run has the id.
            RunConflictError: The run has ended.
            NotStorableError: ``value`` has no stored form, and the run is durable.
            RunError: The engine is closed.
        """
        self._check_open()
        check_signal("signal()", name)
        run = self._runs.find(run_id)
        if run is None and self._runs.has(run_id):
            await asyncio.sleep(0)  # it was started just before, and begins in this turn
            run = self._runs.find(run_id)
        if run is not None and run.journal is None:
            run.call_in_loop(run.inbox.put, Letter(name, value))
        elif self._durable is not None:
            await self._durable.signal(run_id, name, value)
        else:
            raise RunNotFoundError(
                f"no run with run_id {run_id!r} is under way in this engine, and it has no store",
                run_id,
            )

    def _how(self, call: str, options: RunOptions) -> RunSettings:
        """The settings of a new run; refuses one that may not begin now."""
        self._check_open()
        if not options:
            return DEFAULTS
        if len(options) == 1 and options.get("use_vm") is True:  # as for every agent of a fleet
            return _ON_VM
        how = settings(RunSettings, call, options, RunOptions.__optional_keys__)
        if how.run_id is not None and self._runs.has(how.run_id):
            raise RunError(f"a run with run_id {how.run_id!r} is under way in this engine")
        return how

    @takes(ProgramOptions, RunSettings)
    def compile(
        self,
        target: LazyResult[R],
        *,
        params: Iterable[str] = (),
        **options: Unpack[ProgramOptions],
    ) -> Program[R]:
        """Compile ``target`` once and run it often: ``await engine.compile(target).run(…)``.

        The options hold for each run of the program.

        Args:
            target: A lazy value. Later changes of its policies have no effect.
            params: Names of ``Param`` nodes that appear only in the results of tasks, so that they
                cannot be found before a run (M22).

        Raises:
            DefinitionError: ``target`` is not a lazy value.
            ArgumentError: ``params`` are not names, or an option is unknown.
            CycleError: Nodes wait for each other.
            ResourceNotFoundError, ResourceError: An injected resource is not available.
            CapacityError: A node takes more of a capacity than the total.
        """
        self._check_open()
        names = check_param_names(params, "compile", "params")
        how = settings(RunSettings, "compile", options, ProgramOptions.__optional_keys__)
        frame = users_frame(sys._getframe(1))
        lazy = as_lazy(target, frame.f_code, frame.f_lasti)
        blueprint = BlueprintBuilder().build(lazy)  # refuses other objects than lazy values
        program = Program(self, lazy, blueprint, names, how)
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
        how: RunSettings | None = None,
    ) -> Any:
        """Run a program the long way; users call ``Program.run``."""
        self._check_open()
        how = how or program.settings
        run = self._new_run(params, how)
        way = ProgramExecution(program, args, kwargs, begun, self._machine)
        return await self._runs.execute(run, program.target, way, how.deadline)

    @property
    def is_unwatched(self) -> bool:
        """Whether there are no subscribers and no limits, so that programs go the short way."""
        return (
            self._bus.is_silent
            and self.state_backend is None
            and self.record is None
            and not self._lending.elsewhere.everything
            and self._lending.middleware is None
            and not self.constraints.any
            and not self._closed
        )

    @property
    def early(self) -> EarlyTasks:
        """The spare asyncio tasks of this event loop."""
        tasks = self._lending.here(self.state_backend, self.record).early
        assert tasks is not None
        return tasks

    def _machine(self, run: Run) -> Any:
        # The class is looked up at each use, so that it can be replaced in this module.
        return VirtualMachine(run=run, tier=self.tier)

    def _new_run(self, params: Mapping[str, Any] | None, how: RunSettings) -> Run:
        return Run(self._lending.here(self.state_backend, self.record), params, how)

    def runs(self) -> list[RunInfo]:
        """The active runs, and the progress of their loops. From any thread."""
        return self._runs.infos()

    def waiting(self, *, inputs: bool = True) -> list[Waiting]:
        """The nodes of all active runs that do not run now, and the reasons.

        They wait for inputs, for their next attempt, or for a capacity, a constraint or a worker
        thread, which is named together with the tasks that hold it. Waits for a thread are listed
        once they have lasted for a tenth of a second. From any thread.

        Args:
            inputs: Include nodes that wait for inputs, which needs a visit to every node; and all
                nodes of a run that wait for a thread, instead of the first 1000.
        """
        return [waiting for run in list(self._runs.active) for waiting in run.waiting(inputs)]

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The names of abandoned plain functions that still run.

        They were abandoned after a timeout, a deadline, or a second Ctrl-C, because a function
        cannot be stopped (M8). Their threads are daemons, and do not delay the end of the program.
        """
        return self._lending.abandoned.names

    @property
    def engine_runs(self) -> EngineRuns:
        """The active runs themselves, for views of them."""
        return self._runs

    def _compile(self, target: LazyResult[Any]) -> Blueprint:
        # Looked up at each use, as the machine is.
        return BlueprintBuilder().build(target)

    # -- resources and blueprints -------------------------------------------------------------

    def register(self, definition: ResourceDefinition[Any]) -> None:
        """Register a resource by its name.

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

        A generator function inherits the scope, the thread and the deadline of the provider that it
        replaces. For the duration of a test, use ``cs.override_resource``.

        Raises:
            DefinitionError: It is neither a generator function nor made by ``@resource``.
        """
        self.resource_container.override_provider(name, new_provider)

    def register_blueprint(self, blueprint_id: str, blueprint: Blueprint) -> None:
        """Let ``TailCall(target_blueprint_id=…)`` find ``blueprint``, on both paths."""
        self.blueprints.register(blueprint_id, blueprint)

    # -- its end ------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the engine's resources, end its threads, and start no more runs. May be repeated.

        Cancels the runs begun by ``start``, and waits for their end. Other active runs should end
        before: they are not cancelled, but their plain functions get no threads any more. If some
        are still active after some seconds, the logger ``cascade.engine`` names them and the things
        they wait for, as ``waiting`` does.

        Resources of scope ``engine`` are closed in reverse order of opening (M7). The error of a
        block ``async with engine`` gets errors of closing as notes.

        Raises:
            BaseException: A resource failed to close; several errors are in a group.
        """
        await self._close(None)

    async def _close(self, error: BaseException | None) -> None:
        self._closed = True
        await self._end_serving()
        await self._runs.end_started()
        try:
            await self.resource_container.close(error)
        finally:
            self._runs.tell_later()
            self._lending.end()
            if self._lending.elsewhere.is_started:
                await asyncio.to_thread(self._lending.elsewhere.close)
            if self._durable is not None:
                self._durable.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close(error)

    def _check_open(self) -> None:
        if self._closed:
            raise RunError("the engine is closed; make a new one")


def _plain(target: Any) -> Any:
    if isinstance(target, Operation):
        raise DefinitionError(
            f"task '{target.name}' was passed to run() itself; call it: {target.name}(…)"
        )
    if isinstance(target, TailCall):
        raise refused(target)
    return target.value if isinstance(target, Literal) else target
