"""ClaimRows: locks of keys that the users of a database see, each a row with a lease."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, Protocol, TypeVar

from cascade.adapters.processes import dead_among, own_name
from cascade.adapters.stores.postgres_server import NOW

T = TypeVar("T")
_numbers = count()

#: Seconds for which a row counts; renewed after a third of them.
LEASE: Final = 15.0
_TAKE: Final = f"""
    INSERT INTO {{t}}claims AS claim (key, owner, until) VALUES (?, ?, {NOW} + ?)
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
    WHERE claim.until < {NOW} OR claim.owner = excluded.owner OR claim.owner = ?
    RETURNING 1
"""


class Database(Protocol):
    """Executes statements of ``SqlEntries``."""

    def write(self, action: Callable[[Any], T]) -> T:
        """``action(execute)`` in a transaction."""


class ClaimRows:
    """Locks in a table. See ``Locks``.

    The lock of a process of this machine that has ended is free at once, that of another machine
    when its lease is over.

    Args:
        database: Has the table.
        lease: Seconds for which a lock is held unless it is renewed.
    """

    def __init__(self, database: Database, lease: float = LEASE) -> None:
        self._database = database
        self._owner = f"{own_name()}/{next(_numbers)}"
        self.lease: float | None = lease

    def take(self, key: bytes) -> bool:
        if self._takes(key, ""):
            return True
        row = self._database.write(
            lambda execute: execute("SELECT owner FROM {t}claims WHERE key = ?", [key]).fetchone()
        )
        if row is None:
            return self._takes(key, "")
        dead = dead_among([row[0]])
        return bool(dead) and self._takes(key, dead[0])

    def _takes(self, key: bytes, dead: str) -> bool:
        values = [key, self._owner, self.lease, dead]
        return self._database.write(lambda execute: execute(_TAKE, values).fetchone()) is not None

    def give_back(self, keys: Iterable[bytes]) -> None:
        rows = [(key, self._owner) for key in sorted(keys)]
        if rows:
            self._database.write(
                lambda execute: execute.many(
                    "DELETE FROM {t}claims WHERE key = ? AND owner = ?", rows
                )
            )

    def renew(self) -> None:
        self._database.write(
            lambda execute: execute(
                f"UPDATE {{t}}claims SET until = {NOW} + ? WHERE owner = ?",
                [self.lease, self._owner],
            )
        )
