"""The register machine: the readable definition of a blueprint's instructions.

It executes blueprints of plain calls, as people write them by hand. With ``v`` the result of the
instruction at ``pc``, one step is:

===================================  ==============================================================
``v`` is                             then
===================================  ==============================================================
a plain value, before the last one   it is kept in the output register; the next instruction follows
a plain value, at the last one       it is the value of the blueprint (R1)
a TailCall at the last one (R5)      the inputs that it names are changed; back to ``entry``
anything else, or an error           the rest is a graph, and a graph run continues with it
===================================  ==============================================================

At ``entry`` the results of the prologue are moved into the inputs that were not given (M3). Calls
are made in the event loop's thread until one of the same function has taken long (M6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cascade.runtime.execution.fairness import YieldBudget
from cascade.runtime.execution.placement import Place
from cascade.runtime.graph_path.template_inputs import (
    dead_prologue,
    given_inputs,
    initial_registers,
)
from cascade.runtime.graph_path.templates import remaining
from cascade.runtime.in_worker import in_worker
from cascade.runtime.loops.protocol import UNSET, is_lazy
from cascade.runtime.run import Run
from cascade.runtime.semantics.tail_calls import is_baked
from cascade.runtime.straightline.chunks import GOES_ON
from cascade.runtime.straightline.stops import Bailout, Begun
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register, TailCall
from cascade.spec.callables import gives_coroutine
from cascade.spec.containers import ATOMS
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, goes_on
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.resource import Inject
from cascade.spec.task import Task

#: The result of ``value`` if a graph run must continue.
STOPPED: Final = object()


def is_for_registers(blueprint: Blueprint, run: Run) -> bool:
    """Whether a blueprint has only plain calls, without subscribers and without limits."""
    if run.record is not None or run.constraints.any or not run.bus.is_silent:
        return False
    if run.max_rounds is not None or not run.short_cuts:
        return False
    task = blueprint.task
    if isinstance(task, Task) and (len(blueprint.instructions) == 1 or is_baked(blueprint, task)):
        return False  # a task's own loop
    defaults = blueprint.input_defaults.values()
    return not any(isinstance(v, (Inject, LazyResult)) for v in defaults) and all(
        map(_is_plain, blueprint.instructions)
    )


def _is_plain(call: Call) -> bool:
    if call.source is not None or call.conditions or call.after or call.amounts:
        return False
    if call.policies is not PLAIN_CALLS:
        return False
    if call.task is None and gives_coroutine(call.func):
        return False
    if call.task is not None and not (call.task.plain and call.task.mode == "auto"):
        return False
    operands = (*call.args, *call.kwargs.values())
    return not any(isinstance(o, Literal) and isinstance(o.value, Inject) for o in operands)


class RegisterMachine:
    """One executing blueprint. In the event loop's thread.

    Args:
        run: The run that it belongs to.
        blueprint: A blueprint for registers.
        args, kwargs: Its inputs.

    Raises:
        ArgumentError: They do not fit, or one is missing.
    """

    def __init__(
        self, run: Run, blueprint: Blueprint, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self._run = run
        self._blueprint = blueprint
        inputs, self._given = initial_registers(blueprint, args, kwargs)
        self._registers: list[Any] = [UNSET] * blueprint.register_count
        self._put(inputs)
        self._dead = dead_prologue(blueprint, self._given)
        #: The index of the current instruction.
        self._pc = 0
        #: Its result, if a graph run must continue from there.
        self._stopped: Bailout | None = None

    async def value(self) -> Any:
        """The value of the blueprint, or STOPPED."""
        instructions, budget = self._blueprint.instructions, YieldBudget()
        last = len(instructions) - 1
        is_first = True
        while True:
            if is_first and self._pc == min(self._blueprint.entry, last):
                self._move_inputs()
                is_first = False
            if self._pc < last and self._pc in self._dead:
                self._pc += 1
                continue
            call = instructions[self._pc]
            try:
                value = await self._result(call)
                if type(value) not in ATOMS and (
                    issubclass(type(value), GOES_ON)
                    or (isinstance(call.task, Task) and goes_on(value))
                ):
                    if self._pc == last and self._goes_again(value):
                        value = None
                    else:
                        self._stopped = Bailout([], value)
                        return STOPPED
                elif self._pc == last:
                    return value
                else:
                    self._registers[call.output.index] = value
                    self._pc += 1
            except Exception as error:
                self._stopped = Bailout([], UNSET, error)
                return STOPPED
            if budget.step():
                await budget.pause()

    def rest(self) -> tuple[LazyResult[Any], Begun]:
        """The remaining instructions as a graph, and the point where it has stopped."""
        assert self._stopped is not None
        nodes = remaining(self._blueprint, self._registers, self._pc)
        return nodes[-1], Begun(nodes, self._stopped)

    async def _result(self, call: Call) -> Any:
        args = [self._load(operand) for operand in call.args]
        kwargs = {name: self._load(operand) for name, operand in call.kwargs.items()}
        if call.var_args is not None:
            args += self._registers[call.var_args.index]
        if call.var_kwargs is not None:
            kwargs |= self._registers[call.var_kwargs.index]
        called = call.task or call.func
        if self._run.placement.place(called, short=True) is Place.INLINE:
            return self._run.call_here(called, call.func, args, kwargs)
        return await in_worker(self._run, call.func, args, kwargs, name=call.name)

    def _goes_again(self, value: Any) -> bool:
        """Whether it is a tail call of the blueprint to itself; its inputs are then set."""
        if not isinstance(value, TailCall) or value.target_blueprint_id is not None:
            return False
        if value.target not in (None, self._blueprint.task):
            return False
        if any(map(is_lazy, (*value.args, *value.kwargs.values()))):
            return False
        current = dict(enumerate(self._registers))
        try:
            given = given_inputs(self._blueprint, value.args, value.kwargs, current)
        except ArgumentError:
            return False  # the graph run raises the error
        self._run.step(self._blueprint.name)
        self._put(given)
        self._pc = self._blueprint.entry
        return True

    def _put(self, inputs: Mapping[int, Any]) -> None:
        for register, value in inputs.items():
            self._registers[register] = value.value if type(value) is Literal else value

    def _move_inputs(self) -> None:
        for register, source in self._blueprint.input_sources.items():
            if register not in self._given:
                self._registers[register] = self._registers[source]

    def _load(self, operand: Operand) -> Any:
        if isinstance(operand, Register):
            return self._registers[operand.index]
        return operand.value
