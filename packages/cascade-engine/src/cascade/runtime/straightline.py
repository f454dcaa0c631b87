"""Straight-line code for graphs of plain calls, written once per shape of graph.

If all nodes of a graph are plain calls, one function can make them one after the other, with a
local variable for each result. It is generated for a *shape*, which is the graph without its plain
values, so that a task that returns the same few calls in each of its steps is compiled once (M4).
For ``add(double(x), 1)``::

    def straight(context, count, held, turn, values):
        a0, a1, = values
        v0 = double(a0)
        if type(v0) not in ATOMS and (issubclass(type(v0), GOES_ON) or goes_on(v0)):
            return Bailout([], v0)
        if len(context) != count or (held and differs(context, held)) or (
            now := clock()
        ) > turn.until: return Bailout([v0])
        turn.began = now
        v1 = add(v0, a1)
        …

A variable is set to RELEASED after its last use, so that its value can be freed (M21).

The code stops after a call that writes to its context, because other calls must not see that (M12),
and after one that has used up the caller's turn. If a call returns no value (but a tail call, a
lazy value, or a coroutine by mistake) or raises, the results so far are handed to a graph run,
which continues from there.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from contextvars import Context
from functools import partial
from keyword import iskeyword
from time import perf_counter
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from cascade.runtime.diagnostics.blocking_calls import PLAIN_THRESHOLD, BlockedStep, warn
from cascade.runtime.execution.contexts import Held, differs
from cascade.runtime.execution.fairness import Turn
from cascade.runtime.execution.placement import SLOW, Placement, outside_loop, starts_loop
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.semantics.outcomes import RELEASED, Missing
from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.callsite import CallSite
from cascade.spec.containers import ATOMS, GATHER
from cascade.spec.lazy_types import LazyResult, goes_on
from cascade.spec.params import Source
from cascade.spec.task import Task

#: Results of a call that are not values, or must not be.
GOES_ON = (LazyResult, TailCall, CoroutineType, Missing)
#: Larger graphs are interpreted: so many lines are not worth compiling if they may run once.
_MOST_NODES = 64
#: How often a shape must occur before code is written for it, and how many a task remembers.
_WORTHWHILE = 3
_SHAPES_KEPT = 32
#: The file name in tracebacks; these frames are left out of users' tracebacks with this folder.
_FILE = f"{__file__[: -len('.py')]}/<generated>"


#: Between two calls: whether the first has set a context variable, or the turn is over.
_INTERRUPTED = (
    "if len(context) != count or (held and differs(context, held)) "
    "or (now := clock()) > turn.until:"
)


class Limited(Protocol):
    """The time until which straight-line code may make calls; tested after each."""

    @property
    def until(self) -> float:
        """By ``perf_counter``."""

    began: float


class Bailout:
    """The point where straight-line code has stopped, for a graph run to continue from.

    Attributes:
        done: Results of the nodes before; RELEASED after their last use.
        result: Result of the next node; UNSET if it was not called.
        error: Its error instead, or None.
    """

    __slots__ = ("done", "error", "result")

    def __init__(
        self, done: list[Any], result: Any = UNSET, error: BaseException | None = None
    ) -> None:
        self.done = done
        self.result = result
        self.error = error

    @property
    def paused(self) -> bool:
        """Whether it stopped between two calls, because its turn was over."""
        return self.result is UNSET and self.error is None


class Begun(NamedTuple):
    """A graph that straight-line code has begun to compute.

    Attributes:
        lazies: Its nodes, in the order in which the code calls them.
        stopped: The point where it has stopped.
        kept: Nodes whose values were kept after their last use.
    """

    lazies: Sequence[LazyResult[Any]]
    stopped: Bailout
    kept: Container[LazyResult[Any]] = ()

    @property
    def called(self) -> LazyResult[Any] | None:
        """The node whose call has returned something other than a value, or an error."""
        return None if self.stopped.paused else self.lazies[len(self.stopped.done)]

    def forget(self) -> None:
        """Drop the values, which have been taken over."""
        self.stopped.done = []


class Walk(NamedTuple):
    """A graph of plain calls, taken apart.

    Attributes:
        shape: Graphs with equal shapes differ only in their plain values.
        lazies: Inputs before their users; the target is the last.
        values: The plain values, in the order in which the code takes them.
    """

    shape: tuple[Any, ...]
    lazies: list[LazyResult[Any]]
    values: list[Any]


def walk(target: LazyResult[Any], params: bool = False) -> Walk | None:
    """Take apart the graph of ``target``; None if it does not consist of plain calls.

    Args:
        target: The target.
        params: Allow parameters of the run, which stand for their values.

    Cost: about half a microsecond per node; half of that for a chain.
    """
    return chain(target) or _walk(target, params)


def chain(target: LazyResult[Any]) -> Walk | None:
    """The same for a chain, in which each node needs only one other; None if it is not one."""
    lazies: list[LazyResult[Any]] = []
    values: list[Any] = []
    shape: list[Any] = []
    lazy = target
    while lazy._plain and len(lazies) < _MOST_NODES:
        lazies.append(lazy)
        args, needed = lazy.args, lazy._dependencies
        if lazy.kwargs:
            return None
        shape.append(_what(lazy))
        if not needed:
            shape.append(len(args))
            values += reversed(args)
            break
        if len(needed) > 1:
            return None
        if args is not needed:
            place = next(place for place, value in enumerate(args) if value is needed[0])
            shape.append((place, len(args)))
            values += args[:place:-1]
            values += args[place - 1 :: -1] if place else ()
        lazy = needed[0]
    else:
        return None
    lazies.reverse()
    values.reverse()
    return Walk(tuple(shape), lazies, _unwrapped(values))


def _walk(target: LazyResult[Any], params: bool) -> Walk | None:
    reached = {target}
    todo = [target]
    while todo:
        lazy = todo.pop()
        is_source = params and isinstance(lazy, Source) and lazy._policies is None
        if not (lazy._plain or is_source):
            return None
        for source in lazy._dependencies:
            if source not in reached:
                reached.add(source)
                todo.append(source)
        if len(reached) > _MOST_NODES:
            return None
    lazies = sorted(reached, key=_number)
    place = dict(zip(lazies, range(len(lazies)), strict=True))
    shape: list[Any] = []
    values: list[Any] = []
    for lazy in lazies:
        shape.append(_what(lazy))
        if isinstance(lazy, Source):
            values.append(lazy)
            shape.append(None)
        elif lazy._dependencies is lazy.args and lazy.args:
            shape.append(tuple(map(place.__getitem__, lazy.args)))
        elif lazy._dependencies or lazy.kwargs:
            shape.append(tuple([_operand(v, place, values) for v in lazy.args]))
            if lazy.kwargs:
                named = [(n, _operand(v, place, values)) for n, v in lazy.kwargs.items()]
                shape.append(tuple(named))
        else:
            shape.append(len(lazy.args))
            values += lazy.args
    return Walk(tuple(shape), lazies, _unwrapped(values))


def straight_for(found: Walk) -> StraightLine | None:
    """The code for a graph's shape, once that occurred often enough; kept with the task."""
    task = found.lazies[-1].task
    if not isinstance(task, Task):
        return None
    if task.parameters.var_positional is not None or task.parameters.var_keyword is not None:
        return None
    shapes: dict[Any, Any] = task.derived.setdefault("straight", {})
    known = shapes.get(found.shape, 0)
    if isinstance(known, StraightLine):
        return known
    if known + 1 < _WORTHWHILE:
        if len(shapes) >= _SHAPES_KEPT:  # make room: rare shapes are not those of a loop
            kept = {shape: code for shape, code in shapes.items() if isinstance(code, StraightLine)}
            shapes.clear()
            shapes.update(kept)
        if len(shapes) < _SHAPES_KEPT:
            shapes[found.shape] = known + 1
        return None
    shapes[found.shape] = straight = StraightLine(found)
    return straight


class StraightLine:
    """A function that makes the calls of graphs of one shape.

    Args:
        found: A graph of that shape.
        kept: Nodes whose values are kept after their last use (M21).
    """

    def __init__(self, found: Walk, kept: Container[LazyResult[Any]] = ()) -> None:
        self.tasks = [lazy.task for lazy in found.lazies]
        self.kept = kept
        #: Whether a call may reach ``asyncio.run``, as far as the code shows.
        self.may_start_loop = any(map(starts_loop, self.tasks))
        #: Number of mentions of each node by the others, in a graph of this shape.
        self._mentions = _mentions(found.lazies)
        #: Containers: the tuple inside one may belong to the user.
        self._containers = [at for at, lazy in enumerate(found.lazies) if lazy.task is GATHER]
        lines = list(_lines(found, kept))
        #: Line → the node that it calls; the other lines compare contexts.
        self._calls = {at: node for at, (_, node) in enumerate(lines, 3) if node is not None}
        self._code = _compiled([line for line, _ in lines], self.tasks)

    def enter(self, context: Context, held: Held, turn: Limited, values: Sequence[Any]) -> Any:
        """The value of the graph's target, or a Bailout.

        Args:
            context: A copy of the caller's; a call that writes to it is the last (M12).
            held: The result of ``held_in`` for it.
            turn: The time until which there may be more calls.
            values: The graph's plain values.
        """
        try:
            return context.run(self._code, context, len(context), held, turn, values)
        except BaseException as error:
            return self._stopped(error)

    def enter_here(
        self,
        placement: Placement,
        turn: Turn,
        clean: Context,
        held: Held,
        values: Sequence[Any],
    ) -> Any:
        """``enter`` in the event loop's thread, whose turn may come after any call (M6).

        Args:
            placement: Records a call that took long; allows this before.
            turn: Ends the function when the event loop's turn is due.
            clean: A context; the calls see a copy of it.
            held, values: See ``enter``.
        """
        enter = partial(outside_loop, self.enter) if self.may_start_loop else self.enter
        outcome = enter(clean.copy(), held, turn, values)
        if perf_counter() - turn.began > SLOW:
            self.took_long(placement, turn, outcome)
        return outcome

    def took_long(self, placement: Placement, turn: Turn, outcome: Any) -> None:
        """Record that the last call took longer than the event loop's thread allows."""
        if turn.is_endless:
            return
        place = len(self.tasks) - 1
        if type(outcome) is Bailout:
            place = len(outcome.done) - outcome.paused
        seconds, task = perf_counter() - turn.began, self.tasks[place]
        placement.note_since(turn.began, seconds, task)
        code = getattr(task.func, "__code__", None)
        if seconds > PLAIN_THRESHOLD and code is not None and placement.is_slow(task):
            here = CallSite(code.co_filename, code.co_firstlineno)
            warn(task.name, BlockedStep(None, seconds, PLAIN_THRESHOLD, here, ""), "auto")

    def held_elsewhere(self, lazies: Sequence[LazyResult[Any]]) -> bool:
        """Whether other code may mention a node again that is not the target (M14).

        The reference count shows it: the references within the graph are known.
        """
        if any(
            references(lazies, place) > mentions for place, mentions in enumerate(self._mentions)
        ):
            return True
        # A tuple in the arguments may be the node's own tuple of inputs.
        return any(references([lazies[p]._dependencies], 0) > 1 for p in self._containers)

    def _stopped(self, error: BaseException) -> Bailout:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code is not self._code.__code__:
            trace = trace.tb_next
        assert trace is not None
        found = trace.tb_frame.f_locals
        done = [found[f"v{place}"] for place in range(len(self.tasks)) if f"v{place}" in found]
        if trace.tb_lineno not in self._calls:
            raise error  # Ctrl-C, between two calls
        return Bailout(done, UNSET, error)


def _what(lazy: LazyResult[Any]) -> Any:
    """The operation that decides the code: arithmetic makes an operation for each node."""
    task = lazy.task
    return task if isinstance(task, Task) else task.func


def references(things: Sequence[Any], place: int) -> int:
    """The number of references to an item besides that of ``things``.

    The references added by this look itself differ between Pythons, so they were measured.
    """
    return sys.getrefcount(things[place]) - _ADDED


def _operand(value: Any, place: Mapping[LazyResult[Any], int], values: list[Any]) -> int | None:
    if issubclass(type(value), LazyResult):
        return place[value]
    values.append(value)
    return None


def _unwrapped(values: list[Any]) -> list[Any]:
    if Literal not in map(type, values):
        return values
    return [v.value if type(v) is Literal else v for v in values]


_ADDED = 0
_ADDED = references([object()], 0)


def _number(lazy: LazyResult[Any]) -> int:
    return lazy.number


def _mentions(lazies: Sequence[LazyResult[Any]]) -> list[int]:
    counts = dict.fromkeys(lazies, 0)
    for lazy in lazies:
        mentioned = [*lazy.args, *lazy.kwargs.values()]
        if lazy._dependencies is not lazy.args:
            mentioned += lazy._dependencies
        for value in mentioned:
            if issubclass(type(value), LazyResult):
                counts[value] += 1
    return [counts[lazy] for lazy in lazies[:-1]]


def _lines(found: Walk, kept: Container[LazyResult[Any]]) -> Iterator[tuple[str, int | None]]:
    """The body, and for each line the node that it calls."""
    place = {lazy: i for i, lazy in enumerate(found.lazies)}
    last_use = {source: at for at, lazy in enumerate(found.lazies) for source in lazy._dependencies}
    taken = 0
    names = "".join(f"a{i}, " for i in range(len(found.values)))
    yield f"{names}= values" if names else "pass", None

    def operand(value: Any) -> str:
        nonlocal taken
        if issubclass(type(value), LazyResult):
            return f"v{place[value]}"
        taken += 1
        return f"a{taken - 1}"

    for at, lazy in enumerate(found.lazies):
        if isinstance(lazy, Source):
            yield f"v{at} = {operand(Literal(lazy))}", None
            continue
        given = [operand(v) for v in lazy.args]
        given += [_named(name, operand(v)) for name, v in lazy.kwargs.items()]
        done = ", ".join(f"v{i}" for i in range(at))
        yield f"v{at} = f{at}({', '.join(given)})", at
        continues = f"issubclass(type(v{at}), GOES_ON)"
        if not lazy.task.structural:
            continues = f"({continues} or goes_on(v{at}))"
        yield f"if type(v{at}) not in ATOMS and {continues}:", None
        yield f"    return Bailout([{done}], v{at})", None
        used = [lazy for lazy in dict.fromkeys(lazy._dependencies) if last_use[lazy] == at]
        freed = "".join(f"v{place[lazy]} = " for lazy in used if lazy not in kept)
        if freed and at < len(found.lazies) - 1:
            yield f"{freed}RELEASED", None
        if at < len(found.lazies) - 1:
            done = ", ".join(f"v{i}" for i in range(at + 1))
            yield f"{_INTERRUPTED} return Bailout([{done}])", None
            yield "turn.began = now", None
    yield f"return v{len(found.lazies) - 1}", None


def _named(name: str, operand: str) -> str:
    """A keyword argument; functions with ``**kwargs`` accept any string as its name."""
    usual = name.isascii() and name.isidentifier() and not iskeyword(name)
    return f"{name}={operand}" if usual and name != "__debug__" else f"**{{{name!r}: {operand}}}"


def _compiled(lines: Sequence[str], tasks: Sequence[Any]) -> Any:
    scope: dict[str, Any] = {f"f{i}": task.func for i, task in enumerate(tasks)}
    scope |= {"ATOMS": ATOMS, "GOES_ON": GOES_ON, "Bailout": Bailout, "RELEASED": RELEASED}
    scope["goes_on"] = goes_on
    scope |= {"type": type, "issubclass": issubclass, "len": len, "differs": differs}
    scope["clock"] = perf_counter
    # Variables of an enclosing function: lookups in globals cost more.
    head = f"def outer({', '.join(scope)}):\n def straight(context, count, held, turn, values):"
    source = "\n".join([head, *(f"  {line}" for line in lines), " return straight"])
    made: dict[str, Any] = {}
    exec(compile(source, _FILE, "exec"), made)
    return made["outer"](**scope)
