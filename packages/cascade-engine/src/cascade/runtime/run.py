"""Run: what belongs to one execution of a target, handed to whoever takes part in it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType, coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cascade.graph.model import Graph
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.events import Event, TaskFailed, TaskFinished, TaskSkipped, TaskStarted
from cascade.spec.errors import TaskStopIterationError
from cascade.spec.params import Source, run_params
from cascade.spec.protocols import Executor, StateBackend

if TYPE_CHECKING:
    from cascade.runtime.resource_container import ResourceContainer, ResourceSession
    from cascade.runtime.vm.registry import BlueprintRegistry

T = TypeVar("T")

#: The run that the current code is part of; ``cs.run`` refuses to start another from inside.
current_run: contextvars.ContextVar[Run] = contextvars.ContextVar("cascade.current_run")


class Run:
    """The surroundings of one run. Made, entered and left in its event loop's thread.

    Attributes:
        params: What ``Param`` nodes read.
        executor: Lends the threads for sync functions.
        resources: The injected things, opened as they are asked for.
        blueprints: Where ``TailCall(target_blueprint_id=…)`` looks.
        state: Where outcomes are kept for later, or None.
        context: The caller's context variables; every call of a task runs in a copy (M12).
    """

    def __init__(
        self,
        *,
        params: Mapping[str, Any],
        bus: MessageBus,
        executor: Executor,
        container: ResourceContainer,
        blueprints: BlueprintRegistry,
        state: StateBackend | None = None,
    ) -> None:
        self.id = os.urandom(8).hex()
        self.params = params
        self.bus = bus
        self.executor = executor
        self.blueprints = blueprints
        self.state = state
        self._container = container
        self.resources: ResourceSession = container.session(self)
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._published: deque[Event] = deque()
        self._flush_planned = False

    async def __aenter__(self) -> Self:
        self._tokens = (run_params.set(self.params), current_run.set(self))
        self.context = contextvars.copy_context()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.resources.close(error)
        finally:
            run_params.reset(self._tokens[0])
            current_run.reset(self._tokens[1])
            self._flush()

    def check(self, graph: Graph) -> None:
        """Refuse what cannot succeed before any of it runs: resources, parameters.

        Raises:
            ResourceNotFoundError, ResourceError, CycleError: See ``ResourceContainer.check``.
            ParameterError: A parameter or environment variable is missing or does not fit.
        """
        self._container.check(graph)
        for lazy in graph.lazies:
            if isinstance(lazy, Source):
                lazy.read(self.params)

    # -- events -------------------------------------------------------------------------------

    @property
    def watches_tasks(self) -> bool:
        """Whether anybody subscribed to an event of tasks, so that times must be taken."""
        wants = self.bus.wants
        return wants(TaskStarted) or wants(TaskFinished) or wants(TaskFailed) or wants(TaskSkipped)

    def publish(self, event_type: type[Event], *details: Any) -> None:
        """Publish an event of this run, from any thread, if somebody wants it.

        Handlers are called in the loop's thread, in the order in which this was called.
        """
        if not self.bus.wants(event_type):
            return
        self._published.append(event_type(self.id, *details))
        if threading.get_ident() == self._thread:
            self._flush()
        elif not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        while self._published:
            self.bus.publish(self._published.popleft())

    # -- threads ------------------------------------------------------------------------------

    def submit(
        self, executor: Executor, name: str, func: Callable[..., T], /, *args: Any
    ) -> Future[T]:
        """Have ``executor`` call ``func``; virtual time stands still until that has ended."""
        release = self.loop.hold(name) if isinstance(self.loop, VirtualLoop) else None
        try:
            call = executor.submit(func, *args)
        except BaseException:
            if release is not None:
                release()
            raise
        if release is not None:
            call.add_done_callback(lambda _call: release())
        return call

    async def in_worker(
        self,
        func: Callable[..., T],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        executor: Executor | None = None,
    ) -> T:
        """Call ``func`` on a thread of the executor, in a copy of the caller's context (M12).

        Cancelling waits for the call to end, because nothing can stop it (M8); a second cancel
        abandons it.
        """
        context = self.context.copy()
        name = getattr(func, "__qualname__", repr(func))
        call = self.submit(
            executor or self.executor, name, context.run, guarded, func, args, kwargs
        )
        waiting = asyncio.wrap_future(call)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await asyncio.wait([waiting])
            waiting.exception()  # retrieved: the run has an error, or is cancelled, already
            raise


def guarded(func: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call ``func``; a StopIteration becomes an error that futures and coroutines can carry (M13).

    Raises:
        TaskStopIterationError: The function let a StopIteration escape.
    """
    try:
        return func(*args, **kwargs)
    except StopIteration as error:
        raise stop_iteration(func) from error


@coroutine
def within(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await ``work`` in this asyncio task, but with every step of it in ``context`` (M12)."""
    resume: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            waiting = context.run(resume, value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            value = None  # an error's traceback holds this frame, which must not hold the error
        try:
            resume, value = work.send, (yield waiting)
        except BaseException as error:
            resume, value = work.throw, error


def stop_iteration(func: Callable[..., Any]) -> TaskStopIterationError:
    """The error for a function that let a StopIteration escape."""
    name = getattr(func, "__qualname__", repr(func))
    return TaskStopIterationError(
        f"the task function '{name}' raised StopIteration, which would silently end the loop "
        "that runs it; catch it in the task"
    )
