"""The writer: commits what the durable runs of an engine have come to know, in groups.

One thread serves all runs. While it commits, more comes in, so the next transaction is as large as
the store is slow. A run that waits for a commit (``sync``) has it begin at once; without one, the
writer gathers for some milliseconds. Each commit renews the leases of all runs in it; a run that
has nothing to write renews its own after a third of the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Protocol

from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Blob, Change, Chunk, Commit, Receipt, Record
from cascade.spec.run_store import RunStore

#: Seconds for which a lease holds.
LEASE = 10.0
#: Seconds that the writer gathers for runs that do not wait.
GATHER = 0.005
#: Seconds until a commit that failed is tried again, at first and at most.
_AGAIN, _AT_MOST = 0.05, 1.0


class Listener(Protocol):
    """What the writer tells a run. Called in the writer's thread, and has to be quick."""

    def committed(self, waiting: list[Callable[[], object]], receipt: Receipt) -> None:
        """A commit was written; ``waiting`` are the functions that were given with it."""

    def lost_lease(self) -> None:
        """Another process has the run; nothing was written."""

    def failed(self, error: StoreError) -> None:
        """The store cannot be used, and trying again would not help; nothing was written."""


class Desk:
    """What one run has to write. From any thread.

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
        self.renewed = monotonic()
        self._writer = writer
        self._lock = threading.RLock()
        #: A context in which all that is added is part of the same commit.
        self.together: AbstractContextManager[object] = self._lock
        self._reset()

    def _reset(self) -> None:
        #: Node → its outcome, as it is written in the present chunk.
        self._entries: dict[bytes, bytes] = {}
        self._records: dict[bytes, Record] = {}
        self._blobs: dict[bytes, Blob] = {}
        self._dropped_records: set[bytes] = set()
        self._dropped_chunks: set[int] = set()
        self._dropped_blobs: set[bytes] = set()
        self._dropped_outcomes: list[bytes] = []
        self._taken: list[int] = []
        self._waiting: list[Callable[[], object]] = []
        self._change: Change | None = None

    def outcome(self, key: bytes, entry: bytes) -> int:
        """Add the outcome of a node to the present chunk; the number of that."""
        with self._lock:
            self._entries[key] = entry
            number = self.chunk
        self._writer.news()
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

    def drop_chunk(self, number: int) -> None:
        """Delete a chunk of which no outcome is needed any more."""
        with self._lock:
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
        self._writer.news(urgent)

    def hurry(self) -> None:
        """Begin the commit of everything so far at once."""
        self._writer.news(urgent=True)

    def leave(self, change: Change, call: Callable[[], object]) -> None:
        """End with a last commit that has everything so far, and ``change``."""
        with self._lock:
            self._change = change
            self._waiting.append(call)
        self._writer.news(urgent=True)

    @property
    def is_clean(self) -> bool:
        """Whether everything is committed."""
        return not (self._entries or self._records or self.in_flight)

    def collect(self, renews: float) -> tuple[Commit, list[Callable[[], object]]] | None:
        """The next commit; None if there is nothing to write, and no need to renew the lease."""
        with self._lock:
            if self.deferred and self._change is None and not self._waiting:
                return (Commit(self.number, self.epoch), []) if self.renewed < renews else None
            commit = Commit(
                self.number,
                self.epoch,
                chunks=[Chunk(self.chunk, b"\n".join(self._entries.values()))]
                if self._entries
                else (),
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
        lease: Seconds for which each commit renews the leases.
    """

    def __init__(self, store: RunStore, lease: float = LEASE) -> None:
        self._store = store
        self._lease = lease
        self._desks: dict[Desk, None] = {}
        self._news = threading.Condition()
        self._is_urgent = self._has_news = False
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

    def news(self, urgent: bool = False) -> None:
        """There is something to write."""
        if self._is_urgent or (self._has_news and not urgent):
            return
        with self._news:
            self._has_news = True
            self._is_urgent = self._is_urgent or urgent
            self._news.notify()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._has_news or not self._desks, self._lease / 3)
                if not self._desks:
                    self._thread = None
                    return
                if self._has_news and not self._is_urgent:
                    self._news.wait_for(lambda: self._is_urgent, GATHER)
                self._has_news = self._is_urgent = False
                desks = [*self._desks]
            self._write(desks)

    def _write(self, desks: list[Desk]) -> None:
        renews = monotonic() - self._lease / 3
        collected = [(desk, found) for desk in desks if (found := desk.collect(renews)) is not None]
        if not collected:
            return
        try:
            receipts = self._commit([commit for _, (commit, _) in collected])
        except StoreError as error:
            for desk, _ in collected:
                self.close(desk)
                desk.listener.failed(error)
            return
        now = monotonic()
        for (desk, (commit, waiting)), receipt in zip(collected, receipts, strict=True):
            desk.renewed, desk.in_flight = now, False
            if not receipt.held:
                self.close(desk)
                desk.listener.lost_lease()
                continue
            if commit.change is not None:
                self.close(desk)
            desk.listener.committed(waiting, receipt)

    def _commit(self, batch: list[Commit]) -> Any:
        """Commit ``batch``, again and again while the store may come back.

        Raises:
            StoreError: It will not.
        """
        pause = _AGAIN
        while True:
            try:
                return self._store.commit(batch, seconds=self._lease)
            except StoreError as error:
                if not error.transient:
                    raise
            except Exception as error:  # a fault of the store's own code must not end this thread
                raise StoreError(f"the store failed: {type(error).__name__}: {error}") from error
            with self._news:
                self._news.wait(pause)
            pause = min(2 * pause, _AT_MOST)
