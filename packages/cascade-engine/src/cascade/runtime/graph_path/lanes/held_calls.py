"""Calls with held resources, on workers: open, call, close, all on one thread (M7, R10).

The call of a coroutine function is made in the event loop: its thread is free in between, and
``held_jobs`` asks for another one.

A run waits for what its providers do, whatever ends it. But each closing has a deadline, and so has
an opening once the run is ending. A provider that takes longer is given up, as a call with a
timeout is: its thread is no longer one of the pool. What is still open then is closed on another
thread, and the node goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from threading import get_ident
from typing import Any, Final

from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.execution.patient import Patient
from cascade.runtime.execution.worker_calls import WorkerCall
from cascade.runtime.graph_path.lanes.timed_calls import GIVEN_UP
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.limits.admission import needs_another
from cascade.runtime.resources import faults
from cascade.runtime.resources.held import GivenUp, Held, Step
from cascade.runtime.resources.instance import ResourceInstance

#: The result of a call that was not made.
NOT_BEGUN: Final = object()


class HeldCalls(Part):
    """The plain calls of one run with held resources, and the watch over these.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._time = self._run.loop.time
        #: Thread → its step.
        self._steps: dict[int, Step] = {}
        #: Threads that only open or close: between two steps, and until they have left, too.
        self.handling: set[int] = set()
        #: Threads outside of the pool that close resources.
        self._elsewhere: dict[int, Place] = {}
        #: Number of attempts whose resources are closed elsewhere.
        self._closing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._quiet: asyncio.Future[None] | None = None
        self._dispatch.at_look(self._look)
        self._end.at_stop(self._look_soon)

    def call(
        self,
        context: Context,
        work: Work,
        func: Callable[..., Any],
        used: Sequence[ResourceInstance],
    ) -> Any:
        """Make the call of ``work`` in ``context``, with its resources. In a worker's thread.

        GIVEN_UP if one of them took too long; then the caller must leave at once, and leave
        ``work`` alone. NOT_BEGUN if constraints were set while it opened them: it has closed them
        again, and the caller must ask the limits again.

        Args:
            context: The context of the call.
            work: The work.
            func: The function that it calls.
            used: The shared resources that it uses, which are open.
        """
        resources, me = self._run.resources, get_ident()
        held = Held(self._run, resources, self, work)
        resources.in_use[me] = used
        try:
            try:
                args, kwargs = held.filled(work.args, work.kwargs)
                if needs_another(self._run.constraints, work.operation, work.permit):
                    held.close(None)
                    return NOT_BEGUN
                held.value = context.run(func, *args, **kwargs)
                del args, kwargs
            except GivenUp:
                raise
            except BaseException as error:
                self.handling.add(me)
                held.close(error)
                raise
            self.handling.add(me)
            held.close(None)
        except GivenUp:
            return GIVEN_UP
        finally:
            self.handling.discard(me)
            resources.in_use.pop(me, None)
        return held.value

    # -- the watch: see ``resources.held.Watch`` ----------------------------------------------

    @property
    def is_stopping(self) -> bool:
        return self._end.stopping

    def begin(self, step: Step) -> None:
        self._steps[get_ident()] = step
        if step.is_closing:
            self._run.calls[step] = f"resource {step.definition.name}"
        if self._end.stopping or self._elsewhere:  # no pool looks at it
            self._look_soon()

    def end(self, step: Step) -> None:
        del self._steps[get_ident()]
        self._run.calls.pop(step, None)

    def over(self, _held: Held) -> None:
        if self._quiet is not None:
            self._call_in_loop(self._look)

    def _look_soon(self) -> None:
        if self._steps:
            self._call_in_loop(self._look)

    def _call_in_loop(self, function: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._run.call_in_loop(function)

    def _look(self) -> None:
        """Give up steps that take too long. In the event loop's thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, stopping, dues = self._time(), self._end.stopping, []
        for thread, step in list(self._steps.items()):
            if step.due is None:
                if not (step.is_closing or stopping):
                    continue
                step.due = now + self._seconds(step)
            if step.due > now:
                dues.append(step.due)
            elif step.take():
                self._give_up(thread, step)
        if dues and (stopping or self._elsewhere):
            self._timer = self._run.loop.call_at(min(dues), self._look)
        if self._quiet is not None and not (self._closing or self._steps or self._quiet.done()):
            self._quiet.set_result(None)

    def _seconds(self, step: Step) -> float:
        return self._run.resources.teardown_timeout(step.definition)

    # -- in the event loop's thread -----------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether steps that were given up are still being settled."""
        return self._closing > 0

    def is_active(self, thread: int) -> bool:
        """Whether a thread opens or closes resources."""
        return thread in self._steps or thread in self.handling

    async def quiet(self) -> None:
        """Wait until nothing opens or closes."""
        while self._closing or self._steps:
            self._quiet = self._run.loop.create_future()
            self._look()
            with suppress(asyncio.CancelledError):  # closing has its own deadline
                await asyncio.wait([self._quiet])
        self._quiet = None
        if self._timer is not None:
            self._timer.cancel()  # its context holds the inputs of the run
            self._timer = None

    def _give_up(self, thread: int, step: Step) -> None:
        """Settle a step that was taken from its thread, which goes on by itself."""
        del self._steps[thread]
        run, held, definition = self._run, step.held, step.definition
        run.calls.pop(step, None)
        error = faults.too_late(
            definition,
            step.generator,
            self._seconds(step),
            step.is_closing,
            faults.ON_ITS_THREAD,
        )
        place = self._elsewhere.pop(thread, None)
        if place is None:
            pool = self._dispatch.pool
            call = pool.give_up(thread, pool.cell(thread))
        else:
            call = place.call
        if call is not None:
            run.abandon(call, f"resource {definition.name}", None)
        if step.is_closing:
            held.released(definition, error)
        else:
            held.error = error
        if place is not None:
            place.leave()
        elif held.work is None:
            held.left()
        else:
            self._closing += 1
            self._dispatch.start(self._close_rest(held))

    async def _close_rest(self, held: Held) -> None:
        """Close the resources that are still open, on other threads, and go on with the node."""
        work = held.work
        try:
            while not held.is_over:
                await self._close_elsewhere(held)
            self._dispatch.limit_waits.release(work)
            if held.error is not None:
                self._parts.slow_lane.fail_attempt(work, held.error)
            elif not self._end.stopping:
                self._parts.after_call.go_on(work, held.value)
        finally:
            self._closing -= 1
            if self._quiet is not None:
                self._look()
            self._dispatch.pool.wake()
            self._dispatch.idle()

    async def _close_elsewhere(self, held: Held) -> None:
        """Close the open resources on a thread of its own, until that ends or is given up."""
        place = Place(Patient(loop=self._run.loop))
        self.submit(f"task '{held.work.operation.name}'", place, held.close_again)
        with suppress(asyncio.CancelledError):  # closing has its own deadline
            await place.left

    def submit(self, name: str, place: Place, close: Callable[[], object]) -> None:
        """Call ``close`` on a thread outside of the pool, and let ``place`` be left then."""
        run = self._run
        work = WorkerCall(self._close_there, place, close)
        try:
            place.call = run.submit(run.threads, name, work)
            if not (place.call.done() and work.withdraw()):
                return
        except Exception:  # it was shut down, or has no thread: it is closed all the same
            work.withdraw()
        last = LocalExecutor(1)
        place.call = run.submit(last, name, WorkerCall(self._close_there, place, close))
        last.shutdown(wait=False)

    def _close_there(self, place: Place, close: Callable[[], object]) -> None:
        me = get_ident()
        self._elsewhere[me] = place
        try:
            close()
        except GivenUp:
            return
        self._elsewhere.pop(me, None)
        self._call_in_loop(place.leave)


class Place:
    """A thread outside of the pool that closes resources.

    Attributes:
        left: Done when it has closed them, or was given up.
        call: Its call.
    """

    __slots__ = ("call", "left")

    call: Future[Any]

    def __init__(self, left: asyncio.Future[None]) -> None:
        self.left = left

    def leave(self) -> None:
        """The thread has closed all, or was given up. In the event loop's thread."""
        if not self.left.done():
            self.left.set_result(None)
