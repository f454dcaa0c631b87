"""``engine.serve()``: a worker, which executes the runs of a store that are due.

A run is due when it was enqueued, when what it sleeps for has come, and when its owner has died. Of
many workers, one gets it. Workers ask the store every second, and as soon as it has news.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final

from cascade.runtime.durable.handles import POLL
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.programs import Program, read_program
from cascade.runtime.durable.retention import Retention
from cascade.runtime.durable.runs import Begin, DurableRuns
from cascade.runtime.durable.schedules import Timetable
from cascade.runtime.durable.suspended import Suspended
from cascade.runtime.durable.tenure import Tenure
from cascade.spec.errors import (
    CodeChangedError,
    LeaseLostError,
    RunCancelledError,
    RunConflictError,
    SerializationError,
    StoreError,
    TaskNotImportedError,
)
from cascade.spec.run_rows import Change, Loaded, RunRecord, RunStatus

_log = logging.getLogger("cascade.worker")
#: Seconds from which on a run that only waits leaves the worker (D10).
_UNLOAD: Final = 5.0
#: Seconds between two sweeps of old runs.
_SWEEP: Final = 60.0
#: Seconds between two looks at which processes of this machine have died.
_LOOK: Final = 1.0


class Worker:
    """Executes the runs of a store that are due.

    Args:
        runs: The durable runs of the engine.
        begin: Gives what begins a run, of what the store knows of it.
        max_runs: Most runs at the same time.
        retention: For how long runs are kept after their end.
        max_recoveries: How often a run is claimed without any progress before it is dead.
    """

    def __init__(
        self,
        runs: DurableRuns,
        begin: Callable[[Loaded], Begin],
        *,
        max_runs: int,
        retention: Retention,
        max_recoveries: int,
    ) -> None:
        self._runs = runs
        self._begin = begin
        self._max_runs = max_runs
        self._retention = retention
        self._max_recoveries = max_recoveries
        #: Id → the asyncio task of each run under way.
        self._works: dict[str, asyncio.Task[None]] = {}
        #: Runs that were claimed and have not begun.
        self._fresh: dict[str, RunRecord] = {}
        #: Ids of runs whose programs cannot be loaded here, and the reasons that were told.
        self._unloadable: set[str] = set()
        self._told: set[str] = set()
        #: Set when there may be something to do.
        self._news = asyncio.Event()
        self._dead: list[str] = []
        self._looks = self._sweeps = float("-inf")

    async def work(self, stop: asyncio.Event) -> None:
        """Execute runs until ``stop`` is set; then hand those under way over.

        Raises:
            StoreError: The store cannot be used, and trying again would not help.
            asyncio.CancelledError: This was cancelled; the runs were handed over.
        """
        loop = asyncio.get_running_loop()

        def heard() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._news.set)

        store = self._runs.store
        stopping = asyncio.ensure_future(stop.wait())
        stopping.add_done_callback(lambda _: self._news.set())
        try:
            unsubscribe = await self._runs.call(store.subscribe, heard)
            try:
                await self._serve(stop)
            finally:
                unsubscribe()
        finally:
            stopping.cancel()
            await self._hand_over()

    async def _serve(self, stop: asyncio.Event) -> None:
        timetable = Timetable(self._runs.codec)
        while not stop.is_set():
            self._news.clear()
            pause = POLL * random.uniform(0.75, 1.25)
            try:
                pause = min(pause, await self._runs.call(timetable.fire, self._runs.store))
                await self._runs.claims.tell()
                await self._claim()
                await self._sweep()
            except StoreError as error:
                if not error.transient:
                    raise
                self._tell(f"the store cannot be used, trying again: {error}")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    # -- claims -----------------------------------------------------------------------------------

    async def _claim(self) -> None:
        """Claim what is due, and begin it."""
        free = self._max_runs - len(self._works)
        if free <= 0:
            return  # the end of a run is news
        await self._look_for_dead()
        claim = partial(
            self._runs.store.claim,
            self._runs.claims.lease,
            limit=free,
            dead=self._dead,
            # Its own runs are not due, unless this process was stopped for longer than a lease:
            # then the next commit finds out which process has them.
            skip=self._unloadable | self._works.keys(),
        )
        for run in await self._runs.claims.claimed(claim):
            self._fresh[run.run_id] = run
            work = asyncio.create_task(self._execute(run), name=f"cascade run {run.run_id}")
            self._works[run.run_id] = work
            work.add_done_callback(partial(self._ended, run.run_id))

    def _ended(self, run_id: str, work: asyncio.Task[None]) -> None:
        del self._works[run_id]
        self._news.set()
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.error("run %r ended with an error of Cascade", run_id, exc_info=error)

    async def _look_for_dead(self) -> None:
        if monotonic() - self._looks >= _LOOK:
            self._dead = await self._runs.claims.dead()
            self._looks = monotonic()

    # -- runs -------------------------------------------------------------------------------------

    async def _execute(self, run: RunRecord) -> None:
        """Execute a claimed run to its end, which is in the store; its error is logged."""
        journals: list[Journal] = []

        def begin(program: Program, journal: Journal) -> Awaitable[Any]:
            journals.append(journal)
            return self._begin(loaded)(program, journal)

        try:
            async with self._runs.claims.owned(run) as tenure:
                del self._fresh[run.run_id]
                await self._runs.refuse_stuck(run, tenure, self._max_recoveries)
                loaded = await self._runs.call(self._runs.store.load, run.number)
                program = await self._program(run, loaded, tenure)
                if program is not None:
                    await self._runs.execute(
                        run, program, begin, tenure, loaded=loaded, unload=_UNLOAD
                    )
        except asyncio.CancelledError:
            raise  # it was handed over
        except Suspended:
            pass  # a worker claims it again when it is due
        except RunCancelledError as error:
            _log.info("%s", error)
        except (LeaseLostError, StoreError) as error:
            _log.warning("run %r goes on elsewhere or later: %s", run.run_id, error)
        except CodeChangedError as error:  # it would be refused at each claim
            self._unloadable.add(run.run_id)
            self._tell(f"run {run.run_id!r} of '{run.target}' is not for this worker: {error}")
        except Exception as error:
            if not journals and isinstance(error, RunConflictError):
                _log.error("%s", error)  # it is dead
                return
            unreadable = journals[0].not_imported if journals else error
            if error is unreadable and isinstance(error, SerializationError):
                self._leave_to_others(run, error)
                return
            _log.warning(
                "run %r of '%s' failed: %s: %s",
                run.run_id,
                run.target,
                type(error).__name__,
                error,
            )

    async def _program(self, run: RunRecord, loaded: Loaded, tenure: Tenure) -> Program | None:
        """The program of a run; None if it cannot be read here: it is released for others."""
        try:
            return read_program(self._runs.codec, loaded)
        except SerializationError as error:
            await self._runs.release(Change(RunStatus.ENQUEUED), tenure)
            self._leave_to_others(run, error)
            return None

    def _leave_to_others(self, run: RunRecord, error: SerializationError) -> None:
        """Claim a run no more which is enqueued again, because it cannot be read here."""
        self._unloadable.add(run.run_id)
        if isinstance(error, TaskNotImportedError):
            self._tell(
                f"run {run.run_id!r} of '{run.target}', and all that need the module "
                f"{error.module!r}, are left to other workers: {error}",
                once_for=error.module,
            )
        else:
            self._tell(f"run {run.run_id!r} is left to other workers: {error}")

    def _tell(self, message: str, once_for: str | None = None) -> None:
        """Log a warning, the first time that there is one for this reason."""
        reason = message if once_for is None else once_for
        if reason not in self._told:
            self._told.add(reason)
            _log.warning("%s", message)

    # -- ends -------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Delete a batch of old runs, once in a while; at once again if there were many."""
        if not self._retention or monotonic() < self._sweeps:
            return
        swept = await self._runs.call(self._retention.sweep, self._runs.store)
        if swept:
            _log.info("deleted %d runs that ended long ago", swept)
            self._news.set()
        else:
            self._sweeps = monotonic() + _SWEEP * random.uniform(0.75, 1.25)

    async def _hand_over(self) -> None:
        """Stop the runs under way, so that other workers go on with them.

        Coroutines are cancelled, and plain functions are waited for. A cancel of this abandons
        those (M8).
        """
        works = list(self._works.values())
        if works:
            _log.info("handing over runs: %s", ", ".join(self._works))
        for work in works:
            work.cancel()
        while works:
            try:
                _, left = await asyncio.wait(works)
                works = list(left)
            except asyncio.CancelledError:
                for work in works:
                    work.cancel()
        for run in list(self._fresh.values()):
            with suppress(LeaseLostError, StoreError):  # its lease runs out
                async with self._runs.claims.owned(run) as tenure:
                    await self._runs.release(Change(RunStatus.ENQUEUED), tenure)
