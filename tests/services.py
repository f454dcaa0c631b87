"""Servers that tests talk to: processes of their own, on free ports, gone when the test is over."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
