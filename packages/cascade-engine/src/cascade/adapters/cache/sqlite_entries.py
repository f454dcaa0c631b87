"""SQLiteEntries: a cache by code in a file, shared by the processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from cascade.adapters.cache.lock_file import claims_at
from cascade.adapters.cache.sql_entries import Cursor, Execute, SqlEntries
from cascade.adapters.cache.value_files import ValueFiles
from cascade.adapters.stores.schema import Migration
from cascade.adapters.stores.sqlite_files import SQLiteFile, Writing
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
_SECOND: Final[Migration] = (
    """CREATE TABLE cascade_cache_sources (
        name BLOB PRIMARY KEY NOT NULL, state TEXT NOT NULL, digest BLOB NOT NULL
    ) WITHOUT ROWID""",
)
_MIGRATIONS: Final = (_FIRST, _SECOND)


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
        self._file = SQLiteFile(path, synchronous, timeout)
        self._file.prepare(_MIGRATIONS, _META)
        # Two, so that what is read need not wait for what is written.
        self._reading, self._writing = _Connection(self._file), _Connection(self._file)
        place = self._file.place
        super().__init__(ValueFiles(f"{place}-values"), claims_at(f"{place}-claims"))

    def __repr__(self) -> str:
        return f"the cache '{self._file.path}'"

    def read(self, action: Callable[[Execute], T]) -> T:
        return self._reading.do(action)

    def write(self, action: Callable[[Execute], T]) -> T:
        def act(execute: _Execute) -> T:
            with Writing(execute.connection):
                return action(execute)

        return self._writing.do(act)

    def close(self) -> None:
        if not self._reading.is_closed:
            super().close()
            self._writing.close()
            self._reading.close()


class _Connection:
    """A connection that is opened when it is needed, and used by one thread after the other."""

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._execute: _Execute | None = None
        self._close: Callable[[], Any] = _nothing
        self.is_closed = False

    def do(self, action: Callable[[_Execute], T]) -> T:
        """``action(execute)``; on another connection after an error of SQLite."""
        with self._lock:
            try:
                return action(self._execute or self._open())
            except sqlite3.Error:
                self._execute = None
                self._close()
                with self._file.errors():
                    raise

    def _open(self) -> _Execute:
        if self.is_closed:
            raise StoreError(f"the cache '{self._file.path}' is closed")
        connection = self._file.connect()
        # Also when this object is collected, and at the end of the process.
        self._close = weakref.finalize(self, connection.close)
        self._execute = _Execute(connection)
        return self._execute

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            self._execute = None
            self._close()


def _nothing() -> None:
    """There is no connection to close."""


class _Execute:
    """Executes statements of ``SqlEntries``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __call__(self, statement: str, values: Sequence[Any]) -> Cursor:
        return self.connection.execute(_dialect(statement), values)

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self.connection.executemany(_dialect(statement), rows)


_known: dict[str, str] = {}


def _dialect(statement: str) -> str:
    found = _known.get(statement)
    if found is None:
        found = statement.format(t="cascade_cache_", blob="BLOB", real="REAL")
        _known[statement] = found
    return found
