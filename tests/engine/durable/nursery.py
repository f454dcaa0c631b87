"""Processes for tests that kill many: forks of one that has imported everything already.

A process that starts anew takes most of a second to import, a fork some milliseconds.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.engine.durable.notes import ROOT
from tests.forks import Fork, ForkServer, poll

#: What forks can run: the function ``program`` of one of these modules.
_MODULES = (
    *(f"tests.engine.durable.{name}" for name in ("drawing", "flows", "flows_served", "payments")),
    "tests.cache_processes",
)
#: Modules that programs import when they need them.
_ALSO = ("tests.engine.durable.kill_points", "cascade.runtime.durable.serving")


class Child(Fork):
    """A process that is a fork."""

    def __init__(self, nursery: Nursery, pid: int, output: Path) -> None:
        super().__init__(nursery, pid)
        self._output = output

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.002)
        return code

    def communicate(self) -> tuple[str, str]:
        """Its output and its errors, when it has ended."""
        self.wait()
        return self._written(".out"), self.errors()

    def output(self) -> str:
        """What it has printed so far."""
        file = self._output.with_suffix(".out")
        return file.read_text() if file.exists() else ""

    def errors(self) -> str:
        """Its errors so far."""
        return self._written(".err")

    def _written(self, suffix: str) -> str:
        file = self._output.with_suffix(suffix)
        return file.read_text() if file.exists() else ""  # it was killed before it opened one

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it stand still, and wait until all of its threads do.

        On a busy machine a thread may take a lock that it asks for after the signal was sent.
        """
        self.send_signal(signal.SIGSTOP)
        while any(state not in "TtZX" for state in self._states()):
            time.sleep(0.001)

    def _states(self) -> list[str]:
        """The states of its threads, where the system tells them."""
        states = []
        for file in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with suppress(OSError):  # the thread has ended
                states.append(file.read_text().rpartition(")")[2].split()[0])
        return states


class Nursery(ForkServer):
    """The process that is forked, seen from a test.

    Args:
        folder: Where the output of the forks is.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("-m", __name__, env={"PYTHONPATH": str(ROOT)})
        self._folder = folder
        self._count = 0

    def start(self, module: str, *arguments: str, env: Mapping[str, str]) -> Child:
        """Call ``program(*arguments)`` of a module in a new process.

        Args:
            env: What is added to the environment.
        """
        self._count += 1
        output = self._folder / str(self._count)
        pid = self.ask(start=module, arguments=arguments, env=dict(env), output=str(output))
        return Child(self, pid, output)


def _obey() -> None:
    """Follow the orders of a test, in the process that is forked."""
    for name in (*_MODULES, *_ALSO):
        import_module(name)
    gc.collect()
    gc.freeze()  # else the collections of each fork would look at all of these objects
    for line in sys.stdin:
        order = json.loads(line)
        answer: int | None
        if "start" in order:
            answer = os.fork()
            if not answer:
                _become(order)
        else:
            answer = poll(order["poll"])
        print(json.dumps(answer), flush=True)


def _become(order: Any) -> None:
    """Run a program, and end."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, kind in ((1, ".out"), (2, ".err")):
            opened = os.open(order["output"] + kind, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(opened, number)
        os.environ.update(order["env"])
        import_module(order["start"]).program(*order["arguments"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _obey()
