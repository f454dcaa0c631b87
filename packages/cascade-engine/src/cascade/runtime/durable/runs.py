"""Durable runs of one engine: how one is executed under a lease, and how it ends in its store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

from cascade.adapters.stores.urls import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.claiming import Claims
from cascade.runtime.durable.code import (
    code_changes,
    refuse_changed,
    stored_code,
    tell_of_recomputing,
    warn_of_changed,
)
from cascade.runtime.durable.guarantees import Guarantees
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.mail import Mail
from cascade.runtime.durable.programs import Program
from cascade.runtime.durable.recomputing import without_changed
from cascade.runtime.durable.run_storage import RunStorage
from cascade.runtime.durable.suspended import Suspended
from cascade.runtime.durable.tenure import Tenure
from cascade.runtime.durable.writer import LEASE, Writer
from cascade.runtime.execution.worker_calls import hold_until
from cascade.spec.errors import (
    LeaseLostError,
    NotStorableError,
    RunConflictError,
    StoreError,
)
from cascade.spec.run_rows import Change, Loaded, RunRecord, RunStatus
from cascade.spec.run_store import RunStore

T = TypeVar("T")
#: Begins a run with a journal; awaiting it gives the value.
Begin: TypeAlias = Callable[[Program, Journal], Awaitable[Any]]


class DurableRuns:
    """The durable runs of one engine.

    ``starting``, ``resuming`` and ``serving`` claim runs; here they are executed.

    Attributes:
        claims: The engine's claims to them.

    Args:
        store: Keeps them.
        codec: Encodes values.
        guarantees: The promises of the engine about them.
        seconds: For how long a lease holds.
        owns: Whether to close the store at the end.
    """

    def __init__(
        self,
        store: RunStore,
        codec: Codec,
        guarantees: Guarantees,
        *,
        seconds: float = LEASE,
        owns: bool = False,
    ) -> None:
        self.store = store
        self.codec = codec
        self._guarantees = guarantees
        self._owns = owns
        self.claims = Claims(store, self.call, Writer(store, codec, seconds), seconds)
        #: Ids of runs that their handles have cancelled for good.
        self._cancelled: set[str] = set()
        self._threads: ThreadPoolExecutor | None = None
        #: The runs that are being created, by id.
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._mails: dict[asyncio.AbstractEventLoop, Mail] = {}

    async def execute(
        self,
        run: RunRecord,
        program: Program,
        begin: Begin,
        tenure: Tenure,
        *,
        loaded: Loaded | None = None,
        unload: float | None = None,
    ) -> Any:
        """The value of a run that was just claimed, computed from where it was.

        Args:
            tenure: That of the run, from ``claims``.
            loaded: What the store knew of it, if that was read after the claim.
            unload: Seconds. A run that does nothing but wait, for at least so long or for signals
                alone, leaves this process (D10). None: it waits here.

        Raises:
            StoreError: The store cannot be used.
            LeaseLostError: Another process has taken the run over meanwhile.
            RunCancelledError: It was cancelled.
            Suspended: It only waits, and ``unload`` lets it leave this process.
            Exception: The error of the run.
        """
        if loaded is None:
            loaded = await self.call(self.store.load, run.number)
        desk = tenure.desk
        desk.chunk = max((chunk.number for chunk in loaded.chunks), default=0) + 1
        desk.deferred = self._guarantees.durability == "exit"
        try:
            storage = RunStorage(self.store, self.codec, run, desk)
            journal = Journal(storage, program.keys, self._guarantees, unload=unload)
            mail = self._mail()
            journal.inbox.ask = partial(mail.watch, run.number, journal.inbox)
            tenure.begin(journal, mail)
            if self._guarantees.on_code_change == "recompute" and run.epoch > 1:
                loaded, changes = without_changed(self.codec, loaded, program, desk)
                journal.code_changes, journal.has_code = changes, bool(changes)
            journal.load(loaded)
            await self._compare_code(tenure, journal, program, loaded)
            return await self._lived(tenure, journal, partial(begin, program, journal))
        finally:
            tenure.end()
            self._cancelled.discard(run.run_id)

    def cancel(self, run_id: str) -> None:
        """Let a run whose work is cancelled next end as cancelled, and not as interrupted."""
        self._cancelled.add(run_id)

    async def release(self, change: Change, tenure: Tenure) -> None:
        """Leave a run: commit its end here, with all that is not committed yet.

        A first cancel does not end the wait for the commit, a second one does.

        Raises:
            LeaseLostError: Another process has taken it over.
            StoreError: The store cannot be used; the run stays unfinished.
        """
        left: Future[None] = Future()
        tenure.left = left
        if tenure.lost is not None:  # the writer serves this run no more
            raise tenure.lost
        tenure.desk.leave(change, tenure.leave)
        ended = asyncio.wrap_future(left)  # before the clock may go on
        hold_until(left, asyncio.get_running_loop(), "the commit of a run's end")
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            await asyncio.wait([ended])
            if not ended.cancelled():
                ended.exception()  # is retrieved; the cancel is raised
            raise

    async def result(self, run: RunRecord) -> Any:
        """The value of a run that has succeeded.

        Raises:
            NotStorableError: It has no stored form.
            SerializationError: It cannot be read in this process.
        """
        loaded = await self.call(self.store.load, run.number)
        return value_of(self.codec, run, loaded.result)

    async def _compare_code(
        self, tenure: Tenure, journal: Journal, program: Program, loaded: Loaded
    ) -> None:
        """Look for new code in a run that is resumed (D9).

        Raises:
            CodeChangedError: There is some, and the engine refuses it; the run is left as it was.
        """
        if self._guarantees.on_code_change == "recompute":
            if journal.code_changes:
                tell_of_recomputing(loaded.run.run_id, journal.code_changes)
            return
        if loaded.run.epoch > 1:
            stored = stored_code(self.codec, loaded)
            journal.code_changes = code_changes(stored, program.target, journal)
        if not journal.code_changes:
            return
        if self._guarantees.on_code_change == "refuse":
            await self.release(Change(RunStatus.ENQUEUED), tenure)
            refuse_changed(loaded.run.run_id, journal.code_changes)
        warn_of_changed(loaded.run.run_id, journal.code_changes)

    async def refuse_stuck(self, run: RunRecord, tenure: Tenure, max_recoveries: int) -> None:
        """Declare a run dead that seems to end each process which goes on with it (D3).

        Args:
            run: It was just claimed.
            max_recoveries: How often a run is claimed without any progress before it is dead.

        Raises:
            RunConflictError: It is dead now.
        """
        if run.recoveries <= max_recoveries:
            return
        error = RunConflictError(
            f"run {run.run_id!r} of '{run.target}' is dead: it was claimed {run.recoveries - 1} "
            "times without any progress, so it probably ends the processes that execute it; no "
            "worker takes it any more; run it again by its id to try once more",
            run.run_id,
        )
        await self.release(Change(RunStatus.DEAD, self.codec.dumps(error)), tenure)
        raise error

    async def declare_dead(self, run_id: str, error: Exception) -> None:
        """Have a run that no process executes now end as dead, with ``error`` (D3).

        Raises:
            RunLeasedError: A process executes it.
            StoreError: The store cannot be used.
        """
        run = await self.claims.by_id(run_id)
        if run.status is not RunStatus.SUCCEEDED:
            async with self.claims.owned(run) as tenure:
                await self.release(Change(RunStatus.DEAD, self.codec.dumps(error)), tenure)

    async def call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a method of the store, which may wait for the disk, on a thread."""
        call = self._submit(partial(method, *args, **kwargs))
        result = asyncio.wrap_future(call)  # before the clock may go on
        hold_until(call, asyncio.get_running_loop(), "a call of the store")
        return await result

    async def signal(self, run_id: str, name: str, value: Any) -> None:
        """Send a signal to a run, in whatever process it is executed (D11).

        Raises:
            NotStorableError: ``value`` has no stored form.
            RunNotFoundError: No run has the id.
            RunConflictError: It has ended.
        """
        body = self.codec.dumps(value)
        opening = self._opening.get(run_id)
        if opening is not None and opening.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([opening])  # this engine is about to create it
        await self.call(self.store.send, run_id, name, body)

    @contextmanager
    def opening(self, run_id: str) -> Iterator[None]:
        """A run is being created in this block; ``signal`` waits for its end."""
        opened = asyncio.get_running_loop().create_future()
        self._opening[run_id] = opened
        try:
            yield
        finally:
            self._opening.pop(run_id, None)
            opened.set_result(None)

    def close(self) -> None:
        """End the threads. No run is under way any more."""
        for loop, mail in self._mails.items():
            if not loop.is_closed():
                mail.close()
        self._mails.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        if self._owns:
            self.store.close()

    # -- a run under way --------------------------------------------------------------------------

    async def _lived(
        self,
        tenure: Tenure,
        journal: Journal,
        begin: Callable[[], Awaitable[Any]],
    ) -> Any:
        """The value of a run, computed under a lease; and its end in the store."""
        try:
            value = await begin()
        except asyncio.CancelledError:
            change = Change(RunStatus.ENQUEUED)  # any process may go on with it
            if tenure.run_id in self._cancelled:
                change = Change(RunStatus.CANCELLED, self.codec.dumps(tenure.cancel()))
            with suppress(StoreError, LeaseLostError):  # it has an owner that goes on, or will
                await self.release(change, tenure)
            raise
        except Suspended as wait:
            change = Change(RunStatus.SUSPENDED, due=wait.due, inbox=wait.inbox)
            await self.release(change, tenure)
            raise
        except Exception as error:
            if error is not tenure.lost:
                await self.release(self._end_of(tenure, journal, error), tenure)
            raise
        try:
            body = self.codec.dumps(value)
        except NotStorableError:
            body = b""
        journal.succeed()
        await self.release(Change(RunStatus.SUCCEEDED, body), tenure)
        return value

    def _end_of(self, tenure: Tenure, journal: Journal, error: Exception) -> Change:
        """How a run ends in the store that has ended with an error."""
        if error is journal.not_imported:  # another process can go on with it
            return Change(RunStatus.ENQUEUED)
        status = RunStatus.CANCELLED if error is tenure.cancelled else RunStatus.FAILED
        return Change(status, self.codec.dumps(error))

    def _mail(self) -> Mail:
        """Looks for signals in this event loop."""
        loop = asyncio.get_running_loop()
        mail = self._mails.get(loop)
        if mail is None:
            self._mails = {loop: mail for loop, mail in self._mails.items() if not loop.is_closed()}
            mail = self._mails[loop] = Mail(self.store, self._submit)
        return mail

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        """Make a call on the thread for calls of the store."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="cascade-store")
        return self._threads.submit(call)


def durable_runs(
    store: RunStore | str | None,
    guarantees: Guarantees,
    signing_key: bytes | str | None,
    modules: Iterable[str] = (),
) -> DurableRuns | None:
    """The durable runs of an engine; None without a store.

    Raises:
        ArgumentError: ``store`` is none, ``signing_key`` is no key, or ``modules`` are not names.
        StoreError: The store cannot be opened.
    """
    codec = Codec(signing_key=signing_key, modules=modules)
    if store is None:
        return None
    if isinstance(store, RunStore):
        return DurableRuns(store, codec, guarantees)
    return DurableRuns(open_store(store), codec, guarantees, owns=True)


def value_of(codec: Codec, run: RunRecord, result: bytes | None) -> Any:
    """The stored value of a run that has succeeded.

    Raises:
        NotStorableError: It has no stored form.
        SerializationError: It cannot be read in this process.
    """
    if not result:
        raise NotStorableError(
            f"run {run.run_id!r} has succeeded, but its value has no stored form", ""
        )
    return codec.loads(result)
