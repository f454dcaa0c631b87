"""MemoryStore: runs in this process, for tests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cascade.adapters.stores import checks, transitions
from cascade.adapters.stores.listeners import Listeners
from cascade.adapters.stores.memory_limits import MemoryLimits
from cascade.spec.errors import StoreError
from cascade.spec.run_rows import (
    FINISHED,
    Blob,
    Chunk,
    Commit,
    Created,
    Filter,
    Lease,
    Loaded,
    NewRun,
    Receipt,
    Record,
    RunRecord,
    RunStatus,
    Signal,
)
from cascade.spec.run_store import StoreTransaction, Unsubscribe

_Key = TypeVar("_Key")


@dataclass
class _Run:
    """A run and its rows."""

    record: RunRecord
    wanted: NewRun
    chunks: dict[int, Chunk] = field(default_factory=dict)
    records: dict[bytes, Record] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    signals: dict[int, Signal] = field(default_factory=dict)
    result: bytes | None = None

    def put(
        self, chunks: Sequence[Chunk], records: Sequence[Record], blobs: Sequence[Blob]
    ) -> None:
        self.chunks.update({chunk.number: chunk for chunk in chunks})
        self.records.update({record.key: record for record in records})
        self.blobs.update({blob.digest: blob.body for blob in blobs})

    def write(self, commit: Commit, now: float, seconds: float) -> None:
        self.put(commit.chunks, commit.records, commit.blobs)
        _drop(self.chunks, commit.drop_chunks)
        _drop(self.records, commit.drop_records)
        _drop(self.blobs, commit.drop_blobs)
        _drop(self.signals, commit.taken)
        run = self.record._replace(lease_until=now + seconds, updated=now)
        if commit.writes:
            run = run._replace(recoveries=0)
        if commit.progress is not None:
            run = run._replace(progress=commit.progress)
        if commit.change is not None:
            run = transitions.left(run, commit.change, now)
            if commit.change.status in FINISHED:
                self.result = commit.change.result
        self.record = run

    def trim(self) -> None:
        """Delete all but its record and result."""
        self.wanted = self.wanted._replace(program=None, params=b"", code=b"")
        self.chunks.clear()
        self.records.clear()
        self.blobs.clear()
        self.signals.clear()
        self.record = self.record._replace(trimmed=True)


def _drop(rows: dict[_Key, Any], keys: Iterable[_Key]) -> None:
    for key in keys:
        rows.pop(key, None)


class MemoryStore:
    """A RunStore that is gone with its process. It has no transactions for tasks (D5).

    Args:
        now: Its clock, seconds since the epoch; virtual ones make timers of runs virtual.
    """

    may_commit_at_once = True

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._runs: dict[int, _Run] = {}
        self._numbers: dict[str, int] = {}
        self._last = 0
        self._fired: dict[str, float] = {}
        self._listeners = Listeners()
        self._limits = MemoryLimits(now)
        self._closed = False
        self._opened_by = os.getpid()

    def __repr__(self) -> str:
        return "MemoryStore()"

    def create(
        self,
        runs: Sequence[NewRun],
        *,
        lease: Lease | None = None,
        dead: Collection[str] = (),
    ) -> Sequence[Created]:
        checks.check_new(runs)
        with self._lock:
            self._check_open()
            made = [self._create(run, lease, dead) for run in runs]
        self._listeners.tell()
        return made

    def _create(self, wanted: NewRun, lease: Lease | None, dead: Collection[str]) -> Created:
        now = self._now()
        number = self._numbers.get(wanted.run_id)
        new = number is None
        if number is None:
            self._last = number = self._last + 1
            run = _Run(transitions.new_record(number, wanted, now), wanted)
            run.put(*wanted.contents)
            self._runs[number], self._numbers[wanted.run_id] = run, number
        run = self._runs[number]
        made = transitions.created(run.record, wanted, new=new, lease=lease, at=now, dead=dead)
        run.record = made.run
        return made

    def claim(
        self,
        lease: Lease,
        *,
        limit: int = 1,
        dead: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> Sequence[RunRecord]:
        with self._lock:
            self._check_open()
            now = self._now()
            due = [
                run
                for run in self._runs.values()
                if transitions.is_due(run.record, now, dead) and run.record.run_id not in skip
            ]
            due.sort(key=lambda run: transitions.rank(run.record))
            for run in due[:limit]:
                run.record = transitions.claimed(run.record, lease, now)
            return [run.record for run in due[:limit]]

    def claim_run(
        self, run_id: str, lease: Lease, *, again: bool = False, dead: Collection[str] = ()
    ) -> RunRecord:
        with self._lock:
            run, now = self._named(run_id), self._now()
            refused = transitions.refusal(run.record, now, again=again, dead=dead)
            if refused is not None:
                raise refused
            run.record, run.result = transitions.claimed(run.record, lease, now), None
            return run.record

    def commit(self, batch: Sequence[Commit], *, seconds: float) -> Sequence[Receipt]:
        checks.check_batch(batch)
        with self._lock:
            self._check_open()
            receipts = [self._commit(commit, seconds) for commit in batch]
        if any(commit.change is not None for commit in batch):
            self._listeners.tell()
        return receipts

    def commit_at_once(
        self, batch: Sequence[Commit], *, seconds: float
    ) -> Sequence[Receipt] | None:
        return self.commit(batch, seconds=seconds)

    def _commit(self, commit: Commit, seconds: float) -> Receipt:
        run = self._runs.get(commit.run)
        if run is None:
            return Receipt(False)
        row = run.record
        held = transitions.is_held(commit, row.epoch, row.status)
        if held:
            run.write(commit, self._now(), seconds)
        elif not transitions.was_written(commit, row.epoch, row.status, row.cancelling):
            return Receipt(False)
        return Receipt(True, row.cancelling, row.inbox)

    def find(self, run_id: str) -> RunRecord | None:
        with self._lock:
            self._check_open()
            number = self._numbers.get(run_id)
            return None if number is None else self._runs[number].record

    def runs(self, where: Filter = Filter()) -> Sequence[RunRecord]:  # noqa: B008
        with self._lock:
            self._check_open()
            found = [run.record for run in reversed(self._runs.values())]
        fitting = [
            run
            for run in found
            if (not where.statuses or run.status in where.statuses)
            and where.target in (None, run.target)
            and where.parent in (None, run.parent)
            and (where.before is None or run.number < where.before)
        ]
        return fitting[: where.limit]

    def load(self, run: int) -> Loaded:
        with self._lock:
            known = self._numbered(run)
            return Loaded(
                known.record,
                known.wanted.program,
                known.wanted.params,
                known.wanted.code,
                [known.chunks[number] for number in sorted(known.chunks)],
                [known.records[key] for key in sorted(known.records)],
                [],
                list(known.signals.values()),
                known.result,
            )

    def blobs(self, run: int, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
        with self._lock:
            known = self._numbered(run).blobs
            return {digest: known[digest] for digest in digests if digest in known}

    def send(self, run_id: str, name: str, body: bytes) -> int:
        checks.check_text("the name of a signal", name)
        with self._lock:
            run = self._named(run_id)
            run.record = transitions.signalled(run.record, self._now())
            number = run.record.inbox
            run.signals[number] = Signal(number, name, body)
        self._listeners.tell()
        return number

    def signals(self, run: int, after: int = 0) -> Sequence[Signal]:
        with self._lock:
            waiting = self._numbered(run).signals.values()
            return [signal for signal in waiting if signal.number > after]

    def cancel(self, run_id: str, *, dead: Collection[str] = ()) -> RunRecord:
        with self._lock:
            run = self._named(run_id)
            run.record = transitions.cancelled(run.record, self._now(), dead)
            record = run.record
        self._listeners.tell()
        return record

    def delete(self, run_id: str, *, dead: Collection[str] = ()) -> None:
        with self._lock:
            record, now = self._named(run_id).record, self._now()
            if transitions.is_leased(record, now, dead):
                raise transitions.leased(record, now)
            del self._runs[record.number], self._numbers[run_id]

    def sweep(
        self,
        statuses: Collection[RunStatus],
        before: float,
        *,
        limit: int = 500,
        keep_results: bool = False,
    ) -> int:
        with self._lock:
            self._check_open()
            old = [
                run
                for run in self._runs.values()
                if run.record.status in statuses
                and run.record.ended is not None
                and run.record.ended < before
                and not (keep_results and run.record.trimmed)
            ]
            old.sort(key=lambda run: (run.record.ended, run.record.number))
            for run in old[:limit]:
                if keep_results:
                    run.trim()
                else:
                    del self._runs[run.record.number], self._numbers[run.record.run_id]
        return len(old[:limit])

    def fire(self, schedule: str, at: float, run: NewRun) -> bool:
        checks.check_text("the name of a schedule", schedule)
        checks.check_new([run])
        with self._lock:
            self._check_open()
            if self._fired.get(schedule, float("-inf")) >= at:
                return False
            self._fired[schedule] = at
            new = self._create(run, None, ()).new
        self._listeners.tell()
        return new

    def fired(self) -> Mapping[str, float]:
        with self._lock:
            self._check_open()
            return dict(self._fired)

    def owners(self) -> Sequence[str]:
        with self._lock:
            self._check_open()
            return sorted({run.record.owner for run in self._runs.values() if run.record.owner})

    def transaction(self, run: int, epoch: int) -> AbstractContextManager[StoreTransaction]:
        self._check_open()
        raise StoreError(
            "a store in memory has no transactions for tasks; use one in SQLite or PostgreSQL"
        )

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        self._check_open()
        return self._listeners.add(listener)

    def limits(self) -> MemoryLimits:
        """Where the engines of this process keep limits that they share."""
        self._check_open()
        return self._limits

    def close(self) -> None:
        self._closed = True
        self._listeners.close()

    def _check_open(self) -> None:
        checks.check_usable(self, self._closed, self._opened_by)

    def _named(self, run_id: str) -> _Run:
        self._check_open()
        number = self._numbers.get(run_id)
        if number is None:
            raise transitions.not_found(run_id, "the store in memory")
        return self._runs[number]

    def _numbered(self, run: int) -> _Run:
        self._check_open()
        if run not in self._runs:
            raise transitions.not_found(f"number {run}", "the store in memory")
        return self._runs[run]
