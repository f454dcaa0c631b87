"""Claiming: how an engine comes to own runs of its store, and lets go of those it does not execute.

A claim that comes to nothing must not keep a run from others until its lease is over. If the store
cannot be told, because it is what has failed, this process knows of it at least: here the run can
be claimed at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

from cascade.adapters.processes import dead_among, own_name
from cascade.runtime.durable.desk import now
from cascade.runtime.durable.tenure import Tenure
from cascade.runtime.durable.writer import Writer
from cascade.spec.errors import RunConflictError, StoreError
from cascade.spec.run_rows import Commit, Created, Lease, NewRun, RunRecord, RunStatus
from cascade.spec.run_store import RunStore

T = TypeVar("T")
#: Seconds until others may have a run that could not be executed: at first, and then twice as many
#: each time, up to a lease.
_PAUSE: Final = 0.5
#: Most runs that are created in one transaction.
_TOGETHER: Final = 100
_numbers: Final = itertools.count()
#: Owner and id of each run that is not executed any more, although its lease holds → when that is
#: over, by the monotonic clock. For all engines of this process.
_ended: Final[dict[tuple[str, str], float]] = {}


class _Wanted:
    """A run to be created, and the result of that."""

    def __init__(self, new: NewRun) -> None:
        self.new = new
        self.created: Created | None = None
        self.error: Exception | None = None


class Call(Protocol):
    """Calls a method of the store on a thread."""

    def __call__(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> Awaitable[T]: ...


class Claims:
    """The claims of one engine.

    Args:
        store: Has the runs.
        call: Calls its methods.
        writer: Writes for the runs.
        seconds: For how long a lease holds.
    """

    def __init__(self, store: RunStore, call: Call, writer: Writer, seconds: float) -> None:
        self._store = store
        self._call = call
        self._writer = writer
        self._seconds = seconds
        self._number = next(_numbers)
        #: Id → a run that this engine has let go of, but could not tell the store.
        self._untold: dict[str, RunRecord] = {}
        #: Id → the time just before the claim of a run that is not ``owned`` yet.
        self._since: dict[str, float] = {}
        #: Runs to create: those that wait for the store's thread are created together.
        self._wanted: deque[_Wanted] = deque()

    @property
    def lease(self) -> Lease:
        """A lease of this engine, from now on."""
        return Lease(self._owner, self._seconds)

    @property
    def _owner(self) -> str:
        return f"{own_name()}/{self._number}"

    async def dead(self) -> list[str]:
        """The owners of runs in the store that are processes of this machine which have ended."""
        return dead_among(await self._call(self._store.owners))

    async def created(self, new: NewRun) -> Created:
        """A run that is created, or the one that has its id; it is claimed if it can be.

        Raises:
            Exception: As ``RunStore.create``.
        """
        wanted = _Wanted(new)
        self._wanted.append(wanted)

        def create() -> list[RunRecord]:
            self._create()  # does nothing if an earlier call has created this one too
            if wanted.error is not None:
                raise wanted.error
            assert wanted.created is not None
            return [wanted.created.run] if wanted.created.claimed else []

        await self.claimed(create)
        assert wanted.created is not None
        return wanted.created

    def _create(self) -> None:
        """Create the runs that are wanted. On the thread of the store."""
        batch: dict[str, _Wanted] = {}
        while self._wanted and len(batch) < _TOGETHER:
            if self._wanted[0].new.run_id in batch:
                break  # the next call creates that one
            wanted = self._wanted.popleft()
            batch[wanted.new.run_id] = wanted
        try:
            self._create_all(batch.values())
        except StoreError as error:
            for wanted in batch.values():  # each raises its own
                wanted.error = StoreError(str(error), error.transient)
                wanted.error.__cause__ = error.__cause__
        except Exception:  # one of them is at fault
            for wanted in batch.values():
                try:
                    self._create_all([wanted])
                except Exception as error:
                    wanted.error = error

    def _create_all(self, batch: Collection[_Wanted]) -> None:
        if batch:
            began = now()
            made = self._store.create([wanted.new for wanted in batch], lease=self.lease)
            for wanted, created in zip(batch, made, strict=True):
                wanted.created = created
                if created.claimed:
                    self._since[created.run.run_id] = began

    async def by_id(self, run_id: str) -> RunRecord:
        """The run with an id, claimed unless it has succeeded.

        Raises:
            RunLeasedError: A process executes it.
            Exception: As ``RunStore.claim_run``.
        """
        lease, dead = self.lease, dead_for(run_id, await self._call(self._store.owners))

        def claim() -> list[RunRecord]:
            return [self._store.claim_run(run_id, lease, again=True, dead=dead)]

        try:
            (run,) = await self.claimed(claim)
        except RunConflictError:
            found = await self._call(self._store.find, run_id)
            if found is None or found.status is not RunStatus.SUCCEEDED:
                raise
            return found
        return run

    async def claimed(self, claim: Callable[[], Sequence[RunRecord]]) -> Sequence[RunRecord]:
        """The runs that ``claim`` has claimed. If this is cancelled meanwhile, it lets go of them.

        Raises:
            Exception: As ``claim``.
        """

        def call() -> Sequence[RunRecord]:
            began, runs, owner = now(), claim(), self._owner
            for run in runs:
                self._since.setdefault(run.run_id, began)
                _ended.pop((owner, run.run_id), None)
                self._untold.pop(run.run_id, None)
            return runs

        claiming = asyncio.ensure_future(self._call(call))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(Exception):  # it has claimed nothing
                for run in await claiming:
                    self._since.pop(run.run_id, None)
                    await self._let_go(run, 0.0)
            raise

    @asynccontextmanager
    async def owned(self, run: RunRecord) -> AsyncIterator[Tenure]:
        """The time in which this engine owns a run that it has claimed.

        If the block ends otherwise than by the end of the tenure, this lets go of the run: after a
        pause, as it would probably end so again.
        """
        tenure = Tenure(run, self._since.pop(run.run_id), self._writer)
        try:
            yield tenure
        except (Exception, asyncio.CancelledError) as error:
            tenure.close()
            if not tenure.is_over and tenure.lost is None:  # else the store cannot be used now
                pause = 0.0 if isinstance(error, asyncio.CancelledError) else self._pause(run)
                await self._let_go(run, pause)
            raise
        finally:
            tenure.close()
            if not tenure.is_over:
                self._note_ended(run)

    async def tell(self) -> None:
        """Tell the store of the runs that it could not be told of before."""
        for run in list(self._untold.values()):
            if not await self._let_go(run, self._pause(run)):
                return

    async def _let_go(self, run: RunRecord, pause: float) -> bool:
        """Let others have a run in some seconds; whether the store knows of it."""
        self._note_ended(run)
        try:
            await self._call(self._store.commit, [Commit(run.number, run.epoch)], seconds=pause)
        except StoreError:
            self._untold[run.run_id] = run
            return False
        self._untold.pop(run.run_id, None)
        return True

    def _pause(self, run: RunRecord) -> float:
        return min(_PAUSE * 2.0 ** min(run.recoveries - 1, 10), self._seconds)

    def _note_ended(self, run: RunRecord) -> None:
        now = monotonic()
        for key, until in list(_ended.items()):
            if until < now:
                _ended.pop(key, None)
        _ended[self._owner, run.run_id] = now + self._seconds


def dead_for(run_id: str, owners: Iterable[str]) -> list[str]:
    """Those of the owners that do not execute a run, even if they own it."""
    owners = list(owners)
    ended = {owner for owner, run in list(_ended) if run == run_id}
    return [*dead_among(owners), *ended.intersection(owners)]
