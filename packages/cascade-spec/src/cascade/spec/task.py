"""``@task``: functions whose calls build a lazy graph instead of running."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import CodeType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from cascade.spec.blueprint import TailCall
from cascade.spec.containers import settle
from cascade.spec.errors import DefinitionError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, Operation
from cascade.spec.mapping import mapped
from cascade.spec.parameters import Parameters

P = ParamSpec("P")
R = TypeVar("R")

#: How many shapes of call a task remembers as checked; a bound, because ``*args`` has no end.
_SHAPES_KEPT = 64


class Task(Operation, Generic[P, R]):
    """A function that can be a node of a graph.

    Attributes:
        func: The function as written; call it directly to run it here and now.
        name: What events, errors and drawings call it.
        is_async: It is a coroutine function.
        parameters: Its analysed signature.
        derived: Room for what other layers work out from the task once, such as its blueprint;
            kept here so that it lives as long as the task and no longer.
    """

    structural = False

    def __init__(self, func: Callable[..., Any], name: str | None = None) -> None:
        _refuse_unfit(func)
        super().__init__(func, name or _name_of(func), inspect.iscoroutinefunction(_called(func)))
        # Not the function's own attributes: one called "map" would hide the method.
        functools.update_wrapper(self, func, updated=())
        self.__qualname__ = getattr(func, "__qualname__", self.name)  # a partial has none
        self.parameters = Parameters(func, self.name)
        self.derived: dict[str, Any] = {}
        # Shape of a call that fits → the parameters to inject in it, as most calls of a task have
        # the same few shapes and binding one takes some microseconds.
        self._shapes: dict[Any, dict[str, Any]] = {}

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> LazyResult[R]: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> LazyResult[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> LazyResult[R]:
        """Make a node that will call the function; nothing runs yet.

        Any argument may be lazy, also inside lists, tuples, dicts and sets (rule R2).

        Raises:
            ArgumentError: The arguments do not fit the signature (a TypeError).

        Cost: about a microsecond.
        """
        frame = sys._getframe(1)
        return self.make(args, kwargs, frame.f_code, frame.f_lasti)

    def make(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
    ) -> LazyResult[R]:
        """``self(*args, **kwargs)`` as if written at the line that ``code``, ``lasti`` name."""
        injected = self._shapes.get((len(args), *kwargs) if kwargs else len(args))
        if injected is None:
            injected = self._check(args, kwargs)
        if injected:
            kwargs = {**kwargs, **injected}
        args, kwargs, dependencies, special = settle(args, kwargs, code, lasti)
        return LazyResult(self, args, kwargs, dependencies, special, code, lasti)

    def tail(self, *args: Any, **kwargs: Any) -> R:
        """Return this from a task to continue as this task, with no stack (rule R5).

        In the task's own body it is ``TailCall`` to itself: arguments left out keep their last
        value. From another task it is a switch: arguments left out take their defaults.

        Typed as the task's result, so that ``return f.tail(…)`` fits the annotation.

        Raises:
            ArgumentError: An argument that the signature does not take.
        """
        self.parameters.check_partial(args, kwargs)
        return TailCall(args, kwargs, None, self)  # type: ignore[return-value]

    def map(self, **iterables: Any) -> MappedLazyResult[R]:
        """Call the task once per item, over iterables side by side, as one lazy list (R8).

        Args:
            iterables: For each parameter an iterable, or a lazy value that will be one, all of
                the same length; ``cs.literal(x)`` is the same for every item. Strings are
                refused (M17).

        Raises:
            ArgumentError: An unknown parameter, a missing one, something that is not iterable,
                or unequal lengths; for lazy iterables the last two when the run knows them.
        """
        return mapped(self, iterables)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __reduce__(self) -> str:
        # Pickled by reference, as functions are: the module must be importable over there.
        return self.__qualname__

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        named = self.parameters.bind(args, kwargs)
        injected = {n: i for n, i in self.parameters.injections.items() if n not in named}
        if len(self._shapes) < _SHAPES_KEPT:
            self._shapes[(len(args), *kwargs) if kwargs else len(args)] = injected
        return injected


@overload
def task(func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(*, name: str | None = None) -> Decorator: ...
def task(func: Any = None, /, *, name: str | None = None) -> Any:
    """Make a function a Task; used as ``@task`` or ``@task(name="…")``.

    >>> @task
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> add(1, 2).name
    'add'
    >>> add.func(1, 2)
    3

    Args:
        func: A function, coroutine function, lambda or other callable; no generator function.
        name: Defaults to the function's own name.

    Raises:
        DefinitionError: ``func`` cannot be a task (a TypeError).
    """
    if func is None:
        return lambda function: Task(function, name)
    return Task(func, name)


class Decorator:
    """The type of ``task(name="…")``: a decorator that keeps the signature."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, func: Any, /) -> Any:
        return Task(func)


def _refuse_unfit(func: Any) -> None:
    if isinstance(func, Operation):
        raise DefinitionError(f"{func!r} is a task already; decorate a function once")
    if not callable(func):
        raise DefinitionError(f"@task takes a function, but got {func!r}")
    called = _called(func)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise DefinitionError(
            f"'{_name_of(func)}' is a generator function, and a task gives one value; return a "
            "list, or make one task per item with .map(), or declare a provider with @resource"
        )


def _called(func: Any) -> Any:
    """The function whose kind decides: of a partial its target, of an instance its ``__call__``."""
    while isinstance(func, functools.partial):
        func = func.func
    if inspect.isroutine(func) or inspect.isclass(func):
        return func
    return func.__call__


def _name_of(func: Any) -> str:
    while isinstance(func, functools.partial):
        func = func.func
    return getattr(func, "__name__", None) or type(func).__name__
