"""``disassemble``: a blueprint as a listing for people."""

from __future__ import annotations

from itertools import islice

from cascade.spec.blueprint import Blueprint, Call, Literal, Operand, Register
from cascade.spec.policies import ENGINES_CACHE
from cascade.spec.wording import short, visible


def disassemble(blueprint: Blueprint, *, limit: int | None = None) -> str:
    """List the instructions of ``blueprint``, one per line, below its inputs.

    Args:
        blueprint: The blueprint.
        limit: Most instructions that are listed; the rest is counted. None for all.

    >>> from cascade.graph.compiler import BlueprintBuilder
    >>> from cascade.spec.task import task
    >>> @task
    ... def load(path): ...
    >>> @task
    ... def clean(rows, strict=True): ...
    >>> print(disassemble(BlueprintBuilder().build(clean(load("a.csv")))))
    blueprint clean: 4 registers
      input  r0  rows  = r2 (prologue)
      input  r1  strict  = True
         0  r2 = load('a.csv')
    entry:
         1  r3 = clean(r0, strict=r1)
    """
    count = blueprint.register_count
    lines = [f"blueprint {blueprint.name}: {count} register{'s' * (count != 1)}"]
    lines += _inputs(blueprint)
    for place, call in enumerate(islice(blueprint.instructions, limit)):
        if place == blueprint.entry and blueprint.entry:
            lines.append("entry:")
        lines.append(f"  {place:4}  {_instruction(call)}")
    left = 0 if limit is None else max(len(blueprint.instructions) - limit, 0)
    if left:
        lines.append(f"  … {left:,} more instruction{'s' * (left != 1)}")
    return "\n".join(map(visible, lines))


def _inputs(blueprint: Blueprint) -> list[str]:
    names = blueprint.input_names()
    for register, stars in ((blueprint.input_var_args, "*"), (blueprint.input_var_kwargs, "**")):
        if register is not None:
            names[register] = stars
    lines = []
    for register, name in sorted(names.items()):
        value = ""
        if register in blueprint.input_sources:
            value = f"  = r{blueprint.input_sources[register]} (prologue)"
        elif register in blueprint.input_defaults:
            value = f"  = {short(blueprint.input_defaults[register])}"
        lines.append(f"  input  r{register}  {name}{value}")
    return lines


def _instruction(call: Call) -> str:
    arguments = [_operand(operand) for operand in call.args]
    if call.var_args is not None:
        arguments.append(f"*{_operand(call.var_args)}")
    arguments += [f"{name}={_operand(operand)}" for name, operand in call.kwargs.items()]
    if call.var_kwargs is not None:
        arguments.append(f"**{_operand(call.var_kwargs)}")
    text = f"{_operand(call.output)} = {call.name}({', '.join(arguments)})"
    if call.conditions:
        text += f"  if {' and '.join(map(_operand, call.conditions))}"
    if call.after:
        text += f"  after {', '.join(map(_operand, call.after))}"
    policies = call.policies
    if policies.cache is not None:
        text += "  pure" if policies.cache is ENGINES_CACHE else "  cached"
    if policies.retry is not None:
        text += f"  retry {policies.retry.max_attempts}"
    if policies.timeout is not None:
        text += f"  timeout {policies.timeout:g} s"
    amounts = {**dict(policies.capacities), **{n: _operand(o) for n, o in call.amounts.items()}}
    if amounts:
        text += f"  takes {', '.join(f'{amount} {name}' for name, amount in amounts.items())}"
    if policies.priority:
        text += f"  priority {policies.priority}"
    if policies.catches:
        text += "  errors as values"
    return text


def _operand(operand: Operand) -> str:
    if isinstance(operand, Register):
        return f"r{operand.index}"
    if isinstance(operand, Literal):
        return short(operand.value)
    return short(operand)
