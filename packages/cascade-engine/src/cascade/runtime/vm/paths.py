"""Where a call is in the program that a frame executes, for the notes of errors (R9)."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.runtime.vm.frame import Frame
from cascade.spec.blueprint import Blueprint, Call


def path_to(frame: Frame) -> list[str]:
    """Names from the target down to the call that ``frame`` is at."""
    names = [frame.blueprint.instructions[frame.pc].name]
    place, at = frame.pc, frame
    while True:
        names += names_above(at.blueprint, place)
        if at.parent is None:
            origin = at.origin
            if origin is not None and at.source is not origin and not origin.task.structural:
                names.append(origin.name)
            return names[::-1]
        place = _place_in_parent(at)
        call = at.parent.blueprint.instructions[place]
        itself = call.source is not None and call.source is at.source
        at = at.parent
        if not itself and (call.task is None or not call.task.structural):
            names.append(call.name)


def is_caught(frame: Frame) -> bool:
    """Whether an error of the call that ``frame`` is at becomes the value of a node (R9)."""
    place, at = frame.pc, frame
    if not frame.at_root and frame.blueprint.instructions[place].policies.catches:
        return True
    while True:
        above = calls_above(at.blueprint, place)
        if at.catches or any(call.policies.catches for call in above):
            return True
        if at.parent is None:
            return False
        place, at = _place_in_parent(at), at.parent


def _place_in_parent(frame: Frame) -> int:
    """The instruction of the parent that ``frame`` computes the value of."""
    parent = frame.parent
    assert parent is not None
    outputs = [call.output.index for call in parent.blueprint.instructions]
    return outputs.index(frame.output) if frame.output in outputs else parent.pc


def names_above(blueprint: Blueprint, place: int) -> Iterator[str]:
    """Names of the calls that the value of the one at ``place`` goes through to the root."""
    for call in calls_above(blueprint, place):
        if call.task is None or not call.task.structural:
            yield call.name


def calls_above(blueprint: Blueprint, place: int) -> Iterator[Call]:
    """The calls that the value of the one at ``place`` goes through to the root."""
    while (following := _user(blueprint, place)) is not None:
        place = following
        yield blueprint.instructions[place]


def _user(blueprint: Blueprint, place: int) -> int | None:
    """The next instruction that reads what the one at ``place`` computes."""
    output = blueprint.instructions[place].output
    sources = blueprint.input_sources
    for later in range(place + 1, len(blueprint.instructions)):
        call = blueprint.instructions[later]
        reads = set(call.reads())
        if later == len(blueprint.instructions) - 1:
            reads |= {sources[i] for i in reads if i in sources}
        if output.index in reads:
            return later
    return None
