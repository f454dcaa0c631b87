"""The writer: commits what the durable runs of an engine have come to know, in groups.

One thread serves all runs. While it commits, more comes in, so the next transaction is as large as
the store is slow. A run that waits for a commit (``sync``) has it begin at once; without one, the
writer gathers for some milliseconds. Each commit renews the leases of all runs in it; a run that
has nothing to write renews its own after a third of the time.

To hand a commit to the thread and back takes longer than many stores need for it. If the store
commits without waiting (``CommitsAtOnce``), the event loop's thread therefore commits what a run of
its own waits for, at the end of the present turn, unless the thread commits at that moment.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Final, Protocol, TypeAlias

from cascade.graph.codec import Codec
from cascade.runtime.durable.rows import Later, written_later
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Blob, Change, Chunk, Commit, Receipt, Record
from cascade.spec.run_store import CommitsAtOnce, RunStore

#: Seconds for which a lease holds.
LEASE = 10.0
#: The part of a lease after which its owner counts it as over. The rest is for the moment between
#: the claim, or a commit, and its time here.
_SAFE: Final = 0.9
#: Seconds that the writer gathers for runs that do not wait.
GATHER = 0.005
#: Seconds until a commit that failed is tried again, at first and at most.
_AGAIN, _AT_MOST = 0.05, 1.0
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: Most bytes of a commit in the event loop's thread (M9).
_SMALL: Final = 65_536


def now() -> float:
    """Seconds by a clock that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(_CLOCK)


class Listener(Protocol):
    """What the writer tells a run. Has to be quick.

    Called in the writer's thread, or in the thread of an event loop that has committed.
    """

    def committed(self, waiting: list[Callable[[], object]], receipt: Receipt) -> None:
        """A commit was written; ``waiting`` are the functions that were given with it."""

    def lost_lease(self) -> None:
        """Another process has the run; nothing was written."""

    def failed(self, error: StoreError) -> None:
        """The store cannot be used, and trying again would not help; nothing was written."""


#: Functions that are called after a commit.
Waiting: TypeAlias = list[Callable[[], object]]
#: Commits that are collected, and not written yet.
_Collected: TypeAlias = list[tuple["Desk", tuple[Commit, Waiting]]]


class Desk:
    """What one run has to write. From any thread. Made in the thread of the run's event loop.

    Attributes:
        number: The run's number in the store.
        epoch: As it was claimed.
        chunk: The number of the chunk that ``outcome`` adds to.
        deferred: Whether everything waits for the last commit, or one that something waits for.
        progress: Number of steps that the run has made (M20), written with the next commit.
    """

    def __init__(
        self, writer: Writer, number: int, epoch: int, chunk: int, listener: Listener
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.chunk = chunk
        self.listener = listener
        self.deferred = False
        self.progress = 0
        self._told = 0
        #: Whether a commit is under way.
        self.in_flight = False
        self.renewed = now()
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.RLock()
        #: A context in which all that is added is part of the same commit.
        self.together: AbstractContextManager[object] = self._lock
        self._reset()

    def _reset(self) -> None:
        #: Node → its outcome, as it is written in the present chunk.
        self._entries: dict[bytes, bytes | Later] = {}
        self._records: dict[bytes, Record] = {}
        self._blobs: dict[bytes, Blob] = {}
        self._replaced: dict[int, Chunk] = {}
        self._dropped_records: set[bytes] = set()
        self._dropped_chunks: set[int] = set()
        self._dropped_blobs: set[bytes] = set()
        self._dropped_outcomes: list[bytes] = []
        self._taken: list[int] = []
        self._waiting: list[Callable[[], object]] = []
        self._change: Change | None = None

    def outcome(self, key: bytes, entry: bytes | Later) -> int:
        """Add the outcome of a node to the present chunk; the number of that."""
        with self._lock:
            self._entries[key] = entry
            number = self.chunk
        writer = self._writer
        if not (writer.has_news or writer.is_urgent):
            writer.news()
        return number

    def blob(self, digest: bytes, body: bytes) -> None:
        """Write a large value."""
        with self._lock:
            self._dropped_blobs.discard(digest)
            self._blobs[digest] = Blob(digest, body)

    def drop_blob(self, digest: bytes) -> None:
        """Delete a large value."""
        with self._lock:
            self._blobs.pop(digest, None)
            self._dropped_blobs.add(digest)

    def record(self, record: Record) -> None:
        """Write a record, or another one in place of it."""
        with self._lock:
            self._dropped_records.discard(record.key)
            self._records[record.key] = record
        self._writer.news()

    def drop_record(self, key: bytes) -> None:
        """Delete a record."""
        with self._lock:
            self._records.pop(key, None)
            self._dropped_records.add(key)

    def drop_outcome(self, key: bytes) -> None:
        """Do not write an outcome, if it has not been written yet."""
        with self._lock:
            self._entries.pop(key, None)

    def replace_chunk(self, chunk: Chunk) -> None:
        """Write an earlier chunk again, without some of its outcomes."""
        with self._lock:
            self._replaced[chunk.number] = chunk

    def drop_chunk(self, number: int) -> None:
        """Delete a chunk of which no outcome is needed any more."""
        with self._lock:
            self._replaced.pop(number, None)
            if number != self.chunk:
                self._dropped_chunks.add(number)

    def drop_apart(self, key: bytes) -> None:
        """Delete an outcome that the transaction of its task has written (D5)."""
        with self._lock:
            self._dropped_outcomes.append(key)

    def take(self, signal: int) -> None:
        """Mark a signal as taken."""
        with self._lock:
            self._taken.append(signal)

    def then(self, call: Callable[[], object], urgent: bool) -> None:
        """Have the listener call ``call`` once everything so far is committed.

        Args:
            call: The function.
            urgent: Whether to begin the commit at once, because the run has nothing else to do.
        """
        with self._lock:
            self._waiting.append(call)
        if urgent:
            self.hurry()
        else:
            self._writer.news()

    def hurry(self) -> None:
        """Begin the commit of everything so far at once; renews a lease that is overdue."""
        here = self._loop if threading.get_ident() == self._thread else None
        self._writer.hurry(here)

    def leave(self, change: Change, call: Callable[[], object]) -> None:
        """End with a last commit that has everything so far, and ``change``."""
        with self._lock:
            self._change = change
            self._waiting.append(call)
        self._writer.hurry()

    @property
    def is_overdue(self) -> bool:
        """Whether the lease may be over: no call begins until the next commit (D6)."""
        return now() > self.renewed + self._writer.safe

    @property
    def is_clean(self) -> bool:
        """Whether everything is committed."""
        return not (self._entries or self._records or self.in_flight)

    def _present_chunk(self) -> list[Chunk]:
        if not self._entries:
            return []
        codec = self._writer.codec
        entries = [
            entry if isinstance(entry, bytes) else written_later(codec, entry)
            for entry in self._entries.values()
        ]
        return [Chunk(self.chunk, b"\n".join(entries))]

    def collect(self, renews: float) -> tuple[Commit, Waiting] | None:
        """The next commit; None if there is nothing to write, and no need to renew the lease."""
        with self._lock:
            if self.deferred and self._change is None and not self._waiting:
                return (Commit(self.number, self.epoch), []) if self.renewed < renews else None
            commit = Commit(
                self.number,
                self.epoch,
                chunks=[*self._replaced.values(), *self._present_chunk()],
                records=[*self._records.values()],
                blobs=[*self._blobs.values()],
                drop_chunks=[*self._dropped_chunks],
                drop_records=[*self._dropped_records],
                drop_blobs=[*self._dropped_blobs],
                drop_outcomes=self._dropped_outcomes,
                taken=self._taken,
                progress=self.progress if self.progress > self._told else None,
                change=self._change,
            )
            waiting = self._waiting
            if not (commit.writes or waiting or self.renewed < renews):
                return None
            self.in_flight = commit.writes
            if self._entries:
                self.chunk += 1
            self._told = self.progress
            self._reset()
        return commit, waiting


class Writer:
    """Commits for the runs of one engine, in a thread of its own that lives while there are any.

    Args:
        store: The store.
        codec: Encodes what is encoded with its commit.
        lease: Seconds for which each commit renews the leases.

    Attributes:
        codec: As given.
        safe: Seconds after a commit for which the leases in it certainly hold.
        has_news: Whether the thread knows that there is something to write.
        is_urgent: Whether it knows that a run waits for that.
    """

    def __init__(self, store: RunStore, codec: Codec, lease: float = LEASE) -> None:
        self._store = store
        self.codec = codec
        self.safe = lease * _SAFE
        self._at_once = store.commit_at_once if isinstance(store, CommitsAtOnce) else None
        self._lease = lease
        self._desks: dict[Desk, None] = {}
        self._news = threading.Condition()
        self.is_urgent = self.has_news = False
        #: Whether a thread collects commits or writes them; no other one does so meanwhile.
        self._is_writing = False
        #: What the thread of an event loop has collected, and could not commit at once.
        self._left: _Collected = []
        #: Event loops that will commit in this turn.
        self._due: set[asyncio.AbstractEventLoop] = set()
        self._thread: threading.Thread | None = None

    def open(self, number: int, epoch: int, chunk: int, listener: Listener) -> Desk:
        """Begin to write for a run that was just claimed, and renew its lease from now on."""
        desk = Desk(self, number, epoch, chunk, listener)
        with self._news:
            self._desks[desk] = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="cascade-store-writer", daemon=True
                )
                self._thread.start()
        return desk

    def close(self, desk: Desk) -> None:
        """Write nothing more for a run."""
        with self._news:
            self._desks.pop(desk, None)
            self._news.notify()

    def news(self) -> None:
        """There is something to write."""
        if self.has_news or self.is_urgent:
            return
        with self._news:
            self.has_news = True
            self._news.notify()

    def hurry(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """There is something to write, and a run waits for it.

        Args:
            loop: The event loop in whose thread this is called, if that may commit.
        """
        if self.is_urgent:
            return
        if loop is not None and self._at_once is not None:
            if loop not in self._due:
                self._due.add(loop)
                loop.call_soon(self._commit_here, loop, context=Context())
            return
        with self._news:
            self.has_news = self.is_urgent = True
            self._news.notify()

    def _commit_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit in the thread of an event loop, or have the other thread do it."""
        self._due.discard(loop)
        with self._news:
            if self._is_writing or self._left or self.is_urgent:
                self.has_news = self.is_urgent = True
                self._news.notify()
                return
            self._is_writing = True
            desks = [*self._desks]
        began, collected = now(), self._collected(desks)
        receipts = self._receipts_at_once(collected)
        if receipts is not None:
            self._note_written(collected, began)
        with self._news:
            self._is_writing = False
            if receipts is None:
                self._left = collected
            if self._left or self.is_urgent:
                self.has_news = self.is_urgent = True
                self._news.notify()
        if receipts is not None:
            self._tell(collected, receipts)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(
                    lambda: (self.has_news or not self._desks) and not self._is_writing,
                    self._lease / 3,
                )
                if not self._desks:
                    self._thread = None
                    return
                if self.has_news and not self.is_urgent:
                    self._news.wait_for(lambda: self.is_urgent, GATHER)
                self._news.wait_for(lambda: not self._is_writing)
                self.has_news = self.is_urgent = False
                self._is_writing = True
                left, self._left = self._left, []
                desks = [*self._desks]
            try:
                self._write(left)
                self._write(self._collected(desks))
            finally:
                self._is_writing = False

    def _collected(self, desks: Sequence[Desk]) -> _Collected:
        renews = now() - self._lease / 3
        return [(desk, found) for desk in desks if (found := desk.collect(renews)) is not None]

    def _receipts_at_once(self, collected: _Collected) -> Sequence[Receipt] | None:
        """Commit without waiting; None if that is left for the other thread."""
        batch = [commit for _, (commit, _) in collected]
        if sum(map(_size, batch)) > _SMALL:
            return None
        assert self._at_once is not None
        try:
            return self._at_once(batch, seconds=self._lease) if batch else ()
        except Exception:  # the other thread tries again, and handles the error
            return None

    def _write(self, collected: _Collected) -> None:
        if not collected:
            return
        try:
            began, receipts = self._commit([commit for _, (commit, _) in collected])
        except StoreError as error:
            for desk, _ in collected:
                self.close(desk)
                desk.listener.failed(error)
            return
        self._note_written(collected, began)
        self._tell(collected, receipts)

    def _note_written(self, collected: _Collected, began: float) -> None:
        for desk, _ in collected:
            desk.renewed, desk.in_flight = began, False

    def _tell(self, collected: _Collected, receipts: Sequence[Receipt]) -> None:
        """Tell the runs of their commits."""
        for (desk, (commit, waiting)), receipt in zip(collected, receipts, strict=True):
            if not receipt.held:
                self.close(desk)
                desk.listener.lost_lease()
                continue
            if commit.change is not None:
                self.close(desk)
            desk.listener.committed(waiting, receipt)

    def _commit(self, batch: list[Commit]) -> tuple[float, Sequence[Receipt]]:
        """Commit ``batch``, again and again while the store may come back.

        Returns:
            When the last attempt began, and the receipts.

        Raises:
            StoreError: It will not.
        """
        pause = _AGAIN
        while True:
            began = now()
            try:
                return began, self._store.commit(batch, seconds=self._lease)
            except StoreError as error:
                if not error.transient:
                    raise
            except Exception as error:  # a fault of the store's own code must not end this thread
                raise StoreError(f"the store failed: {type(error).__name__}: {error}") from error
            with self._news:
                self._news.wait(pause)
            pause = min(2 * pause, _AT_MOST)


def _size(commit: Commit) -> int:
    """Bytes that a commit writes."""
    return sum(
        sum(len(row.body) for row in rows) for rows in (commit.chunks, commit.records, commit.blobs)
    )
