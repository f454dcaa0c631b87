"""EngineRuns: the active runs of an engine, from their beginning to their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from cascade.runtime.clock import VirtualLoop
from cascade.runtime.context_managers import in_time
from cascade.runtime.durable.suspended import Suspended
from cascade.runtime.events import CodeChanged, RunFinished, RunStarted
from cascade.runtime.execution.fairness import BUDGET
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.run import Run
from cascade.spec.errors import DeadlineError, DependencyMissingError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import ExecutionStrategy

_log = logging.getLogger("cascade.engine")
#: Seconds after its end until an engine warns of runs that are still active.
TELL_AFTER = 5.0
#: Most runs in that warning.
_RUNS_TOLD = 10


class RunInfo(NamedTuple):
    """The progress of a run."""

    run_id: str
    #: Name of its target.
    target: str
    #: ``"graph"`` or ``"vm"``.
    strategy: str
    #: Seconds since its start.
    seconds: float
    #: Calls that tail calls and returned lazy values have asked for so far.
    steps: int
    #: Average over the last second or two.
    steps_per_second: float
    #: The task with the last examined step; None before the first.
    task: str | None


class Hosted(Protocol):
    """The runs that other processes execute. From any thread."""

    def infos(self) -> list[RunInfo]:
        """Their progress."""

    def waiting(self) -> list[Waiting]:
        """What they wait for."""


class EngineRuns:
    """The active runs of one engine."""

    def __init__(self) -> None:
        #: Run → name of its target, name of its strategy, start.
        self.active: dict[Run, tuple[str, str, float]] = {}
        #: Asyncio task of each run that ``Engine.start`` has begun and that has not ended → its id.
        self._started: dict[asyncio.Task[Any], str] = {}
        #: Called with each run that ends, the name of its target, its status, its duration and its
        #: error; None if nothing looks.
        self.on_end: Callable[[Run, str, str, float, BaseException | None], object] | None = None
        #: The runs in other processes; None if there were none.
        self.hosted: Hosted | None = None
        #: When a run last gave the event loop a turn at its end.
        self._turned = perf_counter()

    async def execute(
        self,
        run: Run,
        target: LazyResult[Any],
        strategy: ExecutionStrategy,
        deadline: float | None,
    ) -> Any:
        """The value of ``target``, computed in a new run.

        Most small runs end within one turn of the event loop. A task that makes one after the other
        must not keep the loop for itself, so once in a while a run gives it a turn at its end (M9).
        """
        started, name = perf_counter(), target.name
        run.constraints.use_clock(run.loop.time)
        if not run.bus.is_silent:
            run.publish(RunStarted, name, strategy.name)
        if run.journal is not None and run.journal.code_changes:
            run.publish(CodeChanged, run.journal.code_changes)
        self.active[run] = (name, strategy.name, started)
        # No context manager of contextlib: it sets attributes of the error that passes it, which a
        # frozen dataclass refuses. Every wait of the run passes through each further coroutine.
        try:
            run.begin()
            try:
                try:
                    work = strategy.execute(target, run)
                    value = await (work if deadline is None else _in_time(run, deadline, work))
                except Exception as error:
                    if not run.failures:
                        raise
                    _add_last(run.failures, error)
                if run.failures:  # it went on after its first error
                    raise _together(run)
            except BaseException as error:
                await run.end(error)
                raise
            if not run.ends_at_once():
                await run.end(None)
        except BaseException as error:
            if self._ended(run, started, error) and isinstance(error, Exception):
                await self._give_turn(run)
            raise
        if self._ended(run, started, None):
            await self._give_turn(run)
        return value

    def _ended(self, run: Run, started: float, error: BaseException | None) -> bool:
        """A run has ended; whether the event loop may lack a turn."""
        target, _, _ = self.active.pop(run)
        now = perf_counter()
        if self.on_end is not None:
            self.on_end(run, target, _status(error), now - started, error)
        if not run.bus.is_silent:
            run.publish(RunFinished, _status(error), now - started, error, run.steps.count)
        return now - self._turned > BUDGET

    async def _give_turn(self, run: Run) -> None:
        """Let the event loop have a turn; the run has ended, and its events were told.

        A cancel that comes now replaces the value or the error of the run, for its caller. So it is
        without the turn: asyncio cancels a task that is asked to cancel in its last step. Dropping
        the cancel instead would leave ``asyncio.timeout`` and a TaskGroup without the end that they
        have asked for.
        """
        if not (VirtualLoop.was_used and isinstance(run.loop, VirtualLoop)):
            self._turned = perf_counter()  # now: of many runs that end at once, one gives a turn
            await asyncio.sleep(0)
        self._turned = perf_counter()

    def infos(self) -> list[RunInfo]:
        """The active runs, and the progress of their loops. From any thread."""
        infos = (self.info(run) for run in list(self.active))
        hosted = [] if self.hosted is None else self.hosted.infos()
        return [*(info for info in infos if info is not None), *hosted]

    def info(self, run: Run) -> RunInfo | None:
        """The progress of a run; None if it has ended. From any thread."""
        found = self.active.get(run)
        if found is None:
            return None
        target, strategy, started = found
        steps = run.steps
        return RunInfo(
            run.id,
            target,
            strategy,
            perf_counter() - started,
            steps.count,
            steps.per_second,
            steps.task,
        )

    def find(self, run_id: str) -> Run | None:
        """The active run with this id. From any thread."""
        return next((run for run in list(self.active) if run.id == run_id), None)

    def has(self, run_id: str) -> bool:
        """Whether a run with this id is active, or has been started."""
        return run_id in {run.id for run in list(self.active)}.union(self._started.values())

    def cancel(self, run_id: str) -> bool:
        """Cancel the asyncio task that a run belongs to; whether the run is active.

        In the loop's thread. A second time abandons its plain calls (M8).
        """
        run = self.find(run_id)
        if run is None:
            return False
        run.call_in_loop(run.cancels.task.cancel)
        return True

    def add_started(self, work: asyncio.Task[Any], run_id: str) -> None:
        """Note the asyncio task of a started run until it ends."""
        self._started[work] = run_id
        work.add_done_callback(self._started.pop)

    async def end_started(self) -> None:
        """Cancel the started runs, and wait for those in this event loop."""
        here = asyncio.get_running_loop()
        for work in list(self._started):
            loop = work.get_loop()
            if loop is here:
                work.cancel()
            else:
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    loop.call_soon_threadsafe(work.cancel)
        own = [work for work in self._started if work.get_loop() is here]
        if own:
            await asyncio.wait(own)

    def tell_later(self) -> None:
        """Warn, in some seconds, of runs that are still active after the engine was closed."""
        if self.active:
            asyncio.get_running_loop().call_later(TELL_AFTER, self._tell)

    def _tell(self) -> None:
        left = list(self.active.items())
        if not left:
            return
        told = []
        for run, (target, _, _) in left[:_RUNS_TOLD]:
            waiting: list[Waiting] = run.waiting(inputs=False)
            why = f", where task '{waiting[0].task}' waits: {waiting[0].reason}" if waiting else ""
            told.append(f"'{target}'{why}")
        more = f" and {len(left) - len(told)} more" if len(left) > len(told) else ""
        _log.warning(
            "the engine was closed %g s ago, and these runs are still active: %s%s; cancel "
            "them, or remove the constraints they wait for",
            TELL_AFTER,
            "; ".join(told),
            more,
        )


async def _in_time(run: Run, deadline: float, work: Awaitable[Any]) -> Any:
    """Await ``work``, at most until the run's deadline."""
    run.scope = asyncio.timeout(deadline)
    run.placement.in_time = True
    try:
        return await in_time(run.scope, work)
    except TimeoutError as error:
        if not run.expired:
            raise
        raise DeadlineError(
            f"the run took longer than its deadline of {deadline:g} s", deadline
        ) from error.__cause__


def _add_last(errors: list[Exception], last: Exception) -> None:
    """Add the error that ended a run to the earlier ones, unless it is among them."""
    known = any(last is error for error in errors)  # by identity: == is the user's
    if not (known or isinstance(last, DependencyMissingError)):
        errors.append(last)


def _together(run: Run) -> ExceptionGroup[Exception]:
    """The errors of a run that went on after its first; the run forgets them."""
    errors, run.failures = run.failures, []
    count = len(errors)
    return ExceptionGroup(f"{count} task{'s' * (count > 1)} of the run failed", errors)


def _status(error: BaseException | None) -> str:
    if error is None:
        return "succeeded"
    if isinstance(error, Suspended):
        return "suspended"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
