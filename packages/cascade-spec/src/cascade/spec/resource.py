"""Resources: things that tasks are handed, opened before and closed after.

A provider is a generator (or async generator) function that yields its resource once; what stands
after the ``yield`` closes it. A task asks for one with ``inject`` as a parameter's default::

    @resource(scope="run")
    def database():
        connection = connect()
        yield connection
        connection.close()

    @task
    def count(table: str, db=inject(database)): ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from cascade.spec.callsite import CallSite
from cascade.spec.errors import DefinitionError

T = TypeVar("T")
Scope: TypeAlias = Literal["run", "task"]
Provider: TypeAlias = Callable[..., Iterator[T]] | Callable[..., AsyncIterator[T]]

_SCOPES = ("run", "task")


class ResourceDefinition(Generic[T]):
    """A provider with its name and scope, as ``@resource`` makes it.

    Attributes:
        func: The provider as written.
        name: What ``inject("…")`` and ``engine.override_resource_provider`` call it.
        scope: ``"run"``: one instance per run, opened at first use. ``"task"``: one per attempt.
        thread_bound: Opened, used and closed on one and the same thread (M7).
        is_async: The provider is an async generator.
    """

    __slots__ = ("func", "is_async", "name", "scope", "thread_bound")

    def __init__(
        self,
        func: Provider[T],
        name: str | None = None,
        scope: Scope = "run",
        thread_bound: bool = False,
    ) -> None:
        described = str(getattr(func, "__qualname__", repr(func)))
        self.is_async = inspect.isasyncgenfunction(func)
        if not self.is_async and not inspect.isgeneratorfunction(func):
            raise DefinitionError(
                f"@resource takes a generator function that yields the resource once, but "
                f"'{described}' does not yield\n"
                "    wrong:  def database(): return connect()\n"
                "    right:  def database(): db = connect(); yield db; db.close()"
            )
        _check_parameters(func, described)
        if scope not in _SCOPES:
            raise DefinitionError(
                f"resource '{described}': scope must be 'run' or 'task', but is {scope!r}"
            )
        if thread_bound and self.is_async:
            raise DefinitionError(
                f"resource '{described}': thread_bound=True is for plain generators; an async "
                "generator always lives on the event loop's thread"
            )
        self.func = func
        self.name = name or str(getattr(func, "__name__", described))
        self.scope: Scope = scope
        self.thread_bound = thread_bound

    @property
    def place(self) -> str:
        """Where the provider is written, as ``file.py:12``; where nobody knows, its name."""
        func = self.func
        while isinstance(func, functools.partial):
            func = func.func
        code = getattr(func, "__code__", None)
        return self.name if code is None else str(CallSite(code.co_filename, code.co_firstlineno))

    def __repr__(self) -> str:
        return f"<resource {self.name} scope={self.scope}>"


class Inject:
    """The marker that ``inject`` gives: "hand me this resource here"."""

    __slots__ = ("definition", "resource_name")

    def __init__(self, resource_name: str, definition: ResourceDefinition[Any] | None) -> None:
        self.resource_name = resource_name
        self.definition = definition

    def __repr__(self) -> str:
        return f"inject({self.resource_name!r})"


@overload
def resource(func: Provider[T], /) -> ResourceDefinition[T]: ...
@overload
def resource(
    name: str | None = None, scope: Scope = "run", thread_bound: bool = False
) -> Callable[[Provider[T]], ResourceDefinition[T]]: ...
def resource(name: Any = None, scope: Scope = "run", thread_bound: bool = False) -> Any:
    """Declare a provider; used as ``@resource`` or ``@resource("name", scope="task", …)``.

    The provider is a generator or async generator function; its own parameters may be injected.

    Args:
        name: Defaults to the function's name.
        scope: ``"run"`` (one instance per run) or ``"task"`` (one per attempt of a task).
        thread_bound: Open, use and close it on one thread, as ``sqlite3`` wants. Tasks that use
            it run there, one at a time; coroutine tasks cannot.

    Raises:
        DefinitionError: The function is no generator function, or has a parameter without a
            default (a TypeError).
    """
    if name is None or isinstance(name, str):
        return lambda provider: ResourceDefinition(provider, name, scope, thread_bound)
    return ResourceDefinition(name, None, scope, thread_bound)


def _check_parameters(func: Callable[..., Any], described: str) -> None:
    """Refuse a provider that nobody could call: all that it is handed is what it injects."""
    kinds = inspect.Parameter
    for parameter in inspect.signature(func).parameters.values():
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise DefinitionError(
                f"provider '{described}': the parameter '{parameter.name}' has no default; inject "
                f"it: {parameter.name}=cs.inject(…)"
            )
        if parameter.kind is kinds.POSITIONAL_ONLY and isinstance(parameter.default, Inject):
            raise DefinitionError(
                f"provider '{described}': the positional-only parameter '{parameter.name}' cannot "
                "be injected; move it behind the '/'"
            )


@overload
def inject(source: ResourceDefinition[T], /) -> T: ...
@overload
def inject(source: str, /) -> Any: ...
def inject(source: Any, /) -> Any:
    """Ask for a resource, as the default of a parameter or as an argument of a call.

    Args:
        source: The provider itself, which then needs no registration, or the name of one that is
            registered with the engine.

    Raises:
        DefinitionError: ``source`` is neither.
    """
    if isinstance(source, ResourceDefinition):
        return Inject(source.name, source)
    if isinstance(source, str) and source:
        return Inject(source, None)
    raise DefinitionError(
        f"inject() takes a resource's name or a function decorated with @resource, "
        f"but got {source!r}"
    )
