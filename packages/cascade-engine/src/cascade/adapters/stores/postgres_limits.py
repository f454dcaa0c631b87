"""PostgresLimits: the limits that processes of all machines share, in a PostgreSQL database."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final

from cascade.adapters.stores import checks
from cascade.adapters.stores.postgres_news import PostgresNews
from cascade.adapters.stores.postgres_server import Connection, PostgresServer, pipeline
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


#: Replaces a document unless another process has changed it. The place is for settings and news.
_SWAP: Final = (
    "WITH done AS (UPDATE cascade.limits SET body = %s WHERE name = %s AND body = %s RETURNING 1) "
    "SELECT 1{} FROM done"
)


class _TimeError(Exception):
    """A revision asks for the time, which is known only under the lock."""


class PostgresLimits:
    """A LimitStore in a PostgreSQL database. Its clock is the server's.

    Args:
        server: The database, with the tables of Cascade.
    """

    local = False

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._news = PostgresNews(server, _CHANNEL)
        #: The documents, as this process has read or written them last.
        self._known: dict[str, bytes | None] = {}
        #: Those that no other process has changed between two revisions of this one.
        self._quiet: set[str] = set()
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
        if name in self._quiet and self._server.do(partial(self._swap, name, revision)):
            return
        self._server.do(partial(self._revise, name, revision))

    def _swap(self, name: str, revision: Revision, connection: Connection) -> bool:
        """Revise a document that is probably still what this process knows: in one round trip.

        Returns:
            Whether it was, and is revised.
        """
        known = self._known[name]
        try:
            new = revision(known, _no_time)
        except Exception:  # it asks for the time, or refuses what may be out of date
            return False
        if new is None:
            return False
        effects = "" if new.lasting else ", set_config('synchronous_commit', 'off', true)"
        if new.news:
            effects += f", pg_notify('{_CHANNEL}', '')"
        swapped = connection.execute(_SWAP.format(effects), [new.body, name, known]).fetchone()
        if swapped is not None:
            self._known[name] = new.body
        return swapped is not None

    def _revise(self, name: str, revision: Revision, connection: Connection) -> None:
        """Revise a document under its lock: in two round trips.

        BEGIN is sent with the first query, and COMMIT with what is written.
        """
        with pipeline(connection):
            connection.execute("BEGIN")
            try:
                found = connection.execute(_LOCK, [name], binary=True).fetchone()
                if found is None:  # the first one of all
                    connection.execute(_MAKE, [name])
                    found = connection.execute(_LOCK, [name], binary=True).fetchone()
                    assert found is not None
                body, time = found
                new = revision(body, lambda: time)
                if new is not None:
                    if not new.lasting:
                        connection.execute("SET LOCAL synchronous_commit = off")
                    connection.execute(_WRITE, [new.body, name])
                    if new.news:
                        connection.execute(f"NOTIFY {_CHANNEL}")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        if body is not None and body == self._known.get(name):
            self._quiet.add(name)
        else:
            self._quiet.discard(name)
        self._known[name] = body if new is None else new.body

    def subscribe(self, listener: Callable[[], None]) -> Unsubscribe:
        self._check_usable()
        return self._news.add(listener)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._news.close()
            self._server.close()

    def _check_usable(self) -> None:
        checks.check_usable(self, self._closed, self._opened_by)


def _no_time() -> float:
    raise _TimeError
