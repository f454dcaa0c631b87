"""Held resources: those of one attempt that plain generators provide, on threads (M7).

Such a resource needs neither the event loop nor a task of its own: the thread of a plain call opens
it, makes the call, and closes it. It is *held* by that attempt. Its provider has one context from
open to close, as every provider has.

Each opening and each closing is a *step*, which a watch knows while it lasts. The thread that ends
a step and the watch that finds it late race for it, once. The loser leaves without touching
anything: a thread that lost has only to close what it has opened since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol

from cascade.runtime.events import ResourceAcquired, ResourceReleased
from cascade.runtime.execution.taken_once import TakenOnce
from cascade.runtime.resources import faults
from cascade.runtime.resources.generators import closed, not_opened
from cascade.spec.injection import Inject
from cascade.spec.resource import ResourceDefinition

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope
    from cascade.runtime.resources.session import ResourceSession

_MISSING: Final = object()


class GivenUp(BaseException):
    """Ends the work of a thread whose step was found to be late."""


class Step(TakenOnce):
    """An opening or a closing under way.

    Attributes:
        held: The resources of its attempt.
        definition, generator: The resource and its provider.
        is_closing: Whether it closes the resource.
        due: The time at which it has to end; None if that is not known yet.
    """

    __slots__ = ("definition", "due", "generator", "held", "is_closing")

    def __init__(
        self,
        held: Held,
        definition: ResourceDefinition[Any],
        generator: Generator[Any, None, None],
        is_closing: bool,
    ) -> None:
        super().__init__()
        self.held, self.definition, self.generator = held, definition, generator
        self.is_closing = is_closing
        self.due: float | None = None


class Watch(Protocol):
    """Knows the steps under way, and ends those that take too long."""

    @property
    def is_stopping(self) -> bool:
        """Whether the run is ending, so that nothing more is opened."""

    def begin(self, step: Step) -> None:
        """A step begins. In its thread."""

    def end(self, step: Step) -> None:
        """A step of the calling thread has ended, and was taken."""

    def over(self, held: Held) -> None:
        """All resources of an attempt are closed. In the last thread."""


class Held:
    """The held resources of one attempt, used by one thread at a time.

    Args:
        run: The run.
        session: The resources of the run.
        watch: Knows the steps.
        work: The work of the call; None if a coroutine waits for what becomes of it.

    Attributes:
        value, error: The outcome of the call, once that has ended.
        is_over: Whether all is closed.
        left: Called in the event loop's thread when a step was given up, if there is no ``work``.
    """

    left: Callable[[], None]

    __slots__ = (
        "_failures",
        "_opened",
        "_run",
        "_session",
        "_values",
        "_watch",
        "error",
        "is_over",
        "left",
        "value",
        "work",
    )

    def __init__(self, run: RunScope, session: ResourceSession, watch: Watch, work: Any) -> None:
        self._run, self._session, self._watch = run, session, watch
        self.work = work
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self._values: dict[ResourceDefinition[Any], Any] = {}
        #: In the order of opening.
        self._opened: list[tuple[ResourceDefinition[Any], Any, Context]] = []
        self._failures: list[BaseException] = []

    def get(self, wanted: Inject) -> Any:
        """A resource that is held or shared; opens it if need be.

        Raises:
            GivenUp: That took too long; the thread has to leave at once.
            Exception: That failed.
        """
        definition = self._session.definition(wanted)
        if definition.scope != "task":
            return self._session.opened[wanted].resource
        found = self._values.get(definition, _MISSING)
        if found is _MISSING:
            needs = {name: self.get(needed) for name, needed in definition.needs.items()}
            found = self._values[definition] = self._open(definition, needs)
        return found

    def filled(
        self, args: Iterable[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call with resources in place of their markers; see ``get``."""
        get = self.get
        return (
            [get(v) if type(v) is Inject else v for v in args],
            {n: get(v) if type(v) is Inject else v for n, v in kwargs.items()},
        )

    def _open(self, definition: ResourceDefinition[Any], needs: dict[str, Any]) -> Any:
        context: Context = self._run.context.copy()
        generator: Any = definition.func(**needs)
        step = Step(self, definition, generator, is_closing=False)
        self._watch.begin(step)
        try:
            resource = context.run(next, generator)
        except BaseException as failure:
            if not step.take():
                raise GivenUp from None
            self._watch.end(step)
            raise not_opened(definition, failure)  # noqa: B904  # it has its cause
        if not step.take():
            with suppress(StopIteration):
                context.run(next, generator)  # no other code will close it
            context.run(generator.close)
            raise GivenUp
        self._watch.end(step)
        self._opened.append((definition, generator, context))
        self._run.publish(ResourceAcquired, definition.name)
        if self._watch.is_stopping:
            raise asyncio.CancelledError
        return resource

    def close(self, error: BaseException | None) -> None:
        """Close all, last opened first, whatever the others do.

        Args:
            error: The error of the attempt, if any: failures to close become notes on it.

        Raises:
            GivenUp: One took too long; the watch goes on with the others.
            BaseException: The errors of closing, if ``error`` is None.
            KeyboardInterrupt, SystemExit: Closing raised it.
        """
        self.error = error
        while self._opened:
            definition, generator, context = self._opened.pop()
            step = Step(self, definition, generator, is_closing=True)
            self._watch.begin(step)
            failure = closed(definition, generator, context)
            if not step.take():
                raise GivenUp
            self._watch.end(step)
            self.released(definition, failure)
        self.is_over = True
        self._watch.over(self)
        if self._failures:
            faults.raise_all(self._failures, error)

    def close_again(self) -> None:
        """Go on with ``close`` after a step was given up; ``error`` gets what it raises."""
        try:
            self.close(self.error)
        except GivenUp:
            raise
        except BaseException as error:
            self.error = error

    def released(self, definition: ResourceDefinition[Any], failure: BaseException | None) -> None:
        """Note that a resource was closed, or was given up."""
        if failure is not None:
            self._failures.append(failure)
        try:
            self._run.publish(ResourceReleased, definition.name, failure)
        except RuntimeError:
            return  # the loop is closed: its call was abandoned
