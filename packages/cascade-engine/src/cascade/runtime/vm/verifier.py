"""The verifier: whether a blueprint, handwritten or read from a file, can be executed.

Its rules:

- *Instructions*: there is at least one, and ``entry`` is the index of one. Each is a Call of a
  callable, with names that are strings.
- *Registers*: every named one is an int in ``range(register_count)``.
- *Inputs* have separate registers: a register is one positional input, one named input or both, or
  collects surplus ones. Only the last instruction, which ends the frame, may write to one.
  ``input_defaults`` and ``input_sources`` name inputs, and collecting inputs have a default, in
  case there is no surplus. The prologue writes each source.
- *Order*: a register is written before it is read. Inputs exist from the beginning, except those
  that the prologue computes, which exist from ``entry`` on. Because a tail call returns to
  ``entry``, an instruction after it may read a register of the prologue only if no other one
  overwrites it for good.
- *Arguments* fit the signature, if ``task`` provides it and there is no surplus.

An output may be written twice. The instruction itself checks whether a value fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from cascade.spec.blueprint import Blueprint, Call, Literal, Register
from cascade.spec.errors import ArgumentError, BlueprintError, DefinitionError
from cascade.spec.shown import Shown
from cascade.spec.task import Task
from cascade.spec.wording import short

#: The instruction, or None for the blueprint as a whole; and the fault.
Found: TypeAlias = tuple[int | None, str]

_SHOWN = 20


class Fault(NamedTuple):
    """A fault of a blueprint.

    Attributes:
        instruction: Index of the instruction; None for the blueprint as a whole.
        text: A clause that states the fault.
        place: The name of the instruction in messages.
    """

    instruction: int | None
    text: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


@dataclass(frozen=True)
class Verification(Shown):
    """The result of ``verify``; true if the blueprint can be executed.

    Attributes:
        name: The blueprint's name.
        faults: One for each broken rule.
    """

    name: str
    faults: tuple[Fault, ...] = ()

    def __bool__(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        count = len(self.faults)
        if not count:
            return f"the blueprint '{self.name}' has no fault"
        lines = [f"the blueprint '{self.name}' has {count} fault{'s' * (count != 1)}:"]
        lines += [f"    {fault}" for fault in self.faults[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"    … and {count - _SHOWN} more")
        return "\n".join(lines)


def verify(blueprint: Blueprint, *, strict: bool = False) -> Verification:
    """Look for faults of a blueprint by the rules of this module; BlueprintBuilder makes none.

    >>> from cascade.spec.blueprint import Call, Register
    >>> print(verify(Blueprint([Call(abs, Register(0), [Register(1)])], 2)))
    the blueprint 'abs' has 1 fault:
        instruction 0 (abs): it reads r1, which nothing writes

    Args:
        blueprint: Made by hand, or read from a file.
        strict: Raise the faults.

    Raises:
        BlueprintError: There are faults, and ``strict`` is set; the message has a line for each,
            ``.instruction`` is that of the first.
        DefinitionError: It is not a Blueprint.

    Cost: O(size), some 15 microseconds per instruction.
    """
    if not isinstance(blueprint, Blueprint):
        raise DefinitionError(f"verify() takes a Blueprint, but got {short(blueprint)}")
    found = dict.fromkeys(_Verifier(blueprint).faults())
    faults = [
        Fault(place, text, "" if place is None else _described(blueprint, place))
        for place, text in found
    ]
    verification = Verification(_name_of(blueprint), tuple(faults))
    if strict and faults:
        raise BlueprintError(str(verification), faults[0].instruction)
    return verification


class _Verifier:
    """One check of a blueprint. Parts found faulty are left out of later checks."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._calls = [
            (place, call)
            for place, call in enumerate(blueprint.instructions)
            if isinstance(call, Call)
        ]
        self._last = len(blueprint.instructions) - 1
        #: Register → name of that input in messages.
        self._inputs: dict[int, str] = {}

    def faults(self) -> Iterator[Found]:
        count = self._blueprint.register_count
        if type(count) is not int or count < 0:
            yield None, f"register_count is {short(count)}, where an int ≥ 0 was expected"
            return
        yield from self._of_inputs()
        yield from self._of_defaults_and_sources()
        yield from self._of_instructions()
        if self._last < 0:
            yield None, "it has no instructions, so it has no value"
        elif not _is_index(self._blueprint.entry, self._last + 1):
            entry = short(self._blueprint.entry)
            yield None, f"entry is {entry}, where the index of one of its instructions was expected"
        else:
            yield from self._of_order()

    # -- inputs -------------------------------------------------------------------------------

    def _of_inputs(self) -> Iterator[Found]:
        blueprint = self._blueprint
        positional = [(f"#{place}", r) for place, r in enumerate(blueprint.input_args)]
        named = [(f"'{name}'", register) for name, register in blueprint.input_kwargs.items()]
        collecting = [("*", blueprint.input_var_args), ("**", blueprint.input_var_kwargs)]
        surplus = [(stars, r) for stars, r in collecting if r is not None]
        for name in blueprint.input_kwargs:
            if not isinstance(name, str):
                yield None, f"the name {short(name)} of an input is not a str"
        for kind in (positional, named):
            taken: dict[int, str] = {}
            for name, register in (*kind, *surplus):
                if not self._is_register(register):
                    yield None, f"the input {name} is {self._strange(register)}"
                elif register in taken:
                    yield None, f"the inputs {taken[register]} and {name} are both r{register}"
                else:
                    taken[register] = name
            self._inputs |= taken  # of the two names of an input the better one comes later
        for name, register in surplus:
            if self._is_register(register) and register not in blueprint.input_defaults:
                nothing = f"{{{register}: {'()' if name == '*' else '{}'}}}"
                yield None, f"the input {name} has no default: input_defaults={nothing}"

    def _of_defaults_and_sources(self) -> Iterator[Found]:
        blueprint = self._blueprint
        for field in ("input_defaults", "input_sources"):
            for register in getattr(blueprint, field):
                if register not in self._inputs:
                    yield None, f"{field} names {_shown(register)}, which is not an input"
        prologue = {
            self._written_by(call) for place, call in self._calls if self._is_before_entry(place)
        }
        for register, source in blueprint.input_sources.items():
            name = self._inputs.get(register, _shown(register))
            if not self._is_register(source):
                yield None, f"the source of the input {name} is {self._strange(source)}"
            elif source not in prologue:
                problem = "which no instruction before the entry writes"
                yield None, f"the source of the input {name} is r{source}, {problem}"

    # -- one instruction ----------------------------------------------------------------------

    def _of_instructions(self) -> Iterator[Found]:
        for place, call in enumerate(self._blueprint.instructions):
            if isinstance(call, Call):
                faults = chain(self._of_operands(call), self._of_output(place, call), _misfit(call))
                yield from ((place, what) for what in faults)
            else:
                yield place, "it is not a Call"

    def _of_operands(self, call: Call) -> Iterator[str]:
        if not callable(call.func):
            yield f"it calls {short(call.func)}, which cannot be called"
        for kind, key, operand in _operands(call):
            if isinstance(operand, Register):
                if not self._is_register(operand.index):
                    yield f"its {kind} {short(key)} is {self._strange(operand.index)}"
            elif not isinstance(operand, Literal):
                yield (
                    f"its {kind} {short(key)} is {short(operand)}, where a Register or a Literal "
                    "was expected"
                )
        registers: list[tuple[str, Any]] = [("output", call.output)]
        registers += [(f"predecessor {place}", r) for place, r in enumerate(call.after)]
        surplus = (("var_args", call.var_args), ("var_kwargs", call.var_kwargs))
        registers += [(name, register) for name, register in surplus if register is not None]
        for what, register in registers:
            if not isinstance(register, Register):
                yield f"its {what} is {short(register)}, where a Register was expected"
            elif not self._is_register(register.index):
                yield f"its {what} is {self._strange(register.index)}"

    def _of_output(self, place: int, call: Call) -> Iterator[str]:
        written = self._written_by(call)
        if written in self._inputs and place != self._last:
            yield (
                f"it writes r{written}, which is the input {self._inputs[written]}; only the last "
                "instruction may write to an input"
            )

    # -- the order of instructions ------------------------------------------------------------

    def _of_order(self) -> Iterator[Found]:
        blueprint = self._blueprint
        sourced = self._inputs.keys() & blueprint.input_sources.keys()
        late = sourced - blueprint.input_defaults.keys()
        written = self._inputs.keys() - late
        in_loop = self._written_in_loop()
        for place, call in self._calls:
            if place >= blueprint.entry:
                written |= self._inputs.keys()
            for register in dict.fromkeys(filter(self._is_register, _reads(call))):
                if register not in written:
                    yield place, f"it reads r{register}, {self._writer_of(register, late)}"
                elif blueprint.entry <= place <= in_loop.get(register, -1):
                    writer = _described(blueprint, in_loop[register])
                    yield place, f"it reads r{register}, which {writer} changes for later turns"
            if (output := self._written_by(call)) is not None:
                written.add(output)

    def _written_in_loop(self) -> dict[int, int]:
        """Register → the first instruction from the entry on that writes it.

        The last instruction is left out, because it ends the loop; so are inputs, which none may
        write.
        """
        found: dict[int, int] = {}
        for place, call in self._calls:
            output = self._written_by(call)
            if (
                output is not None
                and output not in self._inputs
                and not self._is_before_entry(place)
                and place != self._last
            ):
                found.setdefault(output, place)
        return found

    def _writer_of(self, register: int, late: Set[int]) -> str:
        if register in late:
            return f"the input {self._inputs[register]}, before the entry, where it gets its value"
        for place, call in self._calls:
            if self._written_by(call) == register:
                return f"but only {_described(self._blueprint, place)} writes it"
        return "which nothing writes"

    # -- registers ----------------------------------------------------------------------------

    def _written_by(self, call: Call) -> int | None:
        output: Any = call.output
        good = isinstance(output, Register) and self._is_register(output.index)
        return output.index if good else None

    def _is_before_entry(self, place: int) -> bool:
        entry = self._blueprint.entry
        return type(entry) is int and place < entry

    def _is_register(self, register: Any) -> bool:
        return _is_index(register, self._blueprint.register_count)

    def _strange(self, register: Any) -> str:
        count = self._blueprint.register_count
        expected = f"one of r0 to r{count - 1} was expected" if count else "there are no registers"
        return f"{_shown(register)}, where {expected}"


def _operands(call: Call) -> Iterator[tuple[str, Any, Any]]:
    """The two parts of an operand's name in messages, and the operand."""
    for place, operand in enumerate(call.args):
        yield "argument", place, operand
    for name, operand in call.kwargs.items():
        yield "argument", name, operand
    for place, operand in enumerate(call.conditions):
        yield "condition", place, operand
    for name, operand in call.amounts.items():
        yield "amount", name, operand


def _reads(call: Call) -> Iterator[Any]:
    """The indices of the registers that are read; like Call.reads(), for any contents."""
    operands = (operand for _, _, operand in _operands(call))
    for operand in chain(operands, call.after, (call.var_args, call.var_kwargs)):
        if isinstance(operand, Register):
            yield operand.index


def _misfit(call: Call) -> Iterator[str]:
    """The fault of the arguments, if the function's parameters are known."""
    unnamed = [name for name in call.kwargs if not isinstance(name, str)]
    yield from (f"the name {short(name)} of an argument is not a str" for name in unnamed)
    task = call.task
    if unnamed or not isinstance(task, Task) or task.func is not call.func:
        return
    is_all = call.var_args is None and call.var_kwargs is None
    bind = task.parameters.bind if is_all else task.parameters.bind_some
    try:
        bind(call.args, call.kwargs)
    except ArgumentError as error:
        yield f"its arguments do not fit: {error}"


def _is_index(index: Any, count: int) -> bool:
    return type(index) is int and 0 <= index < count


def _shown(register: Any) -> str:
    return f"r{register}" if type(register) is int else short(register)


def _described(blueprint: Blueprint, place: int) -> str:
    call = blueprint.instructions[place]
    return f"instruction {place} ({call.name if isinstance(call, Call) else short(call)})"


def _name_of(blueprint: Blueprint) -> str:
    is_named = all(isinstance(call, Call) for call in blueprint.instructions[-1:])
    return blueprint.name if is_named else "(unnamed)"
