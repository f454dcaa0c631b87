"""Scripts for tests of signals: forks of a Python that has imported the engine already.

A fork becomes the script at the top level of its ``__main__``. So the interpreter itself prints the
error that ends it, waits for its threads, calls its functions of ``atexit`` and sets its exit
status, as for a script that was started anew; the imports, most of that time, are made once.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TextIO

from tests.forks import Fork, ForkServer

_ROOT = Path(__file__).parents[2]
#: The program that is forked. It has one thread, and leaves the loop only in a fork.
_SERVER = """
import gc, importlib, json, os, pkgutil, sys
from tests.forks import poll
import cascade, cascade.runtime
cascade.run, cascade.task, cascade.resource, cascade.Engine
for found in pkgutil.walk_packages(cascade.runtime.__path__, "cascade.runtime."):
    importlib.import_module(found.name)
gc.collect()
gc.freeze()  # else each fork would look at all objects again at its end
for line in sys.stdin:
    order = json.loads(line)
    if "poll" in order:
        print(json.dumps(poll(order["poll"])), flush=True)
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
#: The line of ``_SERVER`` in a traceback, above the lines of a script.
FRAME = '  File "<string>", line '


class Server(ForkServer):
    """The Python that is forked."""

    def __init__(self) -> None:
        super().__init__("-c", _SERVER, env={"PYTHONWARNINGS": "error", "PYTHONPATH": str(_ROOT)})

    def start(self, path: Path, *words: str) -> Forked:
        """Run the script at ``path`` with these arguments."""
        fifos = [path.with_suffix(f".{name}") for name in ("out", "err")]
        for fifo in fifos:
            os.mkfifo(fifo)
        pid = self.ask(words=[str(path), *words], fifos=[str(fifo) for fifo in fifos])
        streams = [fifo.open(encoding="utf-8") for fifo in fifos]
        return Forked(self, pid, *streams)


class Forked(Fork):
    """A script that runs."""

    def __init__(self, server: Server, pid: int, stdout: TextIO, stderr: TextIO) -> None:
        super().__init__(server, pid)
        self.stdout, self.stderr = stdout, stderr

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
