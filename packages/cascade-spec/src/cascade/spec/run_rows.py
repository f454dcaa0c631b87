"""The rows of stores of durable runs, and the batches in which stores take and give them.

Keys, records and bodies are opaque to a store. Times are seconds since the epoch (UTC), by the
store's own clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple


class RunStatus(StrEnum):
    """The state of a run in its store."""

    #: Waits for a worker.
    ENQUEUED = "enqueued"
    #: Has an owner, whose lease may be over.
    RUNNING = "running"
    #: Waits for a time or a signal, and for no worker until then.
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Was taken over again and again without any progress; no worker takes it any more.
    DEAD = "dead"


#: The statuses of runs that have ended. All but succeeded runs can be claimed again by their id.
FINISHED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.DEAD})


class Lease(NamedTuple):
    """The right to execute a run, from now on for a time; each commit renews it."""

    #: Names one process; no two processes have ever had the same.
    owner: str
    #: How long it holds. With 0 it is over at once.
    seconds: float


class Chunk(NamedTuple):
    """Outcomes of nodes that were committed together, in one body."""

    #: Its place among the run's chunks, from 1 up. A later chunk with the same number replaces it.
    number: int
    body: bytes


class Record(NamedTuple):
    """The record of one node under way: its continuation, a snapshot of its loop, or its wait."""

    #: Names the node. A later record with the same key replaces this one.
    key: bytes
    kind: str
    step: int
    body: bytes
    #: Names the graph that the node belongs to.
    context: bytes = b""


class Blob(NamedTuple):
    """A large value, kept once per run however often it is mentioned."""

    digest: bytes
    body: bytes


class Outcome(NamedTuple):
    """The outcome of one node, kept by a transaction of its task (D5)."""

    key: bytes
    kind: int
    body: bytes


class Signal(NamedTuple):
    """A message in the inbox of a run (D11)."""

    #: Its place among all signals that the run has ever got, from 1 up.
    number: int
    name: str
    body: bytes


class Contents(NamedTuple):
    """Rows that a new run has from the beginning: those of the run that it is a fork of."""

    chunks: Sequence[Chunk] = ()
    records: Sequence[Record] = ()
    blobs: Sequence[Blob] = ()


_EMPTY = Contents()


class NewRun(NamedTuple):
    """A run to be created."""

    run_id: str
    #: The target's name, for people.
    target: str
    #: The key of the target: a run with the same id and another root is another run (D1).
    root: bytes
    #: The target for other processes. None if only the caller knows it: workers do not claim it.
    program: bytes | None = None
    params: bytes = b""
    code: bytes = b""
    #: Higher is claimed first; waiting raises it by 1 a second (M24).
    priority: int = 0
    #: When workers may claim it; None for now.
    at: float | None = None
    #: The id of the run that it is a fork or a part of.
    parent: str | None = None
    contents: Contents = _EMPTY


class RunRecord(NamedTuple):
    """A run as its row stood when it was read."""

    #: Names the run in this store for ever: a later run with the same id has another number.
    number: int
    run_id: str
    target: str
    root: bytes
    status: RunStatus
    priority: int
    #: Whether workers may claim it: its program is stored.
    portable: bool
    #: When a worker may claim it. None while it is running, finished, or waits only for signals.
    due: float | None
    #: Names the process that executes it, and the time at which its lease ends; None and 0 if no
    #: process does.
    owner: str | None
    lease_until: float
    #: How often it was claimed. Commits name it, so that those of former owners write nothing (D6).
    epoch: int
    #: How often it was claimed since the last commit that did more than renew the lease (D3).
    recoveries: int
    #: How far it is, for people: the number that commits have given last.
    progress: int
    #: Whether its owner was asked to cancel it.
    cancelling: bool
    #: The number of signals that it has ever got.
    inbox: int
    #: Whether a sweep has left only its result: it cannot be claimed any more.
    trimmed: bool
    created: float
    updated: float
    #: When it ended; None if it has not.
    ended: float | None
    parent: str | None


class Created(NamedTuple):
    """The result of a NewRun."""

    #: The new run, or the one that had its id.
    run: RunRecord
    #: Whether it is new.
    new: bool
    #: Whether the caller now owns it.
    claimed: bool


class Change(NamedTuple):
    """How a run leaves its owner."""

    #: ENQUEUED (for another worker), SUSPENDED, or a finished status.
    status: RunStatus
    #: The value or error of a finished run.
    result: bytes = b""
    #: When a worker may claim it. For ENQUEUED, None is now; for SUSPENDED, when a signal comes.
    due: float | None = None
    #: The last signal that the owner knows of. A suspended run with a later one is due at once.
    inbox: int = 0


class Commit(NamedTuple):
    """The part of a batch that belongs to one run. Empty, it renews the lease and no more.

    No commit both writes and drops the same row.
    """

    #: ``RunRecord.number`` and ``RunRecord.epoch``, as they were claimed.
    run: int
    epoch: int
    chunks: Sequence[Chunk] = ()
    records: Sequence[Record] = ()
    blobs: Sequence[Blob] = ()
    #: Numbers of chunks, keys of records, digests of blobs and keys of outcomes.
    drop_chunks: Sequence[int] = ()
    drop_records: Sequence[bytes] = ()
    drop_blobs: Sequence[bytes] = ()
    drop_outcomes: Sequence[bytes] = ()
    #: Numbers of signals that were taken from the inbox.
    taken: Sequence[int] = ()
    #: How far the run is; None if it is where it was.
    progress: int | None = None
    change: Change | None = None

    @property
    def writes(self) -> bool:
        """Whether it does more than renew the lease."""
        return any(self[2:10]) or self.progress is not None or self.change is not None

    @property
    def drops(self) -> bool:
        """Whether it deletes rows."""
        return any(self[5:10])


class Receipt(NamedTuple):
    """The result of a Commit."""

    #: Whether it was written. False: another process has the run, or it was ended or deleted.
    held: bool
    #: Whether the owner was asked to cancel the run.
    cancelling: bool = False
    #: The number of signals that the run has ever got.
    inbox: int = 0


class Loaded(NamedTuple):
    """All that is known of a run, as of one moment."""

    run: RunRecord
    program: bytes | None
    params: bytes
    code: bytes
    #: By number.
    chunks: Sequence[Chunk]
    #: By key, as outcomes are.
    records: Sequence[Record]
    outcomes: Sequence[Outcome]
    #: Not yet taken, in the order in which they came.
    signals: Sequence[Signal]
    #: The value or error of a finished run.
    result: bytes | None


class Filter(NamedTuple):
    """Which runs to list; every part that is given must fit."""

    statuses: Collection[RunStatus] = ()
    target: str | None = None
    parent: str | None = None
    #: Only runs that are older than the one with this number: the last of the page before.
    before: int | None = None
    limit: int = 100
