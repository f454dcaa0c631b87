"""Durable runs: how one begins or is resumed, and how it ends in its store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from cascade.adapters.stores.urls import open_store
from cascade.graph.codec import Codec
from cascade.graph.naming import ROOT
from cascade.graph.serialize import to_json
from cascade.graph.signatures import Signature, difference, signature_of
from cascade.runtime.durable.code import code_changes, identity, refuse_changed, warn_of_changed
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.keys import Keys
from cascade.runtime.durable.mail import Mail
from cascade.runtime.durable.owner import dead_among, own_name
from cascade.runtime.durable.suspended import Suspended
from cascade.runtime.durable.writer import LEASE, Desk, Writer
from cascade.runtime.execution.worker_calls import hold_until
from cascade.runtime.options import Durability, OnCodeChange
from cascade.spec.errors import (
    LeaseLostError,
    NotStorableError,
    RunCancelledError,
    RunConflictError,
    SerializationError,
    StoreError,
)
from cascade.spec.lazy_types import LazyResult
from cascade.spec.run_rows import Change, Lease, Loaded, NewRun, Receipt, RunRecord, RunStatus
from cascade.spec.run_store import RunStore
from cascade.spec.wording import short

T = TypeVar("T")
#: Begins a run with a journal; awaiting it gives the value.
Begin = Callable[[Journal], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """A run that is asked for.

    Attributes:
        run_id: Its id.
        target: Its target.
        params: The values of its parameters.
        priority: Its priority among enqueued runs (M24).
        durability: What it waits for (D4).
        unload: Seconds. A run that does nothing but wait, for at least so long or for signals
            alone, leaves this process (D10). None: it waits here.
    """

    run_id: str
    target: LazyResult[Any]
    params: Mapping[str, Any]
    priority: int = 0
    durability: Durability = "sync"
    unload: float | None = None


class DurableRuns:
    """The durable runs of one engine.

    Args:
        store: Keeps them.
        codec: Encodes values.
        lease: Seconds for which a lease holds.
        owns: Whether to close the store at the end.

    Attributes:
        on_code_change: What becomes of a run whose code has changed (D9).
    """

    def __init__(
        self, store: RunStore, codec: Codec, *, lease: float = LEASE, owns: bool = False
    ) -> None:
        self.store = store
        self.on_code_change: OnCodeChange = "warn"
        self._owns = owns
        self._codec = codec
        self._lease = lease
        self._writer = Writer(store, lease)
        self._threads: ThreadPoolExecutor | None = None
        #: The runs that are being claimed, by id.
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._mails: dict[asyncio.AbstractEventLoop, Mail] = {}

    async def value(self, request: Request, begin: Begin) -> Any:
        """The value of a run: stored, or computed from where it was (D1).

        Raises:
            RunConflictError: The id belongs to a run of another target, or with other parameters.
            RunLeasedError: Another process executes it, or another run of this one.
            StoreError: The store cannot be used.
            LeaseLostError: Another process has taken it over meanwhile.
            RunCancelledError: Somebody has cancelled it.
            Suspended: It only waits, and ``request.unload`` lets it leave this process.
        """
        keys = Keys()
        named = keys.new(request.target, ROOT)
        keys.put(named, None, lasts=True)
        found = await self._opened(request, signature_of(named), keys)
        if found.status is RunStatus.SUCCEEDED:
            return await self._result(found)
        loaded = await self.call(self.store.load, found.number)
        chunk = max((chunk.number for chunk in loaded.chunks), default=0) + 1
        tenure = _Tenure(request.run_id)
        desk = self._writer.open(found.number, found.epoch, chunk, tenure)
        try:
            desk.deferred = request.durability == "exit"
            journal = Journal(self._codec, keys, desk, sync=request.durability == "sync")
            journal.run_id = request.run_id
            journal.fetch = partial(self._blob, found.number)
            journal.transaction = partial(self.store.transaction, found.number, found.epoch)
            journal.unload = request.unload
            mail = self._mail()
            journal.inbox.ask = partial(mail.watch, found.number, journal.inbox)
            tenure.begin(journal, mail)
            journal.load(loaded)
            await self._compare_code(tenure, desk, journal, request, loaded)
            return await self._lived(tenure, desk, journal, request, begin)
        finally:
            tenure.end()
            self._writer.close(desk)

    async def _opened(self, request: Request, signature: Signature, keys: Keys) -> RunRecord:
        """The same as ``_claimed``; ``signal`` waits for it."""
        opened = asyncio.get_running_loop().create_future()
        self._opening[request.run_id] = opened
        try:
            return await self._claimed(request, signature, keys)
        finally:
            self._opening.pop(request.run_id, None)
            opened.set_result(None)

    async def _claimed(self, request: Request, signature: Signature, keys: Keys) -> RunRecord:
        """The run, which this process owns now, unless it has succeeded."""
        params = self._codec.dumps(dict(request.params))
        new = NewRun(
            request.run_id,
            request.target.name,
            signature.digest,
            _program(request.target),
            params,
            identity(signature, keys),
            request.priority,
        )
        lease = Lease(own_name(), self._lease)
        dead = await self._dead()
        (created,) = await self.call(self.store.create, [new], lease=lease, dead=dead)
        run: RunRecord = created.run
        if not created.new:
            await self._compare(run, signature, params)
        if created.claimed or run.status is RunStatus.SUCCEEDED:
            return run
        claim = partial(self.store.claim_run, run.run_id, lease, again=True, dead=dead)
        return await self.call(claim)

    async def _compare(self, run: RunRecord, given: Signature, params: bytes) -> None:
        """Refuse a run that is another one than the stored one with its id (D1)."""
        loaded = await self.call(self.store.load, run.number)
        stored = Signature.from_bytes(loaded.code) if loaded.code else None
        if run.root != given.digest:
            how = "" if stored is None else f": {difference(stored, given)}"
            raise RunConflictError(
                f"run {run.run_id!r} in the store is of another target, '{run.target}'{how}; "
                "give this one another run_id, or delete that run",
                run.run_id,
            )
        if loaded.params != params:
            raise RunConflictError(
                f"run {run.run_id!r} in the store has other parameters: "
                f"{short(self._codec.loads(loaded.params))}; give this one another run_id",
                run.run_id,
            )

    async def _compare_code(
        self, tenure: _Tenure, desk: Desk, journal: Journal, request: Request, loaded: Loaded
    ) -> None:
        """Look for new code in a run that is resumed (D9).

        Raises:
            CodeChangedError: There is some, and the engine refuses it; the run is left as it was.
        """
        if loaded.run.epoch > 1:
            journal.code_changes = code_changes(loaded.code, request.target, journal)
        if not journal.code_changes:
            return
        if self.on_code_change == "refuse":
            await self._leave(tenure, desk, Change(RunStatus.ENQUEUED))
            refuse_changed(request.run_id, journal.code_changes)
        warn_of_changed(request.run_id, journal.code_changes)

    async def _dead(self) -> list[str]:
        """The owners of runs in the store that are processes of this machine which have ended."""
        return dead_among(await self.call(self.store.owners))

    async def _result(self, run: RunRecord) -> Any:
        """The value of a run that has succeeded."""
        loaded = await self.call(self.store.load, run.number)
        if not loaded.result:
            raise NotStorableError(
                f"run {run.run_id!r} has succeeded, but its value has no stored form", ""
            )
        return self._codec.loads(loaded.result)

    async def _lived(
        self, tenure: _Tenure, desk: Desk, journal: Journal, request: Request, begin: Begin
    ) -> Any:
        """The value of a run, computed under a lease; and its end in the store."""
        try:
            value = await begin(journal)
        except asyncio.CancelledError:
            # Ctrl-C, or the end of the engine: any process may go on with it.
            with suppress(StoreError, LeaseLostError):  # it has an owner that goes on, or will
                await asyncio.shield(self._leave(tenure, desk, Change(RunStatus.ENQUEUED)))
            raise
        except Suspended as wait:
            change = Change(RunStatus.SUSPENDED, due=wait.due, inbox=wait.inbox)
            await self._leave(tenure, desk, change)
            raise
        except Exception as error:
            if error is not tenure.lost:
                status = RunStatus.CANCELLED if error is tenure.cancelled else RunStatus.FAILED
                await self._leave(tenure, desk, Change(status, self._codec.dumps(error)))
            raise
        try:
            body = self._codec.dumps(value)
        except NotStorableError:
            body = b""
        journal.succeed()
        await self._leave(tenure, desk, Change(RunStatus.SUCCEEDED, body))
        return value

    async def _leave(self, tenure: _Tenure, desk: Desk, change: Change) -> None:
        """Commit the end of a run, with all that is not committed yet.

        Raises:
            LeaseLostError: Another process has taken it over.
            StoreError: The store cannot be used; the run stays unfinished.
        """
        left: Future[None] = Future()
        tenure.left, tenure.leaves = left, partial(left.set_result, None)
        if tenure.lost is not None:  # the writer serves this run no more
            raise tenure.lost
        desk.leave(change, tenure.leaves)
        committed = asyncio.wrap_future(left)  # before the clock may go on
        hold_until(left, asyncio.get_running_loop(), "the commit of a run's end")
        await committed

    # -- signals ----------------------------------------------------------------------------------

    async def signal(self, run_id: str, name: str, value: Any) -> None:
        """Send a signal to a run, whoever executes it (D11).

        Raises:
            NotStorableError: ``value`` has no stored form.
            RunNotFoundError: No run has the id.
            RunConflictError: It has ended.
        """
        body = self._codec.dumps(value)
        opening = self._opening.get(run_id)
        if opening is not None and opening.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([opening])  # this engine is about to create it
        await self.call(self.store.send, run_id, name, body)

    def _mail(self) -> Mail:
        """Looks for signals in this event loop."""
        loop = asyncio.get_running_loop()
        mail = self._mails.get(loop)
        if mail is None:
            self._mails = {loop: mail for loop, mail in self._mails.items() if not loop.is_closed()}
            mail = self._mails[loop] = Mail(self.store, self._submit)
        return mail

    # -- the store --------------------------------------------------------------------------------

    async def call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a method of the store, which may wait for the disk, on a thread."""
        call = self._submit(partial(method, *args, **kwargs))
        result = asyncio.wrap_future(call)  # before the clock may go on
        hold_until(call, asyncio.get_running_loop(), "a call of the store")
        return await result

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        """Make a call on the thread for calls of the store."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="cascade-store")
        return self._threads.submit(call)

    def _blob(self, run: int, digest: bytes) -> bytes:
        """A large value. In any thread; the run waits for it."""
        found = self.store.blobs(run, [digest]).get(digest)
        if found is None:
            raise SerializationError(f"the store has lost a large value, {digest.hex()}")
        return found

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


def durable_runs(
    store: RunStore | str | None, signing_key: bytes | str | None
) -> DurableRuns | None:
    """The durable runs of an engine; None without a store.

    Raises:
        ArgumentError: ``store`` is none, or ``signing_key`` is no key.
        StoreError: The store cannot be opened.
    """
    if store is None:
        return None
    codec = Codec(signing_key=signing_key)
    if isinstance(store, RunStore):
        return DurableRuns(store, codec)
    return DurableRuns(open_store(store), codec, owns=True)


class _Tenure:
    """The time in which this process owns a run; listens to the writer.

    Args:
        run_id: The run.

    Attributes:
        lost: The error with which the run ends here, because the store or the lease was lost.
        cancelled: The error with which it ends because somebody has cancelled it.
        left: Done when the end of the run is committed.
        leaves: What waits for that commit.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._loop = asyncio.get_running_loop()
        self._journal: Journal | None = None
        self._mail: Mail | None = None
        #: The number of signals that the last receipt has told of.
        self._inbox = 0
        self.lost: Exception | None = None
        self.cancelled: RunCancelledError | None = None
        self.left: Future[None] | None = None
        self.leaves: Callable[[], object] = _nothing

    def begin(self, journal: Journal, mail: Mail) -> None:
        """Pass on to ``journal`` what the writer tells; to ``mail``, that there are signals."""
        self._journal, self._mail = journal, mail

    def end(self) -> None:
        """Pass on nothing more."""
        if self._journal is not None:
            self._journal.end()

    # -- in the writer's thread ---------------------------------------------------------------

    def committed(self, waiting: list[Callable[[], object]], receipt: Receipt) -> None:
        if self.left is not None:
            if self.leaves in waiting:  # others wait for nothing any more
                self.leaves()
            return
        if waiting:
            self._in_loop(self._pass_on, waiting)
        if receipt.inbox > self._inbox:
            self._inbox = receipt.inbox
            self._in_loop(self._expect, receipt.inbox)
        if receipt.cancelling and self.cancelled is None:
            self.cancelled = RunCancelledError(f"run {self._run_id!r} was cancelled", self._run_id)
            self._in_loop(self._stop, self.cancelled)

    def lost_lease(self) -> None:
        self._lose(
            LeaseLostError(
                f"run {self._run_id!r} has another owner by now, which goes on with it; what this "
                "process has done since its last commit is not kept",
                self._run_id,
            )
        )

    def failed(self, error: StoreError) -> None:
        self._lose(error)

    def _lose(self, error: Exception) -> None:
        self.lost = self.lost or error
        left = self.left
        if left is not None and not left.done():
            left.set_exception(self.lost)
        else:
            self._in_loop(self._stop, self.lost)

    def _in_loop(self, call: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *args)

    # -- in the loop's thread -----------------------------------------------------------------

    def _pass_on(self, waiting: list[Callable[[], object]]) -> None:
        if self._journal is not None:
            self._journal.committed(waiting)

    def _expect(self, count: int) -> None:
        if self._journal is not None and self._mail is not None:
            self._mail.expect(self._journal.inbox, count)

    def _stop(self, error: Exception) -> None:
        if self._journal is not None:
            self._journal.stop(error)


def _nothing() -> None:
    """What waits for the end of a run that has not come."""


def _program(target: LazyResult[Any]) -> bytes | None:
    """The target for other processes; None if they cannot read it."""
    try:
        return to_json(target).encode()
    except SerializationError:
        return None
