"""Jobs of workers for asyncio tasks that handle nodes: they open, close, and make calls (M7).

A coroutine that is given a held resource waits twice for a worker: before its call, and after it.
A plain function with an async provider waits for its call. The jobs stand in the queue of the pool
among the nodes, so one thread does many of them in a row, the event loop is woken for many at once,
and jobs that block overlap as nodes do.

A job that no thread has begun when the run ends is dropped if it opens resources. If it closes
them, it gets a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import get_ident
from typing import Any

from cascade.runtime.execution.patient import Patient
from cascade.runtime.graph_path.lanes.held_calls import HeldCalls, Place
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.resources.held import GivenUp, Held
from cascade.spec.injection import Inject


class Job(Place):
    """One job.

    Attributes:
        value, error: Its outcome; neither if its thread was given up.
        is_call: Whether it calls a function of the user; otherwise it opens or closes.
        is_done: Whether it was left. In the event loop's thread.
        thread: The thread that does it.
    """

    __slots__ = (
        "_do",
        "_outcome",
        "_start",
        "error",
        "is_call",
        "is_done",
        "name",
        "thread",
        "value",
    )

    def __init__(
        self, name: str, do: Callable[[], Any], left: asyncio.Future[None], *, is_call: bool = False
    ) -> None:
        super().__init__(left)
        self.name = name
        self.is_call = is_call
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.thread = 0
        self._do = do
        #: Each has one item; to take it out is atomic, as in a TakenOnce. Two objects of that class
        #: would take as long as the rest of this method.
        self._start, self._outcome = [None], [None]

    def leave(self) -> None:
        self.is_done = True
        if not self.left.done():
            self.left.set_result(None)

    def take(self) -> bool:
        """Begin or withdraw it; True for the first caller only."""
        try:
            self._start.pop()
        except IndexError:
            return False
        return True

    def settle(self) -> bool:
        """Decide whether its outcome counts, or it is abandoned; True for the first caller only."""
        try:
            self._outcome.pop()
        except IndexError:
            return False
        return True

    def do(self) -> None:
        """Do it, in a thread that has taken it.

        Raises:
            GivenUp: The thread has to leave at once.
        """
        try:
            self.value = self._do()
        except GivenUp:
            raise
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        """Its value, or the error that it has raised."""
        error, self.error = self.error, None
        if error is None:
            return self.value
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


class Errand(Work):
    """A job in the queue of the pool, where it looks like the work that it is for."""

    __slots__ = ("job",)

    def __init__(self, work: Work, job: Job) -> None:
        self.job = job
        self.segment, self.node, self.source = work.segment, work.node, work.source
        self.operation, self.policies = work.operation, work.policies
        self.attempt, self.steps, self.loop = work.attempt, work.steps, None


class HeldJobs(Part):
    """The jobs of one run. Used in the event loop's thread, except for ``do``.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._calls: HeldCalls = parts.held_calls
        #: Closings that no thread has begun.
        self._closings: dict[Job, None] = {}
        self._is_waking = False
        #: Keyword arguments of a call, if each of them is a resource that a worker has to open; and
        #: the shared resources that these need. Nodes of one task mostly share such a dict.
        self._last: tuple[object, Sequence[Inject]] = (None, ())
        self._end.at_stop(self._stop)

    def holds(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether workers can open all that a call is given, and have to."""
        if kwargs is self._last[0] and Inject not in map(type, args):
            return True
        resources = self._run.resources
        if not resources.need_attempt(args, kwargs) or resources.needs_event_loop(args, kwargs):
            return False
        if set(map(type, kwargs.values())) == {Inject} and Inject not in map(type, args):
            self._last = kwargs, [*resources.all_below((), kwargs)]
        return True

    def new(self) -> Held:
        """The resources of an attempt, none of which is open."""
        return Held(self._run, self._run.resources, self._calls, None)

    async def open(
        self, held: Held, work: Work, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a call with resources in place of their markers; ``close`` must follow.

        Raises:
            Exception: Opening one failed.
            CancelledError: This was cancelled.
        """
        resources = self._run.resources
        last, below = self._last
        if kwargs is not last or Inject in map(type, args):
            below = [*resources.all_below(args, kwargs)]
        for value in below:
            if resources.ready(value) is None:
                await resources.open(value)
        left: asyncio.Future[None] = self._run.loop.create_future()
        job = Job(work.operation.name, lambda: held.filled(args, kwargs), left)
        held.left = job.leave
        self._push(work, job)
        try:
            await left
        except asyncio.CancelledError:
            if not job.take():  # a thread has begun it
                job.left = Patient(loop=self._run.loop)
                if not job.is_done:
                    with suppress(asyncio.CancelledError):
                        await job.left
            raise
        if held.error is not None:  # it was given up
            raise held.error
        found: tuple[Sequence[Any], Mapping[str, Any]] = job.result()
        return found

    async def close(self, held: Held, work: Work, error: BaseException | None) -> None:
        """Close all, whatever happens to this asyncio task meanwhile; see ``Held.close``.

        Raises:
            CancelledError: This was cancelled, and ``error`` is None.
        """
        held.error = error
        is_cancelled = False
        while not held.is_over:
            job = Job(work.operation.name, held.close_again, Patient(loop=self._run.loop))
            held.left = job.leave
            if self._end.stopping:
                self._calls.submit(f"task '{job.name}'", job, job.do)
            else:
                self._closings[job] = None
                self._push(work, job)
            try:
                await job.left
            except asyncio.CancelledError:
                is_cancelled = True
            self._closings.pop(job, None)
        failure = held.error
        held.error = None
        if failure is not None and failure is not error:
            raise failure
        if is_cancelled and error is None:
            raise asyncio.CancelledError

    async def call(
        self,
        work: Work,
        call: Callable[[], Any],
        on_abandon: Callable[[Future[Any]], None] | None,
    ) -> Any:
        """The result of a plain call, made by a worker; it is abandoned as any such call (M8).

        Args:
            work: The work of its node.
            call: Makes the call.
            on_abandon: Called with the call of its thread when it is abandoned.

        Raises:
            Exception: The call raised it.
            CancelledError: This was cancelled, and the call has ended or was abandoned.
        """
        run, loop = self._run, self._run.loop
        if self._end.stopping:
            raise asyncio.CancelledError
        job = Job(work.operation.name, call, loop.create_future(), is_call=True)
        self._push(work, job)
        try:
            await job.left
        except asyncio.CancelledError:
            if not job.take():
                while not (job.is_done or run.abandons):
                    job.left = loop.create_future()
                    with suppress(asyncio.CancelledError):
                        await job.left
                if not job.is_done and job.settle():
                    self._abandon(work, job, on_abandon)
            raise
        return job.result()

    def _abandon(
        self, work: Work, job: Job, on_abandon: Callable[[Future[Any]], None] | None
    ) -> None:
        pool = self._dispatch.pool
        call = pool.give_up(job.thread, pool.cell(job.thread))
        if call is not None:
            if on_abandon is not None:
                on_abandon(call)
            self._run.abandon(call, job.name, work.source)

    def do(self, errand: Errand) -> bool:
        """Do a job in a worker's thread; whether that has to leave at once."""
        job = errand.job
        job.thread = get_ident()  # first: whatever finds it taken may need that
        if not job.take():
            return False
        handling = self._calls.handling
        if not job.is_call:
            handling.add(job.thread)
        try:
            job.do()
            if job.is_call and not job.settle():
                return True
            self._run.event_loop_calls.add(job.leave)
        except GivenUp:
            return True
        except RuntimeError:  # the loop is closed
            pass
        finally:
            handling.discard(job.thread)
        return False

    def _push(self, work: Work, job: Job) -> None:
        pool = self._dispatch.pool
        pool.push((work.segment, Errand(work, job)))
        if not self._is_waking:
            self._is_waking = True
            self._run.loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._is_waking = False
        self._dispatch.pool.wake()

    def _stop(self) -> None:
        """The pool begins nothing more. From any thread."""
        if self._closings:
            with suppress(RuntimeError):  # the loop is closed
                self._run.call_in_loop(self._close_all)

    def _close_all(self) -> None:
        """Give closings that no thread has begun threads of their own."""
        for job in list(self._closings):
            if job.take():
                self._calls.submit(f"task '{job.name}'", job, job.do)
