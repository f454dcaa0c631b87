"""PostgresEntries: a cache by code in a PostgreSQL database, shared by any number of machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

from cascade.adapters.cache.claim_rows import ClaimRows
from cascade.adapters.cache.claims import Claims
from cascade.adapters.cache.sql_entries import Cursor, Execute, SqlEntries
from cascade.adapters.stores.postgres_server import Connection, PostgresServer
from cascade.adapters.stores.schema import Migration

T = TypeVar("T")

_META: Final = "cache_meta"
_FIRST: Final[Migration] = (
    "CREATE SCHEMA IF NOT EXISTS cascade",
    f"CREATE TABLE cascade.{_META} (key text PRIMARY KEY, value bigint NOT NULL)",
    f"INSERT INTO cascade.{_META} VALUES ('schema', 0)",
    """CREATE TABLE cascade.cache_entries (
        key bytea PRIMARY KEY,
        task text NOT NULL,
        code text NOT NULL,
        args text NOT NULL,
        value bytea,
        size bigint NOT NULL,
        file text,
        computed double precision NOT NULL,
        seconds double precision NOT NULL,
        used double precision NOT NULL,
        expires double precision,
        body bytea NOT NULL
    )""",
    "CREATE INDEX cache_used ON cascade.cache_entries (used, key)",
    "CREATE INDEX cache_of_task ON cascade.cache_entries (task, computed)",
    """CREATE TABLE cascade.cache_plans (
        plan bytea PRIMARY KEY, key bytea NOT NULL, expires double precision
    )""",
    "CREATE INDEX cache_plans_of ON cascade.cache_plans (key)",
    "CREATE TABLE cascade.cache_code (code text PRIMARY KEY, components text NOT NULL)",
)
_SECOND: Final[Migration] = (
    """CREATE TABLE cascade.cache_claims (
        key bytea PRIMARY KEY, owner text NOT NULL, until double precision NOT NULL
    )""",
    "CREATE TABLE cascade.cache_sources (name bytea PRIMARY KEY, state text, digest bytea)",
)
_MIGRATIONS: Final = (_FIRST, _SECOND)


class PostgresEntries(SqlEntries):
    """Entries in a PostgreSQL database, in the schema ``cascade``.

    Large values are kept by PostgreSQL outside of their rows, so there are no files beside it.

    Args:
        url: As ``PostgresStore`` takes it.
        prepare: Whether statements are prepared.

    Raises:
        ArgumentError: The URL is invalid.
        StoreError: The server cannot be used, or its tables were made by a newer Cascade.
    """

    def __init__(self, url: str, *, prepare: bool = True) -> None:
        super().__init__(None, Claims(ClaimRows(self)))
        self._server = PostgresServer(url, prepare)
        try:
            self._server.prepare(_MIGRATIONS, _META)
        except BaseException:
            self._server.close()
            raise

    def __repr__(self) -> str:
        return f"the cache '{self._server.name}'"

    def read(self, action: Callable[[Execute], T]) -> T:
        return self._server.do(lambda connection: action(_Execute(connection)))

    def write(self, action: Callable[[Execute], T]) -> T:
        def act(connection: Connection) -> T:
            with connection.transaction():
                return action(_Execute(connection))

        return self._server.do(act)

    def close(self) -> None:
        super().close()
        self._server.close()


class _Execute:
    """Executes statements of ``SqlEntries``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, statement: str, values: Sequence[Any]) -> Cursor:
        return cast(Cursor, self._connection.execute(_dialect(statement), values, binary=True))

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_dialect(statement), rows)


def _dialect(statement: str) -> Any:
    text = statement.format(t="cascade.cache_", blob="bytea", real="double precision")
    return text.replace("?", "%s")
