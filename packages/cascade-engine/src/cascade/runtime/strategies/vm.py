"""VMExecutionStrategy: the target is compiled to a blueprint, which a virtual machine executes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.graph.build import build_graph
from cascade.graph.model import Graph
from cascade.runtime.pins import named_in
from cascade.runtime.run import Run
from cascade.runtime.ticker import Turn
from cascade.runtime.vm.straight import Handover, straight_for, walk
from cascade.spec.blueprint import Blueprint
from cascade.spec.lazy_types import LazyResult

if TYPE_CHECKING:
    from cascade.runtime.program import Program


class VMExecutionStrategy:
    """Runs a target on the virtual machine.

    Args:
        build: Compiles a lazy value, whose graph is given too, to a blueprint.
        machine: Makes the machine for one run.
        by_shape: Whether graphs of plain calls may be run by code for their shape.
    """

    name = "vm"

    def __init__(
        self,
        build: Callable[[LazyResult[Any], Graph], Blueprint],
        machine: Callable[[Run], Any],
        by_shape: bool = True,
    ) -> None:
        self._build = build
        self._machine = machine
        self._by_shape = by_shape

    async def execute(self, target: LazyResult[Any], run: Run) -> Any:
        """The value of ``target``.

        Raises:
            DependencyMissingError: It was skipped (R6).
            CycleError: Nodes wait for each other.
        """
        graph = build_graph(target)
        run.check(graph.lazies)
        run.report_plan(lambda: graph.lazies)
        handover = self._gone_straight(target, run)
        if isinstance(handover, tuple):
            return handover[0]
        if handover is not None and handover.paused:
            await asyncio.sleep(0)
        blueprint = self._build(target, graph)
        # A container, map or router has its inputs baked in.
        args, kwargs = ((), {}) if target.task.structural else (target.args, target.kwargs)
        return await self._machine(run).execute(
            blueprint,
            initial_args=list(args),
            initial_kwargs=dict(kwargs),
            source=target,
            **({} if handover is None else {"handover": handover}),
        )

    def _gone_straight(self, target: LazyResult[Any], run: Run) -> tuple[Any] | Handover | None:
        """The value, or where its code has stopped; None if there is no code for its shape yet."""
        if not self._by_shape or run.state is not None or not run.bus.is_silent:
            return None
        if run.gate.constraints.any:
            return None
        if not target._dependencies:
            return None  # it is a loop, if anything
        found = walk(target)
        straight = None if found is None else straight_for(found)
        if straight is None or found is None:
            return None
        if not named_in(target).isdisjoint(found.lazies):
            return None  # it would release values that a task may ask for later (M21)
        if not run.placement.may_be_inline(straight.tasks):
            return None
        outcome = straight.enter_here(run.placement, Turn(), run.context, run.held, found.values)
        return outcome if type(outcome) is Handover else (outcome,)


class ProgramExecution:
    """Runs a target that is compiled already.

    Args:
        program: What it was compiled to.
        args, kwargs: Of the target's task.
        handover: Where straight-line code has stopped, to go on from there.
        machine: Makes the machine for one run.
    """

    name = "vm"

    def __init__(
        self,
        program: Program[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        handover: Handover | None,
        machine: Callable[[Run], Any],
    ) -> None:
        self._program = program
        self._args = args
        self._kwargs = kwargs
        self._handover = handover
        self._machine = machine

    async def execute(self, target: LazyResult[Any], run: Run) -> Any:
        """The value of ``target``; see ``VMExecutionStrategy``."""
        if self._handover is None:
            run.check(self._program.special)
            run.report_plan(lambda: build_graph(target).lazies)
        return await self._machine(run).execute(
            self._program.blueprint,
            initial_args=list(self._args),
            initial_kwargs=dict(self._kwargs),
            source=target,
            handover=self._handover,
        )
