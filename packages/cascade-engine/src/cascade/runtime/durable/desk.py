"""The desk of a run: the rows to write, until the writer collects it for the next commit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

from cascade.graph.codec import Codec
from cascade.runtime.durable.rows import Later, written_later
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import Blob, Change, Chunk, Commit, Receipt, Record

_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", None)
T = TypeVar("T")
#: Functions that are called after a commit.
Waiting: TypeAlias = list[Callable[[], object]]


#: Seconds by a clock that goes on while the machine sleeps, where the system has one. A function in
#: C, as it is called before each call of a task.
now: Final[Callable[[], float]] = (
    time.monotonic if _BOOT is None else partial(time.clock_gettime, _BOOT)
)


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


class Collector(Protocol):
    """What a desk tells that there is something to write; see ``writer.Writer``."""

    codec: Codec
    safe: float
    has_news: bool
    is_urgent: bool

    def news(self) -> None: ...

    def hurry(self, loop: asyncio.AbstractEventLoop | None = None) -> None: ...


class Desk:
    """What one run has to write. From any thread. Made in the thread of the run's event loop.

    Attributes:
        number: The run's number in the store.
        epoch: As it was claimed.
        chunk: The number of the chunk that ``outcome`` adds to; 1 until it is set.
        deferred: Whether everything waits for the last commit, or one that something waits for.
        later: Outcomes that are needed until the end of the run, and are encoded with the next
            commit. Threads append to it without a lock; one that finds its own alone there calls
            ``tell``.
        progress: Number of steps that the run has made (M20), written with the next commit.
        renewed: The time (``now``) before the claim, or before the last commit.
        safe: Seconds after that for which the lease certainly holds.
    """

    def __init__(
        self, writer: Collector, number: int, epoch: int, since: float, listener: Listener
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.chunk = 1
        self.listener = listener
        self.deferred = False
        self.progress = 0
        self._told = 0
        #: Whether a commit is under way.
        self.in_flight = False
        self.renewed = since
        self.safe = writer.safe
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()
        self.later: list[Later] = []
        #: Chunks with such outcomes, which are needed until the end of the run.
        self._lasting: set[int] = set()
        #: A context in which all that is added is part of the same commit.
        self.together: AbstractContextManager[object] = self._lock
        self._reset()

    def _reset(self) -> None:
        #: Node → its outcome, as it is written in the present chunk.
        self._entries: dict[bytes, bytes] = {}
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

    def outcome(self, key: bytes, entry: bytes) -> int:
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
        """Write a record, or another one in place of it; ``then`` or ``tell`` has to follow."""
        with self._lock:
            self._dropped_records.discard(record.key)
            self._records[record.key] = record

    def tell(self) -> None:
        """Have what was added written, although nothing waits for it.

        Not part of ``record``: the writer's thread would wake for each step of an agent, which
        another call then has committed at once.
        """
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
            if number != self.chunk and number not in self._lasting:
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
        here = self._loop if asyncio._get_running_loop() is self._loop else None
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
        return now() > self.renewed + self.safe

    def guarded(self, call: Callable[[], T], wait: Callable[[], object]) -> Callable[[], T]:
        """``call``, after ``wait`` if the lease may be over. Each of very many nodes makes one."""
        safe = self.safe

        def guarded() -> T:
            if now() > self.renewed + safe:  # inlined ``is_overdue``
                wait()
            return call()

        return guarded

    @property
    def is_clean(self) -> bool:
        """Whether everything is committed."""
        return not (self._entries or self.later or self._records or self.in_flight)

    def _take_later(self) -> list[Later]:
        """Take the outcomes that are to be encoded.

        Threads may append others between any two lines of this, but not within one.
        """
        taken = self.later[:]
        del self.later[: len(taken)]
        if self.later:  # they were added in between, so no thread has told of them
            self._writer.news()
        return taken

    def _present_chunk(self) -> list[Chunk]:
        lines = [*self._entries.values()]
        if self.later:
            lines.append(written_later(self._writer.codec, self._take_later()))
            self._lasting.add(self.chunk)
        return [Chunk(self.chunk, b"\n".join(lines))] if lines else []

    def _commit(self) -> Commit:
        """All that is to be written; the containers are given away."""
        chunks = self._present_chunk()
        self.chunk += len(chunks)
        if self._replaced:
            chunks = [*self._replaced.values(), *chunks]
        return Commit(  # by position, in a third of the time
            self.number,
            self.epoch,
            chunks,
            [*self._records.values()],
            [*self._blobs.values()] if self._blobs else (),
            [*self._dropped_chunks] if self._dropped_chunks else (),
            [*self._dropped_records] if self._dropped_records else (),
            [*self._dropped_blobs] if self._dropped_blobs else (),
            self._dropped_outcomes,
            self._taken,
            self.progress if self.progress > self._told else None,
            self._change,
        )

    def collect(self, renews: float) -> tuple[Commit, Waiting] | None:
        """The next commit; None if there is nothing to write, and no need to renew the lease."""
        with self._lock:
            if self.deferred and self._change is None and not self._waiting:
                return (Commit(self.number, self.epoch), []) if self.renewed < renews else None
            commit = self._commit()
            waiting = self._waiting
            writes = commit.writes
            if not (writes or waiting or self.renewed < renews):
                return None
            self.in_flight = writes
            self._told = self.progress
            self._reset()
        return commit, waiting
