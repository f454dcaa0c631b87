"""PostgresStore: runs in a PostgreSQL database, shared by any number of machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from cascade.adapters.stores import checks, postgres_rows, transitions
from cascade.adapters.stores.idle_connections import Idle
from cascade.adapters.stores.postgres_limits import PostgresLimits
from cascade.adapters.stores.postgres_news import PostgresNews
from cascade.adapters.stores.postgres_server import Connection, PostgresServer
from cascade.adapters.stores.schema.postgres import MIGRATIONS
from cascade.spec.checks import check_flag
from cascade.spec.errors import StoreError
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

T = TypeVar("T")


class PostgresStore:
    """A RunStore in a PostgreSQL database, in the schema ``cascade``, which it makes.

    Leases are measured by the server's clock, so the clocks of workers need not agree. A commit is
    one statement, so it takes one round trip. Listening for news takes one more connection.

    Args:
        url: ``postgresql://user:password@host:5432/database``, with the options of libpq. Its
            variables of the environment (PGPASSWORD …) and its password file hold as well.
        prepare: Whether statements are prepared. Switch it off for a pooler that gives each
            transaction another connection and knows no prepared statements.

    Raises:
        ArgumentError: The URL is invalid.
        StoreError: The server cannot be used, or its tables were made by a newer Cascade.
    """

    def __init__(self, url: str, *, prepare: bool = True) -> None:
        check_flag("prepare", prepare)
        self._url, self._prepares = url, prepare
        self._server = PostgresServer(url, prepare)
        try:
            self._server.prepare(MIGRATIONS)
        except BaseException:
            self._server.close()
            raise
        # What tasks set in their sessions stays in these.
        self._lent_to_tasks = Idle(self._server.connect, psycopg.Connection.close)
        self._news = PostgresNews(self._server, "cascade")
        self._lock = threading.Lock()
        self._closed = False
        self._opened_by = os.getpid()

    def __repr__(self) -> str:
        return f"PostgresStore({self._server.name!r})"

    def create(
        self,
        runs: Sequence[NewRun],
        *,
        lease: Lease | None = None,
        dead: Collection[str] = (),
    ) -> Sequence[Created]:
        checks.check_new(runs)
        return self._transact(lambda connection: _create(connection, runs, lease, dead), news=True)

    def claim(
        self,
        lease: Lease,
        *,
        limit: int = 1,
        dead: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> Sequence[RunRecord]:
        return self._do(
            lambda connection: postgres_rows.claim(
                connection, lease, limit=limit, dead=dead, skip=skip
            )
        )

    def claim_run(
        self, run_id: str, lease: Lease, *, again: bool = False, dead: Collection[str] = ()
    ) -> RunRecord:
        def claim(connection: Connection) -> RunRecord:
            run, now = self._locked(connection, run_id)
            refused = transitions.refusal(run, now, again=again, dead=dead)
            if refused is not None:
                raise refused
            run = transitions.claimed(run, lease, now)
            postgres_rows.update(connection, [run])
            connection.execute("DELETE FROM cascade.results WHERE run = %s", [run.number])
            return run

        return self._transact(claim)

    def commit(self, batch: Sequence[Commit], *, seconds: float) -> Sequence[Receipt]:
        checks.check_batch(batch)
        if not batch:
            return []
        receipts = self._do(lambda connection: postgres_rows.commit(connection, batch, seconds))
        if any(commit.change is not None for commit in batch):
            self._news.tell()
        return receipts

    def find(self, run_id: str) -> RunRecord | None:
        found = self._do(
            lambda connection: postgres_rows.select(connection, "WHERE run_id = %s", run_id)
        )
        return found[0] if found else None

    def runs(self, where: Filter = Filter()) -> Sequence[RunRecord]:  # noqa: B008
        return self._do(lambda connection: postgres_rows.fitting(connection, where))

    def load(self, run: int) -> Loaded:
        found = self._do(lambda connection: postgres_rows.load(connection, run))
        if found is None:
            raise transitions.not_found(f"number {run}", str(self._server))
        return found

    def blobs(self, run: int, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
        def read(connection: Connection) -> dict[bytes, bytes]:
            self._numbered(connection, run)
            rows = connection.execute(
                "SELECT digest, body FROM cascade.blobs WHERE run = %s AND digest = ANY(%s)",
                [run, list(digests)],
                binary=True,
            )
            return dict(rows.fetchall())

        return self._do(read)

    def send(self, run_id: str, name: str, body: bytes) -> int:
        checks.check_text("the name of a signal", name)

        def send(connection: Connection) -> int:
            run, now = self._locked(connection, run_id)
            run = transitions.signalled(run, now)
            postgres_rows.update(connection, [run])
            connection.execute(
                "INSERT INTO cascade.signals VALUES (%s, %s, %s, %s)",
                [run.number, run.inbox, name, body],
            )
            return run.inbox

        return self._transact(send, news=True)

    def signals(self, run: int, after: int = 0) -> Sequence[Signal]:
        def read(connection: Connection) -> list[Signal]:
            self._numbered(connection, run)
            return postgres_rows.signals(connection, run, after)

        return self._do(read)

    def cancel(self, run_id: str, *, dead: Collection[str] = ()) -> RunRecord:
        def cancel(connection: Connection) -> RunRecord:
            run, now = self._locked(connection, run_id)
            run = transitions.cancelled(run, now, dead)
            postgres_rows.update(connection, [run])
            return run

        return self._transact(cancel, news=True)

    def delete(self, run_id: str, *, dead: Collection[str] = ()) -> None:
        def delete(connection: Connection) -> None:
            run, now = self._locked(connection, run_id)
            if transitions.is_leased(run, now, dead):
                raise transitions.leased(run, now)
            postgres_rows.delete(connection, [run.number])

        self._transact(delete)

    def sweep(
        self,
        statuses: Collection[RunStatus],
        before: float,
        *,
        limit: int = 500,
        keep_results: bool = False,
    ) -> int:
        def sweep(connection: Connection) -> int:
            old = connection.execute(
                "SELECT number FROM cascade.runs WHERE ended < %s AND status = ANY(%s) "
                "AND NOT (%s AND trimmed) ORDER BY ended, number LIMIT %s FOR UPDATE SKIP LOCKED",
                [float(before), [str(status) for status in statuses], keep_results, limit],
            ).fetchall()
            if old:
                postgres_rows.delete(connection, [row[0] for row in old], trim=keep_results)
            return len(old)

        return self._transact(sweep)

    def fire(self, schedule: str, at: float, run: NewRun) -> bool:
        checks.check_text("the name of a schedule", schedule)
        checks.check_new([run])

        def fire(connection: Connection) -> bool:
            # Other calls that fire the same schedule wait here for the end of this transaction.
            moved = connection.execute(
                "INSERT INTO cascade.schedules AS s VALUES (%s, %s) "
                "ON CONFLICT (name) DO UPDATE SET last = excluded.last "
                "WHERE s.last < excluded.last RETURNING name",
                [schedule, float(at)],
            ).fetchone()
            return moved is not None and _create(connection, [run], None, ())[0].new

        return self._transact(fire, news=True)

    def fired(self) -> Mapping[str, float]:
        return self._do(
            lambda connection: dict(
                connection.execute("SELECT name, last FROM cascade.schedules").fetchall()
            )
        )

    def owners(self) -> Sequence[str]:
        rows = self._do(
            lambda connection: connection.execute(
                "SELECT DISTINCT owner FROM cascade.runs WHERE status = 'running'"
            ).fetchall()
        )
        return sorted(owner for (owner,) in rows)

    def transaction(self, run: int, epoch: int) -> AbstractContextManager[StoreTransaction]:
        self._check_open()
        return self._transaction(run, epoch)

    @contextmanager
    def _transaction(self, run: int, epoch: int) -> Iterator[StoreTransaction]:
        """Errors of the task stay as they are; those of the store's own statements do not.

        Nor does the error that a task has because the server is gone, or its disk is full.
        """
        errors = self._server.errors
        with self._lent_to_tasks.lent() as connection:
            transaction = connection.transaction()
            with errors():
                transaction.__enter__()
            try:
                yield _Transaction(connection, run)
                # Only now: a lock on the row from the beginning would keep the lease from being
                # renewed while the task works.
                with errors():
                    self._fence(connection, run, epoch)
            except BaseException as error:
                with suppress(psycopg.Error):
                    transaction.__exit__(type(error), error, error.__traceback__)
                if connection.broken:
                    raise StoreError(
                        f"{self._server} cannot be used: its connection was lost in the "
                        "transaction of a task",
                        True,
                    ) from error
                with self._server.faults():
                    raise
            with errors():
                transaction.__exit__(None, None, None)

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        self._check_open()
        return self._news.add(listener)

    def limits(self) -> PostgresLimits:
        """Where processes keep limits that they share."""
        self._check_open()
        return PostgresLimits(PostgresServer(self._url, self._prepares))

    def close(self) -> None:
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._news.close()
            self._server.close()
            self._lent_to_tasks.close()

    def _do(self, action: Callable[[Connection], T]) -> T:
        self._check_open()
        return self._server.do(action)

    def _transact(self, action: Callable[[Connection], T], *, news: bool = False) -> T:
        """``action(connection)`` in a transaction.

        Args:
            news: Tell the listeners in all processes, when it is committed.
        """

        def transact(connection: Connection) -> T:
            with connection.transaction():
                value = action(connection)
                if news:
                    connection.execute("SELECT pg_notify('cascade', '')")
                return value

        value = self._do(transact)
        if news:
            self._news.tell()  # here too: some poolers do not pass notifications on
        return value

    def _check_open(self) -> None:
        checks.check_usable(self, self._closed, self._opened_by)

    def _locked(self, connection: Connection, run_id: str) -> tuple[RunRecord, float]:
        found = postgres_rows.locked(connection, "run_id = %s", run_id)
        if found is None:
            raise transitions.not_found(run_id, str(self._server))
        return found

    def _fence(self, connection: Connection, run: int, epoch: int) -> None:
        found = postgres_rows.locked(connection, "number = %s", run)
        if found is None:
            raise transitions.lost(f"number {run}", epoch)
        record, _now = found
        if record.epoch != epoch or record.status is not RunStatus.RUNNING:
            raise transitions.lost(record.run_id, epoch)

    def _numbered(self, connection: Connection, run: int) -> RunRecord:
        for record in postgres_rows.select(connection, "WHERE number = %s", run):
            return record
        raise transitions.not_found(f"number {run}", str(self._server))


class _Transaction:
    """A transaction that a task works in."""

    def __init__(self, connection: Connection, run: int) -> None:
        self.connection: Any = connection
        self._run = run

    def keep(self, outcome: Outcome) -> None:
        self.connection.execute(
            "INSERT INTO cascade.outcomes (run, key, kind, body) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (run, key) DO UPDATE SET kind = excluded.kind, body = excluded.body",
            [self._run, *outcome],
        )


def _create(
    connection: Connection, wanted: Sequence[NewRun], lease: Lease | None, dead: Collection[str]
) -> list[Created]:
    # In the order of their ids: other processes may create the same ones, and two that lock rows
    # in different orders would wait for each other.
    made: dict[str, Created] = {}
    missing = sorted(wanted, key=lambda run: run.run_id)
    while missing:  # again only if one that was there was deleted meanwhile
        new = postgres_rows.insert(connection, missing)
        for run in missing:
            record = new.get(run.run_id)
            if record is not None:
                found = record, record.created
            elif (seen := postgres_rows.locked(connection, "run_id = %s", run.run_id)) is not None:
                found = seen
            else:
                continue
            made[run.run_id] = transitions.created(
                found[0], run, new=record is not None, lease=lease, at=found[1], dead=dead
            )
        missing = [run for run in missing if run.run_id not in made]
    created = [made[run.run_id] for run in wanted]
    postgres_rows.update(connection, [each.run for each in created if each.claimed])
    return created
