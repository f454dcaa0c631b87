"""Random sources of tasks that continue as themselves and each other, as text.

Many of their names collide: variables of comprehensions and lambdas, names of errors and targets of
loops with globals, builtins, names of the function around, of other tasks and of their parameters.
Errors are often caught, so that a name that is no variable of its place gives another value.

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
#: Globals, builtins, variables of an enclosing function, and tasks.
_ELSEWHERE = ("total", "closed", "one", "log", "cs", "len", "int", "type", "max", "f", "g", "h")
#: Names that are variables of other functions.
_OTHERS = ("n", "m", "a", "b", "c", "d", "x", "y", "z", "v", "error")
_OPERATORS = ("+", "-", "*", "//", "%")

HEADER = '''\
"""Made at random."""

import asyncio

import cascade as cs
from tests.engine.vm.bodies import LOG, Door, log, one

total = 0
closed = 3

'''


class Writer:
    """Writes one module.

    Args:
        below: Decides: gives a number from 0 up to the one that it gets, without that.
    """

    def __init__(self, below: Callable[[int], int]) -> None:
        self._below = below
        self._tags = 0
        self._tasks: Sequence[str] = ()
        #: Tasks with keyword-only parameters after the first.
        self._by_name: set[str] = set()
        self._task = ""
        self._is_async = False

    def module(self) -> str:
        count = self._below(3) + 1
        self._tasks = list(SIGNATURES)[:count]
        self._by_name = {name for name in self._tasks if self._chance(6)}
        self._is_async = self._chance(5)
        lines = [line for name in self._tasks for line in (*self._function(name), "", "")]
        if self._chance(4):
            around = self._one_of(["closed", "closed, len", "closed, one", "closed, type, max"])
            values = {"closed": "4", "len": "one", "one": "len", "type": "repr", "max": "min"}
            given = ", ".join(values[name] for name in around.split(", "))
            lines = [f"    {line}" if line else "" for line in lines]
            lines = [
                f"def make({around}):",
                *lines,
                "    return f",
                "",
                "",
                f"f = make({given})",
                "",
            ]
        return HEADER + "\n".join(lines)

    # -- decisions ----------------------------------------------------------------------------

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
        if self._chance(2):
            yield from self._block(1, in_loop=False)
        else:
            yield "    try:"
            yield from (f"    {line}" for line in self._block(1, in_loop=False))
            yield f"    except Exception as {self._target()}:"
            yield f"        {self._effect()}"
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
        name = self._target()
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
        return f"del {self._target()}"

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
        yield f"for {self._target()} in range({self._below(3)}):"
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
            name = self._one_of(["", " as error", f" as {self._target()}"])
            yield f"except {self._one_of(['ArithmeticError', 'NameError', 'Exception'])}{name}:"
            yield from self._block(depth, in_loop)
            yield from self._else(depth, in_loop)
        if not caught or self._chance(4):
            yield "finally:"
            yield f"    {self._effect()}" if self._chance(2) else f"    {self._assign()}"

    def _with(self, depth: int, in_loop: bool) -> Iterator[str]:
        fails = f"fails={self._value()} == {self._below(3)}"
        swallows = f"swallows={self._chance(3)}"
        entered = f" as {self._target()}" if self._chance(3) else ""
        yield f"with Door({fails}, {swallows}){entered}:"
        yield from self._block(depth, in_loop)

    def _match(self, depth: int, in_loop: bool) -> Iterator[str]:
        yield f"match {self._value()}:"
        yield f"    case {self._below(3)}:"
        yield from (f"    {line}" for line in self._block(depth, in_loop))
        yield f"    case int({self._target()}) if {self._value()}:"
        yield from (f"    {line}" for line in self._block(depth, in_loop))

    # -- expressions --------------------------------------------------------------------------

    def _names(self) -> tuple[str, ...]:
        return (*SIGNATURES[self._task], *_LOCALS)

    def _target(self) -> str:
        """Names that may be assigned: not the first parameter, which must reach zero."""
        names = self._names()[1:]
        if self._chance(12):
            names = tuple({*_ELSEWHERE, *_OTHERS} - {self._first()})
            return str(self._one_of(sorted(names)))
        return str(self._one_of(names))

    def _hidden(self) -> str:
        """A variable of a comprehension or a lambda: any name at all."""
        return str(self._one_of((*_ELSEWHERE, *_OTHERS)))

    def _first(self) -> str:
        return self._names()[0]

    def _logged(self, value: str) -> str:
        self._tags += 1
        return f"log({self._tags}, {value})"

    def _value(self, depth: int = 1) -> str:
        """An expression, of a number if nothing goes wrong."""
        kind = self._below(12) if depth else self._below(4)
        if kind == 0:
            return str(self._below(4))
        if kind < 4:
            if self._chance(10):
                return str(self._one_of(("total", "closed")))
            # Locals are often unbound, so parameters are asked for more often.
            names = self._names() if self._chance(4) else tuple(SIGNATURES[self._task])
            return str(self._one_of(names))
        if kind < 7:
            left, right = self._value(depth - 1), self._value(depth - 1)
            return f"({left} {self._one_of(_OPERATORS)} {right})"
        if kind == 7:
            return self._logged(self._value(depth - 1))
        if kind > 8:
            return self._one_of([self._comprehension, self._comprehension, self._lambda])()
        return self._one_of(
            [
                f"({self._target()} := {self._value(depth - 1)})",
                f"len(str({self._value(0)}))",
                f"(1 if type({self._value(0)}) is int else 2)",
                f"len([v for v in range({self._value(0)} % 3)])",
                f"({self._value(0)} > {self._value(0)})",
                f"({self._value(0)} if {self._value(0)} else {self._value(0)})",
            ]
        )

    def _comprehension(self, around: tuple[str, ...] = ()) -> str:
        """A number that one gives, of any kind; ``around``: variables of those that it is in."""
        name, other = self._hidden(), self._hidden()
        inside = (*around, name, other)
        item = self._item(name, inside)
        loop = f"for {name} in range({self._below(3)})"
        if self._chance(3):
            loop += f" if {self._one_of((name, *self._names()))} != {self._below(3)}"
        if self._chance(3):
            loop += f" for {other} in ({name}, {self._value(0)})"
        return str(
            self._one_of(
                [
                    f"max([{item} {loop}], default=0)",
                    f"len({{{item} {loop}}})",
                    f"len({{{item}: {self._item(name, inside)} {loop}}})",
                    f"max(({item} {loop}), default=2)",
                    f"[{item} {loop}].__len__()",
                ]
            )
        )

    def _item(self, name: str, inside: tuple[str, ...]) -> str:
        kind = self._below(6)
        if kind == 0 and len(inside) < 5:
            return self._comprehension(inside)
        if kind == 1:
            free = sorted({*_LOCALS, *self._names()[1:], "total", "len"} - {*inside})
            if free:  # the variable of a comprehension is not assigned to in it
                return f"({self._one_of(free)} := {name})"
        if kind == 2:
            return f"(lambda {self._hidden()}=0: {self._one_of((name, *self._names()))})()"
        if kind == 3:
            return f"({name} + {self._one_of(('total', 'closed', *self._names()))})"
        return name

    def _lambda(self) -> str:
        name = self._hidden()
        body = self._one_of([name, f"{name} + closed", f"max([{name} for {name} in ({name},)])"])
        return f"(lambda {name}: {body})({self._value(0)})"

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
    """The source of a module; its task ``f`` is the one to start with."""
    return Writer(lambda count: int(draw(st.integers(0, count - 1)))).module()
