"""Resources: objects that tasks receive, opened before and closed after.

A provider is a generator (or async generator) function that yields its resource once; the code
after the ``yield`` closes it. A task asks for one with ``inject`` as a parameter's default::

    @resource(scope="run")
    def database():
        connection = connect()
        yield connection
        connection.close()

    @task
    def count(table: str, db=inject(database)): ...

or in its annotation: ``db: Annotated[Connection, inject(database)]``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from cascade.spec.callsite import CallSite
from cascade.spec.checks import is_number
from cascade.spec.errors import DefinitionError
from cascade.spec.injection import Inject as Inject
from cascade.spec.injection import with_injections
from cascade.spec.lazy_value import LazyValue
from cascade.spec.wording import short

T = TypeVar("T")
Scope: TypeAlias = Literal["engine", "run", "task"]
Provider: TypeAlias = Callable[..., Iterator[T]] | Callable[..., AsyncIterator[T]]

#: From the longest life to the shortest.
_SCOPES = ("engine", "run", "task")


class ResourceDefinition(Generic[T]):
    """A provider with its name and scope, as ``@resource`` makes it.

    Attributes:
        func: The provider as written.
        name: Its name in ``inject("…")`` and ``engine.override_resource_provider``.
        scope: ``"engine"``: one instance per engine, opened at first use. ``"run"``: one per run.
            ``"task"``: one per attempt.
        thread_bound: It is opened, used and closed on one thread (M7).
        teardown_timeout: Seconds that closing may take; None for the engine's default.
        is_async: The provider is an async generator function.
        needs: Parameter → resource that the provider itself is given there.
    """

    __slots__ = (
        "func",
        "is_async",
        "name",
        "needs",
        "scope",
        "teardown_timeout",
        "thread_bound",
    )

    def __init__(
        self,
        func: Provider[T],
        name: str | None = None,
        scope: Scope = "run",
        thread_bound: bool = False,
        teardown_timeout: float | None = None,
    ) -> None:
        described = str(getattr(func, "__qualname__", short(func)))
        self.is_async = inspect.isasyncgenfunction(func)
        if not self.is_async and not inspect.isgeneratorfunction(func):
            raise DefinitionError(
                f"@resource takes a generator function that yields the resource once, but "
                f"'{described}' does not yield\n"
                "    wrong:  def database(): return connect()\n"
                "    right:  def database(): db = connect(); yield db; db.close()"
            )
        self.needs = _needs_of(func, described)
        if scope not in _SCOPES:
            raise DefinitionError(
                f"resource '{described}': scope must be 'engine', 'run' or 'task', but is "
                f"{short(scope)}"
            )
        if scope == "engine" and thread_bound:
            raise DefinitionError(
                f"resource '{described}': thread_bound=True is for the scopes 'run' and 'task'; "
                "all runs of an engine would have to take turns on one thread"
            )
        if thread_bound and self.is_async:
            raise DefinitionError(
                f"resource '{described}': thread_bound=True is for plain generators; an async "
                "generator always lives on the event loop's thread"
            )
        if teardown_timeout is not None and not (
            is_number(teardown_timeout, 0) and teardown_timeout
        ):
            raise DefinitionError(
                f"resource '{described}': teardown_timeout must be seconds > 0, or None, "
                f"but is {short(teardown_timeout)}"
            )
        self.func = func
        self.teardown_timeout = teardown_timeout
        self.name = name or str(getattr(func, "__name__", described))
        self.scope: Scope = scope
        self.thread_bound = thread_bound
        for wanted in self.needs.values() if scope == "engine" else ():
            fault = wanted.definition and outlived(self, wanted.definition)
            if fault:
                raise DefinitionError(fault)

    @property
    def place(self) -> str:
        """The provider's place in the source, ``file.py:12``; its name if that is unknown."""
        func = self.func
        while isinstance(func, functools.partial):
            func = func.func
        code = getattr(func, "__code__", None)
        return self.name if code is None else str(CallSite(code.co_filename, code.co_firstlineno))

    def __repr__(self) -> str:
        return f"<resource {self.name} scope={self.scope}>"


def outlived(user: ResourceDefinition[Any], needed: ResourceDefinition[Any]) -> str:
    """The fault of a resource that outlives one that it needs; empty if there is none."""
    if _SCOPES.index(user.scope) >= _SCOPES.index(needed.scope):
        return ""
    return (
        f"the resource '{user.name}' lives as long as the {user.scope}, but needs '{needed.name}', "
        f"which lives only as long as a {needed.scope}; give them the same scope"
    )


@overload
def resource(func: Provider[T], /) -> ResourceDefinition[T]: ...
@overload
def resource(
    name: str | None = None,
    scope: Scope = "run",
    thread_bound: bool = False,
    *,
    teardown_timeout: float | None = None,
) -> Callable[[Provider[T]], ResourceDefinition[T]]: ...
def resource(
    name: Any = None,
    scope: Scope = "run",
    thread_bound: bool = False,
    *,
    teardown_timeout: float | None = None,
) -> Any:
    """Declare a provider; used as ``@resource`` or ``@resource("name", scope="task", …)``.

    The provider is a generator or async generator function; its own parameters may be injected.
    Cancelling a run cancels an async provider that is still opening, as it does any coroutine, but
    not one that is closing. A run-scoped resource that failed to open is not tried again in that
    run.

    Args:
        name: Defaults to the function's name.
        scope: ``"run"`` (one instance per run), ``"task"`` (one per attempt of a task) or
            ``"engine"``: opened once, at first use, for all runs of an engine, and closed by
            ``Engine.close``. With an async provider it belongs to the event loop of that use. It
            needs only resources of the same scope (M7).
        thread_bound: Open, use and close it on one thread, as ``sqlite3`` requires. Tasks that use
            it run there one at a time, and so do plain providers; coroutines cannot use it.
        teardown_timeout: Seconds that closing it may take, instead of the engine's.

    Raises:
        DefinitionError: The function is not a generator function, has a parameter without a
            default, or needs a resource that it outlives (a TypeError).
    """
    if name is None or isinstance(name, str):
        return lambda provider: ResourceDefinition(
            provider, name, scope, thread_bound, teardown_timeout
        )
    return ResourceDefinition(name, None, scope, thread_bound)


def _needs_of(func: Callable[..., Any], described: str) -> dict[str, Inject]:
    """Parameter → resource to inject; refuses a provider with other required parameters."""
    kinds = inspect.Parameter
    needs = {}
    for parameter in with_injections(inspect.signature(func), func, described).parameters.values():
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise DefinitionError(
                f"provider '{described}': the parameter '{parameter.name}' has no default; inject "
                f"it: {parameter.name}=cs.inject(…)"
            )
        if isinstance(parameter.default, Inject):
            if parameter.kind is kinds.POSITIONAL_ONLY:
                raise DefinitionError(
                    f"provider '{described}': the positional-only parameter '{parameter.name}' "
                    "cannot be injected; move it behind the '/'"
                )
            needs[parameter.name] = parameter.default
        elif issubclass(type(parameter.default), LazyValue):
            raise DefinitionError(
                f"provider '{described}': the default of '{parameter.name}' is "
                f"{short(parameter.default)}, a lazy value, which only a task can be given; give "
                "it to the task that uses the resource"
            )
    return needs


@overload
def inject(source: ResourceDefinition[T], /) -> T: ...
@overload
def inject(source: str, /) -> Any: ...
def inject(source: Any, /) -> Any:
    """Ask for a resource, as a parameter's default, in its annotation, or as an argument.

    >>> from typing import Annotated
    >>> from cascade.spec.task import task
    >>> @resource
    ... def greeting():
    ...     yield "hello"
    >>> @task
    ... def greet(name: str, words: Annotated[str, inject(greeting)]) -> str:
    ...     return f"{words} {name}"
    >>> greet("you").kwargs
    {'words': inject('greeting')}

    Args:
        source: The provider itself, which then needs no registration, or the name of a provider
            that is registered with the engine.

    Raises:
        DefinitionError: ``source`` is neither.
    """
    if isinstance(source, ResourceDefinition):
        return Inject(source.name, source)
    if isinstance(source, str) and source:
        return Inject(source, None)
    raise DefinitionError(
        f"inject() takes a resource's name or a function decorated with @resource, "
        f"but got {short(source)}"
    )
