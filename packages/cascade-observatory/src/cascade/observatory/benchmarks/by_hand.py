"""Floors of durable runs: the same rows and commits, written with ``sqlite3`` by hand.

Nothing is left out that another process needs to go on: keys that are digests, the record of the
target, outcomes with their heads, a lease and its check in each commit. All else is left out.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

_TABLES: Final = """
    PRAGMA journal_mode=WAL;
    CREATE TABLE runs (number INTEGER PRIMARY KEY, run_id TEXT UNIQUE, program BLOB, status TEXT,
        epoch INTEGER, lease_until REAL, updated REAL, progress INTEGER, result BLOB);
    CREATE TABLE journal (run INTEGER, chunk INTEGER, body BLOB, PRIMARY KEY (run, chunk));
    CREATE TABLE records (run INTEGER, key BLOB, step INTEGER, body BLOB, PRIMARY KEY (run, key));
"""
_RENEW: Final = (
    "UPDATE runs SET lease_until = ?, updated = ?, progress = coalesce(?, progress) "
    "WHERE number = ? AND epoch = 1 AND status = 'running' RETURNING number"
)
_RECORD: Final = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"
_CHUNK: Final = "INSERT OR REPLACE INTO journal VALUES (?, ?, ?)"
_END: Final = "UPDATE runs SET status = 'succeeded', result = ? WHERE number = ?"
_HEAD: Final = blake2b(b"task of the benchmark", digest_size=16)
_LEASE: Final = 10.0
_names = count()


class ByHand:
    """Runs in a SQLite file.

    Args:
        path: The file, which is made.
        synchronous: The value of SQLite's setting, such as ``"full"``.
    """

    def __init__(self, path: Path, synchronous: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(_TABLES)
        self._connection.execute(f"PRAGMA synchronous={synchronous}")

    def close(self) -> None:
        self._connection.close()

    def steps(self, made: int) -> int:
        """An agent that counts, each step of which is committed; the number of steps."""
        run = self._begun([_key(made)], "[]")
        for step in range(1, made + 1):
            self._step(run, made, step)
        self._end(run, made)
        return made

    async def steps_on_a_thread(self, made: int) -> int:
        """The same in an event loop, which has other work to do while a commit waits for the disk.

        Each commit is made on a thread, and wakes the loop.
        """
        loop, run = asyncio.get_running_loop(), self._begun([_key(made)], "[]")
        calls: SimpleQueue[tuple[int, asyncio.Future[None]] | None] = SimpleQueue()

        def work() -> None:
            while (call := calls.get()) is not None:
                step, ended = call
                self._step(run, made, step)
                loop.call_soon_threadsafe(ended.set_result, None)

        thread = Thread(target=work)
        thread.start()
        for step in range(1, made + 1):
            ended = loop.create_future()
            calls.put((step, ended))
            await ended
        calls.put(None)
        thread.join()
        self._end(run, made)
        return made

    def nodes(self, func: Callable[[int], int], size: int) -> list[int]:
        """A call for each number, all kept; their values."""
        keys = [_key(value) for value in range(size)]
        nodes = [f'{{"task":"module:number","args":[{n}],"kwargs":{{}}}}' for n in range(size)]
        run = self._begun(keys, ",".join(nodes))
        heads, values = [], []
        for key, value in zip(keys, range(size), strict=True):
            values.append(func(value))
            heads.append(f'["{key.hex()}","module:number",0,"",{int(time.time() * 1000)}]')
        lines = [f"{head}\n{value}" for head, value in zip(heads, values, strict=True)]
        row = (run, 1, "\n".join(lines).encode())
        self._commit(run, None, _CHUNK, row)
        self._end(run, values)
        return values

    def _step(self, run: int, made: int, step: int) -> None:
        body = f'{{"task":"module:step","step":{step},"args":{{"left":{made - step}}}}}'
        self._commit(run, step, _RECORD, (run, _key(made), step, body.encode()))

    def _begun(self, keys: list[bytes], nodes: str) -> int:
        """A new run, which is claimed; its number."""
        told = json.dumps([key.hex() for key in keys])
        now = time.time()
        program = f'{{"nodes":[{nodes}],"keys":{told}}}'.encode()
        row = (f"run-{next(_names)}", program, "running", 1, now + _LEASE, now, 0)
        insert = (
            "INSERT INTO runs (run_id, program, status, epoch, lease_until, updated, progress) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        self._connection.execute("BEGIN IMMEDIATE")
        number = self._connection.execute(insert, row).lastrowid
        self._connection.execute("COMMIT")
        assert number is not None
        return number

    def _commit(self, run: int, progress: int | None, statement: str, row: tuple[Any, ...]) -> None:
        """Write a row for a run that is still owned, and renew its lease."""
        now = time.time()
        self._connection.execute("BEGIN IMMEDIATE")
        renewal = (now + _LEASE, now, progress, run)
        if not self._connection.execute(_RENEW, renewal).fetchall():
            raise AssertionError("the lease was lost")
        self._connection.execute(statement, row)
        self._connection.execute("COMMIT")

    def _end(self, run: int, result: Any) -> None:
        self._commit(run, None, _END, (json.dumps(result).encode(), run))


def _key(value: int) -> bytes:
    whole = _HEAD.copy()
    whole.update(b"int%x;" % value)
    return whole.digest()
