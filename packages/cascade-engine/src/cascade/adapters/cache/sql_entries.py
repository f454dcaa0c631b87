"""SqlEntries: a cache by code in a database; the common part of SQLite and PostgreSQL.

The statements are written once, with ``?`` for a value and ``{t}`` before the name of a table.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

from cascade.adapters.cache.claims import Claims, Wake
from cascade.adapters.cache.entries import Entry, Found, Got, Plan, TaskUse, got
from cascade.adapters.cache.group_commit import Batch, GroupCommit
from cascade.adapters.cache.value_files import ValueFiles

T = TypeVar("T")

#: Bytes from which on a value is a file of its own, where there are files.
LARGE = 64 * 1024
#: Seconds by which the time of the last use may be late in the database.
_LATE = 60.0
#: Uses that are noted before those that are late are written.
_MOST_NOTED = 2_000
#: Values of one IN (…), of which older SQLites allow 999.
_AT_ONCE = 500
#: Rows that are removed in one transaction, so that others need not wait for long.
_REMOVED_AT_ONCE = 500

_PUT = (
    "INSERT INTO {t}entries (key, task, code, args, value, size, file, computed, seconds, used, "
    "expires, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET code = excluded.code, args = excluded.args, "
    "value = excluded.value, size = excluded.size, file = excluded.file, "
    "computed = excluded.computed, seconds = excluded.seconds, used = excluded.used, "
    "expires = excluded.expires, body = excluded.body"
)
_PLAN = (
    "INSERT INTO {t}plans SELECT CAST(? AS {blob}), key, CAST(? AS {real}) "
    "FROM {t}entries WHERE key = ? "
    "ON CONFLICT (plan) DO UPDATE SET key = excluded.key, expires = excluded.expires"
)
_FILE = (
    "INSERT INTO {t}sources VALUES (?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET state = excluded.state, digest = excluded.digest"
)
_GET = "SELECT key, body, file, expires, value, used FROM {t}entries WHERE key"
_FOUND = "key, args, code, value, size, computed, seconds, used, expires"


class Cursor(Protocol):
    """The part of a cursor that is used."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Execute(Protocol):
    """Executes statements in a transaction."""

    def __call__(self, statement: str, values: Sequence[Any]) -> Cursor:
        """Execute a statement with these values."""

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute it with each of these rows, with few round trips."""


class SqlEntries(ABC):
    """Entries in a database. See ``Entries``.

    A subclass says how statements are executed.

    Args:
        files: Where large values are; None to keep all in the database.
        claims: The calls that are being made.
    """

    def __init__(self, files: ValueFiles | None, claims: Claims) -> None:
        self._files = files
        self._lock = threading.Lock()
        #: Key → last use, as far as that is not written, and the keys whose written one is late.
        self._used: dict[bytes, float] = {}
        self._late: set[bytes] = set()
        #: Codes whose components are known to be there.
        self._codes: set[str] = set()
        self._claims = claims
        self._unwritten = GroupCommit(self._write, self._claims.unlock)

    @abstractmethod
    def read(self, action: Callable[[Execute], T]) -> T:
        """``action(execute)``, which only reads."""

    @abstractmethod
    def write(self, action: Callable[[Execute], T]) -> T:
        """``action(execute)`` in a transaction."""

    # -- values -------------------------------------------------------------------------------

    def get(self, key: bytes, now: float) -> Got | None:
        entry = self._unwritten.entry(key)
        if entry is not None:
            return None if _is_over(entry.expires, now) else got(entry)
        row = self.read(lambda execute: execute(f"{_GET} = ?", [key]).fetchone())
        return None if row is None else self._got(row, now)

    def get_all(self, keys: Collection[bytes], now: float) -> Iterator[tuple[bytes, Got]]:
        for some in _batches(keys):
            query = f"{_GET} IN ({_marks(some)})"

            def look(execute: Execute, query: str = query, some: list[bytes] = some) -> list[Any]:
                return execute(query, some).fetchall()

            for row in self.read(look):
                found = self._got(row, now)
                if found is not None:
                    yield bytes(row[0]), found

    def _got(self, row: Sequence[Any], now: float) -> Got | None:
        key, body, file, expires, value, used = row
        if _is_over(expires, now):
            return None
        if file is not None:
            body = self._files.read(file) if self._files is not None else None
            if body is None:  # somebody has removed or changed it
                self.remove(bytes(key))
                return None
        self._note(bytes(key), now, used)
        return Got(bytes(body), expires, None if value is None else bytes(value))

    def put(self, entry: Entry, components: Callable[[], str]) -> None:
        is_new = entry.code not in self._codes
        self._codes.add(entry.code)
        self._unwritten.put(entry, components() if is_new else None)

    def remove(self, key: bytes) -> None:
        self._unwritten.forget(key)
        self.write(lambda execute: self._delete(execute, [key]))

    def _write(self, batch: Batch) -> None:
        """Write the entries that were put since the last time."""
        rows = [self._row(entry) for _, entry in sorted(batch.entries.items())]
        plans = [(p.plan, p.expires, p.key) for _, p in sorted(batch.plans.items())]
        files = [(name, *known) for name, known in sorted(batch.files.items())]

        def write(execute: Execute) -> None:
            for code in batch.codes.items():
                execute("INSERT INTO {t}code VALUES (?, ?) ON CONFLICT (code) DO NOTHING", code)
            execute.many(_PUT, rows)
            execute.many(_PLAN, plans)
            execute.many(_FILE, files)
            _write_uses(execute, batch.uses)

        try:
            self.write(write)
        except BaseException:
            self._codes -= batch.codes.keys()
            raise

    def _row(self, entry: Entry) -> Sequence[Any]:
        body, file = entry.body, None
        if self._files is not None and len(body) > LARGE:
            file, body = self._files.write(body), b""
        return (
            *(entry.key, entry.task, entry.code, entry.args, entry.value, len(entry.body), file),
            *(entry.computed, entry.seconds, entry.computed, entry.expires, body),
        )

    # -- calls that are being made ------------------------------------------------------------

    def claim(self, key: bytes, wake: Wake) -> bool:
        return self._claims.take(key, wake)

    def leave(self, key: bytes) -> None:
        self._claims.leave(key, unlock=not self._unwritten.over(key))

    # -- plans --------------------------------------------------------------------------------

    def plans(self, plans: Collection[bytes], now: float) -> Mapping[bytes, Plan]:
        def look(execute: Execute) -> list[Any]:
            rows: list[Any] = []
            for some in _batches(plans):
                rows += execute(
                    "SELECT plan, key, expires FROM {t}plans WHERE plan IN "
                    f"({_marks(some)}) AND (expires IS NULL OR expires > ?)",
                    [*some, now],
                ).fetchall()
            return rows

        found = (Plan(bytes(plan), bytes(key), end) for plan, key, end in self.read(look))
        return {plan.plan: plan for plan in found}

    def keep_plans(self, plans: Sequence[Plan]) -> None:
        if plans:
            self._unwritten.put_plans(plans)

    # -- files --------------------------------------------------------------------------------

    def file_digest(self, name: bytes, state: str) -> bytes | None:
        row = self.read(
            lambda execute: execute(
                "SELECT digest FROM {t}sources WHERE name = ? AND state = ?", [name, state]
            ).fetchone()
        )
        return None if row is None else bytes(row[0])

    def keep_file(self, name: bytes, state: str, digest: bytes) -> None:
        self._unwritten.put_file(name, state, digest)

    def flush(self) -> None:
        self._unwritten.put_uses(self._take_noted(late=True))
        self._unwritten.flush()

    # -- less of them -------------------------------------------------------------------------

    def evict(self, size: int) -> int:
        self._unwritten.put_uses(self._take_noted(late=False))
        self._unwritten.flush()
        removed = 0
        while True:
            left = self.read(
                lambda execute: execute(
                    "SELECT COALESCE(SUM(size), 0) FROM {t}entries", []
                ).fetchone()[0]
            )
            if left <= size:
                return removed
            surplus = left - size

            def remove(execute: Execute, surplus: int = surplus) -> int:
                rows = execute(
                    "SELECT key, size FROM {t}entries ORDER BY used, key LIMIT ?",
                    [_REMOVED_AT_ONCE],
                ).fetchall()
                keys, freed = [], 0
                for key, length in rows:
                    if freed >= surplus:
                        break
                    keys.append(bytes(key))
                    freed += length
                self._delete(execute, keys)
                return len(keys)

            count = self.write(remove)
            if not count:
                return removed
            removed += count

    def clear(self, task: str | None = None, before: float | None = None) -> int:
        self.flush()
        where, values = ["1 = 1"], list[Any]()
        for condition, value in (("task = ?", task), ("used < ?", before)):
            if value is not None:
                where.append(condition)
                values.append(value)

        def clear(execute: Execute) -> int:
            rows = execute(
                f"SELECT key FROM {{t}}entries WHERE {' AND '.join(where)} LIMIT ?",
                [*values, _REMOVED_AT_ONCE],
            ).fetchall()
            self._delete(execute, [bytes(key) for (key,) in rows])
            return len(rows)

        removed = 0
        while count := self.write(clear):
            removed += count
        if task is None and before is None:
            self.write(lambda execute: execute("DELETE FROM {t}sources", []))
        self._tidy()
        return removed

    def _tidy(self) -> None:
        """Remove the components and files that no entry needs."""
        self._codes.clear()
        self.write(
            lambda execute: execute(
                "DELETE FROM {t}code WHERE code NOT IN (SELECT code FROM {t}entries)", []
            )
        )
        if self._files is not None:
            self._files.sweep(self._is_needed)

    def _is_needed(self, file: str) -> bool:
        return self.read(lambda execute: _uses_file(execute, file))

    def _delete(self, execute: Execute, keys: Sequence[bytes]) -> None:
        for some in _batches(keys):
            marks = _marks(some)
            files = execute(
                f"SELECT DISTINCT file FROM {{t}}entries WHERE key IN ({marks}) "
                "AND file IS NOT NULL",
                some,
            ).fetchall()
            execute(f"DELETE FROM {{t}}plans WHERE key IN ({marks})", some)
            execute(f"DELETE FROM {{t}}entries WHERE key IN ({marks})", some)
            for (file,) in files:
                # Before the commit: if that fails, the entry is a miss.
                if self._files is not None and not _uses_file(execute, file):
                    self._files.remove(file)

    # -- what is kept -------------------------------------------------------------------------

    def stats(self) -> Sequence[TaskUse]:
        self.flush()
        rows = self.read(
            lambda execute: execute(
                "SELECT task, COUNT(*), SUM(size), SUM(seconds), MAX(used) FROM {t}entries "
                "GROUP BY task ORDER BY task",
                [],
            ).fetchall()
        )
        return [TaskUse(name, count, int(size), *rest) for name, count, size, *rest in rows]

    def of_task(self, task: str, limit: int) -> Sequence[Found]:
        self.flush()
        rows = self.read(
            lambda execute: execute(
                f"SELECT {_FOUND} FROM {{t}}entries WHERE task = ? ORDER BY computed DESC LIMIT ?",
                [task, limit],
            ).fetchall()
        )
        return [_found(row) for row in rows]

    def find(self, keys: Collection[bytes]) -> Mapping[bytes, Found]:
        def look(execute: Execute) -> list[Any]:
            rows: list[Any] = []
            for some in _batches(keys):
                rows += execute(
                    f"SELECT {_FOUND} FROM {{t}}entries WHERE key IN ({_marks(some)})", some
                ).fetchall()
            return rows

        self.flush()
        found = map(_found, self.read(look))
        return {each.key: each for each in found}

    def components(self, code: str) -> str | None:
        self.flush()
        row = self.read(
            lambda execute: execute(
                "SELECT components FROM {t}code WHERE code = ?", [code]
            ).fetchone()
        )
        return None if row is None else str(row[0])

    def close(self) -> None:
        self.flush()

    # -- uses ---------------------------------------------------------------------------------

    def _note(self, key: bytes, now: float, used: float) -> None:
        self._used[key] = now
        if now - used > _LATE:
            self._late.add(key)
        if len(self._used) >= _MOST_NOTED:
            self._unwritten.put_uses(self._take_noted(late=True))

    def _take_noted(self, late: bool) -> dict[bytes, float]:
        """The noted uses; only those whose written ones are late, if they need not be exact."""
        with self._lock:
            noted, self._used = self._used, {}
            keys, self._late = self._late, set()
        return {key: noted[key] for key in keys if key in noted} if late else noted


def _write_uses(execute: Execute, noted: Mapping[bytes, float]) -> None:
    # In one order, so that two processes do not wait for each other.
    rows = [(noted[key], key, noted[key]) for key in sorted(noted)]
    if rows:
        execute.many("UPDATE {t}entries SET used = ? WHERE key = ? AND used < ?", rows)


def _uses_file(execute: Execute, file: str) -> bool:
    row = execute("SELECT 1 FROM {t}entries WHERE file = ? LIMIT 1", [file]).fetchone()
    return row is not None


def _batches(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    left = iter(values)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def _marks(values: Collection[bytes]) -> str:
    return ", ".join("?" * len(values))


def _found(row: Sequence[Any]) -> Found:
    key, args, code, value, *rest = row
    return Found(bytes(key), args, code, None if value is None else bytes(value), *rest)


def _is_over(expires: float | None, now: float) -> bool:
    return expires is not None and expires <= now
