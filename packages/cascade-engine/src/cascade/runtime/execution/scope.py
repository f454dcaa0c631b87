"""RunScope: the part of a run that its limits and resources need."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Event
from cascade.runtime.execution.worker_calls import WorkerCall
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import Executor

T = TypeVar("T")


class RunScope(Protocol):
    """The view of limits and resources on their run."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def context(self) -> contextvars.Context:
        """The caller's context variables."""

    @property
    def threads(self) -> Executor:
        """Lends threads for plain functions."""

    @property
    def bus(self) -> MessageBus: ...

    @property
    def calls(self) -> dict[object, str]:
        """Keys of the active calls → their names."""

    @property
    def is_durable(self) -> bool:
        """Whether the run is kept in a store."""

    @property
    def caller(self) -> Any:
        """The permit of the call that started the run, or None."""

    def publish(self, event_type: type[Event], *details: Any, **more: Any) -> None:
        """Publish an event of this run, from any thread."""

    def tell_soon(self, task: str) -> None:
        """Publish the steps of ``task`` at the next interval. From any thread."""

    def is_own_thread(self, ident: int) -> bool:
        """Whether ``ident`` is the thread of the run's event loop."""

    def submit(self, executor: Executor, name: str, work: WorkerCall[T]) -> Future[T]:
        """Give a call to ``executor``."""

    def note_call(
        self, call: Future[Any], work: WorkerCall[Any], executor: Executor, name: str
    ) -> None:
        """List a call of a provider among those that wait for a thread, or hold one."""

    def abandon(
        self,
        call: Future[Any],
        name: str,
        source: LazyResult[Any] | None,
        executor: Executor | None = None,
    ) -> None:
        """Record an abandoned call, and publish it (M8)."""
