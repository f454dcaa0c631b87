"""VirtualMachine: executes blueprints."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.bus import MessageBus
from cascade.runtime.outcomes import value_or_raise
from cascade.runtime.resource_container import ResourceContainer
from cascade.runtime.run import Run
from cascade.runtime.vm.frame import Frame
from cascade.runtime.vm.interpreter import Interpreter
from cascade.runtime.vm.registry import BlueprintRegistry
from cascade.runtime.vm.straight import Handover
from cascade.runtime.vm.tiers import Tier, check_tier, demand
from cascade.spec.blueprint import Blueprint
from cascade.spec.errors import BlueprintError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.policies import CallPolicies


class VirtualMachine:
    """Executes blueprints: loops by tail calls without a stack, with flat memory.

    An engine makes one for each run; by itself, ``VirtualMachine()`` executes blueprints that need
    no registered resources.

    Args:
        run: The run that executions belong to; one of its own for each if left out.
        tier: How steps are made: ``"auto"``, the best way that each task allows, or one by name,
            which a task whose blueprint is executed then has to allow; see ``cs.explain``.

    Raises:
        ArgumentError: ``tier`` is none.
    """

    def __init__(self, run: Run | None = None, *, tier: Tier = "auto") -> None:
        check_tier(tier)
        self._run = run
        self._tier = tier
        self.registry = run.blueprints if run is not None else BlueprintRegistry()

    def register_blueprint(self, blueprint_id: str, blueprint: Blueprint) -> None:
        """Let tail calls with this ``target_blueprint_id`` continue as ``blueprint``.

        Raises:
            DefinitionError: It is no Blueprint, or an empty one.
        """
        self.registry.register(blueprint_id, blueprint)

    async def execute(
        self,
        blueprint: Blueprint,
        initial_args: Sequence[Any] | None = None,
        initial_kwargs: Mapping[str, Any] | None = None,
        *,
        source: LazyResult[Any] | None = None,
        handover: Handover | None = None,
    ) -> Any:
        """The value that ``blueprint`` computes from the arguments.

        Args:
            blueprint: Not changed; may be under execution elsewhere too.
            initial_args: Inputs by position.
            initial_kwargs: Inputs by name. One that is given replaces what the prologue would
                compute for it; a lazy value stands for just that.
            source: The lazy value that was compiled, for the notes of errors.
            handover: Where straight-line code for the blueprint has stopped, to go on from there.

        Raises:
            ArgumentError: The arguments do not fit the blueprint's inputs (a TypeError).
            TierError: The tier that was asked for by name is not to be had for its task.
            DependencyMissingError: The root was skipped (R6).
        """
        value = await self.outcome(
            blueprint, initial_args, initial_kwargs, source=source, handover=handover
        )
        return value_or_raise(value, blueprint.name, source)

    def outcome(
        self,
        blueprint: Blueprint,
        initial_args: Sequence[Any] | None = None,
        initial_kwargs: Mapping[str, Any] | None = None,
        *,
        source: LazyResult[Any] | None = None,
        nested: bool = False,
        policies: CallPolicies | None = None,
        handover: Handover | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """What to await for the same; or for a Missing if the root was skipped, or has failed.

        It has failed in a run that goes on. With ``nested``, whoever asks sees to that. The
        ``policies`` are those of the node that continues as the blueprint; of its root if left out.
        """
        if not blueprint.instructions:
            raise BlueprintError("the blueprint has no instructions, so it has no value")
        demand(blueprint.task, self._tier)
        frame = Frame(blueprint, initial_args or (), initial_kwargs or {})
        frame.source = source
        if policies is not None:
            frame.policies, frame.has_amounts = policies, True
        if self._run is not None:  # no coroutine in between, which waits would go through
            return self._interpret(self._run, frame, nested, handover)
        return self._alone(frame, nested, handover)

    async def _alone(self, frame: Frame, nested: bool, handover: Handover | None) -> Any:
        """Execute ``frame`` in a run of its own."""
        bus = MessageBus()
        executor = LocalExecutor()
        try:
            async with Run(
                params={},
                bus=bus,
                executor=executor,
                container=ResourceContainer(bus),
                blueprints=self.registry,
            ) as run:
                return await self._interpret(run, frame, nested, handover)
        finally:
            executor.shutdown(wait=False)

    def _interpret(
        self, run: Run, frame: Frame, nested: bool, handover: Handover | None
    ) -> Coroutine[Any, Any, Any]:
        return Interpreter(run, self.registry, nested, self._tier).execute(frame, handover)
