"""Chunks: the text of straight-line code, in functions of bounded size.

CPython compiles short functions in linear time, and locals are its fastest variables. So a graph
of any size is divided into chunks of up to ``MOST_CALLS`` calls. A result is a local variable of
its chunk; those that later chunks need are appended to ``slots`` at the chunk's end::

    def chunk(context, count, held, turn, values, slots):
        a0, a1, = values[first:end]
        v0 = f0(a0)
        if type(v0) not in ATOMS and continues(v0): return stop(locals(), base, 0, v0)
        if len(context) != count or (held and differs(context, held)) or (
            now := clock()
        ) > turn.until: yield base + 1
        turn.began = now
        v1 = f1(v0, slots[i0])
        …
        v0 = RELEASED
        slots[i0] = RELEASED
        …
        slots += v1,

Functions, places of slots and of values are variables of an enclosing function. So chunks that look
alike have the same text, which is compiled once: 10,000 equal calls need two functions. A call with
very many arguments begins a chunk, and takes them out of ``slots`` by one call of ``itemgetter``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import lru_cache
from keyword import iskeyword
from operator import itemgetter
from time import perf_counter
from types import CodeType, CoroutineType
from typing import Any, NamedTuple

from cascade.runtime.execution.contexts import differs
from cascade.runtime.execution.early_calls import EarlyCall, EarlyTurn
from cascade.runtime.semantics.outcomes import RELEASED, Missing
from cascade.runtime.straightline.walks import Walk
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult, goes_on
from cascade.spec.operation import Operation
from cascade.spec.params import Source

#: Results of a call that are not values, or must not be.
GOES_ON = (LazyResult, TailCall, CoroutineType, Missing, EarlyCall)
#: Most calls of a chunk, and most arguments of them together.
MOST_CALLS = 64
_MOST_ARGUMENTS = 256
#: A call with more positional arguments takes them out of the slots.
_WIDE = 64
#: Texts whose code is kept.
_TEXTS_KEPT = 256
#: The file name in tracebacks; these frames are left out of users' tracebacks with this folder.
_FILE = f"{os.path.dirname(__file__)}/<generated>"

#: Between two calls: whether the first has set a context variable, or the turn is over.
_INTERRUPTED = (
    "if len(context) != count or (held and differs(context, held)) "
    "or (now := clock()) > turn.until:"
)


def continues(value: Any) -> bool:
    """Whether a task's result, of no type in ATOMS, is not its value, or must not be."""
    return issubclass(type(value), GOES_ON) or goes_on(value)


#: Variables of the enclosing function, in which lookups cost less than in globals.
_TOOLS = {
    "ATOMS": ATOMS,
    "GOES_ON": GOES_ON,
    "RELEASED": RELEASED,
    "continues": continues,
    "differs": differs,
    "issubclass": issubclass,
    "len": len,
    "type": type,
}
_CALL = re.compile(r"  v(\d+) = f\1\(")


class Chunk(NamedTuple):
    """A part of straight-line code.

    Attributes:
        run: The function; a generator function if there are others.
        code: Its code, which other chunks may share.
        calls: Line → the call in it, counted in this chunk; the other lines compare contexts.
    """

    run: Callable[..., Any]
    code: CodeType
    calls: Mapping[int, int]


def chunks_of(
    found: Walk, kept: Container[LazyResult[Any]], stop: Callable[..., Any]
) -> tuple[list[Chunk], dict[int, int]]:
    """The chunks of a graph's code; and of each node that later chunks need the slot.

    Args:
        found: The graph.
        kept: Nodes whose values are kept after their last use (M21).
        stop: Called with the variables of a chunk, its first node, the number of its calls that
            have returned a value, and the result of the next one, for the result of the chunk.
    """
    bounds = list(_bounds(found.lazies))
    writer = _Writer(found, kept, alone=len(bounds) == 1)
    return [writer.chunk(start, end, stop) for start, end in bounds], writer.slots


def _bounds(lazies: Sequence[LazyResult[Any]]) -> Iterator[tuple[int, int]]:
    """The first and the last node of each chunk; the latter is excluded."""
    start = arguments = 0
    for at, lazy in enumerate(lazies):
        more = len(lazy.args)
        if at > start and (
            at - start == MOST_CALLS or more > _WIDE or arguments + more > _MOST_ARGUMENTS
        ):
            yield start, at
            start, arguments = at, 0
        arguments += min(more, _WIDE)
    yield start, len(lazies)


class _Writer:
    """Writes the chunks of one graph, from the first to the last.

    Args:
        found: The graph.
        kept: Nodes whose values are kept.
        alone: Whether there is only one chunk, which stops for good where others pause.
    """

    def __init__(self, found: Walk, kept: Container[LazyResult[Any]], alone: bool) -> None:
        self._lazies = found.lazies
        self._kept = kept
        self._alone = alone
        self._place = {lazy: at for at, lazy in enumerate(found.lazies)}
        self._last_use = {
            source: at for at, lazy in enumerate(found.lazies) for source in lazy._dependencies
        }
        #: Node → its slot.
        self.slots: dict[int, int] = {}
        self._slot_count = 0
        self._values = 0

    def chunk(self, start: int, end: int, stop: Callable[..., Any]) -> Chunk:
        """The chunk of the nodes from ``start`` until ``end``."""
        self._start, self._end = start, end
        self._scope: dict[str, Any] = {**_TOOLS, "clock": perf_counter, "stop": stop, "base": start}
        self._imports: dict[int, str] = {}
        self._names: list[str] = []
        first = self._values
        wide = list(self._wide_arguments(start))
        middle = self._values
        body = [line for at in range(start, end) for line in self._lines(at)]
        self._scope |= {"first": first, "middle": middle, "end": self._values}
        lines = [*wide, *self._unpacked(middle), *body, *self._handed_on()]
        outer, calls = _compiled(tuple(lines), tuple(self._scope))
        run = outer(**self._scope)
        return Chunk(run, run.__code__, calls)

    def _wide_arguments(self, at: int) -> Iterator[str]:
        """Put the plain arguments of a call with very many ones into slots."""
        lazy = self._lazies[at]
        if len(lazy.args) <= _WIDE:
            return
        places = []
        for value in lazy.args:
            if issubclass(type(value), LazyResult):
                places.append(self.slots[self._place[value]])
            else:
                places.append(self._slot_count)
                self._slot_count += 1
                self._values += 1
        self._scope["taken"] = itemgetter(*places)
        yield f"slots {'' if self._alone else '+'}= values[first:middle]"

    def _unpacked(self, middle: int) -> Iterator[str]:
        """Unpack the plain values of the chunk."""
        if self._names:
            names = "".join(f"{name}, " for name in self._names)
            yield (
                f"{names}= values" if self._alone and not middle else f"{names}= values[middle:end]"
            )

    def _operand(self, value: Any) -> str:
        if not issubclass(type(value), LazyResult):
            return self._plain()
        return self._variable(self._place[value])

    def _plain(self) -> str:
        name = f"a{len(self._names)}"
        self._names.append(name)
        self._values += 1
        return name

    def _variable(self, at: int) -> str:
        """A node's result: a local variable, or a slot if it comes from an earlier chunk."""
        if at >= self._start:
            return f"v{at - self._start}"
        name = self._imports.get(at)
        if name is None:
            name = self._imports[at] = f"i{len(self._imports)}"
            self._scope[name] = self.slots[at]
        return f"slots[{name}]"

    def _lines(self, at: int) -> Iterator[str]:
        """The lines for one node."""
        lazy, here = self._lazies[at], at - self._start
        if isinstance(lazy, Source):
            yield f"v{here} = {self._plain()}"
            return
        is_wide = len(lazy.args) > _WIDE
        given = ["*taken(slots)"] if is_wide else [self._operand(v) for v in lazy.args]
        given += [_named(name, self._operand(v)) for name, v in lazy.kwargs.items()]
        if lazy._plain:
            self._scope[f"f{here}"] = lazy.task.func
        else:
            self._scope[f"f{here}"] = _beginning(lazy.task)
            given.insert(0, "turn")
        yield f"v{here} = f{here}({', '.join(given)})"
        test = f"issubclass(type(v{here}), GOES_ON)"
        if not lazy.task.structural:
            test = f"continues(v{here})"
        yield f"if type(v{here}) not in ATOMS and {test}:"
        yield f"    return stop(locals(), base, {here}, v{here})"
        if at == len(self._lazies) - 1:
            return
        yield from self._released(at, is_wide)
        if self._alone:
            yield f"{_INTERRUPTED} return stop(locals(), base, {here + 1})"
        else:
            yield f"{_INTERRUPTED} yield base + {here + 1}"
        yield "turn.began = now"

    def _released(self, at: int, is_wide: bool) -> Iterator[str]:
        """Release the values whose last user is this node (M21)."""
        used = [
            self._place[lazy]
            for lazy in dict.fromkeys(self._lazies[at]._dependencies)
            if self._last_use[lazy] == at and lazy not in self._kept
        ]
        if is_wide and used:
            self._scope["used"] = [self.slots[place] for place in used]
            yield "for place in used: slots[place] = RELEASED"
        elif used:
            yield f"{' = '.join(map(self._variable, used))} = RELEASED"

    def _handed_on(self) -> Iterator[str]:
        """Hand results to later chunks, or return that of the target."""
        if self._end == len(self._lazies):
            yield f"return v{self._end - 1 - self._start}"
            if not self._alone:
                yield "yield"  # a chunk of one call would be no generator function
            return
        needed = [
            at
            for at in range(self._start, self._end)
            if self._last_use[self._lazies[at]] >= self._end or self._lazies[at] in self._kept
        ]
        for at in needed:
            self.slots[at] = self._slot_count
            self._slot_count += 1
        if needed:
            yield f"slots += {''.join(f'v{at - self._start}, ' for at in needed)}"


def _beginning(operation: Operation) -> Callable[..., Any]:
    """A function that begins a call in the event loop's thread, in a turn."""

    def begin(turn: EarlyTurn, /, *args: Any, **kwargs: Any) -> Any:
        return turn.begin(operation, args, kwargs)

    return begin


def _named(name: str, operand: str) -> str:
    """A keyword argument; functions with ``**kwargs`` accept any string as its name."""
    usual = name.isascii() and name.isidentifier() and not iskeyword(name)
    return f"{name}={operand}" if usual and name != "__debug__" else f"**{{{name!r}: {operand}}}"


@lru_cache(_TEXTS_KEPT)
def _compiled(
    lines: tuple[str, ...], scope: tuple[str, ...]
) -> tuple[Callable[..., Any], Mapping[int, int]]:
    """The enclosing function of a chunk, and its lines that make calls."""
    head = f"def outer({', '.join(scope)}):"
    text = [head, " def straight(context, count, held, turn, values, slots):"]
    text += [f"  {line}" for line in lines]
    text.append(" return straight")
    made: dict[str, Any] = {}
    exec(compile("\n".join(text), _FILE, "exec"), made)
    found = ((number, _CALL.match(line)) for number, line in enumerate(text, 1))
    return made["outer"], {number: int(call[1]) for number, call in found if call is not None}
