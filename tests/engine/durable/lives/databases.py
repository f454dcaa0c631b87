"""The databases of trials: files, and a PostgreSQL server that can be restarted and copied."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from tests.engine.durable.lives.processes import states_of
from tests.engine.durable.lives.programs import BOOKINGS
from tests.services import Postgres

_TABLES = ("runs", "programs", "results", "journal", "records", "outcomes", "signals", "blobs")


class File:
    """A new SQLite file for each trial."""

    can_restart = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "runs.db"
        self.url = ""

    def clear(self, *, synchronous: str = "normal") -> None:
        """Begin with an empty database."""
        for file in self._path.parent.glob("runs.db*"):
            file.unlink()
        self.url = f"sqlite:///{self._path}?synchronous={synchronous}"
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute(BOOKINGS)

    def bookings(self) -> list[tuple[str, int, int]]:
        return self._rows("SELECT run, n, value FROM bookings")

    def rows_left(self) -> list[str]:
        """What the tables have, and damage to the file."""
        counted = {t: self._rows(f"SELECT count(*) FROM cascade_{t}")[0][0] for t in _TABLES}
        left = [f"{count} rows in {table}" for table, count in counted.items() if count]
        found = self._rows("PRAGMA integrity_check")
        return left if found == [("ok",)] else [*left, str(found)]

    def _rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(query).fetchall()

    def is_locked(self) -> bool:
        """Whether no other process could write now."""
        with closing(sqlite3.connect(self._path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
        return False

    @contextmanager
    def copied(self) -> Iterator[None]:
        """Go on with a copy of the files as they are now, in the place of those."""
        with tempfile.TemporaryDirectory() as folder:
            for suffix in ("", "-wal"):  # the third is made anew
                file = Path(f"{self._path}{suffix}")
                if file.exists():
                    shutil.copy(file, folder)
            yield
            for file in self._path.parent.glob("runs.db*"):
                if not file.name.startswith("runs.db-limits"):
                    file.unlink()
            for file in Path(folder).iterdir():
                shutil.move(file, self._path.parent)

    def close(self) -> None:
        pass


class Server:
    """A PostgreSQL server that is emptied for each trial.

    Args:
        folder: Where its files are; of all users, as the server has one of its own.
    """

    can_restart = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies = 0
        #: Where the files of the present server are.
        self._place = folder
        self._server = self._first = Postgres(folder)
        self._server.start()

    @property
    def url(self) -> str:
        return self._server.url

    def clear(self, *, synchronous: str = "") -> None:
        """Begin with an empty database."""
        import psycopg

        if self._server is not self._first:
            self._server.stop()
            for copy in self._folder.glob("copy-*"):
                shutil.rmtree(copy)
            self._server, self._place = self._first, self._folder
            self._server.start()
        self._server.clear()
        self._server.forget()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(BOOKINGS)

    def bookings(self) -> list[tuple[str, int, int]]:
        return self._rows("SELECT run, n, value FROM bookings")

    def rows_left(self) -> list[str]:
        """What the tables have."""
        counted = {t: self._rows(f"SELECT count(*) FROM cascade.{t}")[0][0] for t in _TABLES}
        return [f"{count} rows in {table}" for table, count in counted.items() if count]

    def _rows(self, query: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def is_locked(self) -> bool:
        """A process that stands still holds rows of its own runs alone."""
        return False

    def restart(self, mode: Literal["fast", "immediate", "kill"], away: float) -> None:
        """End it, and start it again after some seconds."""
        self._server.stop(mode)
        time.sleep(away)
        self._server.start()

    @contextmanager
    def copied(self) -> Iterator[None]:
        """Go on with a copy of its files as they are now: after a recovery, on another port."""
        self._copies += 1
        folder = self._folder / f"copy-{self._copies}"
        folder.mkdir()
        pids = self._server.stand_still()
        while any(state not in "TtZX" for pid in pids for state in states_of(pid)):
            time.sleep(0.0005)
        subprocess.run(["cp", "-a", self._place / "data", folder], check=True)
        for pid in pids:
            with suppress(ProcessLookupError):  # the first one has reaped it
                os.kill(pid, signal.SIGCONT)
        yield
        (folder / "data" / "postmaster.pid").unlink()
        self._server.stop("immediate")
        self._server, self._place = Postgres(folder, False), folder
        self._server.start()

    def close(self) -> None:
        self._server.stop("immediate")
