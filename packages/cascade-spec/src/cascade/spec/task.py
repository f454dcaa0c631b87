"""``@task``: makes a function a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeAlias, TypeVar, overload

from cascade.spec.blueprint import TailCall
from cascade.spec.callables import own_name
from cascade.spec.declaration_checks import unknown_option
from cascade.spec.declared_policies import CacheOption, RetryOption, declared_by
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task_class import Mode as Mode
from cascade.spec.task_class import Task as Task

P = ParamSpec("P")
R = TypeVar("R")

#: The results of a function whose task has the value R.
Returned: TypeAlias = R | LazyResult[R] | TailCall


@overload  # own overloads for lazy values only: from these no checker infers R by the union
def task(func: Callable[P, Coroutine[Any, Any, LazyResult[R]]], /) -> Task[P, R]: ...
@overload
def task(func: Callable[P, Coroutine[Any, Any, Returned[R]]], /) -> Task[P, R]: ...
@overload
def task(func: Callable[P, LazyResult[R]], /) -> Task[P, R]: ...
@overload
def task(func: Callable[P, Returned[R]], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    mode: Mode = "auto",
    nout: int | None = None,
    may_block: bool | float = False,
    retry: RetryOption = None,
    timeout: float | None = None,
    cache: CacheOption = None,
    capacities: Mapping[str, float] | None = None,
    priority: int = 0,
    version: str | None = None,
    pure: bool = False,
) -> Decorator: ...
def task(
    func: Any = None,
    /,
    *,
    name: str | None = None,
    mode: Mode = "auto",
    nout: int | None = None,
    may_block: bool | float = False,
    retry: RetryOption = None,
    timeout: float | None = None,
    cache: CacheOption = None,
    capacities: Mapping[str, float] | None = None,
    priority: int = 0,
    version: str | None = None,
    pure: bool = False,
    **unknown: Any,
) -> Any:
    """Make a function a Task; used as ``@task`` or ``@task(name="…")``.

    >>> @task
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> add(1, 2).name
    'add'
    >>> add.func(1, 2)
    3

    Args:
        func: A function, coroutine function, lambda or other callable; not a generator function.
            In a class it is a method, whose object is an argument as any other:
            ``obj.work(x)``, ``obj.work.map(…)``, ``obj.work.tail(x)``. ``@task`` stands above
            ``@classmethod`` and ``@staticmethod``.
        name: Defaults to the function's own name.
        mode: The thread of a plain function. ``"auto"``: on the graph path a worker thread, which
            it shares with others as long as it does not block; on the VM path the event loop's
            thread until a call has taken long, then a worker. ``"blocking"``: a worker thread on
            both paths, at once if one of the engine's ``threads`` is free. ``"inline"``: the event
            loop's thread, on both paths. ``"process"``: another process, on all cores; see
            docs/distribution.md.
        nout: The function returns this many values, so that ``a, b = f(x)`` can give a lazy value
            for each. A run in which it returns another number fails with an UnpackError.
        may_block: Let a coroutine function block the event loop without a warning; a number sets
            the seconds after which to warn.
        retry: Default for each call: the number of attempts in all, or a ``cs.Retry``.
        timeout: Default for each call: seconds that an attempt may take.
        cache: Default for each call: a backend or a policy, see ``with_cache``.
        capacities: Default for each call: capacity → amount that an attempt takes.
        priority: Default for each call: a higher one gets threads and capacities first (M24).
        version: Names the contract of the arguments in durable runs. Change it together with the
            parameters or their meaning, and write ``migrate`` for stored calls (D9).
        pure: The value depends only on the arguments and the code, and making it has no effect.
            An engine with a cache, ``cs.Engine(cache="sqlite:///cache.db")``, then makes each call
            once (see ``cs.ByCode``). ``cache`` overrides it. An engine without one makes each call.
        unknown: Refused, with the name that was probably meant.

    The methods of a call override the defaults, also to switch them off: ``with_retry(1)``,
    ``with_timeout(None)``, ``with_cache(None)``, ``with_capacity(gpu=0)``, ``with_priority(0)``. On
    a map they apply to each item. A tail call keeps the policies of its node (R10).

    Raises:
        DefinitionError: ``func`` cannot be a task, an option does not fit, or its code drops a tail
            call: a ``return`` is missing (a TypeError). Where the tail call's name has no value
            yet, the first call of the task raises it.
    """

    if unknown:
        raise unknown_option(next(iter(unknown)), [*inspect.signature(task).parameters][1:-1])

    def make(function: Any) -> Any:
        declarer = name or own_name(function)
        policies = declared_by(declarer, retry, timeout, cache, capacities, priority, pure)
        return Task(
            function,
            name,
            mode=mode,
            nout=nout,
            may_block=may_block,
            policies=policies,
            version=version,
        )

    return make if func is None else make(func)


class Decorator:
    """The type of ``task(name="…")``: a decorator that keeps the signature."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, LazyResult[R]]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, Returned[R]]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, LazyResult[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, Returned[R]], /) -> Task[P, R]: ...
    def __call__(self, func: Any, /) -> Any:
        return Task(func)
