"""What an instruction is called with, and what its node is called, in a frame."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.runtime.outcomes import Missing
from cascade.runtime.vm.frame import Frame
from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.lazy_types import LazyResult
from cascade.spec.wording import short


def load(registers: Sequence[Any], operand: Operand) -> Any:
    """The value of an operand."""
    return registers[operand.index] if isinstance(operand, Register) else operand.value


def arguments_of(registers: Sequence[Any], call: Call) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call; surplus ones are unpacked."""
    args = [load(registers, operand) for operand in call.args]
    kwargs = {name: load(registers, operand) for name, operand in call.kwargs.items()}
    for surplus in (call.var_args, call.var_kwargs):
        if surplus is None:
            continue
        values = load(registers, surplus)
        if issubclass(type(values), Missing):  # all of them are, so it takes the place of one
            args.append(values)
        elif surplus is call.var_args:
            args += values
        else:
            kwargs |= values
    return args, kwargs


def takes_time(frame: Frame, call: Call) -> bool:
    """Whether the parents of ``frame`` can go on with something else meanwhile."""
    return frame.at_root and (overlaps(call) or frame.joins is not None)


def literals(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Literal[Any]], dict[str, Literal[Any]]]:
    """The same arguments, so that none is taken for what a prologue computes."""
    return [Literal(v) for v in args], {name: Literal(v) for name, v in kwargs.items()}


def is_async_call(call: Call) -> bool:
    """Whether it is a call of a coroutine function."""
    return inspect.iscoroutinefunction(call.func) if call.task is None else call.task.is_async


def overlaps(call: Call) -> bool:
    """Whether the call is started, and awaited at first use (M5)."""
    return is_async_call(call) or (call.task is not None and call.task.mode == "blocking")


def inputs_for(lazy: LazyResult[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """What the blueprint of ``lazy`` is entered with: a structural root has its inputs baked in."""
    return ((), {}) if lazy.task.structural else (lazy.args, lazy.kwargs)


def source_at(frame: Frame, call: Call) -> LazyResult[Any] | None:
    """The lazy value that a call of this frame computes, where there is one."""
    return frame.source if call.source is None else call.source


def node_of(frame: Frame, call: Call) -> tuple[str, int]:
    """What events call the node, whatever tasks it continues as by tail calls."""
    source = source_at(frame, call)
    return (call.name, 0) if source is None else (source.name, source.number)


def written(frame: Frame) -> tuple[Any, int]:
    """Where what a frame computes was written; here, for a blueprint without lazy values."""
    if frame.source is not None:
        return frame.source._code, frame.source._lasti
    return written.__code__, 0


def name_of(blueprint: Blueprint, operand: Operand) -> str:
    """What computes the value of an operand."""
    for call in blueprint.instructions:
        if call.output == operand:
            return call.name
    return short(operand.value) if isinstance(operand, Literal) else f"r{operand.index}"
