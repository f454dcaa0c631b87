"""The naive evaluator: what a program means (rules R1–R9), by plain recursion and nothing else.

It has the facade's names, so that a program written as ``def program(cs): …`` can be built with
this module in the place of ``cascade``; the two share no code but the classes of errors. One
thread, one node after the other, depth first.

After a failure it goes on with whatever does not depend on it, so that a run ends with *all* the
errors that could have been the first, and for each effect with those that have to come before it:
together what ruling M13 allows an engine to do.
"""

import inspect
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.spec.errors import (
    ArgumentError,
    CycleError,
    DependencyMissingError,
    ParameterError,
    ResourceNotFoundError,
    RouteError,
    TaskStopIterationError,
    UnknownBlueprintError,
)

_FAILED, _UNDER_WAY, _REQUIRED = object(), object(), object()

#: Indices into the log of effects: those that come before something.
Causes = set[int]


# -- the facade: programs as data -------------------------------------------------------------


@dataclass(frozen=True)
class Literal:
    value: Any


@dataclass(eq=False)
class Lazy:
    """A node: what is resolved first, and the step from there to its value."""

    name: str
    inputs: list[Any]
    step: Callable[["Naive", Any, Causes], Any]
    call: Any = None
    conditions: list["Lazy"] = field(default_factory=list)
    predecessors: list["Lazy"] = field(default_factory=list)

    def run_if(self, condition: "Lazy") -> "Lazy":
        self.conditions.append(condition)
        return self

    def after(self, *lazies: "Lazy") -> "Lazy":
        self.predecessors.extend(lazies)
        return self

    def __repr__(self) -> str:
        return f"<lazy {self.name}>"


@dataclass
class TailCall:
    args: Iterable[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    target_blueprint_id: str | None = None
    target: "Task | None" = None


class Task:
    def __init__(self, func: Callable[..., Any], name: str) -> None:
        self.func, self.name, self.signature = func, name, inspect.signature(func)
        parameters = self.signature.parameters.values()
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.more = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        collecting = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        self.required = {p.name for p in parameters if p.kind not in collecting}

    def __call__(self, *args: Any, **kwargs: Any) -> Lazy:
        _fit(self.signature.bind, args, kwargs)
        place = len(args)

        def step(run: Naive, given: list[Any], causes: Causes) -> Any:
            named = dict(zip(kwargs, given[place:], strict=True))
            return run.loop(self, given[:place], named, causes)

        return Lazy(self.name, [*args, *kwargs.values()], step, (self, args, kwargs))

    def tail(self, *args: Any, **kwargs: Any) -> TailCall:
        _fit(self.signature.bind_partial, args, kwargs)
        return TailCall(args, kwargs, target=self)

    def map(self, **columns: Any) -> Lazy:  # R8, M17
        shared = {n: v for n, v in columns.items() if isinstance(v, (Literal, Inject))}
        lists = {n: _column(v) for n, v in columns.items() if n not in shared}
        if not lists:
            raise ArgumentError("nothing to go over")
        _fit(self.signature.bind, (), columns)
        _equally_long([v for v in lists.values() if not isinstance(v, Lazy)])

        def expand(_run: Naive, given: list[Any], _causes: Causes) -> Lazy:
            known = _equally_long([_column(v) for v in given])
            rows = [dict(zip(lists, row, strict=True)) for row in zip(*known, strict=True)]
            return gather(*[self(**row, **shared) for row in rows])

        return Lazy(f"{self.name}.map", list(lists.values()), expand)


def task(func: Any = None, /, *, name: str | None = None) -> Any:
    return Task(func, name or func.__name__) if func else lambda f: Task(f, name or f.__name__)


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


literal, inject = Literal, Inject
eq = Task(lambda a, b: a == b, "eq")


def gather(*values: Any) -> Lazy:
    return _whole(list(values))


def Router(*, selector: Any, routes: Mapping[Any, Any]) -> Lazy:  # R7
    whole = {k: v if isinstance(v, Lazy) else _whole(v) for k, v in routes.items()}

    def choose(_run: Naive, key: list[Any], _causes: Causes) -> Lazy:
        try:
            return whole[key[0]]
        except (KeyError, TypeError):
            raise RouteError(repr(key)) from None

    return Lazy("router", [selector], choose)


def Param(name: str, default: Any = _REQUIRED, type: Any = str) -> Lazy:
    def read(run: Naive, _given: Any, _causes: Causes) -> Any:
        value = run.params.get(name, default)
        if value is _REQUIRED:
            raise ParameterError(name, name)
        return type(value) if name in run.params else value

    return Lazy(f"param {name}", [], read)


def Env(name: str, default: Any = _REQUIRED) -> Lazy:
    def read(_run: Naive, _given: Any, _causes: Causes) -> Any:
        if (value := os.environ.get(name, default)) is _REQUIRED:
            raise ParameterError(name, name)
        return value

    return Lazy(f"env {name}", [], read)


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
    return list(value)


def _equally_long(lists: list[list[Any]]) -> list[list[Any]]:
    if len({len(known) for known in lists}) > 1:
        raise ArgumentError("unequal lengths")
    return lists


def _lazies(value: Any) -> Iterator[Lazy]:
    """The lazy values in a value, in order (R2, M15)."""
    if isinstance(value, Lazy):
        yield value
    elif type(value) in (list, tuple, set, dict) or hasattr(type(value), "_make"):
        items = [part for item in value.items() for part in item] if type(value) is dict else value
        for item in items:
            yield from _lazies(item)


# -- the evaluator ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Skipped:
    condition: str


class Naive:
    """One run.

    Args:
        log: The list that tasks append their effects to.
        params: What ``Param`` reads.
        blueprints: Id → lazy value that it was compiled from.
        resources: Registered ones, for ``inject("name")``.
    """

    def __init__(
        self,
        log: list[Any],
        params: Mapping[str, Any] | None = None,
        blueprints: Mapping[str, Lazy] | None = None,
        resources: Iterable[Resource] = (),
    ) -> None:
        self.log, self.params, self.blueprints = log, params or {}, blueprints or {}
        self.resources = {resource.name: resource for resource in resources}
        self.opened: dict[Resource, tuple[Any, Any]] = {}
        self.memo: dict[Lazy, Any] = {}
        #: All the errors that could be the first (M13).
        self.errors: list[Exception] = []
        #: How many nodes were skipped for a condition of their own.
        self.skips = 0
        #: For each effect the effects that come before it, and for each node those it is made of.
        self.needs: list[Causes] = []
        self.made_of: dict[Lazy, Causes] = {}

    def run(self, target: Any) -> Any:
        """The value of ``target``; it has one unless there are ``errors``."""
        if isinstance(target, Literal):
            return target.value  # R1: a plain value is itself
        found = self.value(target if isinstance(target, Lazy) else _whole(target), set())
        self.close(self.opened)  # R9
        if not self.errors and isinstance(found, Skipped):  # R6
            self.errors.append(DependencyMissingError("skipped", found.condition))
        return found

    def value(self, lazy: Lazy, causes: Causes) -> Any:
        """The outcome of a node, computed once (R3, M14): a value, a Skipped, or _FAILED."""
        if lazy not in self.memo:
            self.memo[lazy], self.made_of[lazy] = _UNDER_WAY, set()
            self.memo[lazy] = self.compute(lazy, self.made_of[lazy])
        elif self.memo[lazy] is _UNDER_WAY:
            return self.fail(CycleError(lazy.name, [lazy.name]))
        causes |= self.made_of[lazy]
        return self.memo[lazy]

    def compute(self, lazy: Lazy, causes: Causes) -> Any:
        lacks: list[Any] = []
        inputs = [self.resolve(v, causes, lacks) for v in lazy.inputs]  # also if skipped (M16)
        asked = [self.value(condition, causes) for condition in lazy.conditions]
        ended = [self.value(predecessor, causes) for predecessor in lazy.predecessors]
        if any(outcome is _FAILED for outcome in (*lacks, *asked, *ended)):
            return _FAILED
        if lacks:
            return lacks[0]
        for condition, outcome in zip(lazy.conditions, asked, strict=True):  # R6
            if isinstance(outcome, Skipped):
                return outcome
            if not outcome:
                self.skips += 1
                return Skipped(condition.name)
        try:
            result = lazy.step(self, inputs, causes)
        except Exception as error:
            return self.fail(error)
        return self.value(result, causes) if isinstance(result, Lazy) else result  # R4

    def fail(self, error: Exception) -> Any:
        self.errors.append(error)
        return _FAILED

    def resolve(self, value: Any, causes: Causes, lacks: list[Any]) -> Any:
        """``value`` with values in the place of lazies (R2); ``lacks`` gets what has none."""
        found = [self.value(lazy, causes) for lazy in _lazies(value)]
        missing = [v for v in found if v is _FAILED or isinstance(v, Skipped)]
        lacks += missing
        try:
            return None if missing else self.rebuilt(value)
        except TypeError as error:  # a value that cannot be in a set
            lacks.append(self.fail(error))

    def rebuilt(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, Lazy):
            return self.memo[value]
        if kind is Literal:
            return value.value
        if kind is dict:
            return {self.rebuilt(k): self.rebuilt(v) for k, v in value.items()}
        if kind in (list, tuple, set):
            return kind(map(self.rebuilt, value))
        return kind._make(map(self.rebuilt, value)) if hasattr(kind, "_make") else value

    def loop(self, task: Task, args: Any, kwargs: Any, causes: Causes) -> Any:
        """Call ``task`` until it gives something else than a TailCall (R5, M1, M2, M3)."""
        named = self.complete(task, _fit(task.signature.bind, args, kwargs))
        entered: Any = task
        while isinstance(result := self.call(task, named, causes), TailCall):
            lacks: list[Any] = []
            args = [self.resolve_top(v, causes, lacks) for v in result.args]
            given = dict(result.kwargs or {})
            given = {n: self.resolve_top(v, causes, lacks) for n, v in given.items()}
            if lacks:
                return next((found for found in lacks if found is _FAILED), lacks[0])
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
                    return lacks[0]
            task, named = following, (named | fresh if again else self.complete(following, fresh))
        return result

    def resolve_top(self, value: Any, causes: Causes, lacks: list[Any]) -> Any:
        mark = isinstance(value, (Lazy, Literal))
        return self.resolve(value, causes, lacks) if mark else value  # M2: not in containers

    def prologue(
        self, template: Lazy, given: Mapping[str, Any], causes: Causes, lacks: list[Any]
    ) -> dict[str, Any]:
        """What a compiled call is entered with besides what is given (M3): what was lazy in it,
        and the defaults of what it left out; what was plain in it is to be given."""
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

    def call(self, task: Task, named: dict[str, Any], causes: Causes) -> Any:
        own: dict[Resource, tuple[Any, Any]] = {}
        began = len(self.log)
        try:
            given = {n: self.open(v, own) if type(v) is Inject else v for n, v in named.items()}
            bound = inspect.BoundArguments(task.signature, given)
            result = task.func(*bound.args, **bound.kwargs)
            return drive(result) if inspect.iscoroutine(result) else result
        except StopIteration as error:  # M13
            raise TaskStopIterationError(task.func.__qualname__) from error
        except RuntimeError as error:  # what Python makes of one that leaves a coroutine
            if isinstance(error.__cause__, StopIteration):
                raise TaskStopIterationError(task.func.__qualname__) from error
            raise
        finally:
            self.needs += [set(causes) for _ in self.log[began:]]
            causes |= set(range(began, len(self.log)))
            self.close(own)

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
