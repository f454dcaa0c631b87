"""PostgresLimits: the limits that processes of all machines share, in a PostgreSQL database."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import psycopg

from cascade.adapters.stores import checks
from cascade.adapters.stores.postgres_news import PostgresNews
from cascade.adapters.stores.postgres_server import Connection, PostgresServer
from cascade.spec.limit_store import Revision
from cascade.spec.run_store import Unsubscribe

#: The server's clock now, also within a transaction, in seconds.
_NOW: Final = "extract(epoch FROM clock_timestamp())::double precision"
_READ: Final = f"SELECT body, {_NOW} FROM cascade.limits WHERE name = %s"
#: The row with its lock. The time is that after the wait for the lock: a volatile function in a
#: query around the one that locks.
_LOCK: Final = (
    "WITH mine AS MATERIALIZED (SELECT body FROM cascade.limits WHERE name = %s FOR UPDATE) "
    f"SELECT body, {_NOW} FROM mine"
)
_WRITE: Final = "UPDATE cascade.limits SET body = %s WHERE name = %s"
#: Where writing is told of that others wait for.
_CHANNEL: Final = "cascade_limits"
_MAKE: Final = "INSERT INTO cascade.limits VALUES (%s, NULL) ON CONFLICT (name) DO NOTHING"


class PostgresLimits:
    """A LimitStore in a PostgreSQL database. Its clock is the server's.

    Args:
        server: The database, with the tables of Cascade.
    """

    local = False

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._news = PostgresNews(server, _CHANNEL)
        self._closed = False
        self._opened_by = os.getpid()

    def __repr__(self) -> str:
        return f"PostgresLimits({self._server.name!r})"

    def read(self, name: str) -> tuple[bytes | None, float]:
        self._check_usable()

        def read(connection: Connection) -> tuple[bytes | None, float]:
            found = connection.execute(_READ, [name], binary=True).fetchone()
            if found is None:
                found = connection.execute(f"SELECT NULL, {_NOW}", binary=True).fetchone()
            assert found is not None
            return found[0], found[1]

        return self._server.do(read)

    def revise(self, name: str, revision: Revision) -> None:
        self._check_usable()

        def revise(connection: Connection) -> None:
            # Two round trips: BEGIN goes with the first query, and COMMIT with the last statement.
            with self._pipeline(connection), connection.transaction():
                found = connection.execute(_LOCK, [name], binary=True).fetchone()
                if found is None:  # the first one of all
                    connection.execute(_MAKE, [name])
                    found = connection.execute(_LOCK, [name], binary=True).fetchone()
                    assert found is not None
                new = revision(found[0], found[1])
                if new is None:
                    return
                if not new.lasting:
                    connection.execute("SET LOCAL synchronous_commit = off")
                connection.execute(_WRITE, [new.body, name])
                if new.news:
                    connection.execute(f"NOTIFY {_CHANNEL}")

        self._server.do(revise)

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        self._check_usable()
        return self._news.add(listener)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._news.close()
            self._server.close()

    def _pipeline(self, connection: Connection) -> AbstractContextManager[object]:
        """Sends statements without waiting for the results of the earlier ones, if libpq can."""
        return connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()

    def _check_usable(self) -> None:
        checks.check_usable(self, self._closed, self._opened_by)
