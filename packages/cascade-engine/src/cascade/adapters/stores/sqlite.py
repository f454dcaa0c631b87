"""SQLiteStore: runs in a file, shared by the processes of one machine."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from cascade.adapters.stores import checks, sqlite_rows, transitions
from cascade.adapters.stores.idle_connections import Idle
from cascade.adapters.stores.listeners import Listeners
from cascade.adapters.stores.schema.sqlite import MIGRATIONS
from cascade.adapters.stores.sqlite_files import SQLiteFile, Writing
from cascade.adapters.stores.sqlite_limits import SQLiteLimits
from cascade.adapters.stores.sqlite_quick import QuickCommits
from cascade.spec.checks import check_seconds
from cascade.spec.errors import ArgumentError, StoreError
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
from cascade.spec.run_store import StoreTransaction, Unsubscribe
from cascade.spec.wording import short

#: Free pages that one sweep gives back to the system: 4 MiB.
_VACUUMED = 1024
#: Seconds between looks for news of other processes.
_LOOK = 0.05


class SQLiteStore:
    """A RunStore in a SQLite file. It needs no set-up: the file and its tables are made.

    The file must be on a local disk; any number of processes of the machine may use it. Beside it
    are the files ``-wal`` and ``-shm``, which belong to it: copy it with SQLite's own backup.

    Args:
        path: The file. Its folder must exist. It may hold other tables too; those of Cascade begin
            with ``cascade_``.
        synchronous: With ``"full"``, what is committed survives a power cut. With ``"normal"``,
            commits are several times faster; all survive the death of the process, but the last
            ones may be lost in a power cut.
        timeout: Seconds to wait while other programs write.

    Raises:
        ArgumentError: An option is invalid.
        StoreError: The file cannot be opened, is no database, is on a network file system, or was
            written by a newer Cascade.
    """

    def __init__(self, path: str, *, synchronous: str = "full", timeout: float = 30.0) -> None:
        if synchronous not in ("full", "normal"):
            raise ArgumentError(f"synchronous must be 'full' or 'normal', not {short(synchronous)}")
        check_seconds("timeout", timeout)
        # With "full" each commit waits for the disk.
        self.may_commit_at_once = synchronous == "normal"
        self._file = SQLiteFile(path, synchronous, timeout)
        self._file.prepare(MIGRATIONS)
        self._lock = threading.Lock()
        #: Held while a task has a transaction: another one of this process waits here for as long
        #: as it takes, and not at the database's lock until that times out.
        self._of_tasks = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._quick = QuickCommits(self._file)
        self._readers = Idle(self._file.connect, sqlite3.Connection.close)
        self._listeners = Listeners(self._watch)
        self._closed = False
        self._opened_by = os.getpid()

    def __repr__(self) -> str:
        return f"SQLiteStore({self._file.path!r})"

    def create(
        self,
        runs: Sequence[NewRun],
        *,
        lease: Lease | None = None,
        dead: Collection[str] = (),
    ) -> Sequence[Created]:
        checks.check_new(runs)
        with self._writing(news=True) as connection:
            return [_create(connection, run, lease, dead) for run in runs]

    def claim(
        self,
        lease: Lease,
        *,
        limit: int = 1,
        dead: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> Sequence[RunRecord]:
        def due(connection: sqlite3.Connection) -> list[RunRecord]:
            return sqlite_rows.due(connection, time.time(), limit=limit, dead=dead, skip=skip)

        with self._reading() as connection:
            if not due(connection):
                return []  # idle workers do not take the write lock
        with self._writing() as connection:
            now = time.time()
            claimed = [transitions.claimed(run, lease, now) for run in due(connection)]
            for run in claimed:
                sqlite_rows.update(connection, run)
            return claimed

    def claim_run(
        self, run_id: str, lease: Lease, *, again: bool = False, dead: Collection[str] = ()
    ) -> RunRecord:
        with self._writing() as connection:
            run, now = self._named(connection, run_id), time.time()
            refused = transitions.refusal(run, now, again=again, dead=dead)
            if refused is not None:
                raise refused
            run = transitions.claimed(run, lease, now)
            sqlite_rows.update(connection, run)
            connection.execute("DELETE FROM cascade_results WHERE run = ?", (run.number,))
            return run

    def commit(self, batch: Sequence[Commit], *, seconds: float) -> Sequence[Receipt]:
        checks.check_batch(batch)
        if not batch:
            return []
        news = any(commit.change is not None for commit in batch)
        with self._writing(news=news) as connection:
            return sqlite_rows.commit(connection, batch, time.time(), seconds)

    def commit_at_once(
        self, batch: Sequence[Commit], *, seconds: float
    ) -> Sequence[Receipt] | None:
        # The end of a run is news for other processes.
        if not self.may_commit_at_once or any(commit.change for commit in batch):
            return None
        if not batch or not self._lock.acquire(blocking=False):
            return None
        try:
            checks.check_batch(batch)
            self._check_open()
            return self._quick.commit(batch, seconds)
        finally:
            self._lock.release()

    def find(self, run_id: str) -> RunRecord | None:
        with self._reading() as connection:
            return sqlite_rows.named(connection, run_id)

    def runs(self, where: Filter = Filter()) -> Sequence[RunRecord]:  # noqa: B008
        with self._reading() as connection:
            return sqlite_rows.fitting(connection, where)

    def load(self, run: int) -> Loaded:
        with self._reading() as connection:
            return sqlite_rows.load(connection, self._numbered(connection, run))

    def blobs(self, run: int, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
        with self._reading() as connection:
            self._numbered(connection, run)
            return dict(sqlite_rows.blobs(connection, run, digests))

    def send(self, run_id: str, name: str, body: bytes) -> int:
        checks.check_text("the name of a signal", name)
        with self._writing(news=True) as connection:
            run = transitions.signalled(self._named(connection, run_id), time.time())
            sqlite_rows.update(connection, run)
            connection.execute(
                "INSERT INTO cascade_signals VALUES (?, ?, ?, ?)",
                (run.number, run.inbox, name, body),
            )
            return run.inbox

    def signals(self, run: int, after: int = 0) -> Sequence[Signal]:
        with self._reading() as connection:
            self._numbered(connection, run)
            return sqlite_rows.signals(connection, run, after)

    def cancel(self, run_id: str, *, dead: Collection[str] = ()) -> RunRecord:
        with self._writing(news=True) as connection:
            run = transitions.cancelled(self._named(connection, run_id), time.time(), dead)
            sqlite_rows.update(connection, run)
            return run

    def delete(self, run_id: str, *, dead: Collection[str] = ()) -> None:
        with self._writing() as connection:
            run, now = self._named(connection, run_id), time.time()
            if transitions.is_leased(run, now, dead):
                raise transitions.leased(run, now)
            sqlite_rows.delete(connection, [run.number])

    def sweep(
        self,
        statuses: Collection[RunStatus],
        before: float,
        *,
        limit: int = 500,
        keep_results: bool = False,
    ) -> int:
        marks = ", ".join("?" * len(statuses))
        with self._writing() as connection:
            old = connection.execute(
                f"SELECT number FROM cascade_runs WHERE ended < ? AND status IN ({marks}) "
                "AND NOT (? AND trimmed) ORDER BY ended, number LIMIT ?",
                (before, *statuses, keep_results, limit),
            ).fetchall()
            if old:
                sqlite_rows.delete(connection, [number for (number,) in old], trim=keep_results)
        if old:
            self._vacuum()
        return len(old)

    def fire(self, schedule: str, at: float, run: NewRun) -> bool:
        checks.check_text("the name of a schedule", schedule)
        checks.check_new([run])
        with self._writing(news=True) as connection:
            last = connection.execute(
                "SELECT last FROM cascade_schedules WHERE name = ?", (schedule,)
            ).fetchone()
            if last is not None and last[0] >= at:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO cascade_schedules VALUES (?, ?)", (schedule, at)
            )
            return _create(connection, run, None, ()).new

    def fired(self) -> Mapping[str, float]:
        with self._reading() as connection:
            return dict(connection.execute("SELECT name, last FROM cascade_schedules"))

    def owners(self) -> Sequence[str]:
        with self._reading() as connection:
            found = connection.execute(
                "SELECT DISTINCT owner FROM cascade_runs WHERE status = 'running' ORDER BY owner"
            )
            return [owner for (owner,) in found]

    def transaction(self, run: int, epoch: int) -> AbstractContextManager[StoreTransaction]:
        self._check_open()
        return self._transaction(run, epoch)

    @contextmanager
    def _transaction(self, run: int, epoch: int) -> Iterator[StoreTransaction]:
        # A connection of its own: while the task works, only the database's lock keeps others
        # from writing, and their timeouts count. Errors of the task stay as they are; those of the
        # file, such as a full disk, are not its own.
        with self._of_tasks, self._readers.lent() as connection:
            with self._file.errors():
                connection.execute("BEGIN IMMEDIATE")
                # No process can take the run over before the end: that takes the same lock.
                self._fence(connection, run, epoch)
            with self._file.faults():
                yield _Transaction(connection, run)
            if not connection.in_transaction:
                raise StoreError(
                    "a task has ended the transaction that it was given; leave that to the store, "
                    "which commits when the task has returned"
                )
            with self._file.errors():
                connection.execute("COMMIT")

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        self._check_open()
        return self._listeners.add(listener)

    def limits(self) -> SQLiteLimits:
        """Where the processes of this machine keep limits that they share: a file beside this."""
        self._check_open()
        return SQLiteLimits(self._file.place, self._file.timeout)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            writer, self._writer = self._writer, None
            self._quick.close()
        if writer is not None:
            writer.close()
        self._listeners.close()
        self._readers.close()

    @contextmanager
    def _writing(self, *, news: bool = False) -> Iterator[sqlite3.Connection]:
        """The one connection of this process that writes, in a transaction.

        Args:
            news: Tell the listeners in all processes, when it is committed.
        """
        with self._lock, self._file.errors():
            self._check_open()
            if self._writer is None:
                self._writer = self._file.connect()
            connection = self._writer
            try:
                with Writing(connection):
                    yield connection
                    if news:
                        connection.execute(
                            "UPDATE cascade_meta SET value = value + 1 WHERE key = 'news'"
                        )
            except sqlite3.Error:
                self._writer = None
                raise
        if news:
            self._listeners.tell()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads, all as of one moment."""
        self._check_open()
        with self._file.errors(), self._readers.lent() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    def _watch(self, stopping: threading.Event) -> Iterator[object]:
        last = None
        while not stopping.wait(_LOOK):
            try:
                with self._readers.lent() as connection:
                    (news,) = connection.execute(
                        "SELECT value FROM cascade_meta WHERE key = 'news'"
                    ).fetchone()
            except (sqlite3.Error, StoreError):
                continue  # news is a hint, and the next method that is called says what is wrong
            if news != last:
                yield news  # also at the first look: something may have happened before
            last = news

    def _vacuum(self) -> None:
        """Give free pages back to the system, unless another program writes."""
        with self._lock, suppress(sqlite3.Error):
            if self._writer is not None:
                # Not by execute, which makes only the first step: that is one page.
                self._writer.executescript(f"PRAGMA incremental_vacuum({_VACUUMED})")

    def _check_open(self) -> None:
        checks.check_usable(self, self._closed, self._opened_by)

    def _named(self, connection: sqlite3.Connection, run_id: str) -> RunRecord:
        run = sqlite_rows.named(connection, run_id)
        if run is None:
            raise transitions.not_found(run_id, str(self._file))
        return run

    def _fence(self, connection: sqlite3.Connection, run: int, epoch: int) -> None:
        for record in sqlite_rows.select(connection, "WHERE number = ?", run):
            if record.epoch == epoch and record.status is RunStatus.RUNNING:
                return
            raise transitions.lost(record.run_id, epoch)
        raise transitions.lost(f"number {run}", epoch)

    def _numbered(self, connection: sqlite3.Connection, run: int) -> RunRecord:
        for record in sqlite_rows.select(connection, "WHERE number = ?", run):
            return record
        raise transitions.not_found(f"number {run}", str(self._file))


class _Transaction:
    """A transaction that a task works in."""

    def __init__(self, connection: sqlite3.Connection, run: int) -> None:
        self.connection = connection
        self._run = run

    def keep(self, outcome: Outcome) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO cascade_outcomes (run, key, kind, body) VALUES (?, ?, ?, ?)",
            (self._run, *outcome),
        )


def _create(
    connection: sqlite3.Connection, wanted: NewRun, lease: Lease | None, dead: Collection[str]
) -> Created:
    now = time.time()
    run = sqlite_rows.named(connection, wanted.run_id)
    new = run is None
    if run is None:
        run = sqlite_rows.insert(connection, wanted, now)
    made = transitions.created(run, wanted, new=new, lease=lease, at=now, dead=dead)
    if made.claimed:
        sqlite_rows.update(connection, made.run)
    return made
