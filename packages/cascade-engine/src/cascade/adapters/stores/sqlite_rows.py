"""Rows of a store in SQLite: how they are read and written.

CPython's sqlite3 releases the GIL at each step of a statement. Beside busy Python threads each
step can therefore wait for the GIL, and what counts is not the work of a statement but how many
there are: rows are written many in one statement, and read as one JSON text where they are small.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from cascade.adapters.stores import transitions
from cascade.adapters.stores.filters import condition
from cascade.spec.run_rows import (
    FINISHED,
    Blob,
    Chunk,
    Commit,
    Contents,
    Filter,
    Loaded,
    NewRun,
    Outcome,
    Receipt,
    Record,
    RunRecord,
    RunStatus,
    Signal,
)

_COLUMNS = ", ".join(RunRecord._fields)
_READ = f"SELECT {_COLUMNS} FROM cascade_runs"
#: Tables with rows that a trimmed run has no more.
_STEPS = (
    "cascade_programs",
    "cascade_journal",
    "cascade_records",
    "cascade_outcomes",
    "cascade_signals",
    "cascade_blobs",
)
#: Most rows of one statement. SQLite takes 32,766 values in one, and longer texts to prepare.
_MOST_ROWS = 128


def put(connection: sqlite3.Connection, sql: str, rows: Iterable[Sequence[Any]]) -> None:
    """Execute ``sql`` with rows of values for its ``{}``, as few times as possible.

    The numbers of rows are powers of two, so that SQLite prepares few different statements.
    """
    left = list(rows)
    if len(left) == 1:  # of a step of an agent
        connection.execute(_of_one(sql, len(left[0])), left[0])
        return
    while left:
        count = min(_MOST_ROWS, 1 << (len(left).bit_length() - 1))
        now, left = left[:count], left[count:]
        row = "(" + ", ".join("?" * len(now[0])) + ")"
        values = list(chain.from_iterable(now))
        connection.execute(sql.format(", ".join([row] * count)), values)


@lru_cache(maxsize=64)
def _of_one(sql: str, columns: int) -> str:
    return sql.format(f"({', '.join('?' * columns)})")


def select(connection: sqlite3.Connection, where: str, *values: Any) -> list[RunRecord]:
    """Runs, by the rest of the statement."""
    return [_record(row) for row in connection.execute(f"{_READ} {where}", values)]


def named(connection: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """The run with this id."""
    return next(iter(select(connection, "WHERE run_id = ?", run_id)), None)


def _record(row: Sequence[Any]) -> RunRecord:
    run = RunRecord(*row)
    return run._replace(
        status=RunStatus(run.status),
        portable=bool(run.portable),
        cancelling=bool(run.cancelling),
        trimmed=bool(run.trimmed),
    )


def insert(connection: sqlite3.Connection, wanted: NewRun, now: float) -> RunRecord:
    """Write a new run and its contents."""
    run = transitions.new_record(0, wanted, now)
    marks = ", ".join("?" * (len(run) - 1))
    number = connection.execute(
        f"INSERT INTO cascade_runs ({_COLUMNS.removeprefix('number, ')}) VALUES ({marks})", run[1:]
    ).lastrowid
    assert number is not None
    connection.execute(
        "INSERT INTO cascade_programs VALUES (?, ?, ?, ?)",
        (number, wanted.program, wanted.params, wanted.code),
    )
    write_contents(connection, [(number, wanted.contents)])
    return run._replace(number=number)


def update(connection: sqlite3.Connection, run: RunRecord) -> None:
    """Write what can change in the row of a run."""
    connection.execute(
        "UPDATE cascade_runs SET status = ?, due = ?, owner = ?, lease_until = ?, epoch = ?, "
        "recoveries = ?, cancelling = ?, inbox = ?, trimmed = ?, updated = ?, ended = ? "
        "WHERE number = ?",
        (
            run.status,
            run.due,
            run.owner,
            run.lease_until,
            run.epoch,
            run.recoveries,
            run.cancelling,
            run.inbox,
            run.trimmed,
            run.updated,
            run.ended,
            run.number,
        ),
    )


def write_contents(
    connection: sqlite3.Connection, runs: Sequence[tuple[int, Contents | Commit]]
) -> None:
    """Write chunks, records and blobs of runs."""
    put(
        connection,
        "INSERT OR REPLACE INTO cascade_journal (run, chunk, body) VALUES {}",
        [(run, *chunk) for run, rows in runs for chunk in rows.chunks],
    )
    put(
        connection,
        "INSERT OR REPLACE INTO cascade_records (run, key, kind, step, body, context) VALUES {}",
        [(run, *record) for run, rows in runs for record in rows.records],
    )
    put(
        connection,
        "INSERT OR IGNORE INTO cascade_blobs (run, digest, body) VALUES {}",
        [(run, *blob) for run, rows in runs for blob in rows.blobs],
    )


def commit(
    connection: sqlite3.Connection, batch: Sequence[Commit], now: float, seconds: float
) -> list[Receipt]:
    """Write those commits of a batch that are held."""
    if len(batch) == 1 and batch[0].change is None:
        return [_commit_one(connection, batch[0], now, seconds)]
    rows = _fences(connection, batch)
    held = [c for c in batch if c.run in rows and transitions.is_held(c, *rows[c.run][:2])]
    if held:
        _renew(connection, held, now, seconds)
        write_contents(connection, [(c.run, c) for c in held])
        _drop(connection, held)
        _leave(connection, [c for c in held if c.change is not None], now)
    written = {c.run for c in held}
    receipts = []
    for each in batch:
        row = rows.get(each.run)
        if row is None or not (each.run in written or transitions.was_written(each, *row[:3])):
            receipts.append(Receipt(False))
        else:
            receipts.append(Receipt(True, *row[2:]))
    return receipts


def _commit_one(
    connection: sqlite3.Connection, commit: Commit, now: float, seconds: float
) -> Receipt:
    """The same for one run that goes on, most often a step of an agent: two statements."""
    writes = commit.writes
    found = connection.execute(
        "UPDATE cascade_runs SET lease_until = ?, updated = ?, "
        "recoveries = CASE WHEN ? THEN 0 ELSE recoveries END, progress = coalesce(?, progress) "
        "WHERE number = ? AND epoch = ? AND status = 'running' RETURNING cancelling, inbox",
        (now + seconds, now, writes, commit.progress, commit.run, commit.epoch),
    ).fetchall()
    if not found:
        return Receipt(False)
    if writes:
        write_contents(connection, [(commit.run, commit)])
        if commit.drops:
            _drop(connection, [commit])
    ((cancelling, inbox),) = found
    return Receipt(True, bool(cancelling), inbox)


def _fences(
    connection: sqlite3.Connection, batch: Sequence[Commit]
) -> dict[int, tuple[int, RunStatus, bool, int]]:
    """Run → epoch, status, cancelling and inbox, of those runs that are there."""
    numbers = json.dumps([commit.run for commit in batch])
    (text,) = connection.execute(
        "SELECT json_group_array(json_array(number, epoch, status, cancelling, inbox)) "
        "FROM cascade_runs WHERE number IN (SELECT value FROM json_each(?))",
        (numbers,),
    ).fetchone()
    return {
        number: (epoch, RunStatus(status), bool(cancelling), inbox)
        for number, epoch, status, cancelling, inbox in json.loads(text)
    }


def _renew(
    connection: sqlite3.Connection, held: Sequence[Commit], now: float, seconds: float
) -> None:
    told = json.dumps([[c.run, c.writes, c.progress] for c in held])
    connection.execute(
        "UPDATE cascade_runs SET lease_until = ?, updated = ?, "
        "recoveries = CASE WHEN told.writes THEN 0 ELSE recoveries END, "
        "progress = coalesce(told.progress, cascade_runs.progress) "
        "FROM (SELECT json_extract(value, '$[0]') AS run, json_extract(value, '$[1]') AS writes, "
        "json_extract(value, '$[2]') AS progress FROM json_each(?)) AS told "
        "WHERE number = told.run",
        (now + seconds, now, told),
    )


def _drop(connection: sqlite3.Connection, held: Sequence[Commit]) -> None:
    for table, key, dropped in (
        ("journal", "chunk", [(c.run, chunk) for c in held for chunk in c.drop_chunks]),
        ("records", "key", [(c.run, key) for c in held for key in c.drop_records]),
        ("blobs", "digest", [(c.run, digest) for c in held for digest in c.drop_blobs]),
        ("outcomes", "key", [(c.run, key) for c in held for key in c.drop_outcomes]),
        ("signals", "number", [(c.run, number) for c in held for number in c.taken]),
    ):
        # With IN (VALUES …) alone, SQLite would read the whole table.
        rows = "SELECT * FROM (VALUES {})"
        put(connection, f"DELETE FROM cascade_{table} WHERE (run, {key}) IN ({rows})", dropped)


def _leave(connection: sqlite3.Connection, leaving: Sequence[Commit], now: float) -> None:
    for each in leaving:
        assert each.change is not None
        (run,) = select(connection, "WHERE number = ?", each.run)
        update(connection, transitions.left(run, each.change, now))
        if each.change.status in FINISHED:
            connection.execute(
                "INSERT OR REPLACE INTO cascade_results VALUES (?, ?)",
                (each.run, each.change.result),
            )


def due(
    connection: sqlite3.Connection,
    now: float,
    *,
    limit: int,
    dead: Collection[str],
    skip: Collection[str],
) -> list[RunRecord]:
    """Runs that any worker may claim, the first of the queue first."""
    wait = "CASE WHEN due IS NULL THEN lease_until ELSE due END"
    return select(
        connection,
        # Two queries, each with an index of its own: for one with OR, SQLite would use neither.
        "WHERE number IN (SELECT number FROM cascade_runs WHERE due <= ? UNION ALL "
        "SELECT number FROM cascade_runs WHERE status = 'running' "
        "AND (lease_until <= ? OR owner IN (SELECT value FROM json_each(?)))) "
        "AND portable AND run_id NOT IN (SELECT value FROM json_each(?)) "
        f"ORDER BY {wait} - priority, number LIMIT ?",
        now,
        now,
        json.dumps(list(dead)),
        json.dumps(list(skip)),
        limit,
    )


def fitting(connection: sqlite3.Connection, where: Filter) -> list[RunRecord]:
    """Runs that a filter lets through, the newest first."""
    clauses, values = condition(where, "?")
    return select(connection, clauses, *values)


def load(connection: sqlite3.Connection, run: RunRecord) -> Loaded:
    """All rows of a run; the caller has a transaction."""

    def rows(sql: str) -> Iterator[tuple[Any, ...]]:
        return connection.execute(sql, (run.number,))

    programs = rows("SELECT program, params, code FROM cascade_programs WHERE run = ?")
    program, params, code = next(programs, (None, b"", b""))
    result = next(rows("SELECT body FROM cascade_results WHERE run = ?"), None)
    return Loaded(
        run,
        program,
        params,
        code,
        [
            Chunk(*row)
            for row in rows("SELECT chunk, body FROM cascade_journal WHERE run = ? ORDER BY chunk")
        ],
        [
            Record(*row)
            for row in rows(
                "SELECT key, kind, step, body, context FROM cascade_records "
                "WHERE run = ? ORDER BY key"
            )
        ],
        [
            Outcome(*row)
            for row in rows(
                "SELECT key, kind, body FROM cascade_outcomes WHERE run = ? ORDER BY key"
            )
        ],
        signals(connection, run.number, 0),
        None if result is None else result[0],
    )


def signals(connection: sqlite3.Connection, run: int, after: int) -> list[Signal]:
    """Signals that wait in the inbox of a run."""
    found = connection.execute(
        "SELECT number, name, body FROM cascade_signals WHERE run = ? AND number > ? "
        "ORDER BY number",
        (run, after),
    )
    return [Signal(*row) for row in found]


def blobs(connection: sqlite3.Connection, run: int, digests: Collection[bytes]) -> list[Blob]:
    """Those large values of a run that are there."""
    found = []
    for digest in digests:
        row = connection.execute(
            "SELECT digest, body FROM cascade_blobs WHERE run = ? AND digest = ?", (run, digest)
        ).fetchone()
        if row is not None:
            found.append(Blob(*row))
    return found


def delete(connection: sqlite3.Connection, numbers: Sequence[int], *, trim: bool = False) -> None:
    """Delete all rows of runs; with ``trim``, all but their records and results."""
    told = json.dumps(list(numbers))
    for table in _STEPS if trim else (*_STEPS, "cascade_results"):
        connection.execute(
            f"DELETE FROM {table} WHERE run IN (SELECT value FROM json_each(?))", (told,)
        )
    rest = "UPDATE cascade_runs SET trimmed = TRUE" if trim else "DELETE FROM cascade_runs"
    connection.execute(f"{rest} WHERE number IN (SELECT value FROM json_each(?))", (told,))
