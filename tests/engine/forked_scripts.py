"""Scripts for tests of signals: forks of a Python that has imported the engine already.

A fork becomes the script at the top level of its ``__main__``. So the interpreter itself prints the
error that ends it, waits for its threads, calls its functions of ``atexit`` and sets its exit
status, as for a script that was started anew; the imports, most of that time, are made once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

#: The program that is forked. It has one thread, and leaves the loop only in a fork.
_SERVER = """
import gc, importlib, json, os, pkgutil, sys
import cascade, cascade.runtime
cascade.run, cascade.task, cascade.resource, cascade.Engine
for found in pkgutil.walk_packages(cascade.runtime.__path__, "cascade.runtime."):
    importlib.import_module(found.name)
gc.collect()
gc.freeze()  # else each fork would look at all objects again at its end
for line in sys.stdin:
    order = json.loads(line)
    if "poll" in order:
        pid, status = os.waitpid(order["poll"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(json.dumps(pid), flush=True)
        continue
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, fifo in enumerate(order["fifos"], 1):
        os.dup2(os.open(fifo, os.O_WRONLY), number)
    sys.argv[:] = order["words"]
    with open(sys.argv[0], encoding="utf-8") as file:
        source = file.read()
    for name in [*globals()]:
        if not name.startswith("__") and name != "source":
            del globals()[name]
    break
else:
    source = ""
exec(compile(source, __import__("sys").argv[0], "exec"))
"""
#: The line of ``_SERVER`` in a traceback, above those of a script.
FRAME = '  File "<string>", line '


class Server:
    """The Python that is forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )

    def ask(self, **order: Any) -> Any:
        """The answer to an order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, path: Path, *words: str) -> Forked:
        """Run the script at ``path`` with these arguments."""
        fifos = [path.with_suffix(f".{name}") for name in ("out", "err")]
        for fifo in fifos:
            os.mkfifo(fifo)
        pid = self.ask(words=[str(path), *words], fifos=[str(fifo) for fifo in fifos])
        streams = [fifo.open(encoding="utf-8") for fifo in fifos]
        return Forked(self, pid, *streams)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Forked:
    """A script that runs; used as a ``subprocess.Popen``."""

    def __init__(self, server: Server, pid: int, stdout: TextIO, stderr: TextIO) -> None:
        self.pid = pid
        self.stdout, self.stderr = stdout, stderr
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Its exit status, or None."""
        if self.returncode is None:
            self.returncode = self._server.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked script", timeout)
            time.sleep(0.002)
        return code

    def communicate(self, timeout: float) -> tuple[str, str]:
        """The rest of its output and of its errors, when it has ended; they fit into pipes."""
        self.wait(timeout)
        with self.stdout, self.stderr:
            return self.stdout.read(), self.stderr.read()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)  # its id is not used again before ``poll`` has seen its end
