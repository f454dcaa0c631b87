"""A PostgreSQL server for measurements, in a folder that is deleted afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory


def is_installed() -> bool:
    """Whether there are a server and its driver for Python."""
    return _program("initdb") is not None and find_spec("psycopg") is not None


@contextmanager
def running() -> Iterator[str]:
    """The URL of a server that runs until the block ends; as it is set up by default.

    Raises:
        subprocess.CalledProcessError: It does not start.
    """
    with TemporaryDirectory(prefix="cascade-postgres-") as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")  # the server refuses to run as root
        data, log = str(folder / "data"), str(folder / "log")
        _call(
            folder, "initdb", "-D", data, "-U", "tester", "-A", "trust", "--locale=C", "-E", "UTF8"
        )
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        _call(folder, "pg_ctl", "-D", data, "-l", log, "-o", settings, "-w", "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            _call(folder, "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _call(folder: Path, name: str, *arguments: str) -> None:
    program = _program(name)
    assert program is not None
    command: Sequence[str] = (program, *arguments)
    user = "postgres" if os.geteuid() == 0 else None
    # No pipes: the server keeps those of pg_ctl open.
    subprocess.run(command, cwd=folder, user=user, stdout=subprocess.DEVNULL, check=True)


def _program(name: str) -> str | None:
    """A program of the newest PostgreSQL; Debian keeps those of the server out of the PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    newest = sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    path = os.pathsep.join([*map(str, newest), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=path)
