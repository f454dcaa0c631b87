"""Quick commits to a SQLite file: those that wait neither for the disk nor for another program.

They have a connection of their own, which fails at once if another one writes, and never copies the
write-ahead log into the database: that waits for the disk. The log would grow for ever, so some
commits are left to the connection that may wait.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from cascade.adapters.stores import sqlite_rows
from cascade.adapters.stores.sqlite_files import SQLiteFile, Writing, code_of
from cascade.spec.run_rows import Commit, Receipt

#: One commit of so many is left to the other connection. Each writes some pages of 4 KiB to the
#: log, which SQLite copies from 1000 pages on.
_OTHER: Final = 200


class QuickCommits:
    """Commits to a file with ``synchronous="normal"``. Use it under the store's lock."""

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._made = 0

    def commit(self, batch: Sequence[Commit], seconds: float) -> Sequence[Receipt] | None:
        """The receipts of a batch; None if it is left to the other connection.

        Raises:
            StoreError: The file cannot be used; nothing was written.
        """
        self._made += 1
        if self._made % _OTHER == 0:
            return None
        connection = self._connection or self._opened()
        try:
            with Writing(connection):
                return sqlite_rows.commit(connection, batch, time.time(), seconds)
        except sqlite3.Error as error:
            self._connection = None
            if code_of(error) == sqlite3.SQLITE_BUSY:
                return None
            raise self._file.error(error) from error

    def _opened(self) -> sqlite3.Connection:
        with self._file.errors():
            connection = self._file.connect()
            connection.execute("PRAGMA busy_timeout=0")
            connection.execute("PRAGMA wal_autocheckpoint=0")
        self._connection = connection
        return connection

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
