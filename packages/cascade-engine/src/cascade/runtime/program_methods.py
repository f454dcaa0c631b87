"""The methods of an engine for programs: ``compile``, and those that programs use."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from cascade.runtime.engine_base import EngineBase
from cascade.runtime.execution.early_calls import EarlyTasks
from cascade.runtime.options import ProgramOptions, RunSettings, settings, takes
from cascade.runtime.overriding import in_force
from cascade.runtime.program import Program, ProgramExecution
from cascade.runtime.straightline.stops import Begun
from cascade.spec.callsite import users_frame
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.params import check_param_names

R = TypeVar("R")


class ProgramMethods(EngineBase):
    """Inherited by Engine."""

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
        blueprint = self._compile(lazy)  # refuses other objects than lazy values
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
            and in_force.now is None
            and not self.constraints.any
            and not self._closed
        )

    @property
    def early(self) -> EarlyTasks:
        """The spare asyncio tasks of this event loop."""
        tasks = self._lending.here(self.state_backend, self.record).early
        assert tasks is not None
        return tasks
