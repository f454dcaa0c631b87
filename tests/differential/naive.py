"""The naive evaluator: the meaning of a program (rules R1–R10), by plain recursion.

It has the facade's names, so that a program written as ``def program(cs): …`` can be built with
this module in the place of ``cascade``; the two share no code but the classes of errors. One
thread, one node after the other, depth first.

After a failure it goes on with whatever does not depend on it, so that a run ends with *all* the
errors that could have been the first, and for each effect with those that have to come before it:
together what ruling M13 allows an engine to do. A run with ``fail_fast=False`` does all of that.
"""

import asyncio
import contextvars
import dataclasses
import gc
import inspect
import itertools
import operator
import os
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass, field, fields, is_dataclass
from types import FunctionType, ModuleType
from typing import Any

from cascade.spec.errors import (
    ArgumentError,
    CapacityError,
    CycleError,
    DependencyMissingError,
    LazyUseError,
    ParameterError,
    ResourceNotFoundError,
    RouteError,
    TaskCancelledError,
    TaskStopIterationError,
    UnknownBlueprintError,
    UnpackError,
)

_UNDER_WAY, _REQUIRED, _ITS_ERROR = object(), object(), object()

#: Indices into the log of effects: the effects before something.
Causes = set[int]


# -- the facade: programs as data -------------------------------------------------------------


@dataclass(frozen=True)
class Literal:
    value: Any


@dataclass(eq=False)
class Lazy:
    """A node: the values that it needs first, and the step from there to its value."""

    name: str
    inputs: list[Any]
    step: Callable[["Naive", Any, Causes], Any]
    call: Any = None
    conditions: list["Lazy"] = field(default_factory=list)
    predecessors: list["Lazy"] = field(default_factory=list)
    attempts: int = 1
    delay: Callable[[Exception, int], float | None] | None = None
    cache: dict[Any, Any] | None = None
    amounts: dict[str, Any] = field(default_factory=dict)
    #: What it may continue as, or hand to that: routes, the task and the literals of a map.
    hidden: list[Any] = field(default_factory=list)
    #: The parameter that it reads.
    param: str | None = None
    number: int = field(default_factory=itertools.count().__next__)
    #: Of a map: makes its items from its lists.
    rows: Callable[[list[Any]], list["Lazy"]] | None = None
    #: Whether its items have fallbacks.
    joins: bool = False
    #: Whether it is a map that reads its columns during the run (M29).
    reads_later: bool = False
    #: Of a call for a window: the effects that have to come before it.
    before: Causes = field(default_factory=set)

    @property
    def taken(self) -> list["Lazy"]:
        """The columns of a map that hand over their items one by one (R8)."""
        if self.rows is None:
            return []
        return [v for v in self.inputs if isinstance(v, Lazy) and v.hands_over_to(self)]

    def hands_over_to(self, outer: "Lazy") -> bool:
        if self.rows is None or self.conditions or self.predecessors:
            return False
        if self.joins or self.cache is not None:
            return False
        return not any(self is other for other in (*outer.conditions, *outer.predecessors))

    def with_retry(self, max_attempts: int | None = 3, delay: Any = 0) -> "Lazy":
        self.attempts = max_attempts or 1
        self.delay = delay if callable(delay) else None
        return self.repeatable()

    def repeatable(self) -> "Lazy":
        found = [inner for value in self.inputs for inner in _known(value)]
        if self.attempts > 1 and not self.reads_later and any(map(_holds_iterators, found)):
            raise ArgumentError("an iterator")
        return self

    def with_cache(self, cache: dict[Any, Any] | None) -> "Lazy":
        self.cache = cache
        return self

    def with_priority(self, priority: int) -> "Lazy":
        return self  # it changes the order of effects, which is open (M24)

    def with_capacity(self, **amounts: Any) -> "Lazy":
        self.amounts |= amounts
        return self

    def __iter__(self) -> Iterator["Lazy"]:
        nout = self.call[0].nout
        return iter([Lazy("unpack", [self], _unpack(place, nout)) for place in range(nout)])

    def run_if(self, condition: "Lazy") -> "Lazy":
        self.conditions.append(condition)
        return self

    def after(self, *lazies: "Lazy") -> "Lazy":
        self.predecessors.extend(lazies)
        return self

    def or_else(self, value: Any) -> "Lazy":  # M26
        whole = _instead(value)

        def step(run: Naive, _given: Any, causes: Causes) -> Any:
            outcome = run.value(self, causes)
            return whole if isinstance(outcome, Skipped) else outcome

        return Derived("or_else", [], step, hidden=[self, whole])

    def catch(self, errors: Any, handler: Any = _ITS_ERROR) -> "Lazy":  # M27
        kinds = errors if isinstance(errors, tuple) else (errors,)
        is_task = isinstance(handler, Task)
        if is_task:
            _fit(handler.signature.bind, [None], {})
        whole = None if is_task or handler is _ITS_ERROR else _instead(handler)

        def step(run: Naive, _given: Any, causes: Causes) -> Any:
            run.catching.append(kinds)
            run.has_caught = True
            outcome = run.value(self, causes)
            run.catching.pop()
            if not isinstance(outcome, Failed):
                return outcome
            if not _is_one_of(outcome.error, kinds):  # the others would have been caught
                left = tuple(f for f in outcome.faults if not _is_one_of(f.error, kinds))
                return Failed(left, outcome.unread)
            if handler is _ITS_ERROR:
                return outcome.error
            return handler(Literal(outcome.error)) if is_task else whole

        return Derived("catch", [], step, hidden=[self, handler if is_task else whole])

    def __eq__(self, other: object) -> Any:
        return other is self or _operation(operator.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return other is not self and _operation(operator.ne, self, other)

    __hash__ = object.__hash__

    def __lt__(self, other: object) -> "Lazy":
        return _operation(operator.lt, self, other)

    def __gt__(self, other: object) -> "Lazy":
        return _operation(operator.gt, self, other)

    def __add__(self, other: object) -> "Lazy":
        return _operation(operator.add, self, other)

    def __divmod__(self, other: object) -> "Lazy":
        return _operation(divmod, self, other)

    def __rdivmod__(self, other: object) -> "Lazy":
        return _operation(divmod, other, self)

    def __round__(self) -> "Lazy":
        return _operation(round, self)

    def __invert__(self) -> "Lazy":
        return _operation(_invert, self)

    def __bool__(self) -> bool:
        raise LazyUseError("has no truth value")

    def __repr__(self) -> str:
        return f"<lazy {self.name}>"


class Derived(Lazy):
    """A node that Python asks before a ``Lazy``: ``lazy < derived`` is ``derived > lazy``."""


def _operation(func: Callable[..., Any], *operands: Any) -> Lazy:
    name = func.__name__.strip("_")
    return Lazy(name, [*operands], lambda _run, given, _causes: func(*given))


def _invert(value: Any) -> Any:
    return not value if type(value) is bool else ~value


@dataclass
class TailCall:
    args: Iterable[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    target_blueprint_id: str | None = None
    target: "Task | None" = None


class Task:
    def __init__(
        self,
        func: Callable[..., Any],
        name: str,
        nout: int | None = None,
        declared: tuple[int, Any, Mapping[str, Any]] = (1, None, {}),
    ) -> None:
        self.func, self.name, self.signature = func, name, inspect.signature(func)
        self.nout = nout
        #: Attempts, cache and amounts of its calls, unless a call says otherwise.
        self.declared = declared
        parameters = self.signature.parameters.values()
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.late = {n: d for n, d in self.defaults.items() if next(_lazies(d), None) is not None}
        self.more = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        collecting = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        self.required = {p.name for p in parameters if p.kind not in collecting}

    def __call__(self, *args: Any, **kwargs: Any) -> Lazy:
        return self.declaring(self.bare(*args, **kwargs))

    def bare(self, *args: Any, **kwargs: Any) -> Lazy:
        given = _fit(self.signature.bind, args, kwargs)
        kwargs |= {n: d for n, d in self.late.items() if n not in given}
        place = len(args)

        def step(run: Naive, given: list[Any], causes: Causes) -> Any:
            named = dict(zip(kwargs, given[place:], strict=True))
            return run.loop(lazy, given[:place], named, causes)

        lazy = Lazy(self.name, [*args, *kwargs.values()], step, (self, args, kwargs))
        return lazy

    def declaring(self, lazy: Lazy) -> Lazy:
        lazy.attempts, lazy.cache, amounts = self.declared
        lazy.amounts = {**amounts}
        return lazy.repeatable()

    def tail(self, *args: Any, **kwargs: Any) -> TailCall:
        _fit(self.signature.bind_partial, args, kwargs)
        return TailCall(args, kwargs, target=self)

    def map(  # R8, M17
        self,
        *,
        return_exceptions: bool = False,
        skipped: Any = _REQUIRED,
        catch: Any = None,
        window: int | None = None,
        fold: Any = None,
        initial: Any = _REQUIRED,
        **columns: Any,
    ) -> Lazy:
        shared = {n: v for n, v in columns.items() if isinstance(v, (Literal, Inject))}
        given = {n: v for n, v in columns.items() if n not in shared}
        if not given:
            raise ArgumentError("nothing to go over")
        _fit(self.signature.bind, (), columns)
        joins = _joins(skipped, catch)

        def item_of(row: Mapping[str, Any]) -> tuple[Lazy, Lazy]:
            """The call for a row, and the item of the list."""
            call = self.bare(**row, **shared)
            call.attempts, call.cache = lazy.attempts, lazy.cache
            call.amounts, call.delay = lazy.amounts, lazy.delay
            return call, _joined(call, return_exceptions, joins)

        def expand(lists: list[Any]) -> list[Lazy]:
            known = _equally_long([_column(v) for v in lists])
            rows = [dict(zip(given, row, strict=True)) for row in zip(*known, strict=True)]
            return [item_of(row)[1] for row in rows]

        if window is None and fold is None and initial is _REQUIRED:
            known = [_column(v) for v in given.values()]
            _equally_long([v for v in known if not isinstance(v, Lazy)])
            lazy = Derived(f"{self.name}.map", [*known], _nothing, rows=expand)
        else:
            windowing = Windowing(window, fold, initial, [*given], item_of)
            later = [*map(_source, given.values()), *windowing.first]
            lazy = Derived(f"{self.name}.map", later, windowing.step)
            lazy.reads_later, windowing.map = True, lazy
        lazy.joins = bool(joins)
        lazy.hidden = [self, *shared.values(), *joins.values(), fold]
        return self.declaring(lazy)


def task(
    func: Any = None,
    /,
    *,
    name: str | None = None,
    nout: int | None = None,
    retry: int | None = None,
    cache: Any = None,
    capacities: Mapping[str, Any] | None = None,
    **_options: Any,  # where a function is called, and for how long, makes no difference
) -> Any:
    declared = retry or 1, cache, capacities or {}
    make = lambda function: Task(function, name or function.__name__, nout, declared)  # noqa: E731
    return make(func) if func else make


def _is_one_of(error: Exception, kinds: Any) -> bool:
    return isinstance(error, kinds) and not isinstance(error, CycleError)


def _nothing(_run: "Naive", _given: Any, _causes: Causes) -> None:
    """The step of a map, which makes items instead."""


def _instead(value: Any) -> Any:
    """A fallback: the value itself, or the lazy value to continue as."""
    if isinstance(value, Literal):
        if isinstance(value.value, Lazy):
            raise ArgumentError("a literal of nothing but a lazy value")
        return value.value
    held = not isinstance(value, Lazy) and next(_marks(value), None) is not None
    return _whole(value) if held else value


def _joins(skipped: Any, catch: Any) -> dict[str, Any]:
    """The options of a list for items without a value, with their lazy values as one each."""
    joins: dict[str, Any] = {}
    if skipped is not _REQUIRED:
        joins["skipped"] = _kept(skipped)
    if catch is not None:
        errors, handler = catch
        joins["catch"] = errors, handler if isinstance(handler, Task) else _kept(handler)
    return joins


def _kept(value: Any) -> Any:
    """A fallback for several items, which a later call of ``_instead`` leaves as it is."""
    instead = _instead(value)
    return instead if isinstance(instead, Lazy) else Literal(instead)


def _unpack(place: int, nout: int) -> Any:
    def unpack(_run: "Naive", given: list[Any], _causes: Causes) -> Any:
        try:
            values = list(given[0])
        except TypeError:
            raise UnpackError("cannot be unpacked") from None
        if len(values) != nout:
            raise UnpackError("another number of values")
        return values[place]

    return unpack


@dataclass(eq=False)
class Resource:
    func: Callable[..., Any]
    name: str
    scope: str


def resource(
    func: Any = None, /, *, name: str | None = None, scope: str = "run", thread_bound: bool = False
) -> Any:
    make = lambda provider: Resource(provider, name or provider.__name__, scope)  # noqa: E731
    return make(func) if func else make


@dataclass(frozen=True)
class Inject:
    source: Resource | str


literal, inject, LRUCache = Literal, Inject, dict
eq = Task(lambda a, b: bool(a == b), "eq")
not_ = Task(lambda value: not value, "not_")


def gather(
    *values: Any, return_exceptions: bool = False, skipped: Any = _REQUIRED, catch: Any = None
) -> Lazy:
    joins = _joins(skipped, catch)
    if not (joins or return_exceptions):
        return _whole([*values])
    items: list[Any] = []
    for value in values:
        if next(_lazies(value), None) is None:  # it is there already
            items.append(value)
            continue
        item = value if isinstance(value, Lazy) else _whole(value)
        items.append(_joined(item, return_exceptions, joins))
    return _whole(items)


def _joined(item: Lazy, return_exceptions: bool, joins: Mapping[str, Any]) -> Lazy:
    """An item of a list, with the list's options for items without a value."""
    if "catch" in joins:
        item = item.catch(*joins["catch"])
    if "skipped" in joins:
        item = item.or_else(joins["skipped"])
    return item.catch(Exception) if return_exceptions else item


def Router(*, selector: Any, routes: Mapping[Any, Any]) -> Lazy:  # R7
    made = {key: _instead(route) for key, route in routes.items()}

    def choose(_run: Naive, key: list[Any], _causes: Causes) -> Any:
        try:
            return made[key[0]]  # a plain route is a value, and no step (M20)
        except (KeyError, TypeError):
            raise RouteError(repr(key)) from None

    return Derived(
        "router", [selector], choose, hidden=[v for v in made.values() if isinstance(v, Lazy)]
    )


def Param(name: str, default: Any = _REQUIRED, type: Any = str) -> Lazy:
    def read(run: Naive, _given: Any, _causes: Causes) -> Any:
        value = run.params.get(name, default)
        if value is _REQUIRED:
            raise ParameterError(name, name)
        return type(value) if name in run.params else value

    return Derived(f"param {name}", [], read, param=name)


def Env(name: str, default: Any = _REQUIRED) -> Lazy:
    def read(_run: Naive, _given: Any, _causes: Causes) -> Any:
        if (value := os.environ.get(name, default)) is _REQUIRED:
            raise ParameterError(name, name)
        return value

    return Derived(f"env {name}", [], read)


def _whole(container: Any) -> Lazy:
    return Lazy("gather", [container], lambda _run, given, _causes: given[0])


def _fit(bind: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        return bind(*args, **kwargs).arguments
    except TypeError as error:
        raise ArgumentError(str(error)) from None


def _column(value: Any) -> Any:
    if isinstance(value, Lazy):
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ArgumentError(f"cannot go over {value!r}")
    if isinstance(value, (itertools.count, itertools.repeat)):  # programs give them no end (M17)
        raise ArgumentError("has no end")
    return list(value)


def _source(value: Any) -> Any:
    """A column of a map with a window, which is not read yet."""
    if isinstance(value, (Lazy, Iterator)):
        return value
    return value if isinstance(value, AsyncIterable) else _column(value)


def _equally_long(lists: list[list[Any]]) -> list[list[Any]]:
    if len({len(known) for known in lists}) > 1:
        raise ArgumentError("unequal lengths")
    return lists


def _continued(result: Any) -> Any:
    """What a task's result goes on as: a container with lazy values inside is a lazy value."""
    if isinstance(result, Literal):
        if isinstance(result.value, Lazy):
            raise ArgumentError("a literal of nothing but a lazy value")
        return result.value
    if isinstance(result, Task) or isinstance(getattr(result, "__self__", None), Task):
        raise ArgumentError("a task, or its tail, that was not called")
    held = not isinstance(result, Lazy) and next(_marks(result), None) is not None
    return _whole(result) if held else result


def _marks(value: Any) -> Iterator[Any]:
    yield from _lazies(value)
    if _has_literals(value):
        yield value


def _has_literals(value: Any) -> bool:
    """Whether a literal stands anywhere in a container: it is rebuilt without."""
    if isinstance(value, Literal):
        return True
    if isinstance(value, dict):
        return any(_has_literals(part) for pair in value.items() for part in pair)
    if type(value) in _SEQUENCES or hasattr(type(value), "_make"):
        return any(map(_has_literals, value))
    if is_dataclass(value) and not isinstance(value, (*_OPAQUE, Lazy)):
        return any(_has_literals(getattr(value, part.name)) for part in fields(value))
    return False


def _holds_set(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_set(part) for pair in value.items() for part in pair)
    if type(value) in (set, frozenset):
        return True
    if type(value) in _SEQUENCES or hasattr(type(value), "_make"):
        return any(map(_holds_set, value))
    if is_dataclass(value) and not isinstance(value, (*_OPAQUE, Lazy)):
        return any(_holds_set(getattr(value, part.name)) for part in fields(value))
    return False


def _lazies(value: Any) -> Iterator[Lazy]:
    """The lazy values in a value, in order (R2, M15)."""
    if isinstance(value, Lazy):
        yield value
    elif type(value) in (dict, OrderedDict, defaultdict):
        for pair in value.items():
            yield from _lazies(pair)
    elif type(value) in _SEQUENCES or hasattr(type(value), "_make"):
        for item in value:
            yield from _lazies(item)
    elif is_dataclass(value) and not isinstance(value, _OPAQUE):
        for name in [field.name for field in fields(value)]:
            yield from _lazies(getattr(value, name))


def _known(argument: Any) -> list[Any]:
    """An argument as far as it is known before a run: that of a literal is not examined (M23)."""
    if isinstance(argument, Lazy):
        return argument.inputs if argument.name == "gather" else []
    return [] if isinstance(argument, Literal) else [argument]


def _holds_iterators(value: Any) -> bool:
    """Whether a value is an iterator, or one stands in a container that is searched.

    A literal in it stands for what it holds. One in that literal is a value like any other.
    """
    if isinstance(value, Literal):
        return _is_spent(value.value)
    return _is_spent(value, _holds_iterators)


def _is_spent(value: Any, within: Callable[[Any], bool] | None = None) -> bool:
    """The same for a value without literals to replace; ``within`` asks it of its parts."""
    within = within or _is_spent
    if isinstance(value, (Iterator, AsyncIterator)):
        return True
    if isinstance(value, dict):
        return any(within(part) for pair in value.items() for part in pair)
    if type(value) in _SEQUENCES or hasattr(type(value), "_make"):
        return any(map(within, value))
    if is_dataclass(value) and not isinstance(value, (*_OPAQUE, Lazy)):
        return any(within(getattr(value, part.name)) for part in fields(value))
    return False


_SEQUENCES = (list, tuple, set, frozenset, deque)
#: Not searched, though these are dataclasses.
_OPAQUE = (type, Literal, Inject)


def known_parameters(target: Any) -> set[str]:
    """The names of the parameters that are known before a run (M22): of each ``Param`` that stands
    in the target, or that a task's function refers to in its closure or its defaults."""
    names: set[str] = set()
    met: dict[int, Any] = {}
    todo = [target]
    while todo:
        part = todo.pop()
        if id(part) in met or isinstance(part, (type, ModuleType)):
            continue
        met[id(part)] = part
        if isinstance(part, (Iterator, AsyncIterator)):
            continue  # not searched (M15)
        if isinstance(part, Lazy):
            names |= set() if part.param is None else {part.param}
            called = [] if part.call is None else [part.call[0]]
            todo += [*part.inputs, *part.conditions, *part.predecessors, part.amounts]
            todo += [*part.hidden, *called]
        elif isinstance(part, FunctionType):
            todo += [part.__closure__, part.__defaults__, part.__kwdefaults__, part.__dict__]
        else:
            todo += gc.get_referents(part)
    return names


# -- maps with windows (M29) -------------------------------------------------------------------


class Windowing:
    """How a map reads its columns item by item, and what becomes of the values.

    Args:
        window: Most items under way.
        fold: A task or a function that folds the values.
        initial: The value to begin with.
        names: Those of the columns.
        item_of: Gives the call for a row, and the item that has its value.
    """

    def __init__(
        self,
        window: int | None,
        fold: Any,
        initial: Any,
        names: list[str],
        item_of: Callable[[Mapping[str, Any]], tuple[Lazy, Lazy]],
    ) -> None:
        if window is not None and window < 1:
            raise ArgumentError("no window")
        if fold is None and initial is not _REQUIRED:
            raise ArgumentError("nothing takes the value to begin with")
        if isinstance(fold, Task):
            _fit(fold.signature.bind, [None, None], {})
        elif inspect.iscoroutinefunction(fold):
            raise ArgumentError("a coroutine function")
        self.size = window or 64
        self.fold, self.names, self.item_of = fold, names, item_of
        self.map: Lazy
        self.first = [] if initial is _REQUIRED else [initial]

    def step(self, run: "Naive", given: list[Any], causes: Causes) -> Any:
        """The step of the map, from its columns and the value to begin with."""
        columns, first = given[: len(self.names)], given[len(self.names) :]
        sources = [_begun(column) for column in columns]
        return Window(self, run, sources, first, causes).outcome()


class Window:
    """The items of one map, read one after the other.

    They are read until one has no value. As far as more may be under way at that moment, these
    are read, too, but they are optional, and so are folds that may come too late then.
    """

    def __init__(
        self, how: Windowing, run: "Naive", sources: list[Any], first: list[Any], causes: Causes
    ) -> None:
        self.how, self.run, self.sources, self.causes = how, run, sources, causes
        #: The effects before the first item.
        self.began = {*causes}
        self.so_far = first
        self.values: list[Any] = []
        #: The effects that each item with a value is made of, and the folds up to each item.
        self.made: list[Causes] = []
        self.folds: list[tuple[Any, Causes]] = []
        #: The place of the first item without a value, and of a fold without.
        self.lost: int | None = None
        self.unfolded: int | None = None
        self.lacks: list[Any] = []

    def outcome(self) -> Any:
        run, how = self.run, self.how
        steps = run.steps[1]
        run.count(how.map)
        index = 0
        while self.may_read(index):
            is_open = self.lost is not None or self.unfolded is not None
            run.unread += is_open
            goes_on = self.read(index)
            run.unread -= is_open
            run.may_read_more |= is_open and goes_on
            if not goes_on:
                break
            index += 1
        run.steps[1] += 2 * how.size  # each place may find the end by waiting
        self.count(index, run.steps[1] - steps)
        self.settle_folds()
        if self.lacks:
            return self.lack()
        self.causes |= self.began.union(*self.made, *(made for _, made in self.folds))
        if how.fold is None:
            return self.values
        if not self.so_far:
            raise ArgumentError("nothing to fold")
        return self.so_far[0]

    def may_read(self, index: int) -> bool:
        """Whether an item may be under way in spite of those that have no value."""
        if self.how.fold is None:
            return self.lost is None or self.how.size > 1
        broken = [place for place in (self.lost, self.unfolded) if place is not None]
        return not broken or index < min(broken) + self.how.size

    def read(self, index: int) -> bool:
        """Read an item and compute it; False at the end of the columns."""
        run = self.run
        try:
            if (row := self.row()) is None:
                return False
            call, item = self.how.item_of(row)
        except Exception as error:
            self.break_at(index, run.fail(error))
            return False
        run.count_step(most=4)  # reading on a worker, and waiting for its turn, are steps
        call.before = self.before(index)
        made: Causes = set()
        outcome = run.value(item, made)
        if isinstance(outcome, (Failed, Skipped)):
            if not run.unread:
                self.causes |= made
            self.break_at(index, outcome)
            return True
        self.made.append(made)
        self.values.append(outcome)
        if self.how.fold is not None and self.lost is None and self.unfolded is None:
            self.fold(index, outcome)
        return True

    def row(self) -> dict[str, Any] | None:
        found = [
            drive(anext(source, _END)) if isinstance(source, AsyncIterator) else next(source, _END)
            for source in self.sources
        ]
        ended = sum(value is _END for value in found)
        if ended and ended < len(found):
            raise ArgumentError("unequal lengths")
        return None if ended else dict(zip(self.how.names, found, strict=True))

    def before(self, index: int) -> Causes:
        """The effects before an item is read: those of items that are under way no longer."""
        ended = index - self.how.size + 1
        if ended <= 0 or (self.how.fold is None and self.how.size > 1):
            return {*self.began}
        return self.began.union(*self.made[:ended], *(made for _, made in self.folds[:ended]))

    def fold(self, index: int, value: Any) -> None:
        run, how = self.run, self.how
        if not self.so_far:
            self.so_far = [value]
            self.folds.append((value, set()))
            return
        made = self.began.union(*self.made, *(made for _, made in self.folds))
        # With more items under way, one of these may break the map before this fold.
        run.unread += how.size > 1
        if isinstance(how.fold, Task):
            call = how.fold(Literal(self.so_far[0]), Literal(value))
            call.before = {*made}
            run.count_step()
            outcome = run.value(call, made)
        else:
            outcome = run.folded(how.fold, self.so_far[0], value, made)
        run.unread -= how.size > 1
        self.so_far = [outcome]
        self.folds.append((outcome, made))
        if isinstance(outcome, (Failed, Skipped)):
            self.unfolded = index
            self.lacks.append(outcome)

    def break_at(self, index: int, outcome: Any) -> None:
        self.lost = index if self.lost is None else self.lost
        self.lacks.append(outcome)

    def settle_folds(self) -> None:
        """The folds before the last item that surely was read are made."""
        end = len(self.folds) if self.lost is None else self.lost - self.how.size + 1
        for outcome, made in self.folds[: max(end, 0)]:
            self.run.needed(outcome, made)

    def lack(self) -> Any:
        """The outcome of a map without a value."""
        run = self.run
        failed = [outcome for outcome in self.lacks if isinstance(outcome, Failed)]
        run.is_open |= len(failed) > 1
        # The first may be the only one; of an item and a fold, each may.
        is_decided = self.unfolded is None or self.lost is None
        first = self.lacks[: 1 if is_decided else 2]
        run.is_undecided |= bool(failed) and any(isinstance(one, Skipped) for one in first)
        whole = _worst(self.lacks)
        if not isinstance(whole, Failed):
            return whole
        found = first if is_decided else []
        certain = {f for one in found if isinstance(one, Failed) for f in one.certain}
        return Failed(whole.faults, frozenset({*whole.faults} - certain))

    def count(self, items: int, most: int) -> None:
        """The rounds of the places: at least one has made its share of the items (M20)."""
        run, size = self.run, self.how.size
        sure = items if self.lost is None else self.lost
        sure = sure if self.unfolded is None else min(sure, self.unfolded)
        if not (run.again or run.unread):
            run.rounds[0] = max(run.rounds[0], -(-sure // size))
        run.rounds[1] = max(run.rounds[1], most)


_END = object()


def _begun(column: Any) -> Any:
    if isinstance(column, (Iterator, AsyncIterator)):
        return column
    if isinstance(column, AsyncIterable):
        return aiter(column)
    if isinstance(column, (str, bytes)) or not isinstance(column, Iterable):
        raise ArgumentError(f"cannot go over {column!r}")
    return iter(column)


# -- the evaluator ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Skipped:
    condition: str


@dataclass(eq=False)
class Fault:
    """An error that a node met.

    Attributes:
        counts: It is one of the run's: on at least one path no node catches it.
        optional: Of a call that need not be made.
        unread: Of an item that need not be read (M29), or of what only such items need.
    """

    error: Exception
    counts: bool = False
    optional: bool = False
    unread: bool = False


@dataclass(frozen=True)
class Failed:
    """The outcome of a node that met errors, itself or in its inputs.

    Attributes:
        faults: These errors.
        unread: Those of items that a map need not have read (M29): a node that needs the map's
            outcome does not need them.
    """

    faults: tuple[Fault, ...]
    unread: frozenset[Fault] = frozenset()

    @property
    def certain(self) -> list[Fault]:
        return [fault for fault in self.faults if fault not in self.unread]

    @property
    def error(self) -> Exception:
        return self.faults[0].error


@dataclass(eq=False)
class Rounds:
    """The rounds of a node (M20): at least, and at most.

    A node that continues as a lazy value makes its rounds, too, unless the run has met that before;
    of one that others may mention as well, the order decides.
    """

    least: int = 0
    most: int = 0
    #: The highest value of ``most``.
    peak: int = 0


def _worst(lacks: Iterable[Any]) -> Any:
    """The outcome of a node whose inputs have these outcomes: a failure counts most."""
    failed = [outcome for outcome in lacks if isinstance(outcome, Failed)]
    if not failed:
        return next(iter(lacks), None)
    faults = dict.fromkeys(fault for outcome in failed for fault in outcome.faults)
    certain = {fault for outcome in failed for fault in outcome.certain}
    return Failed(tuple(faults), frozenset(faults.keys() - certain))


class Naive:
    """One run.

    Args:
        log: The list that tasks append their effects to.
        params: The values for ``Param``.
        declared: Names of parameters that are valid although the target has none of them (M22).
        blueprints: Id → lazy value that it was compiled from.
        resources: Registered ones, for ``inject("name")``.
        capacities: Totals for ``with_capacity``.
    """

    def __init__(
        self,
        log: list[Any],
        params: Mapping[str, Any] | None = None,
        blueprints: Mapping[str, Lazy] | None = None,
        resources: Iterable[Resource] = (),
        capacities: Mapping[str, float] | None = None,
        declared: Iterable[str] = (),
    ) -> None:
        self.declared = {*declared}
        self.capacities = capacities or {}
        #: Entries of the log → how many of these calls failed for a first time, and may have been
        #: another node's.
        self.failures: Counter[Any] = Counter()
        self.log, self.params, self.blueprints = log, params or {}, blueprints or {}
        self.resources = {resource.name: resource for resource in resources}
        self.opened: dict[Resource, tuple[Any, Any]] = {}
        self.memo: dict[Lazy, Any] = {}
        #: Map → its items, or the outcome in their place.
        self.expanded: dict[Lazy, Any] = {}
        #: All the errors that could be the first (M13).
        self.errors: list[Exception] = []
        #: The errors that are caught on the way up from what is being computed, and whether any
        #: were on another way.
        self.catching: list[Any] = []
        self.has_caught = False
        #: Whether several nodes in one set failed: which of them comes first depends on addresses.
        self.is_open = False
        #: Whether a set was to hold values without a hash; of several, addresses decide which one
        #: the error names.
        self.has_unhashable_members = False
        #: Calls by cache and key that gave no value, so that an equal one may be made again; it is
        #: not if both are under way at the same time.
        self.missed: list[Any] = []
        self.again = 0
        #: Whether there were equal calls, so that it is open which of them was made.
        self.had_equal_calls = False
        #: The effects of such calls: indices into the log.
        self.equal: set[int] = set()
        #: Whether an item is computed that a map may not read, or a fold that may not be made,
        #: because the map has no value (M29); and the effects of what only those need.
        self.unread = 0
        self.unread_effects: set[int] = set()
        #: Whether a map with a window may read items that it need not.
        self.may_read_more = False
        #: Whether it is open if a node was skipped or has failed.
        self.is_undecided = False
        #: Those of the errors.
        self.faults: list[Fault] = []
        #: Whether several nodes needed one that failed, so that several paths lead to it (R9), or
        #: the path leads past a node that may have been skipped before.
        self.has_several_paths = False
        #: How many nodes were skipped for a condition of their own.
        self.skips = 0
        #: For each effect the effects that come before it, and for each node those it is made of.
        self.needs: list[Causes] = []
        self.made_of: dict[Lazy, Causes] = {}
        #: The steps of the run, and the rounds of the node with the most (M20); at least, at most.
        self.steps, self.rounds = [0, 0], [0, 0]
        self.rounds_of: dict[Lazy, Rounds] = {}
        #: Whether the run has a limit that is lower.
        self.exceeded = False

    @property
    def optional(self) -> set[int]:
        """The effects that may be missing: indices into the log."""
        return self.equal | self.unread_effects

    @property
    def optional_errors(self) -> list[Exception]:
        return [fault.error for fault in self.faults if fault.optional or fault.unread]

    def run(self, target: Any) -> Any:
        """The value of ``target``; it has one unless there are ``errors``."""
        for name in self.params.keys() - self.declared:
            if isinstance(target, Literal) or name not in known_parameters(target):  # M22
                self.errors.append(ParameterError(name, name))
                return None
        if isinstance(target, Literal):
            return target.value  # R1: a plain value is itself
        found = self.value(target if isinstance(target, Lazy) else _whole(target), set())
        self.close(self.opened)  # R9
        if not self.errors and isinstance(found, Skipped):  # R6
            self.errors.append(DependencyMissingError("skipped", found.condition))
        return found

    def value(self, lazy: Lazy, causes: Causes, rounds: Rounds | None = None) -> Any:
        """The outcome of a node, computed once (R3, M14): a value, a Skipped or a Failed."""
        if lazy not in self.memo:
            self.rounds_of[lazy] = rounds or Rounds()
            self.memo[lazy], self.made_of[lazy] = _UNDER_WAY, {*lazy.before}
            self.memo[lazy] = self.compute(lazy, self.made_of[lazy])
        elif self.memo[lazy] is _UNDER_WAY:
            return self.fail(CycleError(lazy.name, [lazy.name]))
        else:
            self.has_several_paths |= isinstance(self.memo[lazy], Failed)
        causes |= self.made_of[lazy]
        self.needed(self.memo[lazy], self.made_of[lazy])
        return self.counted(self.memo[lazy])

    def needed(self, outcome: Any, effects: Causes) -> None:
        """Note that something needs an outcome, whichever items a map with a window reads."""
        if not self.unread:
            self.unread_effects -= effects
            for fault in outcome.certain if isinstance(outcome, Failed) else ():
                fault.unread = False

    def items(self, lazy: Lazy, causes: Causes) -> Any:
        """The items of a map, or the outcome in their place (R8).

        A map that makes no items needs the lists of its columns, whatever it lacks.
        """
        if lazy in self.expanded:
            if self.expanded[lazy] is _UNDER_WAY:
                return self.fail(CycleError(lazy.name, [lazy.name]))
            return self.counted(self.expanded[lazy])
        self.expanded[lazy] = _UNDER_WAY
        self.rounds_of.setdefault(lazy, Rounds())
        columns = {column: self.items(column, causes) for column in lazy.taken}
        found = self.ready(lazy, causes, columns)
        if isinstance(found, list):
            try:
                assert lazy.rows is not None
                found = lazy.rows(found)
                self.count(lazy)
            except Exception as error:
                found = self.fail(error)
                self.ends_of(columns.values(), causes)
        else:
            ends = self.ends_of(columns.values(), causes)
            found = _worst([v for v in (found, *ends) if isinstance(v, Failed)] or [found])
        self.expanded[lazy] = found
        return found

    def ends_of(self, columns: Iterable[Any], causes: Causes) -> list[Any]:
        known = [items for items in columns if isinstance(items, list)]
        return [self.value(item, causes) for items in known for item in items]

    def compute(self, lazy: Lazy, causes: Causes) -> Any:
        if lazy.rows is not None:
            items = self.items(lazy, causes)
            return self.value(gather(*items), causes) if isinstance(items, list) else items
        inputs = self.ready(lazy, causes, {})
        if not isinstance(inputs, list):
            return inputs
        if lazy.cache is not None and lazy.call is not None:
            return self.cached(lazy, inputs, causes)
        return self.final(lazy, inputs, causes)

    def ready(self, lazy: Lazy, causes: Causes, columns: Mapping[Lazy, Any]) -> Any:
        """The values of a node's inputs, or the outcome of a node that does not run.

        Args:
            lazy: The node.
            causes: Gets the effects before it.
            columns: The items of inputs whose values are not needed, or outcomes in their place.
        """
        lacks: list[Any] = []
        skipped: list[Any] = []
        inputs = []
        # A list is built after its conditions are known: they may skip it.
        unbuilt: list[TypeError] | None = [] if lazy.name == "gather" else None
        for value in lazy.inputs:  # also if skipped (M16)
            if not isinstance(value, Lazy) or value not in columns:
                inputs.append(self.resolve(value, causes, lacks, unbuilt))
            elif isinstance(columns[value], list):
                inputs.append(columns[value])
            else:
                lacks.append(columns[value])
        asked = [self.value(condition, causes) for condition in lazy.conditions]
        # A path leads past this node if it is skipped before another one fails.
        self.has_several_paths |= not all(isinstance(o, Failed) or bool(o) for o in asked)
        ended = [self.value(predecessor, causes) for predecessor in lazy.predecessors]
        if lazy.call is not None:  # of a map, they are for the items
            weighed = [v for v in lazy.amounts.values() if isinstance(v, Lazy)]
            given = [self.value(amount, causes) for amount in weighed]
            ended += [v for v in given if isinstance(v, (Failed, Skipped))]
            skipped = [v for v in given if isinstance(v, Skipped)]
        failed = [v for v in (*lacks, *ended, *asked) if isinstance(v, Failed)]
        if failed or lacks or skipped:
            return _worst(failed or lacks or skipped)
        for condition, outcome in zip(lazy.conditions, asked, strict=True):  # R6
            if isinstance(outcome, Skipped):
                return outcome
            if not outcome:
                self.skips += 1
                return Skipped(condition.name)
        return self.fail(unbuilt[0]) if unbuilt else inputs

    def final(self, lazy: Lazy, inputs: list[Any], causes: Causes) -> Any:
        try:
            if lazy.call is not None:
                self.check_arguments(lazy, inputs)
                self.check_amounts(lazy)
            newest = Lazy("", [], lazy.step).number
            result = lazy.step(self, inputs, causes)
            if lazy.call is not None:
                result = _continued(result)
        except Exception as error:
            return self.fail(error)
        if not isinstance(result, Lazy):
            return result
        return self.value(result, causes, self.gone_on(lazy, result, newest))  # R4

    def gone_on(self, lazy: Lazy, result: Lazy, newest: int) -> Rounds:
        """Count that a node continues as ``result``; the rounds that this begins with (M20)."""
        self.count(lazy)
        rounds = self.rounds_of[lazy]
        if result in self.rounds_of:
            self.rounds[1] = max(self.rounds[1], rounds.most + self.rounds_of[result].peak)
        if result.number > newest and result.cache is None:
            return rounds
        return Rounds(0, rounds.most, rounds.most)

    def count(self, lazy: Lazy) -> None:
        """Count a step of the run, and a round of a node."""
        rounds, surely = self.rounds_of[lazy], not (self.again or self.unread)
        rounds.least += surely
        rounds.most += 1
        rounds.peak = max(rounds.peak, rounds.most)
        self.count_step()
        self.rounds = [max(self.rounds[0], rounds.least), max(self.rounds[1], rounds.most)]

    def count_step(self, most: int = 1) -> None:
        surely = not (self.again or self.unread)
        self.steps = [self.steps[0] + surely, self.steps[1] + most]

    def check_arguments(self, lazy: Lazy, inputs: list[Any]) -> None:
        """M23: every attempt of a call can use its arguments."""
        given = zip(lazy.inputs, inputs, strict=True)
        examined = [value for argument, value in given if not isinstance(argument, Literal)]
        self.check_repeatable(lazy, map(_is_spent, examined))

    def check_repeatable(self, lazy: Lazy, spent: Iterable[bool]) -> None:
        if lazy.attempts > 1 and any(spent):
            raise ArgumentError("an iterator")

    def check_amounts(self, lazy: Lazy) -> None:
        """Whether each attempt can have the capacities that it takes; the wait does not matter."""
        lazies = {n: v for n, v in lazy.amounts.items() if isinstance(v, Lazy)}
        known = {n: self.memo[v] for n, v in lazies.items()}
        for amount in known.values():
            if type(amount) not in (int, float) or not 0 <= amount < float("inf"):
                raise ArgumentError("no amount")
        for name, amount in known.items():
            if amount > self.capacities[name]:
                raise CapacityError("more than there is", name)

    def cached(self, lazy: Lazy, inputs: list[Any], causes: Causes) -> Any:
        """The value that an equal call had in this run, or that of this call (R10)."""
        assert lazy.cache is not None
        task, args, kwargs = lazy.call
        named = dict(zip(kwargs, inputs[len(args) :], strict=True))
        arguments = _fit(task.signature.bind, inputs[: len(args)], named)
        key = task, _frozen(self.complete(task, arguments))
        if lazy.cache.get(key) is _UNDER_WAY:
            return self.fail(CycleError(lazy.name, [lazy.name]))
        self.had_equal_calls |= key in lazy.cache or key in self.missed
        if key not in lazy.cache:
            lazy.cache[key] = _UNDER_WAY
            self.again += key in self.missed
            # With its inputs before its effects; any of several equal calls may be the one.
            made_of: Causes = set()
            outcome = self.final(lazy, inputs, made_of)
            self.again -= key in self.missed
            lazy.cache[key] = outcome, made_of
            if isinstance(outcome, (Skipped, Failed)):
                self.missed.append(key)
                causes |= lazy.cache.pop(key)[1]
                return outcome
        outcome, made_of = lazy.cache[key]
        causes |= made_of
        self.needed(outcome, made_of)
        return outcome

    def folded(self, function: Any, so_far: Any, value: Any, causes: Causes) -> Any:
        """The value of a fold by a function that is no task."""
        began = len(self.log)
        try:
            found = function(so_far, value)
            if isinstance(found, (Lazy, TailCall)):
                raise ArgumentError("only a task can return that")
        except StopIteration:
            return self.fail(TaskStopIterationError("a fold"))
        except Exception as error:
            return self.fail(error)
        finally:
            self.note(began, causes)
        return found

    def fail(self, error: Exception) -> Failed:
        fault = Fault(error, optional=bool(self.again), unread=bool(self.unread))
        return self.counted(Failed((fault,)))

    def counted(self, outcome: Any) -> Any:
        """``outcome``; its error is the run's, unless it is on its way to a catch."""
        if isinstance(outcome, Failed):
            for fault in outcome.faults:
                is_caught = any(_is_one_of(fault.error, kinds) for kinds in self.catching)
                if not (fault.counts or is_caught):
                    fault.counts = True
                    self.errors.append(fault.error)
                    self.faults.append(fault)
        return outcome

    def resolve(
        self,
        value: Any,
        causes: Causes,
        lacks: list[Any],
        unbuilt: list[TypeError] | None = None,
    ) -> Any:
        """``value`` with values in place of lazies (R2).

        Args:
            value: The argument.
            causes: Gets the effects before it.
            lacks: Gets the nodes without a value, and the failure of a container that Python
                refuses to build.
            unbuilt: Gets the error of such a container instead.
        """
        found = [self.value(lazy, causes) for lazy in _lazies(value)]
        missing = [v for v in found if isinstance(v, (Failed, Skipped))]
        lacks += missing
        if sum(isinstance(v, Failed) for v in missing) > 1 and _holds_set(value):
            self.is_open = True
        try:
            return None if missing else self.rebuilt(value)
        except TypeError as error:  # a value that cannot be in a set
            self.has_unhashable_members |= _holds_set(value)
            if unbuilt is None:
                lacks.append(self.fail(error))
            else:
                unbuilt.append(error)
            return None

    def rebuilt(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, Lazy):
            return self.memo[value]
        if kind is Literal:
            return value.value
        if kind in (dict, OrderedDict):
            return kind((self.rebuilt(k), self.rebuilt(v)) for k, v in value.items())
        if kind is defaultdict:
            pairs = {self.rebuilt(k): self.rebuilt(v) for k, v in value.items()}
            return defaultdict(value.default_factory, pairs)
        if kind is deque:
            return deque(map(self.rebuilt, value), value.maxlen)
        if kind in _SEQUENCES:
            return kind(map(self.rebuilt, value))
        if is_dataclass(value) and not isinstance(value, _OPAQUE):
            found = {f.name: self.rebuilt(getattr(value, f.name)) for f in fields(value)}
            return dataclasses.replace(value, **found)
        return kind._make(map(self.rebuilt, value)) if hasattr(kind, "_make") else value

    def loop(self, lazy: Lazy, args: Any, kwargs: Any, causes: Causes) -> Any:
        """Call a task until it gives something else than a TailCall (R5, M1, M2, M3)."""
        task = lazy.call[0]
        named = self.complete(task, _fit(task.signature.bind, args, kwargs))
        entered: Any = task
        while isinstance(result := self.tried(lazy, task, named, causes), TailCall):
            lacks: list[Any] = []
            bound = inspect.BoundArguments(task.signature, named)
            last = [*bound.args, *bound.kwargs.values()]
            self.check_step(lazy, result, last)
            args = [self.resolve_new(v, last, causes, lacks) for v in result.args]
            given = dict(result.kwargs or {})
            given = {n: self.resolve_new(v, last, causes, lacks) for n, v in given.items()}
            if lacks:
                return _worst(lacks)
            self.check_computed(lazy, result, [*args, *given.values()])
            self.count(lazy)
            following, again = result.target or task, result.target in (None, task)
            if (name := result.target_blueprint_id) is not None:
                if name not in self.blueprints:
                    raise UnknownBlueprintError(name)
                template = self.blueprints[name]
                following, again = template.call[0], template is entered
                entered = template
            elif not again:
                entered = following
            fresh = _fit(following.signature.bind_partial, args, given)
            if again and task.more is not None and task.more in fresh:
                fresh[task.more] = named.get(task.more, {}) | fresh[task.more]
            if name is not None and not again:
                fresh |= self.prologue(template, fresh, causes, lacks)
                if lacks:
                    return _worst(lacks)
            elif not again:  # M1: lazy defaults are arguments
                left = {n: d for n, d in following.late.items() if n not in fresh}
                fresh |= {n: self.resolve(d, causes, lacks) for n, d in left.items()}
                if lacks:
                    return _worst(lacks)
            task, named = following, (named | fresh if again else self.complete(following, fresh))
        return result

    def check_step(self, lazy: Lazy, tail: TailCall, last: Iterable[Any]) -> None:
        """The same for the arguments of a tail call, but those that the last step had."""
        values = [*tail.args, *(tail.kwargs or {}).values()]
        fresh = [v for v in values if not any(v is one for one in last)]
        examined = [v for v in fresh if not isinstance(v, (Lazy, Literal))]
        self.check_repeatable(lazy, map(_holds_iterators, examined))

    def check_computed(self, lazy: Lazy, tail: TailCall, values: Iterable[Any]) -> None:
        """The same for its lazy arguments, when they have values."""
        arguments = [*tail.args, *(tail.kwargs or {}).values()]
        pairs = zip(arguments, values, strict=True)
        examined = [v for a, v in pairs if v is not a and not isinstance(a, Literal)]
        self.check_repeatable(lazy, map(_is_spent, examined))

    def resolve_new(self, value: Any, last: Iterable[Any], causes: Causes, lacks: list[Any]) -> Any:
        """M2: the objects that the last step had are not searched again."""
        known = any(value is one for one in last) and not isinstance(value, (Lazy, Literal))
        return value if known else self.resolve(value, causes, lacks)

    def prologue(
        self, template: Lazy, given: Mapping[str, Any], causes: Causes, lacks: list[Any]
    ) -> dict[str, Any]:
        """The inputs of a compiled call besides the given ones (M3): values of its lazy arguments,
        and the defaults of those left out. Its plain arguments must be given."""
        task, args, kwargs = template.call
        called = _fit(task.signature.bind, args, kwargs)
        for name, value in called.items():
            if not isinstance(value, Lazy) and name not in given and name in task.required:
                raise ArgumentError(f"{template.name} misses {name}")
        lazies = {n: v for n, v in called.items() if isinstance(v, Lazy) and n not in given}
        return {name: self.resolve(value, causes, lacks) for name, value in lazies.items()}

    def complete(self, task: Task, named: Mapping[str, Any]) -> dict[str, Any]:
        complete = {**task.defaults, **named}
        if missing := task.required - complete.keys():
            raise ArgumentError(f"{task.name} misses {missing}")
        return complete

    def tried(self, lazy: Lazy, task: Task, named: dict[str, Any], causes: Causes) -> Any:
        """Call ``task``, again if that fails (R10)."""
        for attempt in range(1, lazy.attempts):
            try:
                return self.call(task, named, causes)
            except Exception as error:
                if lazy.delay is not None and not _is_delay(lazy.delay(error, attempt)):
                    raise
            self.rounds_of[lazy].least = self.rounds_of[lazy].most = 0  # M20
        return self.call(task, named, causes)

    def call(self, task: Task, named: dict[str, Any], causes: Causes) -> Any:
        own: dict[Resource, tuple[Any, Any]] = {}
        began = len(self.log)
        try:
            given = {n: self.open(v, own) if type(v) is Inject else v for n, v in named.items()}
            bound = inspect.BoundArguments(task.signature, given)
            context = contextvars.copy_context()  # tasks do not see each other's variables (M12)
            result = context.run(task.func, *bound.args, **bound.kwargs)
            return context.run(drive, result) if inspect.iscoroutine(result) else result
        except asyncio.CancelledError as error:  # M13: a run of this evaluator is never cancelled
            raise TaskCancelledError(task.name) from error
        except StopIteration as error:  # M13
            raise TaskStopIterationError(task.func.__qualname__) from error
        except RuntimeError as error:  # the form that Python gives to one that leaves a coroutine
            if isinstance(error.__cause__, StopIteration):
                raise TaskStopIterationError(task.func.__qualname__) from error
            raise
        finally:
            self.note(began, causes)
            self.close(own)

    def note(self, began: int, causes: Causes) -> None:
        """Note the causes of the effects since ``began``, which are causes then."""
        self.needs += [set(causes) for _ in self.log[began:]]
        made = set(range(began, len(self.log)))
        causes |= made
        if self.again:
            self.equal |= made
        if self.unread:
            self.unread_effects |= made

    def open(self, wanted: Inject, own: dict[Resource, tuple[Any, Any]]) -> Any:
        source = wanted.source
        found = source if isinstance(source, Resource) else self.resources.get(str(source))
        if found is None:
            raise ResourceNotFoundError(str(source))
        place = own if found.scope == "task" else self.opened
        if found not in place:
            parameters = inspect.signature(found.func).parameters.values()
            needs = {p.name: self.open(p.default, own) for p in parameters}
            provider = found.func(**needs)
            place[found] = provider, advance(provider)
        return place[found][1]

    def close(self, place: dict[Resource, tuple[Any, Any]]) -> None:
        for provider, _ in reversed(place.values()):
            try:
                advance(provider)
            except Exception as error:
                self.fail(error)


def _is_delay(seconds: Any) -> bool:
    """Whether another attempt follows; None says that none does (R10)."""
    if seconds is None:
        return False
    if type(seconds) not in (int, float) or not 0 <= seconds < float("inf"):
        raise ArgumentError("no delay")
    return True


def _frozen(value: Any) -> Any:
    """The key by which equal arguments are equal: types and values, dicts and sets in any order."""
    kind = type(value)
    if kind is Lazy:
        return value
    if kind is Inject:
        source = value.source
        return kind, source.name if isinstance(source, Resource) else source
    if kind is Literal:
        return kind, _frozen(value.value)
    if isinstance(value, dict):
        return kind, frozenset((_frozen(k), _frozen(v)) for k, v in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(_frozen, value))
    if isinstance(value, (list, tuple, deque)):
        return kind, tuple(map(_frozen, value))
    if is_dataclass(value) and not isinstance(value, type):
        return kind, tuple(_frozen(getattr(value, f.name)) for f in fields(value))
    return kind, value


def advance(provider: Any) -> Any:
    if inspect.isgenerator(provider):
        return next(provider, None)
    return drive(anext(provider, None))


def drive(awaitable: Coroutine[Any, Any, Any] | Any) -> Any:
    """The result of a coroutine that only ever gives way."""
    steps = awaitable.__await__()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@task
def sleep(seconds: float, then: Any = None) -> Any:
    return then  # how long it takes makes no difference
