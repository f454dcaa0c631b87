"""Where a call is in the program that a frame executes, for the notes of errors (R9)."""

from __future__ import annotations

from math import inf

from cascade.runtime.notes import TOP, Way
from cascade.runtime.vm.frame import Frame, Ways
from cascade.spec.blueprint import Call


def path_to(frame: Frame) -> list[str]:
    """Names from the target down to the call that ``frame`` is at."""
    return _way_above(frame, frame.pc).path(frame.blueprint.instructions[frame.pc].name)


def is_caught(frame: Frame) -> bool:
    """Whether an error of the call that ``frame`` is at becomes the value of a node (R9)."""
    here = frame.blueprint.instructions[frame.pc]
    return here.policies.catches or _way_above(frame, frame.pc).catches


def _way_above(frame: Frame, place: int) -> Way:
    """What the value of the call at ``place`` goes through to the target; it is remembered."""
    trail: list[tuple[Frame, int, Call, bool]] = []
    way = _known(frame).above.get(place)
    while way is None:
        known = _known(frame)
        reader = known.readers.get(place)
        if reader is not None:
            call = frame.blueprint.instructions[reader]
            trail.append((frame, place, call, not _is_structural(call)))
            place = reader
        elif frame.parent is not None:
            up = _place_in_parent(frame)
            call = frame.parent.blueprint.instructions[up]
            itself = call.source is not None and call.source is frame.source
            trail.append((frame, place, call, not (itself or _is_structural(call))))
            frame, place = frame.parent, up
        else:
            origin = frame.origin
            way = TOP
            if origin is not None and frame.source is not origin and not origin.task.structural:
                way = Way(origin.name)
            break
        way = _known(frame).above.get(place)
    above = frame
    for frame, place, call, is_shown in reversed(trail):
        if is_shown or call.policies.catches:
            way = Way(_name(above, call) if is_shown else "", way, call.policies.catches)
        _known(frame).above[place] = way
        above = frame
    return way


def _place_in_parent(frame: Frame) -> int:
    """The instruction of the parent that ``frame`` computes the value of."""
    parent = frame.parent
    assert parent is not None
    return _known(parent).writers.get(frame.output, parent.pc)


def _is_structural(call: Call) -> bool:
    return call.task is not None and call.task.structural


def _name(frame: Frame, call: Call) -> str:
    """What the node of ``call`` is called, whatever task it continues as by tail calls."""
    is_root = call is frame.blueprint.instructions[-1]
    return frame.source.name if is_root and frame.source is not None else call.name


def _known(frame: Frame) -> Ways:
    if frame.ways is None:
        frame.ways = _ways(frame)
    return frame.ways


def _ways(frame: Frame) -> Ways:
    instructions = frame.blueprint.instructions
    sources = frame.blueprint.input_sources
    written: dict[int, int] = {}
    ways = Ways()
    numbers = [inf if call.source is None else call.source.number for call in instructions]
    if frame.source is not None:
        numbers[-1] = frame.source.number
    for place, call in enumerate(instructions):
        reads = set(call.reads())
        if place == len(instructions) - 1:
            reads |= {sources[i] for i in reads if i in sources}
        for read in reads & written.keys():
            other = ways.readers.setdefault(written[read], place)
            if numbers[place] < numbers[other]:
                ways.readers[written[read]] = place
        written[call.output.index] = place
        ways.writers.setdefault(call.output.index, place)
    return ways
