"""Idle: connections that are used again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

C = TypeVar("C")

#: Most connections that are kept while they are not used.
_MOST_KEPT = 4


class Idle(Generic[C]):
    """Lends connections. There are as many as are used at the same time.

    Args:
        connect: Opens one.
        close: Closes one.
        usable: Whether one can be used again after an error; by default none can.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        close: Callable[[C], object],
        usable: Callable[[C], bool] = lambda _connection: False,
    ) -> None:
        self._connect = connect
        self._close = close
        self._usable = usable
        self._lock = threading.Lock()
        self._kept: list[C] = []
        self._closed = False

    @contextmanager
    def lent(self) -> Iterator[C]:
        """A connection for the block."""
        with self._lock:
            connection = self._kept.pop() if self._kept else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        except BaseException:
            if self._usable(connection):
                self._give_back(connection)
            else:
                self._close(connection)
            raise
        self._give_back(connection)

    def _give_back(self, connection: C) -> None:
        with self._lock:
            keep = not self._closed and len(self._kept) < _MOST_KEPT
            if keep:
                self._kept.append(connection)
        if not keep:
            self._close(connection)

    def close(self) -> None:
        """Close those that are not in use, and later the others."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
        for connection in kept:
            self._close(connection)
