"""The description of random programs, as plain data.

``strategies`` draws programs, hypothesis shrinks and prints them, and ``build`` makes tasks and
lazy values of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

#: What every run is given.
PARAMS = {"limit": 3, "name": "eu"}
CAPACITIES = {"gpu": 2, "disk": 1.5}


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Pair:
    """A dataclass, which is searched for lazy values (M15)."""

    left: Any
    right: Any


class Reader:
    """An iterator, which no call with a retry takes (M23)."""

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> Any:
        raise StopIteration

    def __repr__(self) -> str:
        return "reader"


# -- expressions: what stands in an argument, or in what a task returns -----------------------


@dataclass(frozen=True)
class Const:
    value: Any


@dataclass(frozen=True)
class Arg:
    """An argument of the task that has this expression in its body."""

    place: int


@dataclass(frozen=True)
class Ref:
    """A lazy value of ``Program.shared``."""

    place: int


@dataclass(frozen=True)
class Box:
    kind: type
    items: tuple[Any, ...]


@dataclass(frozen=True)
class Lit:
    inner: Any


@dataclass(frozen=True)
class Endless:
    """An iterator without an end, which no map goes over (M17)."""

    kind: Any


@dataclass(frozen=True)
class Stream:
    """An iterator, a generator or an async generator, made anew each time (M17, M29).

    ``error``: what it raises after its items; not of a plain iterator.
    """

    kind: str
    items: tuple[Any, ...]
    error: Any = None


@dataclass(frozen=True)
class Source:
    name: str
    default: Any


@dataclass(frozen=True)
class Call:
    """A call of a task; ``cached``: whether its value is kept in the run's only cache.

    None: as the task declares.
    """

    task: Any
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    run_if: Any = None
    after: tuple[Any, ...] = ()
    cached: bool | None = None
    amounts: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Split:
    """The values of a call of a task with ``nout``, each by itself, the last one first."""

    call: Call
    kind: type


@dataclass(frozen=True)
class Sleep:
    """A wait that is over at once, with the value of an expression (D10)."""

    then: Any


@dataclass(frozen=True)
class OrElse:
    """An expression, and another one for the case that it is skipped (M26)."""

    lazy: Any
    value: Any


@dataclass(frozen=True)
class Handler:
    """What stands in for errors: an expression, a task that gets the error, or the error (M27)."""

    errors: tuple[type[Exception], ...]
    value: Any = None
    task: Any = None
    is_given: bool = True


@dataclass(frozen=True)
class Catch:
    """An expression, and a handler for the case that it fails (M27)."""

    lazy: Any
    handler: Handler


@dataclass(frozen=True)
class Joins:
    """What stands in the list of a map, or of a gather, for items without a value.

    Attributes:
        catches: Their errors.
        skipped: The values of these expressions; of one, or there is none.
        handlers: One at most.
    """

    catches: bool = False
    skipped: tuple[Any, ...] = ()
    handlers: tuple[Handler, ...] = ()


@dataclass(frozen=True)
class Gather:
    items: tuple[Any, ...]
    joins: Joins = Joins()


@dataclass(frozen=True)
class Fold:
    """What folds the values of a map (M29).

    Attributes:
        reducer: A task, or the name of a function of ``FOLDS`` in build.py; None for nothing.
        initial: The value to begin with; of one expression, or there is none.
    """

    reducer: Any
    initial: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Map:
    task: Any
    columns: tuple[tuple[str, Any], ...]
    cached: bool | None = None
    joins: Joins = Joins()
    amounts: tuple[tuple[str, Any], ...] = ()
    window: int | None = None
    fold: Fold | None = None


@dataclass(frozen=True)
class Route:
    selector: Any
    routes: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Operator:
    """An operator of lazy values, of ``OPERATORS`` in build.py, on one operand or two."""

    symbol: str
    operands: tuple[Any, ...]


# -- bodies: what a task does -----------------------------------------------------------------


@dataclass(frozen=True)
class Pack:
    """Return the arguments."""


@dataclass(frozen=True)
class Give:
    """Return the value of an expression: plain, or lazy to continue as (R4)."""

    value: Any


@dataclass(frozen=True)
class Cancel:
    """A cancel from inside, in a way of ``build._cancelled``; a plain function raises it."""

    way: str


@dataclass(frozen=True)
class Fail:
    error: type[Exception]
    text: str


@dataclass(frozen=True)
class Uncalled:
    """Return a task, or a method of one, without a call."""

    method: str | None


@dataclass(frozen=True)
class Tries:
    """The first calls with some arguments fail, ``failures`` of them; each node makes ``attempts``.

    A task may declare them; then its calls do not.

    A node makes more attempts than can fail, so it does not matter which of several with the same
    arguments meets the failures.
    """

    failures: int
    attempts: int
    declared: bool = False
    delay: Any = 0

    @property
    def options(self) -> dict[str, Any]:
        return {"retry": self.attempts} if self.declared else {}


def no_delay(_error: Exception, _attempt: int) -> float:
    return 0.0


@dataclass(frozen=True, eq=False)
class Job:
    """A task.

    Attributes:
        signature: Of one of the kinds in ``Build._shaped``.
        pauses: How often it gives way; None for a plain function.
        body: Its actions.
        mode: Where it is called, as a plain function.
        nout: How many values it says that it gives.
        tries: How often it fails and is tried, where it is.
        binds: Whether it calls a function that sets a context variable.
        takes: What each call takes of the capacities, as the task declares.
        cached: Whether it declares the run's only cache.
        priority: The priority of its calls.
    """

    signature: str
    pauses: int | None
    body: Any
    mode: str = "auto"
    nout: int | None = None
    tries: Tries | None = None
    binds: bool = False
    takes: tuple[tuple[str, float], ...] = ()
    cached: bool = False
    priority: int = 0

    @property
    def options(self) -> dict[str, Any]:
        declared = {} if self.tries is None else self.tries.options
        return {**declared, "capacities": dict(self.takes)} if self.takes else declared


@dataclass(frozen=True)
class Step:
    """One turn of a loop: in which style it goes on, to which task, with which value."""

    style: str
    to: int
    value: Any


@dataclass(frozen=True, eq=False)
class Loop:
    """Tasks that tail-call each other once per step; the last one does the body.

    ``late``: the default of a parameter is a lazy value.
    """

    pauses: tuple[int | None, ...]
    steps: tuple[Step, ...]
    body: Any
    tries: Tries | None = None
    binds: bool = False
    late: bool = False
    priority: int = 0


@dataclass(frozen=True)
class Program:
    """``shared`` may be used anywhere, also only by tasks that run; ``late`` are edges between
    them that are added when all are made, so that they may lead to younger ones."""

    shared: tuple[Any, ...]
    late: tuple[tuple[int, str, int], ...]
    target: Any


def jobs_of(part: Any) -> Iterator[Any]:
    """Every Job and Loop of a program."""
    return _parts_of(part, (Job, Loop))


def handlers_of(part: Any) -> Iterator[Handler]:
    """Every Handler of a program."""
    return _parts_of(part, Handler)


def refs_of(part: Any) -> list[Ref]:
    """Every mention of a shared lazy value."""
    return [*_parts_of(part, Ref)]


def _parts_of(part: Any, kinds: Any) -> Iterator[Any]:
    if isinstance(part, kinds):
        yield part
    if isinstance(part, (tuple, list)):
        inner: Any = part
    elif is_dataclass(part) and not isinstance(part, type):
        inner = [getattr(part, f.name) for f in fields(part)]
    else:
        return
    for item in inner:
        yield from _parts_of(item, kinds)


# -- limits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A change of the engine's constraints, after some turns of the event loop.

    Attributes:
        turns: Since the change before, or the beginning; 0: before the run.
        scope: For which tasks.
        kind: Of the constraint; None to remove the present ones.
        value: Of the constraint.
    """

    turns: int
    scope: str
    kind: str | None
    value: Any = None

    def make(self, constraints: Any) -> None:
        if self.kind is None:
            constraints.remove(self.scope)
        elif self.kind == "pause":
            constraints.pause(self.scope, ttl=self.value)
        elif self.kind == "concurrency":
            constraints.limit_concurrency(self.scope, self.value)
        else:
            constraints.limit_rate(self.scope, self.value, burst=3)
