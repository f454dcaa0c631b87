"""Templates: a blueprint is a graph that is made from its arguments.

Each instruction becomes a node, even if nothing reads its value. If a register is written twice, a
read means the latest write before it. A call that was compiled from a lazy value *is* that lazy
value, if nothing of it was changed, so that the run computes it once (M14). Calls without a lazy
value, as people write them by hand, keep the order of the list.

A tail call makes the part from ``entry`` on again, which no other step shares (R5). The results of
the prologue stay, and so do the inputs that the tail call does not name. If that part is one call
of a task, the task's own tail calls mean the same, and nothing has to be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from cascade.runtime.graph_path.template_inputs import (
    as_argument,
    dead_prologue,
    given_inputs,
    initial_registers,
)
from cascade.runtime.loops.protocol import UNSET
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.callables import gives_coroutine
from cascade.spec.fallbacks import CATCH, Catch
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import LIMITS, LITERALS, NO_KWARGS, RESOURCES
from cascade.spec.operation import FallbackOperation, Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.resource import Inject
from cascade.spec.task import Task
from cascade.spec.wording import short


class Instruction(Operation):
    """The callable of an instruction without a task.

    Attributes:
        body: The part that its tail calls run again; None if it loops alone (M3).
        task: The task that it calls nevertheless, if any.
    """

    __slots__ = ("body", "is_light", "mode", "task")

    structural = False

    def __init__(self, call: Call, body: Body | None = None) -> None:
        task = call.task
        is_async = gives_coroutine(call.func) if task is None else task.is_async
        super().__init__(call.func, call.name, is_async)
        self.body, self.task = body, task
        self.mode = "auto" if task is None else task.mode
        self.plain = not is_async and self.mode == "auto"
        self.is_light = self.mode != "process"


class TemplateNode(LazyResult[Any]):
    """A node made of an instruction, which therefore has no line in the user's source."""

    __slots__ = ()


class Body:
    """The part of a blueprint that each tail call runs again.

    Args:
        blueprint: The blueprint.
        registers: Register → content, for its inputs and the prologue's registers: a value in the
            form of a node's argument, or a node that is kept.
    """

    __slots__ = ("blueprint", "registers")

    def __init__(self, blueprint: Blueprint, registers: Mapping[int, Any]) -> None:
        self.blueprint = blueprint
        self.registers = registers

    def again(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], policies: CallPolicies
    ) -> LazyResult[Any]:
        """The node of the root, with new inputs; inputs that are not named keep their values.

        Raises:
            ArgumentError: The arguments do not fit the inputs.
        """
        given = given_inputs(self.blueprint, args, kwargs, self.registers)
        instance = _Instance(self.blueprint, {**self.registers, **given})
        for call in self.blueprint.instructions[self.blueprint.entry : -1]:
            instance.add(call)
        return instance.root(None, policies, is_first=False)


def instantiate(
    blueprint: Blueprint,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    source: LazyResult[Any] | None = None,
    policies: CallPolicies | None = None,
) -> LazyResult[Any]:
    """The target of the graph of ``blueprint``, with these arguments.

    Args:
        blueprint: Has instructions.
        args, kwargs: Its inputs. A lazy value stands for the value that the prologue computes.
        source: The lazy value that it was compiled from, if known.
        policies: The policies of the root's calls; those of the blueprint by default.

    Raises:
        ArgumentError: The arguments do not fit the inputs, or one is missing.
    """
    registers, given = initial_registers(blueprint, args, kwargs)
    instance = _Instance(blueprint, registers)
    dead = dead_prologue(blueprint, given)
    last = len(blueprint.instructions) - 1
    for place, call in enumerate(blueprint.instructions[:last]):
        if place == blueprint.entry:
            instance.move_inputs(given)
        if place not in dead:
            instance.add(call)
    if blueprint.entry >= last:
        instance.move_inputs(given)
    if source is not None and instance.is_root_of(source, args, kwargs):
        return source
    return instance.root(source, policies)


def remaining(blueprint: Blueprint, registers: Sequence[Any], place: int) -> list[LazyResult[Any]]:
    """The nodes of the instructions from ``place`` on, with the contents of the registers there."""
    instance = _Instance(blueprint, dict(enumerate(map(as_argument, registers))))
    nodes = [instance.add(call) for call in blueprint.instructions[place:-1]]
    return [*nodes, instance.root(None, None)]


class _Instance:
    """The nodes of a blueprint, while they are made."""

    def __init__(self, blueprint: Blueprint, registers: dict[int, Any]) -> None:
        self._blueprint = blueprint
        #: Register → content: a node, or a value in the form of a node's argument.
        self._registers = registers
        #: The last node that must keep the order of the list.
        self._last: LazyResult[Any] | None = None
        #: Nodes that nothing has read so far.
        self._unread: dict[LazyResult[Any], None] = {}
        #: The contents of the registers at the entry.
        self._at_entry = dict(registers)
        #: Whether errors are caught, so that calls follow a failed one.
        self._catches = any(call.task is CATCH for call in blueprint.instructions)

    def move_inputs(self, given: Iterable[int]) -> None:
        """Fill the inputs that the prologue has computed; the body follows."""
        for register, source in self._blueprint.input_sources.items():
            if register not in given:
                self._registers[register] = self._registers[source]
        if self._has_body():
            self._keep_registers()
        self._at_entry = dict(self._registers)

    def add(self, call: Call) -> LazyResult[Any]:
        """Make the node of an instruction before the root."""
        if call.source is not None and self._is_of(call.source, call):
            node = call.source
        else:
            node = self._node(call, call.task or Instruction(call), call.source)
            if call.source is None:
                self._keep_order(node)
        self._read(call)
        self._registers[call.output.index] = node
        self._unread[node] = None
        return node

    def root(
        self,
        source: LazyResult[Any] | None,
        policies: CallPolicies | None,
        is_first: bool = True,
    ) -> LazyResult[Any]:
        """Make the node of the last instruction; its conditions apply to the first entry."""
        call = self._blueprint.instructions[-1]
        if call.source is not None and self._is_of(call.source, call):
            return call.source
        operation = call.task
        if not isinstance(operation, FallbackOperation) and (operation is None or self._has_body()):
            operation = Instruction(call, Body(self._blueprint, self._at_entry))
        node = self._node(call, operation, source, policies, is_first)
        self._read(call)
        left = [lazy for lazy in self._unread if lazy not in node._dependencies]
        if left:
            _policies_of(node).predecessors += tuple(left)
        return node

    def is_root_of(
        self, source: LazyResult[Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> bool:
        """Whether the root is the call of ``source``, with its own arguments and policies."""
        call = self._blueprint.instructions[-1]
        if call.source is not None:
            return call.source is source and self._is_of(source, call)
        return (
            call.task is source.task
            and call.func is source.task.func
            and len(args) == len(source.args)
            and all(mine is own for mine, own in zip(args, source.args, strict=True))
            and kwargs.keys() == source.kwargs.keys()
            and all(kwargs[name] is value for name, value in source.kwargs.items())
            and self._registers_have(source._dependencies)
            and self._has_policies_of(source, call)
        )

    def _has_body(self) -> bool:
        """Whether its tail calls are more than those of the root's task."""
        blueprint = self._blueprint
        last = len(blueprint.instructions) - 1
        if blueprint.instructions[last].source is not None:
            return False
        return blueprint.entry < last or not isinstance(blueprint.task, Task)

    def _keep_registers(self) -> None:
        """Keep the values of the prologue for all steps of a loop."""
        body = self._blueprint.instructions[self._blueprint.entry :]
        for register in {register for call in body for register in call.reads()}:
            node: Any = self._registers.get(register)
            if issubclass(type(node), LazyResult):
                self._unread.pop(node, None)
                same = Operation(_same, node.name)
                kept = TemplateNode(same, (node,), NO_KWARGS, (node,), 0, *_HERE)
                self._registers[register] = kept.keep()

    def _registers_have(self, nodes: Iterable[LazyResult[Any]]) -> bool:
        held = {id(v) for v in self._registers.values()}
        return all(id(node) in held for node in nodes)

    # -- one node -----------------------------------------------------------------------------

    def _node(
        self,
        call: Call,
        operation: Operation,
        source: LazyResult[Any] | None,
        policies: CallPolicies | None = None,
        is_first: bool = True,
    ) -> LazyResult[Any]:
        args = [self._argument(operand) for operand in call.args]
        kwargs = {name: self._argument(operand) for name, operand in call.kwargs.items()}
        calls = call.policies if policies is None else policies
        surplus, extra = self._surplus(call.var_args, ()), self._surplus(call.var_kwargs, {})
        if issubclass(type(surplus), LazyResult) or issubclass(type(extra), LazyResult):
            operation = Operation(partial(_spread, operation, calls), call.name)
            args = [_whole(surplus), _whole(extra), *args]
        else:
            args += map(as_argument, surplus)
            kwargs |= {name: as_argument(value) for name, value in extra.items()}
        node = _lazy(operation, args, kwargs, source)
        conditions = [self._lazily(operand) for operand in call.conditions if is_first]
        self._set_policies(node, call, calls, conditions)
        return node

    def _set_policies(
        self,
        node: LazyResult[Any],
        call: Call,
        calls: CallPolicies,
        conditions: Sequence[LazyResult[Any]],
    ) -> None:
        after = [self._registers[register.index] for register in call.after]
        predecessors = [lazy for lazy in after if issubclass(type(lazy), LazyResult)]
        amounts = {name: self._lazily(operand) for name, operand in call.amounts.items()}
        if not (conditions or predecessors or amounts or calls is not PLAIN_CALLS):
            return
        policies = _policies_of(node)
        policies.conditions, policies.predecessors = tuple(conditions), tuple(predecessors)
        policies.calls, policies.amounts = calls, amounts
        if amounts or calls.capacities:
            node._special |= LIMITS

    def _argument(self, operand: Operand) -> Any:
        if isinstance(operand, Register):
            return self._registers.get(operand.index, UNSET)
        return as_argument(operand.value)

    def _surplus(self, register: Register | None, empty: Any) -> Any:
        if register is None:
            return empty
        held = self._registers[register.index]
        return held.value if type(held) is Literal else held

    def _lazily(self, operand: Operand) -> LazyResult[Any]:
        """The node that gives the value of an operand."""
        argument = self._argument(operand)
        if issubclass(type(argument), LazyResult):
            node: LazyResult[Any] = argument
            return node
        name = f"r{operand.index}" if isinstance(operand, Register) else short(operand.value)
        return _lazy(Operation(_same, name), [argument], {}, None)

    def _read(self, call: Call) -> None:
        for register in call.reads():
            held: Any = self._registers.get(register)
            if issubclass(type(held), LazyResult):
                self._unread.pop(held, None)

    def _keep_order(self, node: LazyResult[Any]) -> None:
        """Let a handwritten call follow those before it."""
        last = self._last
        if last is not None and not any(other is last for other in node._dependencies):
            policies = _policies_of(node)
            if self._catches:  # the end of the last one, with a value or not
                policies.predecessors += (_lazy(CATCH, [_ANYWAY, last], {}, None),)
            else:
                if not any(other is last for other in policies.predecessors):
                    policies.predecessors += (last,)
                self._unread.pop(last, None)
        self._last = node

    # -- what was compiled from lazy values ---------------------------------------------------

    def _is_of(self, source: LazyResult[Any], call: Call) -> bool:
        """Whether the instruction is unchanged since it was compiled from ``source``."""
        return (
            call.task is source.task
            and call.func is source.task.func
            and call.var_args is call.var_kwargs is None
            and len(call.args) == len(source.args)
            and all(map(self._is_argument, call.args, source.args))
            and call.kwargs.keys() == source.kwargs.keys()
            and all(self._is_argument(call.kwargs[n], v) for n, v in source.kwargs.items())
            and self._has_policies_of(source, call)
        )

    def _is_argument(self, operand: Operand, value: Any) -> bool:
        if isinstance(operand, Register):
            return self._registers.get(operand.index) is value
        return operand is value or operand.value is value

    def _has_policies_of(self, source: LazyResult[Any], call: Call) -> bool:
        return (
            call.policies is source._calls
            and self._are_nodes(call.conditions, source._conditions)
            and self._are_nodes(call.after, source._predecessors)
            and call.amounts.keys() == source._amounts.keys()
            and all(self._is_argument(call.amounts[n], v) for n, v in source._amounts.items())
        )

    def _are_nodes(self, operands: Sequence[Operand], nodes: Sequence[LazyResult[Any]]) -> bool:
        return len(operands) == len(nodes) and all(map(self._is_argument, operands, nodes))


# -- lazy values ----------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _spread(
    operation: Operation,
    policies: CallPolicies,
    args: Any,
    kwargs: Any,
    /,
    *rest: Any,
    **named: Any,
) -> LazyResult[Any]:
    """The call with surplus arguments, which have values now."""
    given = [*map(as_argument, rest), *map(as_argument, args)]
    by_name = {name: as_argument(value) for name, value in {**named, **kwargs}.items()}
    node = _lazy(operation, given, by_name, None)
    if policies is not PLAIN_CALLS:
        _policies_of(node).calls = policies
    return node


def _lazy(
    operation: Operation,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    source: LazyResult[Any] | None,
) -> LazyResult[Any]:
    """A node with the call site of ``source``."""
    values = [*args, *kwargs.values()]
    kinds = [*map(type, values)]
    inputs = tuple([v for v in values if issubclass(type(v), LazyResult)])
    special = (LITERALS if Literal in kinds else 0) | (RESOURCES if Inject in kinds else 0)
    kind = TemplateNode if source is None else LazyResult
    place = _HERE if source is None else (source._code, source._lasti)
    return kind(operation, tuple(args), dict(kwargs), inputs, special, *place)


def _policies_of(node: LazyResult[Any]) -> Policies[LazyResult[Any]]:
    if node._policies is None:
        node._policies, node._plain = Policies(), False
    return node._policies


def _whole(surplus: Any) -> Any:
    return surplus if issubclass(type(surplus), LazyResult) else Literal(surplus)


_HERE = (instantiate.__code__, 0)
_ANYWAY = Catch((Exception,), None, *_HERE)
