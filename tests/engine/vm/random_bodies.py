"""Random sources of tasks that continue as themselves and each other, as text.

All of them end: each tail call gives the first parameter one less, and a task ends where that has
come to nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

#: Parameters of the tasks. Some share names, and not the default.
SIGNATURES = {
    "f": {"n": None, "a": "0", "b": "1", "c": "2"},
    "g": {"n": None, "b": "5", "d": "0"},
    "h": {"m": None, "a": "7", "x": "8"},
}
_LOCALS = ("x", "y", "z")
_OPERATORS = ("+", "-", "*", "//", "%")

HEADER = '''\
"""Made at random."""

import asyncio

import cascade as cs
from tests.engine.vm.bodies import LOG, Door, log, one

total = 0

'''


class Writer:
    """Writes one module.

    Args:
        draw: Decides.
    """

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._tags = 0
        self._tasks: Sequence[str] = ()
        #: Those whose other parameters can only be given by name.
        self._by_name: set[str] = set()
        self._task = ""
        self._is_async = False

    def module(self) -> str:
        count = self._below(3) + 1
        self._tasks = list(SIGNATURES)[:count]
        self._by_name = {name for name in self._tasks if self._chance(6)}
        self._is_async = self._chance(5)
        return HEADER + "\n\n".join("\n".join(self._function(name)) for name in self._tasks) + "\n"

    # -- decisions ----------------------------------------------------------------------------

    def _below(self, count: int) -> int:
        drawn: int = self._draw(st.integers(0, count - 1))
        return drawn

    def _chance(self, of: int) -> bool:
        return self._below(of) == of - 1

    def _one_of(self, choices: Sequence[Any]) -> Any:
        return choices[self._below(len(choices))]

    # -- functions ----------------------------------------------------------------------------

    def _function(self, name: str) -> Iterator[str]:
        self._task = name
        first, *others = SIGNATURES[name]
        defaults = ", ".join(f"{n}={SIGNATURES[name][n]}" for n in others)
        only = "*, " if name in self._by_name else ""
        yield "@cs.task"
        yield f"{'async ' * self._is_async}def {name}({first}, {only}{defaults}):"
        if self._chance(4):
            yield "    global total"
            yield "    total += 1"
        yield f"    if {first} <= 0:"
        yield f"        return {', '.join((first, *others))}, total"
        if self._chance(2):
            yield f"    {' = '.join(_LOCALS)} = {first}"
        yield from self._block(1, in_loop=False)
        yield f"    return {self._result()}"

    def _block(self, depth: int, in_loop: bool) -> Iterator[str]:
        for _ in range(self._below(3) + 1):
            for line in self._statement(depth, in_loop):
                yield f"    {line}"

    def _statement(self, depth: int, in_loop: bool) -> Iterator[str]:
        kinds = [self._assign, self._assign, self._effect, self._delete, self._leave]
        nested = [self._if, self._if, self._for, self._while, self._try, self._with, self._match]
        if in_loop and self._chance(4):
            yield f"if {self._value()}:"
            yield f"    {self._one_of(['break', 'continue'])}"
        elif depth < 4 and self._chance(2):
            yield from self._one_of(nested)(depth + 1, in_loop)
        else:
            yield self._one_of(kinds)()

    # -- simple statements --------------------------------------------------------------------

    def _assign(self) -> str:
        name = self._one_of(self._names()[1:])
        if self._chance(4):
            return f"{name} {self._one_of(_OPERATORS[:2])}= {self._value()}"
        if self._chance(8):
            return f"{name} = (lambda v: v + 1)({self._value()})"
        if self._chance(10):
            return f"{name} = one({self._value()})"
        return f"{name} = {self._value(2)}"

    def _effect(self) -> str:
        if self._is_async and self._chance(3):
            return "await asyncio.sleep(0)"
        return self._logged(self._value())

    def _delete(self) -> str:
        if not self._chance(4):
            return self._assign()
        return f"del {self._one_of(self._names()[1:])}"

    def _leave(self) -> str:
        if self._chance(3):
            return f"return {self._result()}"
        first = self._first()
        return f"{first} -= 1" if self._chance(3) else self._effect()

    # -- statements with blocks ---------------------------------------------------------------

    def _if(self, depth: int, in_loop: bool) -> Iterator[str]:
        yield f"if {self._value()}:"
        yield from self._block(depth, in_loop)
        if self._chance(3):
            yield f"elif {self._value()}:"
            yield from self._block(depth, in_loop)
        if self._chance(2):
            yield "else:"
            yield from self._block(depth, in_loop)

    def _for(self, depth: int, in_loop: bool) -> Iterator[str]:
        yield f"for {self._one_of(self._names()[1:])} in range({self._below(3)}):"
        yield from self._block(depth, in_loop=True)
        yield from self._else(depth, in_loop)

    def _while(self, depth: int, in_loop: bool) -> Iterator[str]:
        first = self._first()
        yield f"while {first} > {self._below(8)}:"
        yield f"    {first} -= 1"
        yield from self._block(depth, in_loop=True)
        yield from self._else(depth, in_loop)

    def _else(self, depth: int, in_loop: bool) -> Iterator[str]:
        if self._chance(2):
            yield "else:"
            yield from self._block(depth, in_loop)

    def _try(self, depth: int, in_loop: bool) -> Iterator[str]:
        yield "try:"
        yield from self._block(depth, in_loop)
        caught = self._below(4)
        if caught:
            name = self._one_of(["", " as error", f" as {self._one_of(self._names()[1:])}"])
            yield f"except {self._one_of(['ArithmeticError', 'NameError', 'Exception'])}{name}:"
            yield from self._block(depth, in_loop)
            yield from self._else(depth, in_loop)
        if not caught or self._chance(4):
            yield "finally:"
            yield f"    {self._effect()}" if self._chance(2) else f"    {self._assign()}"

    def _with(self, depth: int, in_loop: bool) -> Iterator[str]:
        fails = f"fails={self._value()} == {self._below(3)}"
        swallows = f"swallows={self._chance(3)}"
        entered = f" as {self._one_of(_LOCALS)}" if self._chance(3) else ""
        yield f"with Door({fails}, {swallows}){entered}:"
        yield from self._block(depth, in_loop)

    def _match(self, depth: int, in_loop: bool) -> Iterator[str]:
        yield f"match {self._value()}:"
        yield f"    case {self._below(3)}:"
        yield from (f"    {line}" for line in self._block(depth, in_loop))
        yield f"    case int({self._one_of(self._names()[1:])}) if {self._value()}:"
        yield from (f"    {line}" for line in self._block(depth, in_loop))

    # -- expressions --------------------------------------------------------------------------

    def _names(self) -> tuple[str, ...]:
        return (*SIGNATURES[self._task], *_LOCALS)

    def _first(self) -> str:
        return self._names()[0]

    def _logged(self, value: str) -> str:
        self._tags += 1
        return f"log({self._tags}, {value})"

    def _value(self, depth: int = 1) -> str:
        """An expression, of a number if nothing goes wrong."""
        kind = self._below(9) if depth else self._below(4)
        if kind == 0:
            return str(self._below(4))
        if kind < 4:
            # Locals are often unbound, so parameters are asked for more often.
            names = self._names() if self._chance(4) else tuple(SIGNATURES[self._task])
            return str(self._one_of(names))
        if kind < 7:
            left, right = self._value(depth - 1), self._value(depth - 1)
            return f"({left} {self._one_of(_OPERATORS)} {right})"
        if kind == 7:
            return self._logged(self._value(depth - 1))
        return self._one_of(
            [
                f"({self._one_of(self._names()[1:])} := {self._value(depth - 1)})",
                f"len([v for v in range({self._value(0)} % 3)])",
                f"({self._value(0)} > {self._value(0)})",
                f"({self._value(0)} if {self._value(0)} else {self._value(0)})",
            ]
        )

    def _result(self) -> str:
        if self._chance(5):
            test, one, other = self._value(), self._result(), self._result()
            return f"({one} if {test} else {other})"
        if self._chance(6):
            return self._value(2)
        return self._tail()

    def _tail(self) -> str:
        target = self._one_of(self._tasks)
        first, *others = SIGNATURES[target]
        one_less = f"{self._first()} - {self._below(2) + 1}"
        count = 0 if target in self._by_name else self._below(len(others) + 1)
        unnamed = [self._argument(name) for name in others[:count]]
        named = {name: self._argument(name) for name in others[count:] if self._chance(3)}
        pairs = [f"{name}={value}" for name, value in named.items()]
        if self._chance(12):
            return f"{target}.tail(*({', '.join([one_less, *unnamed])},), {', '.join(pairs)})"
        if self._chance(4):
            return self._by_hand(target, [one_less, *unnamed], named)
        if not unnamed and self._chance(2):
            pairs.insert(self._below(len(pairs) + 1), f"{first}={one_less}")
            return f"{target}.tail({', '.join(pairs)})"
        return f"{target}.tail({', '.join([one_less, *unnamed, *pairs])})"

    def _by_hand(self, target: str, unnamed: Sequence[str], named: dict[str, str]) -> str:
        display = ", ".join(f"{name!r}: {value}" for name, value in named.items())
        parts = [f"args=[{', '.join(unnamed)}]", f"kwargs={{{display}}}"]
        if target != self._task or self._chance(2):
            parts.append(f"target={target}")
        if self._chance(2):
            parts.reverse()
        return f"cs.TailCall({', '.join(parts)})"

    def _argument(self, name: str) -> str:
        if name in self._names() and self._chance(4):
            return name
        return f"one({self._value()})" if self._chance(8) else self._value(2)


@st.composite
def modules(draw: Callable[[Any], Any]) -> str:
    """The source of a module whose task ``f`` is the one to start with."""
    return Writer(draw).module()
