"""ResourceContainer: which providers there are; ResourceSession: what one run has open.

Every instance of a resource has an *owner*, an asyncio task that opens it, waits, and closes it,
in one Context (M7): what a provider does in its generator sees the same context variables and
cancel scopes before and after the ``yield``. Requests only wait for the owner, so a request that
is cancelled leaves the opening to end in order; and an owner ends only by being told to close, even
where ``asyncio.run`` cancels every task at its end.

- scope ``run``: opened when first asked for, closed at the end of the run, last opened first.
- scope ``task``: opened for one attempt of one task, closed when that ends, last opened first.
- plain generators run on threads of the executor, ``thread_bound`` ones on one thread that all
  of a run's thread-bound resources and the tasks that use them share.
- what an *abandoned* call uses (M8) stays open until that has ended, whatever the scope, and is
  closed by a task of its own: the run does not wait for what it has abandoned. Where the event
  loop ends first, it is closed then, while it still can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import ResourceAcquired, ResourceReleased
from cascade.spec.errors import (
    CycleError,
    DefinitionError,
    ResourceError,
    ResourceNotFoundError,
)
from cascade.spec.lazy_types import LazyResult
from cascade.spec.nearby import did_you_mean
from cascade.spec.resource import Inject, Provider, ResourceDefinition

if TYPE_CHECKING:
    from cascade.graph.model import Graph
    from cascade.runtime.run import Run

T = TypeVar("T")

#: Tasks that close what abandoned calls use; kept, because an event loop holds its tasks weakly.
_CLOSERS: set[asyncio.Task[None]] = set()


class ResourceContainer:
    """The providers that an engine knows, by name."""

    def __init__(self, bus: MessageBus | None = None) -> None:
        self.bus = bus
        self._definitions: dict[str, ResourceDefinition[Any]] = {}
        self._overrides: dict[str, ResourceDefinition[Any]] = {}
        #: Overrides that take over the scope of what they replace.
        self._inheriting: set[str] = set()

    def register(self, definition: ResourceDefinition[Any]) -> None:
        """Make a resource known by its name, in place of one registered before.

        Raises:
            DefinitionError: ``definition`` is not what ``@resource`` makes.
        """
        if not isinstance(definition, ResourceDefinition):
            raise DefinitionError(
                f"register() takes a function decorated with @resource, but got {definition!r}"
            )
        self._definitions[definition.name] = definition

    def get_provider(self, name: str) -> Provider[Any]:
        """The provider function as it was written, or as it was overridden.

        Raises:
            ResourceNotFoundError: Nothing is registered under ``name`` (a NameError).
        """
        return self.definition(Inject(name, None)).func

    def override_provider(self, name: str, provider: Any) -> None:
        """Use ``provider`` for the resource ``name`` from the next run on, wherever it is injected.

        A plain generator function takes over the scope of the resource that it replaces.
        """
        self._inheriting.discard(name)
        if not isinstance(provider, ResourceDefinition):
            provider = ResourceDefinition(provider, name)
            self._inheriting.add(name)
        self._overrides[name] = provider

    def definition(self, wanted: Inject) -> ResourceDefinition[Any]:
        """What ``wanted`` stands for: an override, the provider it holds, or a registered one.

        Raises:
            ResourceNotFoundError: None of these.
        """
        name = wanted.resource_name
        replaced = wanted.definition or self._definitions.get(name)
        found = self._overrides.get(name, replaced)
        if found is not None and replaced is not None and name in self._inheriting:
            found = self._overrides[name] = _in_place_of(replaced, found, name)
        if found is None:
            known = sorted({*self._definitions, *self._overrides})
            hint = did_you_mean(name, known)
            raise ResourceNotFoundError(
                f"the resource '{name}' is needed, but the engine has "
                f"{', '.join(map(repr, known)) or 'none'}{hint}; pass it with "
                "engine.register(…), or inject the provider itself",
                name=name,
            )
        return found

    def scan(self, graph: Graph) -> set[str]:
        """The names of the resources that the nodes of ``graph`` ask for."""
        return {wanted.resource_name for wanted, _ in _injections(graph.lazies)}

    def check(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse, before anything runs, nodes whose resources cannot be had.

        Raises:
            ResourceNotFoundError: A name that is not registered; the note says which task.
            CycleError: Providers that need each other.
            ResourceError: A run-scoped resource that needs a task-scoped one, or a coroutine task
                that uses a thread-bound resource.
        """
        for wanted, node in _injections(lazies):
            try:
                bound = self._check_provider(wanted, [])
            except Exception as error:
                error.add_note(f"asked for by task '{node.name}', called at {node.callsite}")
                raise
            if bound and node.task.is_async:
                raise ResourceError(
                    f"the coroutine task '{node.name}' (called at {node.callsite}) uses the "
                    f"resource '{wanted.resource_name}', which is bound to a thread of its own; "
                    "use it from a plain function"
                )

    def _check_provider(self, wanted: Inject, path: Sequence[str]) -> bool:
        """Check what ``wanted`` needs in turn; whether it is thread-bound."""
        name = wanted.resource_name
        if name in path:
            cycle = [*path[path.index(name) :], name]
            raise CycleError(f"resources need each other: {' ← '.join(cycle)}", cycle)
        definition = self.definition(wanted)
        for needed in dependencies_of(definition).values():
            inner = self.definition(needed)
            if definition.scope == "run" and inner.scope == "task":
                raise ResourceError(
                    f"the resource '{name}' lives as long as the run, but needs '{inner.name}', "
                    "which lives only as long as a task; give them the same scope"
                )
            self._check_provider(needed, [*path, name])
        return definition.thread_bound

    def session(self, run: Run) -> ResourceSession:
        """A place for the instances of one run."""
        return ResourceSession(self, run)


class ResourceSession:
    """The open resources of one run."""

    def __init__(self, container: ResourceContainer, run: Run) -> None:
        self._container = container
        self._run = run
        self._open: dict[ResourceDefinition[Any], _Instance] = {}
        self._bound: _BoundThread | None = None
        #: Abandoned calls → what they use of the run's.
        self._claims: dict[Future[Any], set[_Instance]] = {}
        self._over = False

    def attempt(self) -> Attempt:
        """The resources of one attempt of a task: ``async with session.attempt() as attempt``."""
        return Attempt(self)

    async def close(self, error: BaseException | None = None) -> None:
        """Close everything, last opened first; each once, whatever the others do.

        But for what abandoned calls use: that is closed when they have ended.

        Args:
            error: What ended the run, if anything did: failures to close become notes on it.

        Raises:
            ExceptionGroup: Resources failed to close and the run had succeeded.
        """
        self._over = True
        claimed = set().union(*self._claims.values())
        closing = [i for i in self._open.values() if i not in claimed]
        self._open = {d: i for d, i in self._open.items() if i in claimed}
        try:
            await _close_all(closing, error)
        finally:
            if self._bound is not None and not self._claims:
                self._bound.shutdown(wait=False)

    def leave_to(self, call: Future[Any], own: list[_Instance], used: Iterable[_Instance]) -> None:
        """Close what an abandoned call uses when that has ended.

        Args:
            call: The call.
            own: Resources of its attempt alone, in the order in which they were opened.
            used: All that it was handed.
        """
        self._claims[call] = self._claimed_by(own, used)

        async def close() -> None:
            await _end_of_call(call)
            # ResourceReleased tells of failures; nobody waits for this.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await _close_all(own, None)
            del self._claims[call]
            if self._over:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await self.close()

        closer = self._run.loop.create_task(close(), name="resources of an abandoned call")
        _CLOSERS.add(closer)
        closer.add_done_callback(_CLOSERS.discard)

    def _claimed_by(self, own: list[_Instance], used: Iterable[_Instance]) -> set[_Instance]:
        """The run's resources that a call uses, or that must wait for its thread to be closed."""
        claimed: set[_Instance] = set()
        todo = [*own, *used]
        while todo:
            instance = todo.pop()
            if instance not in claimed:
                claimed.add(instance)
                todo += instance.needs.values()
        if any(instance.definition.thread_bound for instance in claimed):
            claimed.update(i for i in self._open.values() if i.definition.thread_bound)
        return claimed.difference(own)

    @property
    def bound_thread(self) -> _BoundThread:
        """The one thread of the run's thread-bound resources, started when first needed."""
        if self._bound is None:
            self._bound = _BoundThread()
        return self._bound

    def _instance(self, wanted: Inject, own: dict[ResourceDefinition[Any], _Instance]) -> _Instance:
        """The instance for ``wanted``, opening if it is new; task-scoped ones go into ``own``."""
        definition = self._container.definition(wanted)
        place = own if definition.scope == "task" else self._open
        found = place.get(definition)
        if found is None:
            needs = {
                name: self._instance(needed, own)
                for name, needed in dependencies_of(definition).items()
            }
            # After its dependencies, so that the reverse order closes it before them.
            found = place[definition] = _Instance(definition, needs, self._run)
        return found


class _BoundThread(LocalExecutor):
    """The thread of what is bound to one. No other can take its place."""

    def __init__(self) -> None:
        super().__init__(1, name="cascade-bound")
        self._abandoned: Future[Any] | None = None

    def replace_thread(self, call: Future[Any]) -> None:
        """Note that ``call``, which nobody waits for any more, keeps the thread."""
        self._abandoned = call

    @property
    def is_stuck(self) -> bool:
        """Whether it makes a call that nobody waits for any more."""
        return self._abandoned is not None and not self._abandoned.done()


class Attempt:
    """The resources of one attempt; task-scoped ones are closed at its end."""

    def __init__(self, session: ResourceSession) -> None:
        self._session = session
        self._own: dict[ResourceDefinition[Any], _Instance] = {}
        #: All that was handed to the call.
        self._used: set[_Instance] = set()
        #: Whether the call must be made on the session's bound thread.
        self.bound = False
        #: A call that nobody waits for any more, but which uses what is open.
        self._abandoned: Future[Any] | None = None

    async def __aenter__(self) -> Attempt:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        own, call = list(self._own.values()), self._abandoned
        if call is None or call.done() or any(i.loop_ends for i in (*own, *self._used)):
            await _close_all(own, error)
        else:
            self._session.leave_to(call, own, self._used)

    def keep_until(self, call: Future[Any]) -> None:
        """Keep everything open until ``call`` has ended, which was abandoned (M8)."""
        self._abandoned = call

    async def resolve(
        self, args: Iterable[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with the resources in the place of their markers, opened if need be."""
        return (
            [await self._value(v) for v in args],
            {name: await self._value(v) for name, v in kwargs.items()},
        )

    async def _value(self, value: Any) -> Any:
        if not isinstance(value, Inject):
            return value
        instance = self._session._instance(value, self._own)
        self.bound = self.bound or instance.definition.thread_bound
        self._used.add(instance)
        return await instance.value()


class _Instance:
    """One open resource and its owner task."""

    def __init__(
        self,
        definition: ResourceDefinition[Any],
        needs: Mapping[str, _Instance],
        run: Run,
    ) -> None:
        self.definition = definition
        self.needs = needs
        #: What closing it raised, if anything; once it is closed.
        self.failure: BaseException | None = None
        #: What opening it raised, if anything, and where.
        self._reason: BaseException | None = None
        self._trace: TracebackType | None = None
        self._run = run
        self._opened: asyncio.Future[Any] = run.loop.create_future()
        self._closing: asyncio.Future[None] = run.loop.create_future()
        # A Context cannot be entered twice at once, and the owner is inside its own while a
        # thread advances a plain generator; so that gets one copy for all its life.
        context = run.context.copy()
        self._generator_context = context.copy()
        self._owner: asyncio.Task[None] = run.loop.create_task(
            self._live(), name=f"resource {definition.name}", context=context
        )

    async def value(self) -> Any:
        """The resource, once it is open; raises what opening it raised."""
        try:
            return await asyncio.shield(self._opened)
        except BaseException as error:
            if error is self._reason:  # all who want it raise this, each from where it comes from
                error = error.with_traceback(self._trace)
            raise

    @property
    def loop_ends(self) -> bool:
        """Whether its event loop is about to end: nobody else cancels owners."""
        return self._owner.cancelling() > 0

    async def close(self) -> bool:
        """Close it and wait until it is closed; whether the caller was cancelled meanwhile."""
        if not self._closing.done():
            self._closing.set_result(None)
        return await _end_of(self._owner)

    async def _live(self) -> None:
        name = self.definition.name
        try:
            needs = {key: await instance.value() for key, instance in self.needs.items()}
            generator = self.definition.func(**needs)
            resource = await self._advance(generator)
        except (StopIteration, StopAsyncIteration):
            written = f"it is written at {self.definition.place}"
            self._fail(ResourceError(f"the provider of '{name}' did not yield; {written}"))
            return
        except BaseException as failure:
            _note(failure, f"while opening the resource '{name}'")
            self._fail(failure)
            return
        self._run.publish(ResourceAcquired, name)
        self._opened.set_result(resource)
        await _end_of(self._closing)
        self.failure = await self._release(generator)
        self._run.publish(ResourceReleased, name, self.failure)

    def _fail(self, error: BaseException) -> None:
        self._reason, self._trace = error, error.__traceback__
        self._opened.set_exception(error)
        self._opened.exception()  # retrieved: the requests that wait raise it themselves

    async def _release(self, generator: Any) -> BaseException | None:
        name = self.definition.name
        try:
            await self._advance(generator)
        except (StopIteration, StopAsyncIteration):
            return None
        except BaseException as error:
            _note(error, f"while closing the resource '{name}'")
            return error
        twice = ResourceError(
            f"the provider of '{name}' yielded a second time; it must yield once, and is written "
            f"at {self.definition.place}"
        )
        try:
            await self._shut(generator)
        except BaseException as error:
            twice.__cause__ = error
        return twice

    async def _advance(self, generator: Any) -> Any:
        if self.definition.is_async:
            return await anext(generator)
        exhausted, value = await self._in_thread(_next, generator)
        if exhausted:
            raise StopAsyncIteration
        return value

    async def _shut(self, generator: Any) -> None:
        """Run the ``finally`` blocks of a provider that did not come to its end."""
        if self.definition.is_async:
            await generator.aclose()
        else:
            await self._in_thread(type(generator).close, generator)

    async def _in_thread(self, function: Callable[[Any], T], generator: Any) -> T:
        bound = self._run.resources.bound_thread if self.definition.thread_bound else None
        executor = bound or self._run.executor
        name = f"resource {self.definition.name}"
        advance = partial(self._generator_context.run, function, generator)
        try:
            call = self._run.submit(executor, name, advance)
        except RuntimeError:  # it was shut down
            if not self._opened.done():
                raise
            call = self._run.submit(last := LocalExecutor(1), name, advance)
            last.shutdown(wait=False)
        if bound is not None and bound.is_stuck and self.loop_ends:
            raise StopAsyncIteration  # nobody can wait until the thread gets there
        advanced: asyncio.Future[T] = asyncio.wrap_future(call)
        await _end_of(advanced)
        return advanced.result()


def _in_place_of(
    replaced: ResourceDefinition[Any], by: ResourceDefinition[Any], name: str
) -> ResourceDefinition[Any]:
    """``by`` with the scope and the thread of what it replaces; itself, if it has them."""
    if (by.scope, by.thread_bound) == (replaced.scope, replaced.thread_bound):
        return by
    return ResourceDefinition(by.func, name, replaced.scope, replaced.thread_bound)


def _next(generator: Any) -> tuple[bool, Any]:
    # A StopIteration cannot travel through a future.
    try:
        return False, next(generator)
    except StopIteration:
        return True, None


def dependencies_of(definition: ResourceDefinition[Any]) -> dict[str, Inject]:
    """Parameter → the resource that a provider wants to be handed there."""
    parameters = inspect.signature(definition.func).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, Inject)}


def _injections(lazies: Iterable[LazyResult[Any]]) -> Iterator[tuple[Inject, Any]]:
    for lazy in lazies:
        if lazy.special:
            for value in (*lazy.args, *lazy.kwargs.values()):
                if isinstance(value, Inject):
                    yield value, lazy


async def _close_all(instances: Iterable[_Instance], error: BaseException | None) -> None:
    """Close ``instances``, last opened first, even if the caller is cancelled meanwhile.

    Args:
        instances: In the order in which they were opened.
        error: What ended their use, if anything did: failures to close become notes on it.

    Raises:
        BaseException: What closing raised, in a group if several did, and ``error`` is None.
        KeyboardInterrupt, SystemExit: Closing raised that.
        CancelledError: The caller was cancelled.
    """
    closing = list(instances)
    cancelled = False
    for instance in reversed(closing):
        cancelled |= await instance.close()
    failures = [i.failure for i in reversed(closing) if i.failure is not None]
    if failures and error is not None:
        for late in failures:
            where = " ".join(getattr(late, "__notes__", ()))
            _note(error, f"also, {where}: {type(late).__name__}: {late}")
        for late in failures:
            if isinstance(late, (KeyboardInterrupt, SystemExit)):
                raise late
    elif len(failures) == 1:
        raise failures[0]
    elif failures:
        raise BaseExceptionGroup("resources failed to close", failures)
    if cancelled:
        raise asyncio.CancelledError


def _note(error: BaseException, text: str) -> None:
    """Add a note, once; an exception that takes no attributes takes no note either."""
    with contextlib.suppress(Exception):
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)


async def _end_of(future: asyncio.Future[Any]) -> bool:
    """Wait until ``future`` is done, however often this is cancelled meanwhile; whether it was."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


async def _end_of_call(call: Future[Any]) -> None:
    """Wait until an abandoned ``call`` has ended, or the event loop is about to end."""
    waiting = asyncio.wrap_future(call)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait([waiting])
    except asyncio.CancelledError:
        waiting.cancel()  # else the call would try to tell a loop that is closed
