"""A flood of valid constraint messages: a broker of its own, and a process that sends to it."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

#: Messages a second, and topics that they go to in turn.
RATE, TOPICS = 20_000, 100
#: Seconds from one burst of messages to the next, and for a broker to start.
_PAUSE, _PATIENCE = 0.01, 20.0


def lacking() -> str | None:
    """What a flood needs that is not installed; None if it can come."""
    if find_spec("aiomqtt") is None:
        return "cascade-observatory[flood] is not installed"
    return "mosquitto is not installed" if _binary() is None else None


def _binary() -> str | None:
    # Distributions put daemons where a user's PATH may not lead.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("mosquitto", path=path)


@contextmanager
def broker() -> Iterator[int]:
    """A private mosquitto, and the port of the loopback that it listens on.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        user = f"user {getpass.getuser()}\npersistence false\nlog_dest none\n"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{user}")
        with _running([_binary() or "mosquitto", "-c", str(config)]) as process:
            until = time.monotonic() + _PATIENCE
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("mosquitto does not start")
                time.sleep(0.01)  # there is nothing else to wait for
            yield port


@contextmanager
def flood(port: int, prefix: str) -> Iterator[None]:
    """A process that floods the engines of ``prefix`` until the block ends."""
    with _running([sys.executable, "-m", __name__, str(port), prefix]):
        yield


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


async def send(port: int, prefix: str) -> None:
    """Send ``RATE`` messages a second, for ever; each changes the limit of a task's name."""
    from aiomqtt import Client

    topics = [f"{prefix}/constraints/task/others_{n}/concurrency" for n in range(TOPICS)]
    async with Client("127.0.0.1", port) as client:
        began = time.perf_counter()
        for number in count():
            payload = json.dumps({"value": number % 1_000 + 1})
            await client.publish(topics[number % TOPICS], payload)
            if not number % int(RATE * _PAUSE):
                await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1]), sys.argv[2]))
