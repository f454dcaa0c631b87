"""Servers that tests talk to: processes of their own, on free ports, gone when the test is over."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from tests.processes import is_running

if TYPE_CHECKING:
    import psycopg

#: Real seconds for a server to start; on a busy machine too.
_STARTS_WITHIN = 20.0


class Mosquitto:
    """A private MQTT broker on the loopback, without a disk; it can be stopped and started again.

    Args:
        folder: Where its configuration and log are.
        lines: Further lines of its configuration; by default every client is accepted.
        tls: For a port with TLS: certificate and key, PEM.
    """

    def __init__(self, folder: Path, *lines: str, tls: tuple[Path, Path] | None = None) -> None:
        self.port = free_port()
        self.url = f"{'mqtts' if tls else 'mqtt'}://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        tls_lines = [f"certfile {tls[0]}", f"keyfile {tls[1]}"] if tls else []
        config = [
            f"listener {self.port} 127.0.0.1",
            *tls_lines,
            *(lines or ["allow_anonymous true"]),
            "persistence false",
            # Started as root it would change its user, who may not read files of a test.
            f"user {getpass.getuser()}",
        ]
        self._config.write_text("\n".join(config) + "\n", encoding="utf-8")

    @classmethod
    def binary(cls) -> str:
        """Where mosquitto is; the test is skipped if it is nowhere."""
        # Distributions put daemons where a user's PATH may not lead.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
        found = shutil.which("mosquitto", path=path)
        if found is None:
            pytest.skip("needs the MQTT broker mosquitto: apt-get install mosquitto")
        return found

    def start(self) -> None:
        """Start it, on the same port as before; when it returns, it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary(), "-c", str(self._config)], stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + _STARTS_WITHIN
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"mosquitto does not start:\n{self._log.read_text()}")
            # There is nothing else to wait for: it does not report that it listens.
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it; connections are lost, and with them all that it knew."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody takes connections at ``port``."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def running_mosquitto(
    folder: Path, *lines: str, tls: tuple[Path, Path] | None = None
) -> Iterator[Mosquitto]:
    """A broker that runs until the block ends."""
    broker = Mosquitto(folder, *lines, tls=tls)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Postgres:
    """A private PostgreSQL server on the loopback; all users are let in, and none has a password.

    Args:
        folder: Where its files are, which nobody else uses.
        is_new: Whether to make these files; else they are there.
        options: Further settings, such as ``fsync="on"``.
    """

    def __init__(self, folder: Path, is_new: bool = True, /, **options: str) -> None:
        self.port = free_port()
        self.url = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        self._folder = folder
        self._log = folder / "log"
        self._options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # tests kill processes, and do not cut the power
            "max_connections": "200",
            **options,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._cleaner: psycopg.Connection | None = None
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        if is_new:
            told = "-D data -U tester -A trust -N --locale=C -E UTF8"
            self._call("initdb", *told.split())

    @classmethod
    def binary(cls, name: str) -> str:
        """Where a program of PostgreSQL is; the test is skipped if it is nowhere."""
        # Debian keeps those of the server out of the PATH, by version.
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_of, reverse=True)
        path = os.pathsep.join([*map(str, versions), os.environ.get("PATH", os.defpath)])
        found = shutil.which(name, path=path)
        if found is None:
            pytest.skip("needs the server PostgreSQL: apt-get install postgresql")
        return found

    def start(self) -> None:
        """Start it, on the same port as before; when it returns, it takes connections."""
        settings = [f"--{name}={value}" for name, value in self._options.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary("postgres"), "-D", "data", "-p", str(self.port), *settings],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                user=self._user,
            )
        until = time.monotonic() + _STARTS_WITHIN
        while "ready to accept connections" not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"PostgreSQL does not start:\n{self._log.read_text()}")
            time.sleep(0.01)

    def stop(self, mode: Literal["fast", "immediate", "kill"] = "fast") -> None:
        """Stop it; connections are lost, and what was committed is not.

        Args:
            mode: As pg_ctl names them; the next start after ``"immediate"`` is a recovery. With
                ``"kill"`` all of its processes are killed at once.
        """
        self.forget()
        process, self._process = self._process, None
        if process is not None and mode == "kill":
            _kill_all(process)
        elif process is not None:
            # Neither waits for clients.
            process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                _kill_all(process)
        self._log.write_text("")  # the next start is to say that it is ready

    def forget(self) -> None:
        """Close the connection that ``clear`` keeps."""
        if self._cleaner is not None:
            self._cleaner.close()
            self._cleaner = None

    def stand_still(self) -> list[int]:
        """Stop all of its processes for a while, and give their ids: SIGCONT lets them go on."""
        assert self._process is not None
        stopped = [self._process.pid]
        os.kill(self._process.pid, signal.SIGSTOP)  # it starts no others from now on
        for child in map(int, _children_of(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
                stopped.append(child)
        return stopped

    def clear(self) -> None:
        """Delete all runs, and what else tests have made."""
        import psycopg

        from cascade.adapters.stores.schema.postgres import MIGRATIONS

        if self._cleaner is None:
            self._cleaner = psycopg.connect(self.url, autocommit=True, prepare_threshold=None)
        found = self._cleaner.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('cascade', 'public')"
        ).fetchall()
        # Tables are kept, as making them takes longer than most of the tests.
        statements = [
            f"DELETE FROM cascade.{table}" if schema == "cascade" else f"DROP TABLE {table}"
            for schema, table in found
            if table not in ("meta", "cache_meta")
        ]
        if ("cascade", "meta") in found:
            version = self._cleaner.execute("SELECT value FROM cascade.meta").fetchall()
            if version != [(len(MIGRATIONS),)]:  # a test has migrated them
                statements = ["DROP SCHEMA cascade CASCADE"]
        while True:
            with suppress(psycopg.errors.DeadlockDetected):  # what a test has broken off still ends
                self._cleaner.execute(";".join(statements))
                return

    def _call(self, program: str, *arguments: str) -> None:
        command = [self.binary(program), *arguments]
        done = subprocess.run(
            command,
            cwd=self._folder,
            user=self._user,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} fails:\n{done.stdout}")


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and then its children; returns when all have ended."""
    children = [int(child) for child in _children_of(process.pid)]
    process.kill()
    process.wait()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    until = time.monotonic() + _STARTS_WITHIN
    while any(is_running(child) for child in children) and time.monotonic() < until:
        time.sleep(0.005)


def _children_of(pid: int) -> list[str]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.split()


def _version_of(folder: Path) -> int:
    """Of ``/usr/lib/postgresql/15/bin`` the 15."""
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


@contextmanager
def running_postgres(**options: str) -> Iterator[Postgres]:
    """A server that runs until the block ends."""
    Postgres.binary("initdb")
    # Not a folder of pytest: those are closed to other users, such as the server's.
    with tempfile.TemporaryDirectory(prefix="cascade-postgres-") as folder:
        server = Postgres(Path(folder), **options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
