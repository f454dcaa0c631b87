"""Jobs of workers for coroutines: opening and closing what their calls hold (M7).

A coroutine that is given a held resource waits twice for a worker: before its call, and after it.
The jobs stand in the queue of the pool among the nodes, so one thread does many of them in a row,
the event loop is woken for many at once, and jobs that block overlap as nodes do.

A job that no thread has begun when the run ends is dropped if it opens resources. If it closes
them, it gets a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cascade.runtime.execution.patient import Patient
from cascade.runtime.graph_path.held_calls import HeldCalls, Place
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.runtime.resources.held import GivenUp, Held


class Job(Place):
    """One job.

    Attributes:
        value, error: Its outcome; neither if its thread was given up.
        is_done: Whether it was left. In the event loop's thread.
    """

    __slots__ = ("_do", "_waits", "error", "is_done", "name", "value")

    def __init__(self, name: str, do: Callable[[], Any], left: asyncio.Future[None]) -> None:
        super().__init__(left)
        self.name = name
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self._do = do
        self._waits = [None]

    def leave(self) -> None:
        self.is_done = True
        super().leave()

    def take(self) -> bool:
        """Begin or withdraw it; True for the first caller only."""
        try:
            self._waits.pop()  # atomic
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


class Errand(Work):
    """A job in the queue of the pool, where it looks like the work that it is for."""

    __slots__ = ("job",)

    def __init__(self, work: Work, job: Job) -> None:
        self.job = job
        self.segment, self.node, self.source = work.segment, work.node, work.source
        self.operation, self.policies = work.operation, work.policies
        self.attempt, self.steps, self.loop = work.attempt, work.steps, None


class HeldJobs:
    """The jobs of one run. Used in the event loop's thread, except for ``do``.

    Args:
        around: The other parts of the run.
    """

    def __init__(self, around: Surroundings) -> None:
        self._run, self._end = around.run, around.end
        self._dispatch = around.dispatch
        self._calls: HeldCalls = around.held_calls
        #: Closings that no thread has begun.
        self._closings: dict[Job, None] = {}
        self._is_waking = False
        self._end.at_stop(self._stop)

    def holds(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether workers can open all that a call is given, and have to."""
        resources = self._run.resources
        return resources.need_attempt(args, kwargs) and not resources.needs_event_loop(args, kwargs)

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
        for value in resources.all_below(args, kwargs):
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
        if job.error is not None:
            raise job.error
        if held.error is not None:  # it was given up
            raise held.error
        found: tuple[Sequence[Any], Mapping[str, Any]] = job.value
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

    def do(self, errand: Errand) -> bool:
        """Do a job in a worker's thread; whether that has to leave at once."""
        job = errand.job
        if not job.take():
            return False
        try:
            job.do()
        except GivenUp:
            return True
        with suppress(RuntimeError):  # the loop is closed
            self._run.loop_calls.add(job.leave)
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
