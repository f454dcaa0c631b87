"""Where a call is in the program that a frame executes, for the notes of errors (R9)."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from cascade.runtime.vm.frame import Frame
from cascade.spec.blueprint import Call


def path_to(frame: Frame) -> list[str]:
    """Names from the target down to the call that ``frame`` is at."""
    names = [frame.blueprint.instructions[frame.pc].name]
    place, at = frame.pc, frame
    while True:
        names += names_above(at, place)
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
            names.append(_name(at, call))


def is_caught(frame: Frame) -> bool:
    """Whether an error of the call that ``frame`` is at becomes the value of a node (R9)."""
    place, at = frame.pc, frame
    while True:
        here = at.blueprint.instructions[place]
        if any(call.policies.catches for call in (here, *calls_above(at, place))):
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


def names_above(frame: Frame, place: int) -> Iterator[str]:
    """Names of the calls that the value of the one at ``place`` goes through to the root."""
    for call in calls_above(frame, place):
        if call.task is None or not call.task.structural:
            yield _name(frame, call)


def _name(frame: Frame, call: Call) -> str:
    """What the node of ``call`` is called, whatever task it continues as by tail calls."""
    is_root = call is frame.blueprint.instructions[-1]
    return frame.source.name if is_root and frame.source is not None else call.name


def calls_above(frame: Frame, place: int) -> Iterator[Call]:
    """The calls that the value of the one at ``place`` goes through to the root."""
    if frame.readers is None:
        frame.readers = _readers(frame)
    while place in frame.readers:
        place = frame.readers[place]
        yield frame.blueprint.instructions[place]


def _readers(frame: Frame) -> dict[int, int]:
    """For each instruction the one that reads what it gives; of several that was made first."""
    instructions = frame.blueprint.instructions
    sources = frame.blueprint.input_sources
    written: dict[int, int] = {}
    readers: dict[int, int] = {}
    numbers = [inf if call.source is None else call.source.number for call in instructions]
    if frame.source is not None:
        numbers[-1] = frame.source.number
    for place, call in enumerate(instructions):
        reads = set(call.reads())
        if place == len(instructions) - 1:
            reads |= {sources[i] for i in reads if i in sources}
        for read in reads & written.keys():
            other = readers.setdefault(written[read], place)
            if numbers[place] < numbers[other]:
                readers[written[read]] = place
        written[call.output.index] = place
    return readers
