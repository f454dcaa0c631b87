"""RunStore: where durable runs are kept.

A store knows rows, bytes and times, and nothing of graphs or values. The docstrings are all that
an implementer needs; every implementation passes the suite ``tests/contracts/test_run_store.py``.

Times are seconds since the epoch (UTC) by the store's own clock: of two processes with different
clocks, the store's decides whose lease is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, runtime_checkable

from cascade.spec.run_rows import (
    Commit,
    Created,
    Filter,
    Lease,
    Loaded,
    NewRun,
    Outcome,
    Receipt,
    RunRecord,
    RunStatus,
    Signal,
)


class StoreTransaction(Protocol):
    """A transaction of a task in the store's own database (D5)."""

    @property
    def connection(self) -> Any:
        """A DB-API connection. The store commits it or rolls it back; the task does neither."""

    def keep(self, outcome: Outcome) -> None:
        """Write the task's outcome in the same transaction; replaces one with the same key."""


#: Ends a subscription; calling it again does nothing.
Unsubscribe: TypeAlias = Callable[[], None]


@runtime_checkable
class RunStore(Protocol):
    """Keeps durable runs.

    *Threads*: every method may be called from any thread, and may wait for the disk or the network.
    Many processes may use one store at once, except for a store in memory.

    *Atomic*: each method that writes is one transaction. If it raises, nothing of it was written;
    only where the connection was lost may it have been. ``create`` without a lease, ``commit``,
    ``cancel`` and ``fire`` may then be called again with the same arguments: the second call
    changes nothing that the first one did.

    *Errors*: each method raises StoreError if the database cannot be used. ``StoreError.transient``
    says whether trying again may help. A store whose disk was full, or whose server was away, can
    be used again when that is over.

    *Due* is an enqueued or suspended run whose ``due`` has come, and a running one whose lease is
    over.
    """

    def create(
        self,
        runs: Sequence[NewRun],
        *,
        lease: Lease | None = None,
        dead: Collection[str] = (),
    ) -> Sequence[Created]:
        """Create each run, unless there is one with its id; and claim it, if ``lease`` is given.

        A run that is there is claimed, too, if it has the same root and could be claimed by
        ``claim_run``. Compare the roots: with another one the id belongs to another target (D1).

        Args:
            runs: With different ids.
            lease: Of the process that claims them, however far away their ``due`` is.
            dead: Owners that are known not to live any more: their leases are over.

        Raises:
            ArgumentError: An id, a name, a priority or a time is invalid; nothing was written.
        """

    def claim(
        self,
        lease: Lease,
        *,
        limit: int = 1,
        dead: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> Sequence[RunRecord]:
        """Claim up to ``limit`` portable runs that are due: the first of the queue first.

        The queue is ordered by priority plus seconds of waiting (M24). A run gets at most one
        owner, however many workers claim. Claiming raises ``epoch`` and ``recoveries`` by one.

        Args:
            skip: Ids of runs that this worker cannot execute.
        """

    def claim_run(
        self,
        run_id: str,
        lease: Lease,
        *,
        again: bool = False,
        dead: Collection[str] = (),
    ) -> RunRecord:
        """Claim one run, whether it is portable, due or not.

        Args:
            again: Also if it failed, was cancelled or is dead: then it is unfinished from now on.

        Raises:
            RunNotFoundError: No run has the id.
            RunLeasedError: Another process executes it.
            RunConflictError: It has ended: in success, or without ``again``, or it was trimmed.
        """

    def commit(self, batch: Sequence[Commit], *, seconds: float) -> Sequence[Receipt]:
        """Write a batch in one transaction, and let the leases hold for ``seconds`` from now.

        A Commit is written if its epoch is that of the run and the run is running; else nothing
        of it is, and the other runs of the batch are written as if it were not there. One that
        has already been written by an earlier call has a receipt as if it were written now.

        A batch that fails with an error that is not transient may have one Commit in it that the
        database refuses, such as a body that is too large: commit them one by one then.

        Args:
            batch: At most one Commit per run.

        Raises:
            ArgumentError: There are two commits of one run.
        """

    def find(self, run_id: str) -> RunRecord | None:
        """The run with this id."""

    def runs(self, where: Filter = ...) -> Sequence[RunRecord]:
        """Runs, the newest first."""

    def load(self, run: int) -> Loaded:
        """All that is known of a run.

        Raises:
            RunNotFoundError: It was deleted.
        """

    def blobs(self, run: int, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Bodies of large values by digest; those that are not there are left out."""

    def send(self, run_id: str, name: str, body: bytes) -> int:
        """Put a signal into the inbox of a run; a suspended run becomes due.

        Returns:
            The number of the signal.

        Raises:
            ArgumentError: The name is no text that a database takes.
            RunNotFoundError: No run has the id.
            RunConflictError: It has ended.
        """

    def signals(self, run: int, after: int = 0) -> Sequence[Signal]:
        """Signals that were not yet taken, with numbers above ``after``, in their order."""

    def cancel(self, run_id: str, *, dead: Collection[str] = ()) -> RunRecord:
        """Ask for the end of a run.

        A run without an owner is cancelled at once. The owner of a running one reads the
        request in its next receipt. If it releases the run nonetheless, the run is cancelled then.
        A finished run stays as it is.

        Returns:
            The run as it is now.

        Raises:
            RunNotFoundError: No run has the id.
        """

    def delete(self, run_id: str, *, dead: Collection[str] = ()) -> None:
        """Delete a run and all of its rows.

        Raises:
            RunNotFoundError: No run has the id.
            RunLeasedError: Another process executes it.
        """

    def sweep(
        self,
        statuses: Collection[RunStatus],
        before: float,
        *,
        limit: int = 500,
        keep_results: bool = False,
    ) -> int:
        """Delete runs that ended earlier than ``before``, those that ended first.

        Args:
            statuses: Finished ones; unfinished ones are ignored.
            limit: Most runs of one call, which is one transaction.
            keep_results: Keep their records and results, and delete the rest ("trimmed").

        Returns:
            The number of runs that something was deleted of.
        """

    def fire(self, schedule: str, at: float, run: NewRun) -> bool:
        """Create a run for a time of a schedule, once, however many workers do this.

        Returns:
            Whether the run was created: False if the schedule has been fired for ``at`` or a later
            time. That is remembered even when the run has been deleted.
        """

    def fired(self) -> Mapping[str, float]:
        """The last time of each schedule."""

    def owners(self) -> Sequence[str]:
        """Owners of running runs, whether their leases are over or not."""

    def transaction(self, run: int, epoch: int) -> AbstractContextManager[StoreTransaction]:
        """A transaction of a task. It commits at the end of the block, if the run is still held.

        An error in the block rolls it back. A lease is not renewed by it.

        Raises:
            LeaseLostError: The run has another epoch, or is not running; nothing was written.
            StoreError: The store has no database that tasks could use.
        """

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        """Call ``listener`` soon after there may be something to do.

        That is after any process created or released a run, sent a signal, or asked for a cancel.
        It is a hint, for less delay than polling has: news may be missed, and several may be one
        call. ``listener`` is called from any thread, and must be quick.
        """

    def close(self) -> None:
        """Close all connections; every method but this raises StoreError from then on."""


@runtime_checkable
class CommitsAtOnce(Protocol):
    """A RunStore that can commit in less time than it takes to hand a commit to another thread.

    Attributes:
        may_commit_at_once: False if each commit waits for a disk, so that ``commit_at_once``
            would always give None: the engine does not call it then.
    """

    may_commit_at_once: bool

    def commit_at_once(
        self, batch: Sequence[Commit], *, seconds: float
    ) -> Sequence[Receipt] | None:
        """As ``RunStore.commit``, if that waits neither for a disk nor for a lock.

        Called in the thread of an event loop.

        Returns:
            None if it would wait; nothing was written then.
        """
