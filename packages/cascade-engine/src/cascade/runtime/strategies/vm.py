"""VMExecutionStrategy: the target is compiled to a blueprint, which a virtual machine executes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.graph.build import build_graph
from cascade.runtime.run import Run
from cascade.spec.blueprint import Blueprint
from cascade.spec.lazy_types import LazyResult

if TYPE_CHECKING:
    from cascade.runtime.program import Program
    from cascade.runtime.vm.straight import Handover


class VMExecutionStrategy:
    """Runs a target on the virtual machine.

    Args:
        build: Compiles a lazy value to a blueprint.
        machine: Makes the machine for one run.
    """

    name = "vm"

    def __init__(
        self, build: Callable[[LazyResult[Any]], Blueprint], machine: Callable[[Run], Any]
    ) -> None:
        self._build = build
        self._machine = machine

    async def execute(self, target: LazyResult[Any], run: Run) -> Any:
        """The value of ``target``.

        Raises:
            DependencyMissingError: It was skipped (R6).
            CycleError: Nodes wait for each other.
        """
        graph = build_graph(target)
        run.check(graph.lazies)
        run.report_plan(lambda: graph.lazies)
        blueprint = self._build(target)
        # A container, map or router has its inputs baked in.
        args, kwargs = ((), {}) if target.task.structural else (target.args, target.kwargs)
        return await self._machine(run).execute(
            blueprint, initial_args=list(args), initial_kwargs=dict(kwargs), source=target
        )


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
