"""Inputs of blueprints: the contents of their registers at the entry, also of a loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from cascade.spec.blueprint import Blueprint, Literal, Register
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult


def initial_registers(
    blueprint: Blueprint, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[int, Any], Set[int]]:
    """The inputs at the beginning, as arguments of nodes, and which of them were given.

    Raises:
        ArgumentError: The arguments do not fit the inputs, or one is missing.
    """
    given = given_inputs(blueprint, args, kwargs, {})
    for register, name in blueprint.input_names().items():
        there = register in given or register in blueprint.input_defaults
        if not there and register not in blueprint.input_sources:
            raise ArgumentError(f"'{blueprint.name}' is missing its input '{name}'")
    defaults = {  # a lazy one is to be computed, unlike a given one
        register: v if issubclass(type(v), LazyResult) else as_argument(v)
        for register, v in blueprint.input_defaults.items()
    }
    return {**defaults, **given}, given.keys()


def given_inputs(
    blueprint: Blueprint,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    current: Mapping[int, Any],
) -> dict[int, Any]:
    """Register → its argument, in the form of a node's argument.

    A lazy value stands for the value that the prologue computes, and does not count as given.

    Args:
        blueprint: Has the inputs.
        args, kwargs: The arguments.
        current: The present contents of the registers; surplus named inputs are added to them.

    Raises:
        ArgumentError: They do not fit.
    """
    given: dict[int, Any] = {}
    for register, value in zip(blueprint.input_args, args, strict=False):
        _give(blueprint, register, value, given)
    surplus = args[len(blueprint.input_args) :]
    if surplus:
        _give_surplus(blueprint, surplus, given)
    extra: dict[str, Any] = {}
    for name, value in kwargs.items():
        register_of = blueprint.input_kwargs.get(name)
        if register_of is None:
            extra[name] = value
        elif register_of in given:
            raise ArgumentError(f"'{blueprint.name}' got its input '{name}' twice")
        else:
            _give(blueprint, register_of, value, given)
    if extra:
        _give_extra(blueprint, extra, given, current)
    return given


def _give(blueprint: Blueprint, register: int, value: Any, given: dict[int, Any]) -> None:
    if issubclass(type(value), LazyResult):
        if register in blueprint.input_sources:
            return
        name = blueprint.input_names()[register]
        raise ArgumentError(
            f"the input '{name}' of '{blueprint.name}' was given the lazy value {value!r}, but the "
            "blueprint was compiled for a plain one"
        )
    given[register] = value if issubclass(type(value), Literal) else as_argument(value)


def _give_surplus(blueprint: Blueprint, values: Sequence[Any], given: dict[int, Any]) -> None:
    register = blueprint.input_var_args
    if register is None:
        takes = len(blueprint.input_args)
        raise ArgumentError(
            f"'{blueprint.name}' takes {takes} positional input{'s' * (takes != 1)}, but got "
            f"{takes + len(values)}"
        )
    if not _any_lazy(values):
        given[register] = tuple(map(_unwrapped, values))


def _give_extra(
    blueprint: Blueprint,
    values: Mapping[str, Any],
    given: dict[int, Any],
    current: Mapping[int, Any],
) -> None:
    register = blueprint.input_var_kwargs
    if register is None:
        known = ", ".join(map(repr, blueprint.input_kwargs)) or "none"
        raise ArgumentError(
            f"'{blueprint.name}' has no input {', '.join(map(repr, values))}; its named inputs are "
            f"{known}"
        )
    if not _any_lazy(values.values()):
        held = current.get(register)
        before = held if isinstance(held, dict) else {}
        given[register] = {**before, **{name: _unwrapped(v) for name, v in values.items()}}


def dead_prologue(blueprint: Blueprint, given: Iterable[int]) -> set[int]:
    """Instructions of the prologue that compute only inputs which the caller has given (M3)."""
    overridden = blueprint.input_sources.keys() & given
    if not overridden:
        return set()
    root = blueprint.instructions[-1]
    live = {s for i, s in blueprint.input_sources.items() if i not in overridden}
    needed = (*root.conditions, *root.after, *root.amounts.values())
    live.update(operand.index for operand in needed if isinstance(operand, Register))
    dead = set()
    for place in reversed(range(blueprint.entry)):
        call = blueprint.instructions[place]
        if call.output.index in live:
            live.update(o.index for o in call.operands() if isinstance(o, Register))
        else:
            dead.add(place)
    return dead


def as_argument(value: Any) -> Any:
    """The form of a value as a node's argument: a lazy value must not be computed."""
    return Literal(value) if issubclass(type(value), (LazyResult, Literal)) else value


def _unwrapped(value: Any) -> Any:
    return value.value if issubclass(type(value), Literal) else value


def _any_lazy(values: Iterable[Any]) -> bool:
    return any(issubclass(type(v), LazyResult) for v in values)
