"""Claiming: how an engine comes to own runs of its store, and lets go of those it does not execute.

A claim that comes to nothing must not keep a run from others until its lease is over. If the store
cannot be told, because it is what has failed, this process knows of it at least: here the run can
be claimed at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

from cascade.adapters.processes import dead_among, own_name
from cascade.runtime.durable.tenure import Tenure
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Commit, Lease, RunRecord
from cascade.spec.run_store import RunStore

T = TypeVar("T")
#: Seconds until others may have a run that could not be executed: at first, and then twice as many
#: each time, up to a lease.
_PAUSE: Final = 0.5
_numbers: Final = itertools.count()
#: Owner and id of each run that is not executed any more, although its lease holds → when that is
#: over, by the monotonic clock. For all engines of this process.
_ended: Final[dict[tuple[str, str], float]] = {}


class Call(Protocol):
    """Calls a method of the store on a thread."""

    def __call__(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> Awaitable[T]: ...


class Claims:
    """The claims of one engine.

    Args:
        store: Has the runs.
        call: Calls its methods.
        seconds: For how long a lease holds.
    """

    def __init__(self, store: RunStore, call: Call, seconds: float) -> None:
        self._store = store
        self._call = call
        self._seconds = seconds
        self._number = next(_numbers)
        #: Id → a run that this engine has let go of, but could not tell the store.
        self._untold: dict[str, RunRecord] = {}

    @property
    def lease(self) -> Lease:
        """A lease of this engine, from now on."""
        return Lease(self._owner, self._seconds)

    @property
    def _owner(self) -> str:
        return f"{own_name()}/{self._number}"

    async def dead(self, run_id: str | None = None) -> list[str]:
        """Owners of runs in the store that do not live any more.

        Args:
            run_id: Also those of this process that do not execute this run any more.
        """
        owners = await self._call(self._store.owners)
        return dead_among(owners) if run_id is None else dead_for(run_id, owners)

    async def claimed(self, claim: Callable[[], Sequence[RunRecord]]) -> Sequence[RunRecord]:
        """The runs that ``claim`` has claimed. If this is cancelled meanwhile, it lets go of them.

        Raises:
            Exception: As ``claim``.
        """

        def call() -> Sequence[RunRecord]:
            runs, owner = claim(), self._owner
            for run in runs:
                _ended.pop((owner, run.run_id), None)
                self._untold.pop(run.run_id, None)
            return runs

        claiming = asyncio.ensure_future(self._call(call))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(Exception):  # it has claimed nothing
                for run in await claiming:
                    await self._let_go(run, 0.0)
            raise

    @asynccontextmanager
    async def owned(self, run: RunRecord) -> AsyncIterator[Tenure]:
        """The time in which this engine owns a run that it has claimed.

        If the block ends otherwise than by the end of the tenure, this lets go of the run: after a
        pause, as it would probably end so again.
        """
        tenure = Tenure(run.run_id)
        try:
            yield tenure
        except (Exception, asyncio.CancelledError) as error:
            if not tenure.is_over and tenure.lost is None:  # else the store cannot be used now
                pause = 0.0 if isinstance(error, asyncio.CancelledError) else self._pause(run)
                await self._let_go(run, pause)
            raise
        finally:
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
