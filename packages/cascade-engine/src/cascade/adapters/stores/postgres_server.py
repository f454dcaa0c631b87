"""Connections to a PostgreSQL server: how they are opened, and what their errors mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from random import random
from time import sleep
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from cascade.adapters.stores.faults import faults_raised
from cascade.adapters.stores.idle_connections import Idle
from cascade.adapters.stores.schema import Migration, pending
from cascade.spec.errors import ArgumentError, StoreError

T = TypeVar("T")
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]

#: The server's clock when it got the statement, in seconds since the epoch.
NOW: Final = "extract(epoch FROM statement_timestamp())::double precision"
#: Names the lock under which tables are made, among all advisory locks of the database.
_LOCK: Final = 0x63617363616465  # "cascade"
#: Classes of errors that no statement is at fault for: resources, and the system.
_FAULTS: Final = {"53", "58"}
#: Seconds to wait for a connection, unless the URL says otherwise.
_CONNECTS_WITHIN: Final = 10
#: How often a transaction is tried that PostgreSQL breaks off in favour of another one.
_ATTEMPTS: Final = 4
#: Seconds to pause at most before the second attempt; twice and three times as long before others.
_PAUSE: Final = 0.02


class PostgresServer:
    """A database that holds a store.

    Args:
        url: Of libpq.
        prepare: Whether to prepare statements that are used often.

    Raises:
        ArgumentError: libpq does not understand the URL.
    """

    def __init__(self, url: str, prepare: bool) -> None:
        try:
            told = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise ArgumentError(f"the URL of a PostgreSQL store is invalid: {error}") from None
        self._url = url
        self._options: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": 5 if prepare else None,
            "client_encoding": "UTF8",
        }
        for name, value in (("application_name", "cascade"), ("connect_timeout", _CONNECTS_WITHIN)):
            if name not in told:
                self._options[name] = value
        where = [str(told[part]) for part in ("host", "port") if part in told]
        self.name = f"{':'.join(where)}/{told.get('dbname', '')}"  # without user and password
        self._idle = Idle(self.connect, psycopg.Connection.close, _is_usable)

    def __str__(self) -> str:
        return f"the store '{self.name}'"

    def connect(self) -> Connection:
        """A connection in autocommit mode."""
        with self.errors():
            return psycopg.connect(self._url, **self._options)

    def do(self, action: Callable[[Connection], T]) -> T:
        """``action(connection)`` in a transaction, again if another one gets in its way.

        A single statement is its own transaction; an action with several opens one.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.errors(), self._idle.lent() as connection:
                    return action(connection)
            except StoreError as error:
                overtaken = isinstance(
                    error.__cause__, (errors.DeadlockDetected, errors.SerializationFailure)
                )
                if not overtaken or attempt == _ATTEMPTS:
                    raise
            # The other transaction has to wake up before this one takes the same rows again.
            sleep(random() * _PAUSE * attempt)
        raise AssertionError  # pragma: no cover

    def close(self) -> None:
        """Close the connections."""
        self._idle.close()

    def prepare(self, migrations: Sequence[Migration], meta: str = "meta") -> None:
        """Make the tables, as far as they are not there.

        Args:
            migrations: Make the tables.
            meta: The one of them that has their version.

        Raises:
            StoreError: The server cannot be used, or its tables are newer than ``migrations``.
        """

        def left(connection: Connection) -> Sequence[Migration]:
            return pending(_version(connection, meta), migrations, str(self))

        if not self.do(left):
            return

        def migrate(connection: Connection) -> None:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                # Read again: another process may have been first.
                for migration in left(connection):
                    for statement in migration:
                        connection.execute(statement)
                connection.execute(
                    f"UPDATE cascade.{meta} SET value = %s WHERE key = 'schema'",
                    [len(migrations)],
                )

        self.do(migrate)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise errors of PostgreSQL in the block as StoreErrors."""
        try:
            yield
        except psycopg.Error as error:
            raise self._error(error) from error

    def faults(self) -> AbstractContextManager[None]:
        """Raise faults of the server in the block, such as a full disk, as StoreErrors."""
        return faults_raised(_is_fault, self._error)

    def _error(self, error: psycopg.Error) -> StoreError:
        text = str(error).strip() or type(error).__name__
        return StoreError(f"{self} cannot be used: {text}{_advice(error)}", _is_transient(error))


def pipeline(connection: Connection) -> AbstractContextManager[object]:
    """Sends the statements of the block without waiting for results that are not fetched yet.

    Where libpq cannot do that, they are sent one by one.
    """
    return connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()


def _is_fault(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in _FAULTS


def _is_usable(connection: Connection) -> bool:
    """Whether it is open and in no transaction."""
    return not connection.closed and (
        connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    )


def _is_transient(error: psycopg.Error) -> bool:
    """Whether it is about the connection, the server's start or end, or other transactions."""
    return isinstance(error, psycopg.OperationalError) and not isinstance(
        error, (errors.DiskFull, errors.OutOfMemory)
    )


def _advice(error: psycopg.Error) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return (
            " (the user must be allowed to CREATE in the database once, and then to use the "
            "schema 'cascade' and its tables)"
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return " (the server is a standby, or the database or user is set to read only)"
    if isinstance(error, (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)):
        return " (behind a pooler, add '?prepare=off' to the URL)"
    return ""


def _version(connection: Connection, meta: str) -> int:
    """The number of migrations that the database has."""
    # Not to_regclass: it looks into a cache, which does not see what others have made while this
    # transaction waited for the lock.
    found = connection.execute(
        "SELECT count(*) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid "
        "WHERE nspname = 'cascade' AND relname = %s",
        [meta],
    ).fetchone()
    if found == (0,):
        return 0
    row = connection.execute(f"SELECT value FROM cascade.{meta} WHERE key = 'schema'").fetchone()
    return int(row[0]) if row else 0
