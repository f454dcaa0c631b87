"""What a code object does: its instructions without places, and the names that they look up.

Two functions with equal ``meaning`` do the same with the same names. Comments, blank lines, line
breaks and docstrings make no difference, nor do the order of constants and the sizes of jumps.
"""

from __future__ import annotations

import dis
import inspect
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, Final, NamedTuple

#: Instructions that do nothing; some stand for lines of source.
_IDLE: Final = frozenset({"NOP", "RESUME", "CACHE", "EXTENDED_ARG", "PRECALL"})
_CONSTANTS: Final = frozenset(dis.hasconst)
_JUMPS: Final = frozenset([*dis.hasjrel, *dis.hasjabs])
#: What the body of a class notes about its source.
_NOTES: Final = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
_KINDS: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
_GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_CELLS: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


class Import(NamedTuple):
    """``import name`` or ``from name import names``; ``level`` counts the leading dots."""

    name: str
    level: int
    names: tuple[str, ...]


class Lookups(NamedTuple):
    """The names that some code looks up outside of itself, nested code included.

    Attributes:
        globals_: Global names, each with the attributes that are taken of it, in order.
        cells: The same for variables of enclosing functions.
        imports: Imports inside of the code.
        names: All names in the code that are not its own variables.
    """

    globals_: Sequence[tuple[str, ...]]
    cells: Sequence[tuple[str, ...]]
    imports: Sequence[Import]
    names: frozenset[str]


@lru_cache(maxsize=4096)
def meaning(code: CodeType) -> bytes:
    """The instructions, arguments and constants of some code. Differs between minor Pythons."""
    steps = list(_steps(code))
    offsets = [step.offset for step in steps]
    arguments = code.co_argcount + code.co_kwonlyargcount
    named = arguments + bool(code.co_flags & inspect.CO_VARARGS)
    named += bool(code.co_flags & inspect.CO_VARKEYWORDS)
    header = (
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        code.co_flags & _KINDS,
        code.co_varnames[:named],
    )
    parts = [repr(header).encode()]
    for step in steps:
        if step.opcode in _CONSTANTS:
            argument = _constant(step.argval)
        elif step.opcode in _JUMPS:
            argument = b"%d" % bisect_left(offsets, step.argval)
        else:
            argument = repr(step.argval).encode("utf-8", "surrogatepass")
        parts.append(b"%b %b" % (step.opname.encode(), argument))
    # What each ``try`` and ``with`` covers.
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        places = (bisect_left(offsets, place) for place in (entry.start, entry.end, entry.target))
        parts.append(repr((*places, entry.depth, entry.lasti)).encode())
    return b"%d:" % len(parts) + b"".join([b"%d:%b" % (len(part), part) for part in parts])


@lru_cache(maxsize=4096)
def lookups(code: CodeType) -> Lookups:
    """The names that the code looks up."""
    globals_: dict[tuple[str, ...], None] = {}
    cells: dict[tuple[str, ...], None] = {}
    imports: dict[Import, None] = {}
    names: set[str] = set()
    own = {*code.co_cellvars}
    for each, bound in _nested(code, frozenset(own)):
        names.update(each.co_names)
        steps = list(_steps(each))
        for place, step in enumerate(steps):
            if step.opname in _GLOBALS:
                globals_[step.argval, *_attributes(steps, place + 1)] = None
            elif step.opname in _CELLS and step.argval not in bound:
                cells[step.argval, *_attributes(steps, place + 1)] = None
            elif step.opname == "IMPORT_NAME":
                level, taken = steps[place - 2].argval, steps[place - 1].argval
                imports[Import(step.argval, level, taken or ())] = None
    return Lookups([*globals_], [*cells], [*imports], frozenset(names))


def _nested(code: CodeType, bound: frozenset[str]) -> Iterator[tuple[CodeType, frozenset[str]]]:
    """The code and that of functions and classes in it, each with the cells made inside."""
    yield code, bound
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant, bound.union(constant.co_cellvars))


def _attributes(steps: Sequence[dis.Instruction], place: int) -> Iterator[str]:
    """The chain of attributes that is taken of a value that was just looked up."""
    while place < len(steps) and steps[place].opname in _ATTRIBUTES:
        yield steps[place].argval
        place += 1


def _steps(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions that do something."""
    held: dis.Instruction | None = None
    for step in dis.get_instructions(code):
        if step.opname in _IDLE:
            continue
        if held is not None:
            if step.opname == "STORE_NAME" and step.argval in _NOTES:
                held = None
                continue
            yield held
            held = None
        if step.opname == "LOAD_CONST":
            held = step
        else:
            yield step
    if held is not None:
        yield held


def _constant(value: Any) -> bytes:
    if isinstance(value, CodeType):
        return b"code " + meaning(value)
    if isinstance(value, tuple):
        parts = [_constant(item) for item in value]
        return b"tuple %d:%b" % (len(parts), b",".join(parts))
    if isinstance(value, frozenset):
        return b"frozenset " + b",".join(sorted(map(_constant, value)))
    return f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
