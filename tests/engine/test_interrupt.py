"""Ctrl-C, as it is: SIGINT to a script that uses ``cs.run``.

The script prints a line whenever it is somewhere, and is only interrupted when it has.
"""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")

#: Seconds for what takes moments.
PATIENCE = 30

PROLOGUE = """
import asyncio, sys, threading
import cascade as cs

USE_VM = sys.argv[1] == "vm"
forever = threading.Event()

def say(line):
    print(line, flush=True)

@cs.resource
def base():
    say("open base")
    yield
    say("close base")

@cs.resource(scope="task")
async def tool(base=cs.inject(base)):
    say("open tool")
    yield
    say("close tool")

@cs.resource(scope="task", thread_bound=True)
def bound():
    say("open bound")
    yield
    say("close bound")

@cs.task
def pair(*_):
    say("it went on")

@cs.task
async def wait():
    say("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        say("cancelled")

def busy_until_cancelled():
    say("busy")
    while not any(task.cancelling() for task in asyncio.all_tasks()):
        pass
    say("cancelled")
"""


class Script:
    """A script that runs.

    Attributes:
        lines: What it has printed so far.
    """

    def __init__(self, path, use_vm):
        self.path = path
        self.lines = []
        self._process = subprocess.Popen(
            [sys.executable, str(path), "vm" if use_vm else "graph"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )

    def until(self, *lines):
        """Wait until it has printed ``lines``, in any order."""
        while not set(lines) <= set(self.lines):
            printed = self._process.stdout.readline()
            if not printed:
                pytest.fail(f"it ended without {lines}:\n{self._process.stderr.read()}")
            self.lines.append(printed.rstrip())

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)

    def end(self):
        """Wait for its end; what it wrote to standard error."""
        printed, errors = self._process.communicate(timeout=PATIENCE)
        self.lines += printed.split("\n")[:-1]
        return errors

    @property
    def code(self):
        return self._process.returncode

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path, use_vm):
    """``start(text)``: a Script with that text, on the path under test."""
    started = []

    def start(text):
        path = tmp_path / "script.py"
        path.write_text(PROLOGUE + textwrap.dedent(text))
        started.append(Script(path, use_vm))
        return started[-1]

    yield start
    for script in started:
        script.kill()


def is_interrupted(script, errors):
    """Assert that it ended as Ctrl-C ends a script, which shells call 130."""
    assert script.code in (-signal.SIGINT, 130), errors
    _logged, _, rest = errors.partition("Traceback (most recent call last):\n")
    lines = rest.split("\n")
    assert lines[0].startswith(f'  File "{script.path}", line ')
    assert lines[0].endswith(", in <module>")
    assert "KeyboardInterrupt" in lines
    assert "Traceback" not in rest
    for noise in ("never retrieved", "never awaited", "Exception ignored", "was destroyed"):
        assert noise not in errors


def test_a_coroutine_task_that_waits(start):
    script = start("""
        @cs.task
        async def work(tool=cs.inject(tool)):
            say("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled")

        cs.run(pair(work()), use_vm=USE_VM)
    """)
    script.until("waiting")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    opened = ["open base", "open tool", "waiting"]
    assert script.lines == [*opened, "cancelled", "close tool", "close base"]


def test_a_loop_that_never_awaits(start):
    """M9: it gives way often enough."""
    script = start("""
        @cs.task
        def spin(n):
            if n == 1000:
                say("spinning")
            return spin.tail(n + 1)

        cs.run(spin(0), use_vm=USE_VM)
    """)
    script.until("spinning")
    script.interrupt()
    is_interrupted(script, script.end())


def test_a_retry_that_waits(start):
    script = start("""
        @cs.task
        def work(tool=cs.inject(tool)):
            say("failing")
            raise OSError

        waiting = wait()
        cs.run(pair(waiting, work().with_retry(delay=1000)), use_vm=USE_VM)
    """)
    script.until("close tool", "waiting")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    assert script.lines[-2:] == ["cancelled", "close base"]


def test_a_provider_that_waits(start):
    script = start("""
        @cs.resource
        async def slow(base=cs.inject(base)):
            say("opening")
            try:
                await asyncio.sleep(0.01)
                yield
            finally:
                say("closed")

        @cs.task
        def work(slow=cs.inject(slow)):
            say("it went on")

        cs.run(pair(work()), use_vm=USE_VM)
    """)
    script.until("opening")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    assert script.lines in (
        ["open base", "opening", "closed", "close base"],
        ["open base", "opening", "it went on", "it went on", "closed", "close base"],
    )
