"""Rows of a store in PostgreSQL: how they are read and written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, cast

from psycopg.types.numeric import Int8

from cascade.adapters.stores import transitions
from cascade.adapters.stores.filters import condition
from cascade.adapters.stores.postgres_server import NOW, Connection, Cursor, pipeline
from cascade.spec.run_rows import (
    FINISHED,
    Chunk,
    Commit,
    Filter,
    Lease,
    Loaded,
    NewRun,
    Outcome,
    Receipt,
    Record,
    RunRecord,
    RunStatus,
    Signal,
)

_COLUMNS: Final = ", ".join(RunRecord._fields)
_SELECT: Final = f"SELECT {_COLUMNS} FROM cascade.runs {{}}"
#: Tables with rows that a trimmed run has no more.
_STEPS: Final = ("programs", "journal", "records", "outcomes", "signals", "blobs")
_FINISHED: Final = ", ".join(f"'{status}'" for status in sorted(FINISHED))

#: Most runs of a batch that is written by a prepared statement.
_PREPARED: Final = 20

#: The fence: renews leases, of runs that are held. With changes, it also ends the ownership.
#: Only running runs have an owner. Not by their status: its index would tempt the planner to read
#: all running runs.
_HELD: Final = f"""held AS (
    UPDATE cascade.runs AS r SET
        lease_until = {NOW} + %s, updated = {NOW},
        recoveries = CASE WHEN t.writes THEN 0 ELSE r.recoveries END,
        progress = coalesce(t.progress, r.progress)
    FROM unnest(%b::bigint[], %b::bigint[], %b::boolean[], %b::bigint[])
        AS t (run, epoch, writes, progress)
    WHERE r.number = t.run AND r.epoch = t.epoch AND r.owner IS NOT NULL
    RETURNING r.number, r.cancelling, r.inbox
)"""
#: As in ``transitions.left``.
_LEFT: Final = f"""held AS (
    UPDATE cascade.runs AS r SET
        lease_until = CASE WHEN t.status IS NULL THEN {NOW} + %s ELSE 0 END, updated = {NOW},
        recoveries = CASE WHEN t.writes THEN 0 ELSE r.recoveries END,
        progress = coalesce(t.progress, r.progress),
        owner = CASE WHEN t.status IS NULL THEN r.owner END,
        status = CASE
            WHEN t.status IS NULL THEN r.status
            WHEN r.cancelling AND t.status NOT IN ({_FINISHED}) THEN 'cancelled'
            ELSE t.status
        END,
        due = CASE
            WHEN t.status IS NULL OR r.cancelling OR t.status IN ({_FINISHED}) THEN NULL
            WHEN t.status = 'enqueued' THEN coalesce(t.due, {NOW})
            WHEN r.inbox > t.inbox THEN {NOW}
            ELSE t.due
        END,
        ended = CASE WHEN t.status IN ({_FINISHED}) OR (r.cancelling AND t.status IS NOT NULL)
            THEN {NOW} END
    FROM unnest(
        %b::bigint[], %b::bigint[], %b::boolean[], %b::bigint[],
        %b::text[], %b::double precision[], %b::bigint[]
    ) AS t (run, epoch, writes, progress, status, due, inbox)
    WHERE r.number = t.run AND r.epoch = t.epoch AND r.owner IS NOT NULL
    RETURNING r.number, r.cancelling, r.inbox
)"""
_CHUNKS: Final = """
    INSERT INTO cascade.journal (run, chunk, body)
    SELECT t.* FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[]) AS t (run, chunk, body)
    JOIN held ON held.number = t.run
    ON CONFLICT (run, chunk) DO UPDATE SET body = excluded.body"""
_RECORDS: Final = """
    INSERT INTO cascade.records (run, key, kind, step, body, context)
    SELECT t.* FROM unnest(
        %b::bigint[], %b::bytea[], %b::text[], %b::bigint[], %b::bytea[], %b::bytea[]
    ) AS t (run, key, kind, step, body, context)
    JOIN held ON held.number = t.run
    ON CONFLICT (run, key) DO UPDATE SET
        kind = excluded.kind, step = excluded.step, body = excluded.body,
        context = excluded.context"""
_BLOBS: Final = """
    INSERT INTO cascade.blobs (run, digest, body)
    SELECT t.* FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[]) AS t (run, digest, body)
    JOIN held ON held.number = t.run
    ON CONFLICT DO NOTHING"""
_RESULTS: Final = """
    INSERT INTO cascade.results (run, body)
    SELECT t.* FROM unnest(%b::bigint[], %b::bytea[]) AS t (run, body)
    JOIN held ON held.number = t.run
    ON CONFLICT (run) DO UPDATE SET body = excluded.body"""


def _deleting(table: str, key: str, kind: str) -> str:
    return f"""
    DELETE FROM cascade.{table} AS d
    USING unnest(%b::bigint[], %b::{kind}[]) AS t (run, key) JOIN held ON held.number = t.run
    WHERE d.run = t.run AND d.{key} = t.key"""


_DROP_CHUNKS: Final = _deleting("journal", "chunk", "bigint")
_DROP_RECORDS: Final = _deleting("records", "key", "bytea")
_DROP_BLOBS: Final = _deleting("blobs", "digest", "bytea")
_DROP_OUTCOMES: Final = _deleting("outcomes", "key", "bytea")
_TAKE: Final = _deleting("signals", "number", "bigint")


def commit(connection: Connection, batch: Sequence[Commit], seconds: float) -> list[Receipt]:
    """Write those commits of a batch that are held: in one statement, which is one round trip."""
    leaving = any(c.change is not None for c in batch)
    parts = [_LEFT if leaving else _HELD]
    values: list[Any] = [float(seconds), *_columns(_fences(batch, leaving))]
    for number, (statement, rows) in enumerate(_writes(batch)):
        if rows:
            parts.append(f"w{number} AS ({statement})")
            values += _columns(rows)
    news = ", pg_notify('cascade', '')" if leaving else ""
    statement = f"WITH {', '.join(parts)} SELECT number, cancelling, inbox{news} FROM held"
    # The plan of a prepared statement is made for a few rows, and takes quadratic time for many.
    prepare = None if len(batch) <= _PREPARED else False
    found = connection.execute(statement, values, prepare=prepare).fetchall()
    held = {row[0]: Receipt(True, row[1], row[2]) for row in found}
    if len(held) < len(batch):
        held |= _written_before(connection, [c for c in batch if c.run not in held])
    return [held.get(c.run, Receipt(False)) for c in batch]


def _fences(batch: Sequence[Commit], leaving: bool) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for c in batch:
        left: tuple[Any, ...] = ()
        if leaving and c.change is None:
            left = (None, None, 0)
        elif c.change is not None:
            left = (str(c.change.status), c.change.due, c.change.inbox)
        rows.append((c.run, c.epoch, c.writes, c.progress, *left))
    return rows


def _writes(batch: Sequence[Commit]) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    """Statements, each with its rows."""
    yield _CHUNKS, [(c.run, *chunk) for c in batch for chunk in c.chunks]
    yield _RECORDS, [(c.run, *record) for c in batch for record in c.records]
    yield _BLOBS, [(c.run, *blob) for c in batch for blob in c.blobs]
    yield _DROP_CHUNKS, [(c.run, chunk) for c in batch for chunk in c.drop_chunks]
    yield _DROP_RECORDS, [(c.run, key) for c in batch for key in c.drop_records]
    yield _DROP_BLOBS, [(c.run, digest) for c in batch for digest in c.drop_blobs]
    yield _DROP_OUTCOMES, [(c.run, key) for c in batch for key in c.drop_outcomes]
    yield _TAKE, [(c.run, number) for c in batch for number in c.taken]
    yield (
        _RESULTS,
        [
            (c.run, c.change.result)
            for c in batch
            if c.change is not None and c.change.status in FINISHED
        ],
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as arrays, one a column. Ints get one type: else each size would be a statement."""
    return [
        [Int8(value) if type(value) is int else value for value in column]
        for column in zip(*rows, strict=True)
    ]


def _written_before(connection: Connection, batch: Sequence[Commit]) -> dict[int, Receipt]:
    """Receipts of those commits that an earlier call has written."""
    known = {c.run: c for c in batch}
    rows = connection.execute(
        "SELECT number, epoch, status, cancelling, inbox FROM cascade.runs WHERE number = ANY(%s)",
        [list(known)],
    )
    return {
        run: Receipt(True, cancelling, inbox)
        for run, epoch, status, cancelling, inbox in rows
        if transitions.was_written(known[run], epoch, RunStatus(status), cancelling)
    }


def select(connection: Connection, where: str, *values: Any) -> list[RunRecord]:
    """Runs, by the rest of the statement."""
    rows = connection.execute(_SELECT.format(where), values)
    return [_record(row) for row in rows]


def locked(connection: Connection, where: str, *values: Any) -> tuple[RunRecord, float] | None:
    """A run, locked until the end of the transaction, and the time."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, extract(epoch FROM clock_timestamp())::double precision "
        f"FROM cascade.runs WHERE {where} FOR UPDATE",
        values,
    ).fetchone()
    return None if row is None else (_record(row[:-1]), row[-1])


def _record(row: Sequence[Any]) -> RunRecord:
    run = RunRecord(*row)
    return run._replace(status=RunStatus(run.status))


def insert(connection: Connection, wanted: Sequence[NewRun]) -> dict[str, RunRecord]:
    """Write those runs whose ids are new, with their contents."""
    fields = RunRecord._fields[1:]
    row = ", ".join(
        {"due": f"coalesce(%(due)s, {NOW})", "created": NOW, "updated": NOW}.get(f, f"%({f})s")
        for f in fields
    )
    cursor = connection.cursor()
    cursor.executemany(
        f"INSERT INTO cascade.runs ({', '.join(fields)}) VALUES ({row}) "
        f"ON CONFLICT (run_id) DO NOTHING RETURNING {_COLUMNS}",
        [transitions.new_record(0, run, 0.0)._replace(due=run.at)._asdict() for run in wanted],
        returning=True,
    )
    made: dict[str, RunRecord] = {}
    while True:
        for found in cursor.fetchall():
            record = _record(found)
            made[record.run_id] = record
        if not cursor.nextset():
            break
    new = [(made[run.run_id].number, run) for run in wanted if run.run_id in made]
    for sql, rows in (
        (
            "cascade.programs VALUES (%s, %s, %s, %s)",
            [(number, run.program, run.params, run.code) for number, run in new],
        ),
        (
            "cascade.journal (run, chunk, body) VALUES (%s, %s, %s)",
            [(number, *chunk) for number, run in new for chunk in run.contents.chunks],
        ),
        (
            "cascade.records (run, key, kind, step, body, context) VALUES (%s, %s, %s, %s, %s, %s)",
            [(number, *record) for number, run in new for record in run.contents.records],
        ),
        (
            "cascade.blobs (run, digest, body) VALUES (%s, %s, %s)",
            [(number, *blob) for number, run in new for blob in run.contents.blobs],
        ),
    ):
        if rows:
            cursor.executemany(f"INSERT INTO {sql}", cast("list[tuple[Any, ...]]", rows))
    return made


def update(connection: Connection, runs: Sequence[RunRecord]) -> None:
    """Write what can change in the rows of runs."""
    connection.cursor().executemany(
        "UPDATE cascade.runs SET status = %(status)s, due = %(due)s, owner = %(owner)s, "
        "lease_until = %(lease_until)s, epoch = %(epoch)s, recoveries = %(recoveries)s, "
        "cancelling = %(cancelling)s, inbox = %(inbox)s, trimmed = %(trimmed)s, "
        "updated = %(updated)s, ended = %(ended)s WHERE number = %(number)s",
        [run._asdict() for run in runs],
    )


def claim(
    connection: Connection,
    lease: Lease,
    *,
    limit: int,
    dead: Collection[str],
    skip: Collection[str],
) -> list[RunRecord]:
    """Claim runs that any worker may claim, the first of the queue first."""
    rows = connection.execute(
        f"""WITH queue AS MATERIALIZED (
            SELECT number AS run, coalesce(due, lease_until) - priority AS rank FROM cascade.runs
            WHERE portable AND NOT run_id = ANY(%s) AND (
                due <= {NOW}
                OR (status = 'running' AND (lease_until <= {NOW} OR owner = ANY(%s)))
            )
            ORDER BY rank, number LIMIT %s FOR UPDATE SKIP LOCKED
        )
        UPDATE cascade.runs AS r SET
            status = 'running', due = NULL, owner = %s, lease_until = {NOW} + %s,
            epoch = r.epoch + 1, recoveries = r.recoveries + 1, updated = {NOW}
        FROM queue WHERE r.number = queue.run
        RETURNING queue.rank, r.{_COLUMNS.replace(", ", ", r.")}""",
        [list(skip), list(dead), limit, lease.owner, float(lease.seconds)],
    ).fetchall()
    rows.sort(key=lambda row: row[:2])
    return [_record(row[1:]) for row in rows]


def fitting(connection: Connection, where: Filter) -> list[RunRecord]:
    """Runs that a filter lets through, the newest first."""
    clauses, values = condition(where, "%s")
    return select(connection, clauses, *values)


def load(connection: Connection, number: int) -> Loaded | None:
    """All rows of a run as of one moment, in one round trip; None if there is no such run."""

    def rows(sql: str) -> Cursor:
        return connection.execute(f"SELECT {sql}", [number], binary=True)

    with pipeline(connection):
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        records = connection.execute(_SELECT.format("WHERE number = %s"), [number])
        programs = rows("program, params, code FROM cascade.programs WHERE run = %s")
        chunks = rows("chunk, body FROM cascade.journal WHERE run = %s ORDER BY chunk")
        continued = rows(
            "key, kind, step, body, context FROM cascade.records WHERE run = %s ORDER BY key"
        )
        outcomes = rows("key, kind, body FROM cascade.outcomes WHERE run = %s ORDER BY key")
        results = rows("body FROM cascade.results WHERE run = %s")
        letters = rows("number, name, body FROM cascade.signals WHERE run = %s ORDER BY number")
        connection.execute("COMMIT")
    found = records.fetchone()
    if found is None:
        return None
    program, params, code = programs.fetchone() or (None, b"", b"")
    result = results.fetchone()
    return Loaded(
        _record(found),
        program,
        params,
        code,
        [Chunk(*row) for row in chunks],
        [Record(*row) for row in continued],
        [Outcome(*row) for row in outcomes],
        [Signal(*row) for row in letters],
        None if result is None else result[0],
    )


def signals(connection: Connection, run: int, after: int) -> list[Signal]:
    """Signals that wait in the inbox of a run."""
    found = connection.execute(
        "SELECT number, name, body FROM cascade.signals WHERE run = %s AND number > %s "
        "ORDER BY number",
        [run, after],
        binary=True,
    )
    return [Signal(*row) for row in found]


def delete(connection: Connection, numbers: Sequence[int], *, trim: bool = False) -> None:
    """Delete all rows of runs; with ``trim``, all but their records and results."""
    for table in _STEPS if trim else (*_STEPS, "results"):
        connection.execute(f"DELETE FROM cascade.{table} WHERE run = ANY(%s)", [list(numbers)])
    rest = "UPDATE cascade.runs SET trimmed = TRUE" if trim else "DELETE FROM cascade.runs"
    connection.execute(f"{rest} WHERE number = ANY(%s)", [list(numbers)])
