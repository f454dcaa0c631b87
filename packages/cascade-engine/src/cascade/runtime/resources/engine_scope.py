"""Resources of scope ``engine``: opened once per engine, closed by ``Engine.close`` (M7).

An EngineInstance is a ResourceInstance that several runs use, in several event loops and threads.

- An *async* one belongs to the event loop of its first use: its owner lives there. If that loop
  ends first, the owner closes the resource then, because no other loop can.
- A *plain* one belongs to no loop. Its owner ends when it is open, and another one closes it, in
  the loop that closes the engine.

A request in another loop waits for a future of ``concurrent.futures``. A resource that failed to
open is forgotten, so that the next use tries again.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cascade.runtime.events import CallAbandoned, Event
from cascade.runtime.execution.worker_calls import WorkerCall, end_of, hold_until, result_of, submit
from cascade.runtime.resources.closing import close_all, end_of_call
from cascade.runtime.resources.instance import ResourceInstance
from cascade.spec.errors import ResourceError, RunError
from cascade.spec.resource import Inject, ResourceDefinition

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.runtime.execution.abandoned import AbandonedCalls
    from cascade.runtime.execution.scope import RunScope
    from cascade.runtime.resources.providers import Providers
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.protocols import Executor

#: Tasks that close resources of abandoned calls; kept, because an event loop holds tasks weakly.
_CLOSERS: set[asyncio.Task[None]] = set()


class EngineScope:
    """The part of a run that a resource needs, for those that outlive a run; see RunScope.

    Its events have an empty ``run_id``.
    """

    caller = None
    is_durable = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        bus: MessageBus,
        abandoned: AbandonedCalls,
        context: contextvars.Context,
    ) -> None:
        self.loop = loop
        self.threads = threads
        self.bus = bus
        self.context = context
        self.calls: dict[object, str] = {}
        self._abandoned = abandoned
        self._thread = threading.get_ident()

    def publish(self, event_type: type[Event], *details: Any, **more: Any) -> None:
        if self.bus.wants(event_type):
            self.bus.publish(event_type("", *details, **more))

    def tell_soon(self, task: str) -> None:
        """Nothing: it makes no steps."""

    def is_own_thread(self, ident: int) -> bool:
        return ident == self._thread

    def submit(self, executor: Executor, name: str, work: WorkerCall[Any]) -> Future[Any]:
        return submit(self.loop, executor, name, work)

    def note_call(
        self, call: Future[Any], work: WorkerCall[Any], executor: Executor, name: str
    ) -> None:
        """Nothing: ``engine.waiting`` lists what belongs to runs."""

    def abandon(
        self,
        call: Future[Any],
        name: str,
        source: LazyResult[Any] | None,
        executor: Executor | None = None,
    ) -> None:
        """Record an abandoned provider, and publish it (M8). No node calls one."""
        running = self._abandoned.add(call, name, executor or self.threads)
        self.publish(CallAbandoned, name, 0, running)


class EngineInstance(ResourceInstance):
    """A resource of an engine, from its opening to its end.

    Args:
        definition: Its definition.
        needs: Parameter of its provider → resource to inject.
        scope: The event loop of its first use, and what it needs of the engine.
        timeout: Seconds that closing it may take.
    """

    def __init__(
        self,
        definition: ResourceDefinition[Any],
        needs: Mapping[str, ResourceInstance],
        scope: EngineScope,
        timeout: float,
    ) -> None:
        self._home = scope.loop
        self._home_thread = threading.current_thread().name
        #: The same as ``_opened``, for other event loops.
        self._shared: Future[Any] = Future()
        super().__init__(definition, needs, scope, None, timeout)
        self._opened.add_done_callback(self._share)

    @property
    def has_failed(self) -> bool:
        """Whether opening it failed."""
        return self._shared.done() and self._shared.exception() is not None

    @property
    def is_open(self) -> bool:
        return self._shared.done() and not self.has_failed and not self._ended.done()

    def check_loop(self) -> None:
        """Refuse the current event loop if the resource belongs to another one.

        Raises:
            ResourceError: It does; the message names both.
        """
        here = asyncio.get_running_loop()
        if not self.definition.is_async or here is self._home:
            return
        name = self.definition.name
        closed = ", which is closed," if self._home.is_closed() else ""
        home, used = _named(self._home), _named(here)
        raise ResourceError(
            f"the resource '{name}' of the engine was opened by an async provider in the event "
            f"loop {home} of thread '{self._home_thread}'{closed} and cannot be used in {used} of "
            f"thread '{threading.current_thread().name}'; use the engine in one event loop, or "
            f"make the provider a plain generator (it is written at {self.definition.place})"
        )

    # -- for users of the resource ------------------------------------------------------------

    async def value(self) -> Any:
        loop = asyncio.get_running_loop()
        if loop is self._home:
            return await super().value()
        if not self._shared.done():
            await self._settled_in(loop)
        return self._value_elsewhere()

    def when_settled(self, act: Callable[[BaseException | None], object]) -> None:
        loop = asyncio.get_running_loop()
        if loop is self._home:
            super().when_settled(act)
            return

        def settled(_opened: object) -> None:
            try:
                self._value_elsewhere()
            except BaseException as error:
                act(error)
            else:
                act(None)

        self._settled_in(loop).add_done_callback(settled)

    def _settled_in(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future of another event loop that is done when it is open or failed."""
        hold_until(self._shared, loop, f"resource {self.definition.name}")
        return end_of(self._shared, loop)

    def _value_elsewhere(self) -> Any:
        """The resource in another event loop; raises the error of opening it."""
        try:
            return result_of(self._shared)
        except asyncio.CancelledError as error:  # not of the code that waits here
            raise ResourceError(
                f"the event loop of thread '{self._home_thread}', which was opening the resource "
                f"'{self.definition.name}', stopped that; try again"
            ) from error

    def stop_opening(self) -> None:
        if self._shared.done():
            return
        if asyncio.get_running_loop() is self._home:
            super().stop_opening()
        else:
            with suppress(RuntimeError):  # it is closed
                self._home.call_soon_threadsafe(super().stop_opening)

    async def settled(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop is self._home:
            return await super().settled()
        return await self._ended_elsewhere(self._shared)

    async def close(self) -> bool:
        loop = asyncio.get_running_loop()
        if self._ended.done():
            return False
        self.is_ready = False  # at once, although another thread may close it
        if not self.definition.is_async:
            self._move_to(loop)
            return await super().close()
        if loop is self._home:
            return await super().close()
        if not self._home.is_running():
            self.failure = ResourceError(
                f"the resource '{self.definition.name}' cannot be closed: it belongs to the event "
                f"loop {_named(self._home)} of thread '{self._home_thread}', which does not run; "
                "close the engine there"
            )
            return False
        there = asyncio.run_coroutine_threadsafe(super().close(), self._home)
        return await self._ended_elsewhere(there)

    async def _ended_elsewhere(self, future: Future[Any]) -> bool:
        """Wait for a future of another thread, despite cancels; whether there was one."""
        cancelled = False
        while not future.done() and self._home.is_running():
            try:
                await asyncio.wait([end_of(future, asyncio.get_running_loop())], timeout=1)
            except asyncio.CancelledError:
                cancelled = True
        return cancelled

    # -- its life -----------------------------------------------------------------------------

    def _share(self, opened: asyncio.Future[Any]) -> None:
        error = opened.exception()
        if error is None:
            self._shared.set_result(opened.result())
        else:
            self._shared.set_exception(error)

    async def _stay(self) -> None:
        if not self.definition.is_async:
            return  # closed by another owner, maybe in another event loop
        with suppress(asyncio.CancelledError):  # the event loop ends before the engine does
            await asyncio.wait([self._closing])
        self.is_ready = False
        self._end(await self._release())

    def _owner_ended(self, owner: object) -> None:
        if not self._opened.done():
            super()._owner_ended(owner)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let an owner in ``loop`` close it."""
        assert isinstance(self._run, EngineScope)
        if loop is not self._home:
            run = self._run
            self._run = EngineScope(loop, run.threads, run.bus, run._abandoned, run.context)
            self._closing, self._ended = loop.create_future(), loop.create_future()
        self._owner = loop.create_task(
            self._live_on(), name=f"resource {self.definition.name}", context=self._run.context
        )

    async def _live_on(self) -> None:
        self._end(await self._release())


class EngineResources:
    """The open resources of one engine. Thread-safe.

    Args:
        bus: The engine's bus.
        abandoned: Counts calls that are no longer waited for.
        teardown_timeout: Default of the seconds that closing a resource may take.
    """

    def __init__(self, bus: MessageBus, abandoned: AbandonedCalls, teardown_timeout: float) -> None:
        self._bus = bus
        self._abandoned = abandoned
        self._teardown_timeout = teardown_timeout
        #: Providers see the context variables of the code that made the engine.
        self._context = contextvars.copy_context()
        self._lock = threading.RLock()
        #: Name and declared provider → its instance.
        self._held: dict[Any, EngineInstance] = {}
        #: Abandoned call → the resources that it uses.
        self._claims: dict[Future[Any], set[EngineInstance]] = {}
        self._is_closed = False
        self._warning: Any = None

    def instance(self, wanted: Inject, providers: Providers, run: RunScope) -> EngineInstance:
        """The instance for ``wanted``, opening if new. In the event loop's thread of ``run``.

        Raises:
            ResourceError: It belongs to another event loop, or was opened by another provider.
            RunError: The engine is closed.
        """
        definition, key = providers.definition(wanted), providers.declared(wanted)
        with self._lock:
            found = self._held.get(key)
            if found is None or found.has_failed:
                found = self._held[key] = self._opened(definition, providers, run)
        if found.definition.func is not definition.func:
            raise ResourceError(
                f"the resource '{wanted.resource_name}' of the engine was opened by the provider "
                f"at {found.definition.place}, and the one at {definition.place} cannot replace "
                "it any more; override it before its first use, or use a new engine"
            )
        found.check_loop()
        return found

    def open_one(
        self, wanted: Inject, providers: Providers, loop: asyncio.AbstractEventLoop
    ) -> EngineInstance | None:
        """The instance for ``wanted`` if it is open, and can be used in ``loop``."""
        with self._lock:
            found = self._held.get(providers.declared(wanted))
        if found is None or not found.is_ready:
            return None
        if found.definition.func is not providers.definition(wanted).func:
            return None
        return found if not found.definition.is_async or found._home is loop else None

    def _opened(
        self, definition: ResourceDefinition[Any], providers: Providers, run: RunScope
    ) -> EngineInstance:
        if self._is_closed:
            raise RunError("the engine is closed, and opens no resources any more")
        needs = {n: self.instance(w, providers, run) for n, w in definition.needs.items()}
        scope = EngineScope(run.loop, run.threads, self._bus, self._abandoned, self._context.copy())
        if self._warning is None:
            self._warning = weakref.finalize(self, _warn, self._held)
        timeout = definition.teardown_timeout or self._teardown_timeout
        return EngineInstance(definition, needs, scope, timeout)

    def claim(self, call: Future[Any], used: Iterable[ResourceInstance]) -> None:
        """Keep the engine's resources in ``used`` open until the abandoned ``call`` has ended."""
        own = {instance for instance in used if isinstance(instance, EngineInstance)}
        if own:
            with self._lock:
                self._claims[call] = own
            call.add_done_callback(lambda call: self._claims.pop(call, None))

    async def close(self, error: BaseException | None = None) -> None:
        """Close everything, last opened first, and open nothing more; see ``close_all``.

        Resources that abandoned calls use are closed when those have ended, by a task of its own.

        Args:
            error: The error that ended the use of the engine, if any.

        Raises:
            BaseException: Resources failed to close, and ``error`` is None.
        """
        with self._lock:
            self._is_closed = True
            held = [instance for instance in self._held.values() if not instance.has_failed]
            self._held.clear()
            claims = dict(self._claims)
        if self._warning is not None:
            self._warning.detach()
        claimed = set().union(*claims.values())
        late = [instance for instance in held if instance in claimed]
        if late:
            closer = asyncio.get_running_loop().create_task(_close_after(list(claims), late))
            _CLOSERS.add(closer)
            closer.add_done_callback(_CLOSERS.discard)
        if len(late) < len(held):
            await close_all([instance for instance in held if instance not in claimed], error)


async def _close_after(calls: Iterable[Future[Any]], instances: list[EngineInstance]) -> None:
    for call in calls:
        await end_of_call(call)
    # ResourceReleased reports failures; nothing waits for this.
    with suppress(Exception, asyncio.CancelledError):
        await close_all(instances, None)


def _warn(held: Mapping[Any, EngineInstance]) -> None:
    names = [repr(found.definition.name) for found in held.values() if found.is_open]
    if names:
        warnings.warn(
            f"an engine ended without close(), and its resources {', '.join(names)} are still "
            "open\n    right:  async with cs.Engine() as engine: …",
            ResourceWarning,
            stacklevel=2,
        )


def _named(loop: asyncio.AbstractEventLoop) -> str:
    return f"<{type(loop).__name__} at {id(loop):#x}>"
