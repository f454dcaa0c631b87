"""Engine: wires the parts together and starts and ends runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
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
from cascade.runtime.engine_runs import EngineRuns
from cascade.runtime.engine_views import EngineViews
from cascade.runtime.graph_path.strategy import GraphExecutionStrategy
from cascade.runtime.handle import RunHandle
from cascade.runtime.host_options import On, check_on
from cascade.runtime.lending import Lending, elsewhere_of, telling_of_constraints
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.loops.tiers import Tier, check_tier
from cascade.runtime.options import (
    DEFAULTS,
    RunOptions,
    RunSettings,
    new_id,
    settings,
    takes,
)
from cascade.runtime.program_methods import ProgramMethods
from cascade.runtime.registry_methods import RegistryMethods
from cascade.runtime.run import Run
from cascade.runtime.semantics.parameter_names import check_parameter_names
from cascade.runtime.semantics.recording import Record
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
)
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.operation import Operation
from cascade.spec.params import check_params
from cascade.spec.protocols import ExecutionStrategy
from cascade.spec.wording import short

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
K = TypeVar("K")

_ON_VM = RunSettings(use_vm=True)


class Engine(DurableMethods, EngineViews, ProgramMethods, RegistryMethods, StreamMethods):
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
        elsewhere = elsewhere_of(made)
        if not isinstance(capacities, Capacities):
            if elsewhere.keeps and (capacities is None or isinstance(capacities, Mapping)):
                capacities = {**elsewhere.places, **(capacities or {})}
            capacities = Capacities(capacities)
        self.capacities = capacities
        self._runs = EngineRuns()
        telling = telling_of_constraints(self._bus, self._runs.active)
        self.constraints = ConstraintManager(capacities, telling)
        self._lending = Lending(made, self._bus, self.constraints, elsewhere)
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
        on: On | None = None,
        **options: Unpack[RunOptions],
    ) -> RunHandle[R]: ...
    @overload
    def start(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        summary: bool = False,
        on: On | None = None,
        **options: Unpack[RunOptions],
    ) -> RunHandle[Any]: ...
    @takes(RunOptions, RunSettings)
    def start(
        self,
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        summary: bool = False,
        on: On | None = None,
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
            on: ``"process"``, ``"dask://host:8786"``, ``"ray://host:10001"``, or a ProcessExecutor,
                DaskExecutor or RayExecutor: another process executes the run, and another one if
                that is killed. Needs a store with a URL (`docs/distribution.md`).
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
        is_kept = self._durable is not None and how.run_id is not None
        run_id = how.run_id or new_id()
        how = replace(how, run_id=run_id)
        hosted = None
        if on is not None:
            check_on(on)  # also for a plain value, which needs no process
        if on is not None and isinstance(target, LazyResult):
            hosted = self._hosted(target, params, how, on)
        computing = self._computed(target, params, how, hosted)
        work = asyncio.create_task(computing, name=f"cascade run {run_id}")
        self._runs.add_started(work, run_id)
        before_cancel = self._stored("start").cancel if is_kept else None
        if hosted is not None and self._hosting is not None:
            before_cancel = self._hosting.cancel
        summing = Summing(self._bus, run_id) if summary else None
        return RunHandle(run_id, name, work, before_cancel, summing)

    def _start_stream(self, target: Any, params: Any, options: RunOptions) -> RunHandle[Any]:
        return self.start(target, params, **options)

    async def _computed(
        self,
        target: Any,
        params: Mapping[str, Any],
        how: RunSettings,
        hosted: Callable[[], Awaitable[Any]] | None,
    ) -> Any:
        """The value of a started run."""
        if not isinstance(target, LazyResult):
            return _plain(target)
        try:
            return await (hosted() if hosted else self._computing(target, params, how))
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

    def _machine(self, run: Run) -> Any:
        # The class is looked up at each use, so that it can be replaced in this module.
        return VirtualMachine(run=run, tier=self.tier)

    def _new_run(self, params: Mapping[str, Any] | None, how: RunSettings) -> Run:
        return Run(self._lending.here(self.state_backend, self.record), params, how)

    def _compile(self, target: LazyResult[Any]) -> Blueprint:
        # Looked up at each use, as the machine is.
        return BlueprintBuilder().build(target)

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
        await self._end_hosting()
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

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
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
