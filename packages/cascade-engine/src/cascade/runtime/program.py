"""Program: a target that is compiled once and can run any number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from cascade.graph.build import build_graph
from cascade.runtime.current import uses_current
from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.execution.contexts import held_in
from cascade.runtime.execution.early_calls import (
    EarlyCall,
    EarlyTasks,
    EarlyTurn,
    has_plain_tasks,
)
from cascade.runtime.execution.fairness import Turn
from cascade.runtime.execution.placement import SLOW, Durations, Placement, outside_loop
from cascade.runtime.loops.fused import Fused, fuse
from cascade.runtime.loops.protocol import is_lazy
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.options import DEFAULTS, RunSettings
from cascade.runtime.run import Run
from cascade.runtime.semantics.parameter_names import parameter_names
from cascade.runtime.semantics.pins import named_in
from cascade.runtime.straightline.chunks import GOES_ON, MOST_CALLS
from cascade.runtime.straightline.stops import STOPS, Begun, Pause
from cascade.runtime.straightline.straight import StraightLine
from cascade.runtime.straightline.walks import walk
from cascade.spec.blueprint import Blueprint, Literal
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.nearby import names_known
from cascade.spec.params import Source
from cascade.spec.resource import Inject
from cascade.spec.shown import notebook_view
from cascade.spec.task import Task
from cascade.spec.wording import short

R = TypeVar("R")

#: Options of one run of a program.
OPTIONS = ("deadline", "max_steps", "max_rounds")


class ProgramEngine(Protocol):
    """The part of an engine that its programs need."""

    tier: Tier

    @property
    def durations(self) -> Durations:
        """The durations of plain functions' calls (M6)."""

    @property
    def is_unwatched(self) -> bool:
        """Whether programs may run without publishing events."""

    @property
    def early(self) -> EarlyTasks:
        """The spare asyncio tasks of this event loop."""

    async def execute(
        self,
        program: Program[Any],
        params: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        begun: Begun | None = None,
        how: RunSettings | None = None,
    ) -> Any:
        """Run a program in a run of its own; with its own settings by default."""


class _Unpublished:
    """Stands for the run in reports of a call that blocks before there is one."""

    def publish(self, *_event: Any, **_details: Any) -> None:
        """There are no subscribers."""


_UNPUBLISHED = _Unpublished()


class Program(Generic[R]):
    """A target compiled by ``Engine.compile``; ``await program.run(…)`` returns its value.

    If the target consists of plain calls and the bus has no subscribers, a run is generated code
    that makes these calls: about a microsecond, plus a few tenths of one per call. All other runs
    go the way of ``engine.run(target, use_vm=True)``, without compiling.

    Attributes:
        target: The lazy value.
        blueprint: Its compiled form.
        inputs: Names that ``run`` accepts: the target's parameters; every ``Param`` that is known
            before a run, as M22 says; and the names given to ``compile`` as ``params``.
        settings: The options of each run.
    """

    def __repr__(self) -> str:
        return f"<program of '{self.target.name}'>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The picture of its target, for notebooks."""
        return {**notebook_view(self.target), "text/plain": repr(self)}

    def __init__(
        self,
        engine: ProgramEngine,
        target: LazyResult[R],
        blueprint: Blueprint,
        params: Collection[str] = (),
        how: RunSettings = DEFAULTS,
    ) -> None:
        self.settings = how
        self.target = target
        self.blueprint = blueprint
        # Compiles now: later changes of the nodes' policies do not count.
        _ = blueprint.instructions
        self._whole = Blueprint.deferred(target, lambda: blueprint)
        self._engine = engine
        lazies = build_graph(target).lazies
        self._policies = [(lazy, lazy._policies and lazy._policies.state) for lazy in lazies]
        #: Nodes to check before each run.
        self.special = [lazy for lazy in lazies if lazy._special]
        self._params = {*parameter_names(target), *params}
        self.inputs = tuple(dict.fromkeys([*sorted(self._params), *_names(target, blueprint)]))
        # With a named tier, the machine refuses a target that cannot get it.
        found = walk(target, whole=True, most=inf) if engine.tier == "auto" else None
        if isinstance(target.task, Task) and _is_for_a_run(target.task, target):
            found = None
        if how != DEFAULTS or (found is not None and any(map(_uses_current, found.lazies))):
            found = None
        self._straight = None if found is None else StraightLine(found, named_in(target))
        self._lazies = [] if found is None else found.lazies
        self._placement = Placement(engine.durations)
        #: The version of the engine's durations for which ``_is_quick`` was determined.
        self._checked = -1
        self._is_quick = True
        self._values = [] if found is None else found.values
        self._sources = [
            (place, v) for place, v in enumerate(self._values) if issubclass(type(v), Source)
        ]
        self._places = {} if found is None else _places(target, len(self._values))

    async def run(self, /, **inputs: Any) -> R:
        """The value of the target.

        Args:
            inputs: By name: values of its ``Param`` nodes, and arguments that replace those of the
                target's own call. A name that is both belongs to the Param. Besides,
                ``deadline``, ``max_steps`` and ``max_rounds`` are options of this run, as in
                ``Engine.run``; they replace those of ``compile``. If the program has an input of
                such a name, it is the input, and ``compile`` takes the option.

        Raises:
            ArgumentError: There is no such input, or an option has an impossible value.
            ParameterError: A parameter is missing or does not fit.
            RunError: The engine is closed.
            Exception: As ``Engine.run``.
        """
        values = self._short_way(inputs)
        straight, begun = self._straight, None
        if values is not None and straight is not None:
            context = copy_context()
            held = held_in(context) if context else ()
            if straight.is_mixed:
                turn: Turn = EarlyTurn(self._engine.early, _UNPUBLISHED, context, held)
            else:
                turn = Turn()
            if straight.may_start_loop:
                outcome = outside_loop(straight.enter, context, held, turn, values)
            else:
                outcome = straight.enter(context, held, turn, values)
            if perf_counter() - turn.began > SLOW:
                straight.took_long(self._placement, turn, outcome)
            if type(outcome) not in STOPS:
                return outcome  # type: ignore[no-any-return]
            begun = Begun(self._lazies, outcome, straight.kept)
        try:
            if begun is not None and begun.stopped.paused:
                await turn.pause()  # it may have taken long
            how = self._how(inputs)
            params, args, kwargs = self._split(inputs)
            value: R = await self._engine.execute(self, params, args, kwargs, begun, how)
        except BaseException as error:
            if begun is not None and type(begun.stopped.result) is EarlyCall:
                begun.stopped.result.drop()
            leave_out_machinery(error)
            raise
        return value

    @property
    def template(self) -> Blueprint:
        """The blueprint for a machine: the whole target, unless its policies have changed since."""
        is_same = all((lazy._policies and lazy._policies.state) == p for lazy, p in self._policies)
        return self._whole if is_same else self.blueprint

    async def go_on(self, pause: Pause) -> Any:
        """Let straight-line code go on from a pause while many calls fit into a turn.

        Longer calls are worth a worker each, and may overlap there.

        Args:
            pause: The first; the event loop has had its turn since.

        Returns:
            The value of the target, or one of ``STOPS``.
        """
        straight, outcome, made = self._straight, pause, 0
        turn = pause.entry.turn
        assert straight is not None
        assert isinstance(turn, Turn)
        while outcome.place - made >= MOST_CALLS and outcome.is_clean and self._goes_straight():
            if made:
                await turn.pause()
            made = outcome.place
            outcome = outside_loop(straight.go_on, outcome)
            if perf_counter() - turn.began > SLOW:
                straight.took_long(self._placement, turn, outcome)
            if type(outcome) is not Pause:
                break
        return outcome

    def _goes_straight(self) -> bool:
        """Whether straight-line code may make calls in this thread now."""
        straight = self._straight
        if straight is None or not self._engine.is_unwatched:
            return False
        if straight.is_mixed and not has_plain_tasks(asyncio.get_running_loop()):
            return False
        version = self._engine.durations.version
        if self._checked != version:  # another function was found to be slow
            self._checked = version
            self._is_quick = self._placement.may_be_inline(straight.movable)
        return self._is_quick

    def _short_way(self, inputs: Mapping[str, Any]) -> list[Any] | None:
        """The values for straight-line code; None if the run must go the long way."""
        if not self._goes_straight():
            return None
        if inputs or self._sources:
            return self._filled(inputs)
        return self._values

    def _filled(self, inputs: Mapping[str, Any]) -> list[Any] | None:
        """The plain values of the graph; None if an input is not plain."""
        values = list(self._values)
        try:
            for place, source in self._sources:
                values[place] = value = source.read(inputs)
                if type(value) not in ATOMS and issubclass(type(value), GOES_ON):
                    return None
        except Exception:
            return None  # the long way raises the error
        for name, value in inputs.items():
            if name in self._params:
                continue
            found = self._places.get(name)
            if found is None or (type(value) not in ATOMS and is_lazy(value)):
                return None
            values[found] = value
        return values

    def _how(self, inputs: dict[str, Any]) -> RunSettings:
        """The settings of a run; takes its options out of ``inputs``."""
        options = {n: inputs.pop(n) for n in OPTIONS if n in inputs and n not in self.inputs}
        return replace(self.settings, **options) if options else self.settings

    def _split(
        self, inputs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]:
        """The values of parameters, and the arguments of the target's task."""
        for name in inputs:
            if name not in self.inputs:
                raise ArgumentError(
                    f"the program of '{self.target.name}' has no input '{name}'; it takes "
                    f"{names_known(name, self.inputs)}, and the options {', '.join(OPTIONS)}. A "
                    "Param that is first met in what a task returns has to be named: "
                    f"engine.compile(…, params=['{name}'])"
                )
        params = {name: value for name, value in inputs.items() if name in self._params}
        given = {name: value for name, value in inputs.items() if name not in self._params}
        for name, value in given.items():
            if is_lazy(value) and not isinstance(value, (Literal, Inject)):
                raise ArgumentError(
                    f"the input '{name}' of the program of '{self.target.name}' was given the lazy "
                    f"value {short(value)}, but a program takes plain values; compile one with it "
                    "inside"
                )
        target = self.target
        if target.task.structural or not isinstance(target.task, Task):
            return params, (), {}
        if not given:
            return params, tuple(target.args), dict(target.kwargs)
        parameters = target.task.parameters
        named = {**parameters.bind(target.args, target.kwargs), **given}
        surplus = named.pop(parameters.var_positional, ()) if parameters.var_positional else ()
        extra = named.pop(parameters.var_keyword, {}) if parameters.var_keyword else {}
        args: list[Any] = []
        for name in parameters.positional:
            if name not in named:
                break
            args.append(named.pop(name))
        return params, (*args, *surplus), {**named, **extra}


def _names(target: LazyResult[Any], blueprint: Blueprint) -> list[str]:
    """The parameters of the target's task that are inputs."""
    if not isinstance(target.task, Task):
        return []
    positional = dict(zip(blueprint.input_args, target.task.parameters.positional, strict=False))
    return [positional.get(at, name) for at, name in blueprint.input_names().items()]


def _is_for_a_run(task: Task[..., Any], target: LazyResult[Any]) -> bool:
    """Whether a target of plain calls is unfit for straight-line code: a loop, or ``*args``."""
    if task.parameters.var_positional or task.parameters.var_keyword:
        return True
    return not target._dependencies and isinstance(fuse(task), Fused)


def _uses_current(lazy: LazyResult[Any]) -> bool:
    """Whether a node's task asks for its run, which straight-line code does not have."""
    return isinstance(lazy.task, Task) and uses_current(lazy.task)


def _places(target: LazyResult[Any], count: int) -> dict[str, int]:
    """Argument of the target with a plain value → its place among the values of the graph."""
    if not isinstance(target.task, Task):
        return {}
    arguments = [*zip(target.task.parameters.positional, target.args, strict=False)]
    arguments += target.kwargs.items()
    plain = [name for name, value in arguments if not issubclass(type(value), LazyResult)]
    return dict(zip(plain, range(count - len(plain), count), strict=True))


class ProgramExecution:
    """Runs a target that is already compiled.

    Args:
        program: Its blueprint.
        args, kwargs: Arguments of the target's task.
        begun: The point where straight-line code has stopped, to continue from there.
        machine: Makes the machine for one run.
    """

    name = "vm"

    def __init__(
        self,
        program: Program[Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        begun: Begun | None,
        machine: Callable[[Run], Any],
    ) -> None:
        self._program = program
        self._args = args
        self._kwargs = kwargs
        self._begun = begun
        self._machine = machine

    def execute(self, target: LazyResult[Any], run: Run) -> Awaitable[Any]:
        """An awaitable for the value of ``target``; see ``VMExecutionStrategy``."""
        begun = self._begun
        if begun is not None and type(begun.stopped) is Pause:
            return self._gone_on(begun, begun.stopped, target, run)
        return self._executed(begun, target, run)

    async def _gone_on(self, begun: Begun, paused: Pause, target: LazyResult[Any], run: Run) -> Any:
        """The same where straight-line code has only paused."""
        outcome = await self._program.go_on(paused)
        if type(outcome) not in STOPS:
            return outcome
        return await self._executed(begun._replace(stopped=outcome), target, run)

    def _executed(self, begun: Begun | None, target: LazyResult[Any], run: Run) -> Awaitable[Any]:
        executing: Awaitable[Any] = self._machine(run).execute(
            self._program.template,
            initial_args=list(self._args),
            initial_kwargs=dict(self._kwargs),
            source=target,
            begun=begun,
        )
        return executing
