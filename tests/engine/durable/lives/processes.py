"""Forks of a process that has imported everything, and has no threads."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Child:
    """A process that is a fork of this one.

    Args:
        program: What it does. It ends with 0, or with 1 after an error.
        errors: The file that gets what it says.
    """

    def __init__(self, program: Callable[[], None], errors: Path) -> None:
        assert threading.active_count() == 1, threading.enumerate()
        self.code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _be(program, errors)

    def poll(self) -> int | None:
        """How it has ended; None while it lives."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float) -> int | None:
        """How it ends; None if it lives longer."""
        until = time.monotonic() + seconds
        while self.poll() is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(0.002, left))
        return self.code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)  # its id is not used again before ``poll`` has seen its end

    def kill(self) -> None:
        """Kill it; when this returns, it is gone."""
        self.send(signal.SIGKILL)
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)

    def stop(self) -> None:
        """Let it stand still; when this returns, all of its threads do."""
        self.send(signal.SIGSTOP)
        while any(state not in "TtZX" for state in states_of(self.pid)):
            time.sleep(0.0005)


def states_of(pid: int) -> list[str]:
    """The states of the threads of a process, where the system tells them."""
    states = []
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # the thread has ended
            states.append(file.read_text().rpartition(")")[2].split()[0])
    return states


def _be(program: Callable[[], None], errors: Path) -> None:
    code = 1
    try:
        opened = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(opened, number)
        program()
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
