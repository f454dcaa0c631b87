"""Tables in PostgreSQL, in a schema of their own."""

from __future__ import annotations

from typing import Final

from cascade.adapters.stores.schema import Migration

_FIRST: Migration = (
    "CREATE SCHEMA IF NOT EXISTS cascade",
    "CREATE TABLE cascade.meta (key text PRIMARY KEY, value bigint NOT NULL)",
    "INSERT INTO cascade.meta VALUES ('schema', 0)",
    # Rewritten by each commit, so it is narrow, and its pages have room for new versions of rows.
    # Times are seconds since the epoch by the server's clock.
    """CREATE TABLE cascade.runs (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run_id text NOT NULL UNIQUE,
        target text NOT NULL,
        root bytea NOT NULL,
        status text NOT NULL,
        priority bigint NOT NULL,
        portable boolean NOT NULL,
        due double precision,
        owner text,
        lease_until double precision NOT NULL,
        epoch bigint NOT NULL,
        recoveries bigint NOT NULL,
        progress bigint NOT NULL,
        cancelling boolean NOT NULL,
        inbox bigint NOT NULL,
        trimmed boolean NOT NULL,
        created double precision NOT NULL,
        updated double precision NOT NULL,
        ended double precision,
        parent text
    ) WITH (fillfactor = 50)""",
    # None has lease_until or updated: renewing a lease changes no index, so the row stays on its
    # page.
    "CREATE INDEX runs_due ON cascade.runs (due) WHERE due IS NOT NULL",
    "CREATE INDEX runs_running ON cascade.runs (number) WHERE status = 'running'",
    "CREATE INDEX runs_ended ON cascade.runs (ended) WHERE ended IS NOT NULL",
    """CREATE TABLE cascade.programs (
        run bigint PRIMARY KEY, program bytea, params bytea NOT NULL, code bytea NOT NULL
    )""",
    "CREATE TABLE cascade.results (run bigint PRIMARY KEY, body bytea NOT NULL)",
    """CREATE TABLE cascade.journal (
        run bigint NOT NULL, chunk bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (run, chunk)
    )""",
    """CREATE TABLE cascade.records (
        run bigint NOT NULL, key bytea NOT NULL, kind text NOT NULL, step bigint NOT NULL,
        body bytea NOT NULL, context bytea NOT NULL, PRIMARY KEY (run, key)
    ) WITH (fillfactor = 50)""",
    """CREATE TABLE cascade.outcomes (
        run bigint NOT NULL, key bytea NOT NULL, kind bigint NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (run, key)
    )""",
    """CREATE TABLE cascade.signals (
        run bigint NOT NULL, number bigint NOT NULL, name text NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (run, number)
    )""",
    """CREATE TABLE cascade.blobs (
        run bigint NOT NULL, digest bytea NOT NULL, body bytea NOT NULL, PRIMARY KEY (run, digest)
    )""",
    "CREATE TABLE cascade.schedules (name text PRIMARY KEY, last double precision NOT NULL)",
)

_LIMITS: Migration = (
    # One row, rewritten by each change of limits: its page has room for new versions.
    "CREATE TABLE cascade.limits (name text PRIMARY KEY, body bytea) WITH (fillfactor = 10)",
)

MIGRATIONS: Final = (_FIRST, _LIMITS)
