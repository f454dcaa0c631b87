"""SQLiteEntries: a cache by code in a file, shared by the processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from cascade.adapters.cache.sql_entries import Cursor, Execute, SqlEntries
from cascade.adapters.cache.value_files import ValueFiles
from cascade.adapters.stores.schema import Migration
from cascade.adapters.stores.sqlite_files import SQLiteFile, writing
from cascade.spec.errors import StoreError

T = TypeVar("T")

_META: Final = "cascade_cache_meta"
_FIRST: Final[Migration] = (
    f"CREATE TABLE {_META} (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    f"INSERT INTO {_META} VALUES ('schema', 0)",
    # With a rowid: bodies are large, and stand last, so that the other columns are read without.
    """CREATE TABLE cascade_cache_entries (
        key BLOB PRIMARY KEY NOT NULL,
        task TEXT NOT NULL,
        code TEXT NOT NULL,
        args TEXT NOT NULL,
        value BLOB,
        size INTEGER NOT NULL,
        file TEXT,
        computed REAL NOT NULL,
        seconds REAL NOT NULL,
        used REAL NOT NULL,
        expires REAL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX cascade_cache_used ON cascade_cache_entries (used, key, size)",
    "CREATE INDEX cascade_cache_of_task ON cascade_cache_entries (task, computed)",
    "CREATE INDEX cascade_cache_files ON cascade_cache_entries (file) WHERE file IS NOT NULL",
    """CREATE TABLE cascade_cache_plans (
        plan BLOB PRIMARY KEY NOT NULL, key BLOB NOT NULL, expires REAL
    ) WITHOUT ROWID""",
    "CREATE INDEX cascade_cache_plans_of ON cascade_cache_plans (key)",
    """CREATE TABLE cascade_cache_code (
        code TEXT PRIMARY KEY NOT NULL, components TEXT NOT NULL
    )""",
)
_MIGRATIONS: Final = (_FIRST,)


class SQLiteEntries(SqlEntries):
    """Entries in a SQLite file, and in the folder ``FILE-values`` beside it.

    Commits survive the death of the process; the last ones may be lost in a power cut, as those
    of a cache may be. The file may be that of a store of durable runs, or hold other tables.

    Args:
        path: The file. Its folder must exist.
        synchronous: ``"normal"`` or ``"full"``, as ``SQLiteStore`` has it.
        timeout: Seconds to wait while other programs write.

    Raises:
        StoreError: The file cannot be opened, is no database, is on a network file system, or was
            written by a newer Cascade.
    """

    def __init__(self, path: str, *, synchronous: str = "normal", timeout: float = 30.0) -> None:
        super().__init__(ValueFiles(f"{path}-values"))
        self._file = SQLiteFile(path, synchronous, timeout)
        self._file.prepare(_MIGRATIONS, _META)
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        #: Held while the connection is used.
        self._using = threading.Lock()
        self._close_connection: Callable[[], Any] = _nothing

    def __repr__(self) -> str:
        return f"the cache '{self._file.path}'"

    def read(self, action: Callable[[Execute], T]) -> T:
        with self._using, self._file.errors():
            return action(_Execute(self._opened()))

    def write(self, action: Callable[[Execute], T]) -> T:
        with self._using, self._file.errors():
            connection = self._opened()
            try:
                with writing(connection):
                    return action(_Execute(connection))
            except sqlite3.Error:
                self._connection = None  # writing() has closed it
                raise

    def close(self) -> None:
        if self._closed:
            return
        super().close()
        with self._using:
            self._closed = True
            self._connection = None
            self._close_connection()

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self!r} is closed")
        if self._connection is None:
            self._connection = self._file.connect()
            # Also when this object is collected, and at the end of the process.
            self._close_connection = weakref.finalize(self, self._connection.close)
        return self._connection


def _nothing() -> None:
    """There is no connection to close."""


class _Execute:
    """Executes statements of ``SqlEntries``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __call__(self, statement: str, values: Sequence[Any]) -> Cursor:
        return self._connection.execute(_dialect(statement), values)

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(_dialect(statement), rows)


_known: dict[str, str] = {}


def _dialect(statement: str) -> str:
    found = _known.get(statement)
    if found is None:
        found = statement.format(t="cascade_cache_", blob="BLOB", real="REAL")
        _known[statement] = found
    return found
