"""Transitions of stored runs: which are allowed, and the row of a run after each. For all stores.

Nothing here reads or writes; stores do that, inside of their transactions.
"""

from __future__ import annotations

from collections.abc import Collection

from cascade.spec.errors import (
    CascadeError,
    LeaseLostError,
    RunConflictError,
    RunLeasedError,
    RunNotFoundError,
)
from cascade.spec.run_rows import (
    FINISHED,
    Change,
    Commit,
    Created,
    Lease,
    NewRun,
    RunRecord,
    RunStatus,
)


def new_record(number: int, run: NewRun, now: float) -> RunRecord:
    """The row of a run that has just been created."""
    return RunRecord(
        number=number,
        run_id=run.run_id,
        target=run.target,
        root=run.root,
        status=RunStatus.ENQUEUED,
        priority=run.priority,
        portable=run.program is not None,
        due=now if run.at is None else run.at,
        owner=None,
        lease_until=0.0,
        epoch=0,
        recoveries=0,
        progress=0,
        cancelling=False,
        inbox=0,
        trimmed=False,
        created=now,
        updated=now,
        ended=None,
        parent=run.parent,
    )


def is_leased(run: RunRecord, now: float, dead: Collection[str]) -> bool:
    """Whether a living process executes the run."""
    return run.status is RunStatus.RUNNING and run.lease_until > now and run.owner not in dead


def refusal(
    run: RunRecord, now: float, *, again: bool, dead: Collection[str]
) -> CascadeError | None:
    """Why the run cannot be claimed by its id; None if it can."""
    if is_leased(run, now, dead):
        return leased(run, now)
    if run.status is RunStatus.SUCCEEDED:
        return RunConflictError(
            f"run '{run.run_id}' has succeeded, so nothing of it is left to do", run.run_id
        )
    if run.trimmed:
        return RunConflictError(
            f"run '{run.run_id}' is {run.status}, and its steps were deleted; start a new run",
            run.run_id,
        )
    if run.status in FINISHED and not again:
        return RunConflictError(
            f"run '{run.run_id}' has ended: it is {run.status}; to go on with it, resume it",
            run.run_id,
        )
    return None


def claimed(run: RunRecord, lease: Lease, now: float) -> RunRecord:
    """The row of a run that is claimed; a finished one begins again, and forgets cancels."""
    return run._replace(
        status=RunStatus.RUNNING,
        due=None,
        owner=lease.owner,
        lease_until=now + lease.seconds,
        epoch=run.epoch + 1,
        recoveries=run.recoveries + 1,
        cancelling=run.cancelling and run.status not in FINISHED,
        updated=now,
        ended=None,
    )


def created(
    run: RunRecord,
    wanted: NewRun,
    *,
    new: bool,
    lease: Lease | None,
    at: float,
    dead: Collection[str],
) -> Created:
    """The result for a run that was asked for and is in the store now."""
    if (
        lease is None
        or run.root != wanted.root
        or refusal(run, at, again=False, dead=dead) is not None
    ):
        return Created(run, new, False)
    return Created(claimed(run, lease, at), new, True)


def left(run: RunRecord, change: Change, now: float) -> RunRecord:
    """The row of a run that its owner leaves."""
    status, due = change.status, change.due
    if status in FINISHED:
        due = None
    elif run.cancelling:
        status, due = RunStatus.CANCELLED, None
    elif status is RunStatus.ENQUEUED:
        due = now if due is None else due
    elif run.inbox > change.inbox:
        due = now  # a signal came after the owner had looked
    ended = now if status in FINISHED else None
    return run._replace(
        status=status, due=due, owner=None, lease_until=0.0, updated=now, ended=ended
    )


def is_held(commit: Commit, epoch: int, status: RunStatus) -> bool:
    """Whether a commit may be written: its author still owns the run."""
    return epoch == commit.epoch and status is RunStatus.RUNNING


def was_written(commit: Commit, epoch: int, status: RunStatus, cancelling: bool) -> bool:
    """Whether a commit that ends a run's ownership was written by an earlier call."""
    change = commit.change
    return (
        change is not None
        and epoch == commit.epoch
        and (status is change.status or (cancelling and status is RunStatus.CANCELLED))
    )


def signalled(run: RunRecord, now: float) -> RunRecord:
    """The row of a run that gets a signal.

    Raises:
        RunConflictError: It has ended.
    """
    if run.status in FINISHED:
        raise RunConflictError(
            f"run '{run.run_id}' takes no signals: it has ended and is {run.status}", run.run_id
        )
    due = now if run.status is RunStatus.SUSPENDED else run.due
    return run._replace(inbox=run.inbox + 1, due=due)


def cancelled(run: RunRecord, now: float, dead: Collection[str]) -> RunRecord:
    """The row of a run after a request to cancel it."""
    if run.status in FINISHED:
        return run
    if is_leased(run, now, dead):
        return run._replace(cancelling=True)
    return left(run._replace(cancelling=True), Change(RunStatus.CANCELLED), now)


def is_due(run: RunRecord, now: float, dead: Collection[str]) -> bool:
    """Whether any worker may claim the run."""
    if not run.portable:
        return False
    if run.status is RunStatus.RUNNING:
        return not is_leased(run, now, dead)
    return run.due is not None and run.due <= now


def rank(run: RunRecord) -> tuple[float, int]:
    """Sorts runs that are due, the first of the queue first: priority plus seconds of waiting."""
    since = run.lease_until if run.due is None else run.due
    return since - run.priority, run.number


def not_found(run_id: str, where: str) -> RunNotFoundError:
    """The error for an id, or ``number 7``, that the store does not have."""
    return RunNotFoundError(f"{where} has no run '{run_id}'", run_id)


def leased(run: RunRecord, now: float) -> RunLeasedError:
    """The error for a run that another process executes."""
    owner, seconds = run.owner or "", max(0.0, run.lease_until - now)
    return RunLeasedError(
        f"run '{run.run_id}' is executed by {owner}, whose lease holds for another "
        f"{seconds:.1f} s and is renewed as long as it lives",
        run.run_id,
        owner,
        seconds,
    )


def lost(run_id: str, epoch: int) -> LeaseLostError:
    """The error for an owner whose run is no longer its own."""
    return LeaseLostError(
        f"run '{run_id}' was taken over by another process, or ended there, after this one had "
        f"claimed it (epoch {epoch}); nothing of this process is written any more",
        run_id,
    )
