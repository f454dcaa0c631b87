"""VirtualMachine: executes blueprints."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine_parts import EngineParts
from cascade.runtime.execution.registry import BlueprintRegistry
from cascade.runtime.graph_path.compiled_loops.loop_entries import LoopEntries
from cascade.runtime.graph_path.small_runs.first_calls import first_call
from cascade.runtime.graph_path.small_runs.lone_loops import LoneLoop
from cascade.runtime.graph_path.small_runs.shared_runs import small_run
from cascade.runtime.graph_path.small_runs.small_run import SmallRun
from cascade.runtime.graph_path.strategy import GraphRun
from cascade.runtime.graph_path.templates import instantiate
from cascade.runtime.loops.tiers import Tier, check_tier, demand
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.run import Run
from cascade.runtime.semantics.outcomes import value_or_raise
from cascade.runtime.straightline.stops import Begun
from cascade.runtime.vm.registers import STOPPED, RegisterMachine, is_for_registers
from cascade.spec.blueprint import Blueprint
from cascade.spec.errors import BlueprintError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task

_SOLVER = NativeSolver()


class VirtualMachine:
    """Executes blueprints: loops by tail calls without a stack, with flat memory.

    An engine makes one for each run. Alone, ``VirtualMachine()`` executes blueprints that need no
    registered resources.

    Args:
        run: The run that executions belong to; each gets its own by default.
        tier: The tier of steps: ``"auto"``, the best one that each task allows, or a named one,
            which the task of an executed blueprint must then allow; see ``cs.explain``.

    Raises:
        ArgumentError: ``tier`` is unknown.
    """

    def __init__(self, run: Run | None = None, *, tier: Tier = "auto") -> None:
        check_tier(tier)
        self._run = run
        self._tier = tier
        self.registry = run.blueprints if run is not None else BlueprintRegistry()

    def register_blueprint(self, blueprint_id: str, blueprint: Blueprint) -> None:
        """Let tail calls with this ``target_blueprint_id`` continue as ``blueprint``.

        Raises:
            DefinitionError: It is not a Blueprint, or an empty one.
        """
        self.registry.register(blueprint_id, blueprint)

    async def execute(
        self,
        blueprint: Blueprint,
        initial_args: Sequence[Any] | None = None,
        initial_kwargs: Mapping[str, Any] | None = None,
        *,
        source: LazyResult[Any] | None = None,
        begun: Begun | None = None,
    ) -> Any:
        """The value that ``blueprint`` computes from the arguments.

        Args:
            blueprint: Not changed; other executions may use it at the same time.
            initial_args: Inputs by position.
            initial_kwargs: Inputs by name. A given input replaces the value that the prologue would
                compute for it; a lazy value stands for that computed value.
            source: The lazy value that was compiled, for the notes of errors.
            begun: The point where straight-line code for the blueprint has stopped, to continue
                from there.

        Raises:
            ArgumentError: The arguments do not fit the blueprint's inputs (a TypeError).
            TierError: Its task cannot get the tier asked for by name.
            DependencyMissingError: The root was skipped (R6).
        """
        demand(blueprint.task, self._tier)
        args, kwargs, name = initial_args or (), initial_kwargs or {}, blueprint.name
        if self._run is None:
            outcome = await self._alone(blueprint, args, kwargs, source)
        elif source is not None and _is_whole(source, blueprint, args, kwargs):
            # The runs of a fleet wait here.
            del blueprint, initial_args, initial_kwargs, args, kwargs
            outcome = await self._outcome(self._run, source, begun)
        else:
            outcome = await self._executed(self._run, blueprint, args, kwargs, source, begun)
        return value_or_raise(outcome, name, source)

    async def _outcome(self, run: Run, target: LazyResult[Any], begun: Begun | None) -> Any:
        lone: LoneLoop | None = None
        reports = None
        if begun is None and run.journal is None:
            first = first_call(run, target) if self._tier == "auto" else None
            if first is None:
                lone = LoneLoop.of(run, target, self._tier)
            else:
                begun = await first.outcome()
                if type(begun) is not Begun:
                    return begun
                reports = first.reports
                lone = LoneLoop.after(run, target, begun, reports)
                del first
        if lone is None:
            small = self._small_run(run, target, begun)
            if small is not None:
                begun = await small.outcome()
                if type(begun) is not Begun:
                    return begun
                del small
            graph = GraphRun(run, _SOLVER, self._tier, compiled=True, reports=reports)
            return await graph.value(target, begun)
        del begun  # it holds the result of the first call
        try:
            await lone.started()
        except asyncio.CancelledError as error:
            lone.cancelled(error)
        if lone.has_value():
            return lone.take()
        graph = GraphRun(run, _SOLVER, self._tier, compiled=True, reports=lone.reports)
        return await graph.value(target, lone=lone)

    def _small_run(self, run: Run, target: LazyResult[Any], begun: Begun | None) -> SmallRun | None:
        """The calls of a run that needs no graph; None if it needs one from here on."""
        if begun is not None:
            return SmallRun.after(run, begun)
        if self._tier != "auto" or LoopEntries(run, self._tier).starts_at(target):
            return None
        return small_run(run, target)

    async def _executed(
        self,
        run: Run,
        blueprint: Blueprint,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        source: LazyResult[Any] | None,
        begun: Begun | None = None,
    ) -> Any:
        """The outcome of the instructions."""
        if not blueprint.instructions:
            raise BlueprintError("the blueprint has no instructions, so it has no value")
        if begun is None and is_for_registers(blueprint, run):
            machine = RegisterMachine(run, blueprint, args, kwargs)
            value = await machine.value()
            return value if value is not STOPPED else await self._outcome(run, *machine.rest())
        target = instantiate(blueprint, args, kwargs, source)
        if begun is not None:
            begun = begun._replace(lazies=[*begun.lazies[:-1], target])
        return await self._outcome(run, target, begun)

    async def _alone(
        self,
        blueprint: Blueprint,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        source: LazyResult[Any] | None,
    ) -> Any:
        """The same in its own run."""
        bus = MessageBus()
        executor = LocalExecutor()
        try:
            container = ResourceContainer(bus)
            lent = EngineParts(
                bus=bus,
                threads=executor,
                container=container,
                blueprints=self.registry,
            )
            try:
                async with Run(lent) as run:
                    value = await self._executed(run, blueprint, args, kwargs, source)
            except BaseException as error:
                await container.close(error)
                raise
            await container.close()
            return value
        finally:
            executor.shutdown(wait=False)


def _is_whole(
    source: LazyResult[Any],
    blueprint: Blueprint,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> bool:
    """Whether the blueprint stands for ``source`` as a whole, with uncompiled instructions."""
    if blueprint.origin is not source:
        return False
    own, named = (source.args, source.kwargs) if isinstance(source.task, Task) else ((), {})
    if len(args) != len(own) or kwargs.keys() != named.keys():
        return False
    # A loop, and a generator only if there is something to compare: most runs come here.
    for given, there in zip(args, own, strict=True):
        if given is not there:
            return False
    return not named or all(kwargs[name] is named[name] for name in named)
