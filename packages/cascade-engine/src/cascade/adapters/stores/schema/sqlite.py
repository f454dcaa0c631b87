"""Tables in SQLite. They may share the file with tables of users, hence the prefix."""

from __future__ import annotations

from typing import Final

from cascade.adapters.stores.schema import Migration

_FIRST: Migration = (
    "CREATE TABLE cascade_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO cascade_meta VALUES ('schema', 0), ('news', 0)",
    # Rewritten by each commit, so it is narrow: what is large stands in other tables.
    # AUTOINCREMENT: no number is used again, or commits of a deleted run could reach another.
    """CREATE TABLE cascade_runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        target TEXT NOT NULL,
        root BLOB NOT NULL,
        status TEXT NOT NULL,
        priority INTEGER NOT NULL,
        portable INTEGER NOT NULL,
        due REAL,
        owner TEXT,
        lease_until REAL NOT NULL,
        epoch INTEGER NOT NULL,
        recoveries INTEGER NOT NULL,
        progress INTEGER NOT NULL,
        cancelling INTEGER NOT NULL,
        inbox INTEGER NOT NULL,
        trimmed INTEGER NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        ended REAL,
        parent TEXT
    )""",
    # None has lease_until or updated, so that renewing a lease changes no index.
    "CREATE INDEX cascade_runs_due ON cascade_runs (due) WHERE due IS NOT NULL",
    "CREATE INDEX cascade_runs_running ON cascade_runs (number) WHERE status = 'running'",
    "CREATE INDEX cascade_runs_ended ON cascade_runs (ended) WHERE ended IS NOT NULL",
    """CREATE TABLE cascade_programs (
        run INTEGER PRIMARY KEY, program BLOB, params BLOB NOT NULL, code BLOB NOT NULL
    )""",
    "CREATE TABLE cascade_results (run INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    """CREATE TABLE cascade_journal (
        run INTEGER NOT NULL, chunk INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (run, chunk)
    ) WITHOUT ROWID""",
    """CREATE TABLE cascade_records (
        run INTEGER NOT NULL, key BLOB NOT NULL, kind TEXT NOT NULL, step INTEGER NOT NULL,
        body BLOB NOT NULL, context BLOB NOT NULL, PRIMARY KEY (run, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE cascade_outcomes (
        run INTEGER NOT NULL, key BLOB NOT NULL, kind INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE cascade_signals (
        run INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID""",
    # With a rowid: their bodies are large, and belong on pages of their own.
    """CREATE TABLE cascade_blobs (
        run INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (run, digest)
    )""",
    "CREATE TABLE cascade_schedules (name TEXT PRIMARY KEY, last REAL NOT NULL) WITHOUT ROWID",
)

MIGRATIONS: Final = (_FIRST,)

#: The tables of the file with limits.
LIMITS: Final[tuple[Migration, ...]] = (
    (
        "CREATE TABLE cascade_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO cascade_meta VALUES ('schema', 0)",
        "CREATE TABLE cascade_limits (name TEXT PRIMARY KEY, boot TEXT NOT NULL, "
        "body BLOB NOT NULL) WITHOUT ROWID",
    ),
)
