"""SQLiteLimits: the limits that processes of one machine share, in a file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cascade.adapters.stores import checks
from cascade.adapters.stores.schema.sqlite import LIMITS
from cascade.adapters.stores.sqlite_files import SQLiteFile, Writing
from cascade.spec.limit_store import Revision
from cascade.spec.run_store import Unsubscribe

#: Follows the name of the store's file. A file of its own, because tasks hold the write lock of
#: the store as long as they like (D5), and leases would run out meanwhile.
_SUFFIX: Final = "-limits"


class SQLiteLimits:
    """A LimitStore in a SQLite file beside that of a store.

    Its clock is the machine's monotonic one, which no setting of the time moves. What was written
    before the machine was started again is forgotten: no process of then lives.

    Args:
        path: The file of the store.
        timeout: Seconds to wait while other processes write.

    Raises:
        StoreError: The file cannot be used.
    """

    local = False

    def __init__(self, path: str, timeout: float) -> None:
        # A power cut ends all processes that share the limits, so nothing has to survive one.
        self._file = SQLiteFile(path + _SUFFIX, "normal", timeout)
        self._file.prepare(LIMITS)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._boot = _boot()
        self._closed = False
        self._opened_by = os.getpid()

    def __repr__(self) -> str:
        return f"SQLiteLimits({self._file.path!r})"

    def read(self, name: str) -> tuple[bytes | None, float]:
        with self._usable() as connection:
            return self._document(connection, name), time.monotonic()

    def revise(self, name: str, revision: Revision) -> None:
        with self._usable() as connection, Writing(connection):
            new = revision(self._document(connection, name), time.monotonic)
            if new is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO cascade_limits VALUES (?, ?, ?)",
                    (name, self._boot, new.body),
                )

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        return lambda: None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _document(self, connection: sqlite3.Connection, name: str) -> bytes | None:
        found = connection.execute(
            "SELECT body FROM cascade_limits WHERE name = ? AND boot = ?", (name, self._boot)
        ).fetchone()
        return None if found is None else bytes(found[0])

    @contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._file.errors():
            checks.check_usable(self, self._closed, self._opened_by)
            if self._connection is None:
                self._connection = self._file.connect()
            try:
                yield self._connection
            except sqlite3.Error:
                broken, self._connection = self._connection, None
                with suppress(sqlite3.Error):
                    broken.close()
                raise


def _boot() -> str:
    """The present boot of the machine; empty where that cannot be found out."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
