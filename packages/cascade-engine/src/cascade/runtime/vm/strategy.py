"""VMExecutionStrategy: the target is compiled to a blueprint, which a virtual machine executes.

A blueprint is a template of a graph. Its instructions are compiled at first use. So Cascade's own
machine runs the target as a graph whose loops begin compiled. A replaced builder or machine is used
as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cascade.runtime.run import Run
from cascade.spec.blueprint import Blueprint
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task


class VMExecutionStrategy:
    """Runs a target on the virtual machine.

    Args:
        build: Compiles a lazy value to a blueprint.
        machine: Makes the machine for one run.
    """

    name = "vm"

    def __init__(
        self,
        build: Callable[[LazyResult[Any]], Blueprint],
        machine: Callable[[Run], Any],
    ) -> None:
        self._build = build
        self._machine = machine

    def execute(self, target: LazyResult[Any], run: Run) -> Awaitable[Any]:
        """An awaitable for the value of ``target``: each further coroutine is memory of a waiting
        run.

        Raises, when awaited:
            DependencyMissingError: It was skipped (R6).
            CycleError: Nodes wait for each other.
        """
        blueprint = self._build(target)
        # A container, map or router has its inputs built in.
        is_task = isinstance(target.task, Task)
        executing: Awaitable[Any] = self._machine(run).execute(
            blueprint,
            initial_args=list(target.args) if is_task else [],
            initial_kwargs=dict(target.kwargs) if is_task else {},
            source=target,
        )
        return executing
