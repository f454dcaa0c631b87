"""Connections to a SQLite file: how they are opened, and what their errors mean."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from cascade.adapters.stores.faults import faults_raised
from cascade.adapters.stores.schema import Migration, pending
from cascade.spec.errors import StoreError

_OLDEST: Final = (3, 35, 0)  # UPDATE … FROM, row values
#: File systems of other machines: their locks do not hold, or not between machines.
_NETWORK: Final = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|afs|ceph|lustre|gpfs|glusterfs|beegfs|ncpfs|"
    r"fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone|davfs)"
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
#: Seconds between attempts at what SQLite refuses at once while another process does the same.
_PAUSE = 0.01

#: What to do about an error, by its primary code.
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: (
        "another program has held its write lock for longer than {timeout:g} s; "
        "'?timeout=' in the URL allows more"
    ),
    sqlite3.SQLITE_FULL: "the disk is full, or a quota is reached",
    sqlite3.SQLITE_READONLY: "this process may not write to the file or its folder",
    sqlite3.SQLITE_IOERR: "the disk is full or broken, or a limit for files is reached",
    sqlite3.SQLITE_CANTOPEN: "its folder must exist, and this process must be allowed to use it",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a copy of it",
}
#: Those of them, and others, that no statement is at fault for.
_FAULTS: Final = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_TRANSIENT: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT}


class SQLiteFile:
    """A SQLite database that holds a store.

    Args:
        path: The file; it is made if it is not there.
        synchronous: ``"full"`` or ``"normal"``, SQLite's pragma.
        timeout: Seconds to wait for the write lock of other programs.
    """

    def __init__(self, path: str, synchronous: str, timeout: float) -> None:
        self.path = path
        #: The absolute path: the working directory may change before a connection is opened.
        self.place = os.path.abspath(path)
        self.synchronous = synchronous
        self.timeout = timeout

    def __str__(self) -> str:
        return f"the store '{self.path}'"

    def prepare(self, migrations: Sequence[Migration], meta: str = "cascade_meta") -> None:
        """Make the file and its tables, as far as they are not there.

        Args:
            migrations: Make the tables.
            meta: The one of them that has their version.

        Raises:
            StoreError: It cannot be a store, or is newer than ``migrations``.
        """
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreError(
                f"this Python has SQLite {sqlite3.sqlite_version}, but a store needs 3.35 or newer"
            )
        check_local(self.path)
        with self.errors():
            connection = self.connect()
            try:
                self._use_wal(connection)
                self._migrate(connection, migrations, meta)
            finally:
                connection.close()

    def connect(self) -> sqlite3.Connection:
        """A connection in autocommit mode, which may be used by one thread after the other."""
        with self.errors():
            connection = sqlite3.connect(
                self.place, timeout=self.timeout, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute(f"PRAGMA synchronous={self.synchronous}")
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise errors of SQLite in the block as StoreErrors."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.error(error) from error

    def faults(self) -> AbstractContextManager[None]:
        """Raise faults of the file in the block, such as a full disk, as StoreErrors."""
        return faults_raised(_is_fault, self.error)

    def error(self, error: sqlite3.Error) -> StoreError:
        """The StoreError for an error of SQLite."""
        code = code_of(error)
        advice = _ADVICE.get(code, "").format(timeout=self.timeout)
        text = f"{self} cannot be used: {error}" + (f" ({advice})" if advice else "")
        return StoreError(text, code in _TRANSIENT)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Set the options that are kept in the file. It has to precede the first table."""
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        (mode,) = self._patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
        if mode != "wal":
            raise StoreError(
                f"{self} cannot be used: its file system does not support SQLite's write-ahead "
                f"log (journal mode '{mode}'); move it to a local disk"
            )

    def _patiently(self, attempt: Callable[[], tuple[str]]) -> tuple[str]:
        """Repeat statements that fail at once, without SQLite's own timeout."""
        until = time.monotonic() + self.timeout
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                busy = code_of(error) == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > until:
                    raise
            time.sleep(_PAUSE)

    def _migrate(
        self, connection: sqlite3.Connection, migrations: Sequence[Migration], meta: str
    ) -> None:
        if not pending(_version(connection, meta), migrations, str(self)):
            return
        with Writing(connection):
            # Read again: another process may have been first.
            for migration in pending(_version(connection, meta), migrations, str(self)):
                for statement in migration:
                    connection.execute(statement)
            connection.execute(
                f"UPDATE {meta} SET value = ? WHERE key = 'schema'", (len(migrations),)
            )


def code_of(error: sqlite3.Error) -> int:
    """The primary code of an error of ``sqlite3``; 0 for an error that SQLite has not raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_fault(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and code_of(error) in _FAULTS


class Writing:
    """A transaction that has the write lock from its beginning; an error rolls it back.

    After an error of SQLite the connection is closed.

    One that reads first and takes the lock later fails at once if others have written in between,
    without any timeout.

    A class, because a step of an agent is one, and takes less time than a generator with one yield.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._undo(error)
            raise

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            self._undo(error)
            return
        try:
            self._connection.execute("COMMIT")
        except BaseException as failure:
            self._undo(failure)
            raise

    def _undo(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.Error):
            self._connection.close()  # this rolls back, in any state of the connection
        else:
            self._connection.execute("ROLLBACK")


def check_local(path: str, mounts: Path = _MOUNTS) -> None:
    """Refuse a file on another machine, where the system tells (Linux).

    Args:
        mounts: The list of mounted file systems, as proc(5) describes mountinfo.

    Raises:
        StoreError: Its file system is one of a network.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    where = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        inside = where == mounted or where.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= len(best):  # of equal ones the last hides the others
            best, kind = mounted, after.split()[0]
    if _NETWORK.fullmatch(kind):
        raise StoreError(
            f"the store '{path}' would be on a network file system ({kind} at '{best}'), where "
            "SQLite's locks do not hold; use a local disk, or PostgreSQL to share a store between "
            "machines"
        )


def _version(connection: sqlite3.Connection, meta: str) -> int:
    """The number of migrations that the file has."""
    tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(tables, (meta,)).fetchone() == (0,):
        return 0
    row = connection.execute(f"SELECT value FROM {meta} WHERE key = 'schema'").fetchone()
    return int(row[0])
