"""PostgresNews: notifications of a PostgreSQL server, which tell that others have written."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator

import psycopg

from cascade.adapters.stores.listeners import Listeners
from cascade.adapters.stores.postgres_server import Connection, PostgresServer
from cascade.spec.errors import StoreError
from cascade.spec.run_store import Unsubscribe

#: Seconds before the next attempt to listen, after the connection was lost.
_PAUSE = 1.0


class PostgresNews:
    """Calls functions at the notifications of one channel.

    While there are any, this takes a connection and a thread. Notifications are a hint: some
    poolers do not pass them on, and those that come while the connection is lost are lost too.

    Args:
        server: The database.
        channel: The name of the channel.
    """

    def __init__(self, server: PostgresServer, channel: str) -> None:
        self._server = server
        self._channel = channel
        self._wakes, self._woken = socket.socketpair()
        self._listeners = Listeners(self._watch, wake=lambda: self._wakes.send(b"\0"))

    def add(self, listener: Callable[[], None]) -> Unsubscribe:
        """Call ``listener`` at news from now on; the returned function ends that."""
        return self._listeners.add(listener)

    def tell(self) -> None:
        """Call the listeners of this process."""
        self._listeners.tell()

    def close(self) -> None:
        """End the thread, and close the connection."""
        self._listeners.close()
        self._wakes.close()
        self._woken.close()

    def _watch(self, stopping: threading.Event) -> Iterator[object]:
        while not stopping.is_set():
            try:
                with self._server.connect() as connection:
                    yield from self._notifications(connection, stopping)
            except (psycopg.Error, StoreError):
                stopping.wait(_PAUSE)  # the server is away
            except ValueError:  # it was closed before this thread had begun to look
                if not stopping.is_set():
                    raise

    def _notifications(self, connection: Connection, stopping: threading.Event) -> Iterator[object]:
        connection.execute(f"LISTEN {self._channel}")
        yield None  # something may have happened before
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._woken in ready:
                    self._woken.recv(64)
                if stopping.is_set():
                    return
                if list(connection.notifies(timeout=0)):
                    yield None
