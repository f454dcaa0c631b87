"""VMExecutionStrategy: the target is compiled to a blueprint, which a virtual machine executes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cascade.graph.build import build_graph
from cascade.runtime.run import Run
from cascade.spec.blueprint import Blueprint
from cascade.spec.lazy_types import LazyResult


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
