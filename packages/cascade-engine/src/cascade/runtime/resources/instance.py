"""ResourceInstance: one open resource, and the task that opens and closes it.

Every instance has an *owner*, an asyncio task that opens it, waits, and closes it, in one Context
(M7): the generator of a provider sees the same context variables and cancel scopes before and after
its ``yield``. Requests only wait for the owner. An owner ends only when it is told to close, even
when ``asyncio.run`` cancels every task at its end.

    opening ──> open ──> closing ──> closed
       └── failed          └── given up

Plain generators run on threads of the executor, *bound* ones on the one thread that all
thread-bound resources of a run and their users share.

Closing is not cancelled from outside, but has its own deadline. An async provider that takes longer
is cancelled once, where it waits, and given up if that does not end it within the same time again.
A thread cannot be stopped: the call is abandoned, as those of tasks are (M8). A provider that is
still opening when it must close is cancelled at once; on a thread it has until the deadline, and
closes itself there when it reaches its ``yield`` later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.diagnostics.error_notes import add_note
from cascade.runtime.events import ResourceAcquired, ResourceReleased
from cascade.runtime.execution.patient import Patient
from cascade.runtime.resources import faults
from cascade.runtime.resources.threads import BoundThread, ThreadCall, yields
from cascade.spec.errors import ResourceTimeoutError
from cascade.spec.resource import ResourceDefinition

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope
    from cascade.spec.protocols import Executor


class ResourceInstance:
    """One resource from its opening to its end. In the event loop's thread.

    Args:
        definition: Its definition.
        needs: Parameter of its provider → resource to inject.
        run: The run that it belongs to.
        bound_thread: The thread for its provider, if it is bound.
        timeout: Seconds that closing it may take.

    Attributes:
        opened_as: A number that is higher than those of all earlier openings; None while it is not
            open.
        failure: The error of closing it, including a timeout; None if there was none.
        is_ready: Whether it is open, and has not begun to close. May be read in any thread.
        resource: The resource, once it is ready.
    """

    is_ready = False
    resource: Any

    def __init__(
        self,
        definition: ResourceDefinition[Any],
        needs: Mapping[str, ResourceInstance],
        run: RunScope,
        bound_thread: BoundThread | None,
        timeout: float,
    ) -> None:
        self.definition = definition
        self.needs = needs
        self.opened_as: int | None = None
        self.failure: BaseException | None = None
        #: The error of opening it, if any, and its place.
        self._reason: BaseException | None = None
        self._trace: TracebackType | None = None
        self._run = run
        self._bound_thread = bound_thread
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        #: The error for a teardown that took too long and was cancelled.
        self._late: ResourceTimeoutError | None = None
        #: Number of times that this has cancelled its owner.
        self._stops = 0
        self._opened: asyncio.Future[Any] = run.loop.create_future()
        self._closing: asyncio.Future[None] = Patient(loop=run.loop)
        #: Set when it is closed, could not be opened, or was given up.
        self._ended: asyncio.Future[None] = Patient(loop=run.loop)
        self._generator: Any = None
        self._yielded_as = 0
        self._thread_call: ThreadCall | None = None
        # A Context cannot be entered twice at once, and the owner is inside its own while a thread
        # advances a plain generator; that generator gets one copy for its whole life.
        context = run.context.copy()
        if not definition.is_async:
            self._generator_context = context.copy()
        self._owner: asyncio.Task[None] = run.loop.create_task(
            self._live(), name=f"resource {definition.name}", context=context
        )
        self._owner.add_done_callback(self._owner_ended)

    # -- for users of the resource ------------------------------------------------------------

    async def value(self) -> Any:
        """The resource, once it is open; raises the error of opening it."""
        if self.is_ready:
            return self.resource
        try:
            return await asyncio.shield(self._opened)
        except BaseException as error:
            if error is self._reason:  # all requests raise this one, each with its own traceback
                error = BaseException.with_traceback(error, self._trace)
            raise

    def when_settled(self, act: Callable[[BaseException | None], object]) -> None:
        """Call ``act`` in the event loop when it is open, or with the error of opening it."""

        def settled(_opened: object) -> None:
            reason = self._reason
            act(reason if reason is None else BaseException.with_traceback(reason, self._trace))

        self._opened.add_done_callback(settled)

    @property
    def is_bound(self) -> bool:
        """Whether its users must run on the bound thread."""
        return self._bound_thread is not None

    @property
    def loop_ends(self) -> bool:
        """Whether its event loop is about to end: only that cancels owners."""
        return self._owner.cancelling() > self._stops

    def stop_opening(self) -> None:
        """Cancel the opening, if it has not ended."""
        if not self._opened.done():
            self._stop()

    async def settled(self) -> bool:
        """Wait until it is open or failed; whether the caller was cancelled meanwhile."""
        return await _end_of(self._opened)

    async def close(self) -> bool:
        """Close it and wait for the end; whether the caller was cancelled meanwhile."""
        self.is_ready = False
        if not self._closing.done():
            self._closing.set_result(None)
        return await _end_of(self._ended)

    # -- its life, in the owner ---------------------------------------------------------------

    async def _live(self) -> None:
        try:
            resource = await self._open()
        except BaseException as failure:
            self._not_opened(failure)
            return
        if self._ended.done():  # given up, and opened nevertheless
            await self._release()
            return
        self._forget_timer()  # if it was stopped, that came too late
        self.opened_as = self._yielded_as
        self._run.publish(ResourceAcquired, self.definition.name)
        self.resource, self.is_ready = resource, True
        self._opened.set_result(resource)
        await self._stay()

    async def _stay(self) -> None:
        """Stay open until it is told to close."""
        await _end_of(self._closing)
        self._end(await self._release())

    async def _open(self) -> Any:
        name = self.definition.name
        try:
            needs = {}
            for key, instance in self.needs.items():
                needs[key] = instance.resource if instance.is_ready else await instance.value()
            self._generator = self.definition.func(**needs)
            return await self._advance()
        except (StopIteration, StopAsyncIteration):
            raise faults.yielded_nothing(self.definition) from None
        except BaseException as failure:
            add_note(failure, f"while opening the resource '{name}'")
            explained = self._explained(failure)
            if explained is failure:
                raise
            raise explained from failure

    async def _release(self) -> BaseException | None:
        """Close it; the error of that, including a timeout."""
        if self.definition.is_async:
            self._set_timer(self._cancel_late)
        calls = self._run.calls
        calls[self] = f"resource {self.definition.name}"
        try:
            failure = await self._closed()
        finally:
            del calls[self]
        self._forget_timer()
        if self._late is None:
            return failure
        if not isinstance(failure, asyncio.CancelledError):
            self._late.__cause__ = failure
        return self._late

    async def _closed(self) -> BaseException | None:
        name = self.definition.name
        try:
            await self._advance()
        except (StopIteration, StopAsyncIteration):
            return None
        except BaseException as error:
            add_note(error, f"while closing the resource '{name}'")
            return self._explained(error)
        twice = faults.yielded_twice(self.definition)
        try:
            await self._shut()
        except BaseException as error:
            twice.__cause__ = error
        return twice

    def _explained(self, error: BaseException) -> BaseException:
        """``error``; a cancel that came from inside the provider is replaced by an error."""
        if not isinstance(error, asyncio.CancelledError) or self._owner.cancelling():
            return error
        return faults.cancelled_itself(self.definition, error)

    def _not_opened(self, error: BaseException) -> None:
        if not self._opened.done():
            self._reason, self._trace = error, error.__traceback__
            self._opened.set_exception(error)
            self._opened.exception()  # retrieved: the waiting requests raise it themselves
        self._forget_timer()
        # No request sees an error after the stop.
        is_seen = isinstance(error, asyncio.CancelledError) or not self._stops
        self._end(None if is_seen else error)

    def _owner_ended(self, _owner: object) -> None:
        if not self._ended.done():  # it was cancelled before its first step
            self._not_opened(asyncio.CancelledError())

    def _end(self, failure: BaseException | None) -> None:
        """Announce its end, but only once: it may have been given up before."""
        if self._ended.done():
            return
        self.failure = failure
        if self.opened_as is not None:
            self._run.publish(ResourceReleased, self.definition.name, failure)
        self._ended.set_result(None)

    # -- its deadline -------------------------------------------------------------------------

    def _set_timer(self, act: Callable[[], object], spent: float = 0) -> None:
        self._forget_timer()
        self._timer = self._run.loop.call_later(self._timeout - spent, act)

    def _check_thread(self, call: ThreadCall) -> None:
        """Give up if the call that closes it takes too long, from the time when it has begun.

        Nearly all end before this is called, and need not wake the event loop when they begin.
        """
        spent = call.seconds
        if spent >= self._timeout:
            self._give_up()
        elif spent:
            self._set_timer(partial(self._check_thread, call), spent)
        else:
            call.when_begun(partial(self._set_timer, partial(self._check_thread, call)))

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        """Cancel the owner where it waits; give up if that does not end it in time."""
        self._stops += 1
        self._owner.cancel()
        self._set_timer(self._give_up)

    def _cancel_late(self) -> None:
        self._late = self._too_late("it was cancelled there")
        self._stop()

    def _give_up(self) -> None:
        """Wait no longer; running code goes on by itself."""
        where = self._too_late("it was cancelled there, and went on")
        if (call := self._thread_call) is not None and not self.definition.is_async:
            if not call.leave():
                return  # it has just ended
            self._run.abandon(call.call, call.name, None, call.executor)
            where = self._too_late(faults.ON_ITS_THREAD)
        if not self._opened.done():
            self._not_opened(where)
        self._end(where)
        if call is not None:
            call.end.tell()

    def _too_late(self, fate: str) -> ResourceTimeoutError:
        """The error for a resource that takes too long; called while it still does."""
        opened = self.opened_as is not None
        return faults.too_late(self.definition, self._generator, self._timeout, opened, fate)

    # -- its generator ------------------------------------------------------------------------

    async def _advance(self) -> Any:
        if self.definition.is_async:
            value = await anext(self._generator)
            self._yielded_as = next(yields)
            return value
        return await self._in_thread(ThreadCall.advance)

    async def _shut(self) -> None:
        """Run the ``finally`` blocks of a provider that has not reached its end."""
        if self.definition.is_async:
            await self._generator.aclose()
        else:
            await self._in_thread(ThreadCall.shut)

    async def _in_thread(self, work: Callable[[ThreadCall], Any]) -> Any:
        """Run ``work`` with the generator on a thread, and wait for it."""
        executor = self._bound_thread or self._run.threads
        try:
            call = await self._made_by(executor, work)
            dropped = call.was_dropped
        except Exception as error:  # the executor was shut down, or has no thread
            dropped = True
            if self.opened_as is None or isinstance(error, StopAsyncIteration):
                raise
        if dropped and self.opened_as is not None:  # an open resource is closed all the same
            last = LocalExecutor(1)
            call = await self._made_by(last, work)
            last.shutdown(wait=False)
        value = call.result()
        self._yielded_as = call.yielded_as
        return value

    async def _made_by(self, executor: Executor, work: Callable[[ThreadCall], Any]) -> ThreadCall:
        """The same on a thread of ``executor``; returns the call, which has ended or was given up.

        Raises:
            Exception: The executor takes no calls.
            StopAsyncIteration: The event loop ends before the thread is free.
        """
        call = self._thread_call = ThreadCall(self._run, self._generator, self.definition.name)
        call.submit(executor, self._generator_context.run, work, call)
        if self.opened_as is not None:
            bound = self._bound_thread
            if bound is not None and bound is executor and bound.is_stuck:
                if self.loop_ends:
                    raise StopAsyncIteration  # the event loop ends before the thread is free
                self._give_up()
            else:
                self._set_timer(partial(self._check_thread, call))
        while not (call.end.is_reached or self._ended.done()):
            try:
                await call.end.change()
            except asyncio.CancelledError:
                if self.opened_as is None and call.withdraw():
                    raise  # no thread has begun to open it, and none will
        return call


async def _end_of(future: asyncio.Future[Any]) -> bool:
    """Wait until ``future`` is done, despite cancels; whether there was one."""
    cancelled = False
    while not future.done():
        try:
            if type(future) is Patient:
                await future
            else:
                await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
