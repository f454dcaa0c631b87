"""Ctrl-C, as it is: SIGINT to a script that uses ``cs.run``.

The script prints a line whenever it is somewhere, and is only interrupted when it has.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from tests.engine.forked_scripts import FRAME, Server

import cascade as cs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")

#: Seconds for actions that take moments.
PATIENCE = 10

PROLOGUE = """
import asyncio, os, sys, threading
import cascade as cs

USE_VM = sys.argv[1] == "vm"
forever = threading.Event()

def say(line):
    os.write(1, f"{line}\\n".encode())  # at once, and also from a handler of a signal

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

@cs.task
async def loop():
    return asyncio.get_running_loop()

def busy_until_cancelled(loop=None):
    say("busy")
    while not any(task.cancelling() for task in asyncio.all_tasks(loop)):
        pass
    say("cancelled")
"""


class Script:
    """A script that runs.

    Attributes:
        lines: Its output so far.
    """

    def __init__(self, path, process):
        self.path = path
        self.lines = []
        self._process = process

    def until(self, *lines):
        """Wait until it has printed ``lines``, in any order."""
        while not set(lines) <= set(self.lines):
            printed = self._process.stdout.readline()
            if not printed:
                pytest.fail(f"it ended without {lines}:\n{self._process.stderr.read()}")
            self.lines.append(printed.rstrip())

    def interrupt(self, number=signal.SIGINT):
        self._process.send_signal(number)

    def until_error(self, part):
        """Wait for a line of standard error that has ``part``; the line."""
        while part not in (line := self._process.stderr.readline()):
            if not line:
                pytest.fail(f"it ended without {part!r}")
        return line

    def end(self):
        """Wait for its end; returns its standard error."""
        printed, errors = self._process.communicate(timeout=PATIENCE)
        self.lines += printed.split("\n")[:-1]
        return errors

    def end_by_interrupts(self):
        """Interrupt it until it ends, because a signal may come before another one was handled."""
        for _ in range(PATIENCE):
            self.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
                break
        return self.end()

    @property
    def code(self):
        return self._process.returncode

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process.stdout.close()
        self._process.stderr.close()


@pytest.fixture(scope="module")
def forks():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def start(tmp_path, use_vm, forks):
    """``start(text)``: a Script with that text, on the path under test.

    Args:
        anew: Whether its Python is a new one, and not a fork, which takes a fraction of the time.
    """
    started = []

    def start(text, *, anew=False):
        path = tmp_path / "script.py"
        path.write_text(PROLOGUE + textwrap.dedent(text))
        words = path, "vm" if use_vm else "graph"
        process = started_anew(*words) if anew else forks.start(*words)
        started.append(Script(path, process))
        return started[-1]

    yield start
    for script in started:
        script.kill()


def started_anew(path, *words):
    return subprocess.Popen(
        [sys.executable, path, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def is_interrupted(script, errors):
    """Assert that it ended as Ctrl-C ends a script, which shells call 130."""
    assert script.code in (-signal.SIGINT, 130), errors
    _logged, _, rest = errors.partition("Traceback (most recent call last):\n")
    lines = rest.split("\n")
    if lines[0].startswith(FRAME):
        del lines[0]
        while lines[0].startswith("    "):  # its source, from Python 3.13 on
            del lines[0]
    assert lines[0].startswith(f'  File "{script.path}", line ')
    assert lines[0].endswith(", in <module>")
    assert "KeyboardInterrupt" in lines
    assert "Traceback" not in rest
    for noise in ("never retrieved", "never awaited", "Exception ignored", "was destroyed"):
        assert noise not in errors


def test_a_coroutine_task_that_waits(start):
    script = start(
        """
        @cs.task
        async def work(tool=cs.inject(tool)):
            say("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled")

        cs.run(pair(work()), use_vm=USE_VM)
    """,
        anew=True,
    )
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


def test_a_plain_task_on_a_worker_is_waited_for_and_then_abandoned(start):
    """M8: the first one is for the run, the second one is for the function, which goes on."""
    script = start("""
        @cs.task(mode="blocking")
        def work(loop):
            turned = threading.Event()
            loop.call_soon_threadsafe(loop.call_soon, turned.set)
            turned.wait()  # else the signal may come while the other task says that it waits
            say("working")
            forever.wait()

        cs.run(pair(wait(), work(loop())), use_vm=USE_VM, log_format="human")
    """)
    script.until("working", "waiting")
    script.interrupt()
    script.until("cancelled")
    line = script.until_error("waiting for")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    assert line.startswith("cascade: interrupted; waiting for ")
    assert "'work'" in line
    assert line.endswith("(Ctrl-C again abandons plain functions)\n")
    assert "abandoned a call that still runs, 1 such in all" in errors
    assert sorted(script.lines) == ["cancelled", "waiting", "working"]


def test_two_at_once(start):
    """They arrive as one cancel, or as two; both abandon running calls."""
    script = start("""
        import signal

        def interrupt_twice(loop):
            for _ in range(2):
                loop.call_soon(signal.raise_signal, signal.SIGINT)

        @cs.task(mode="blocking")
        def work(loop):
            loop.call_soon_threadsafe(interrupt_twice, loop)
            forever.wait()

        cs.run(pair(work(loop())), use_vm=USE_VM, log_format="human")
    """)
    errors = script.end()

    is_interrupted(script, errors)
    assert "abandoned a call that still runs, 1 such in all" in errors


def test_a_plain_task_on_a_worker_that_ends(start):
    script = start("""
        @cs.task(mode="blocking")
        def work(loop, tool=cs.inject(tool)):
            busy_until_cancelled(loop)

        cs.run(pair(work(loop())), use_vm=USE_VM)
    """)
    script.until("busy")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    assert script.lines[2:] == ["busy", "cancelled", "close tool", "close base"]


def test_a_plain_task_in_the_loops_thread(start):
    """Nothing can take the thread from it, but the first one is not forgotten."""
    script = start("""
        @cs.task(mode="inline")
        def work(tool=cs.inject(tool)):
            busy_until_cancelled()

        cs.run(pair(work()), use_vm=USE_VM)
        say("it went on")
    """)
    script.until("busy")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    assert script.lines[2:] == ["busy", "cancelled", "close tool", "close base"]


@pytest.mark.parametrize(
    "call", ["pair(work())", "work()", "pair(bound_work())", "pair(wait(), work())"]
)
def test_a_plain_task_that_keeps_the_loops_thread(start, call):
    """The second one is raised in it, for no cancel arrives."""
    script = start(f"""
        @cs.task(mode="inline")
        def work():
            busy_until_cancelled()
            forever.wait()

        @cs.task(mode="inline")
        def bound_work(tool=cs.inject(tool)):
            busy_until_cancelled()
            forever.wait()

        cs.run({call}, use_vm=USE_VM)
        say("it went on")
    """)
    script.until("busy")
    script.interrupt()
    script.until("cancelled")
    script.interrupt()
    errors = script.end()

    is_interrupted(script, errors)
    assert "it went on" not in script.lines
    opened = [line.removeprefix("open ") for line in script.lines if line.startswith("open ")]
    closed = [line.removeprefix("close ") for line in script.lines if line.startswith("close ")]
    assert opened == closed[::-1]


def test_a_provider_that_does_not_close(start):
    """The third one is raised wherever it arrives; nothing keeps a script from ending."""
    script = start("""
        @cs.resource
        async def stubborn():
            yield
            say("closing")
            await asyncio.Event().wait()

        @cs.task
        async def work(stubborn=cs.inject(stubborn)):
            say("waiting")
            await asyncio.Event().wait()

        cs.run(pair(work()), use_vm=USE_VM)
    """)
    script.until("waiting")
    script.interrupt()
    script.until("closing")
    errors = script.end_by_interrupts()

    assert script.code in (-signal.SIGINT, 130), errors
    assert "KeyboardInterrupt" in errors


# -- the message of the first one, and the end by the third one -----------------------------------


def test_the_first_one_at_a_prompt_says_so(start):
    script = start("""
        import os
        read, write = os.pipe()
        sys.stdin = open(read)

        @cs.task(mode="blocking")
        def ask():
            say("asking")
            input()

        cs.run(pair(ask()), use_vm=USE_VM)
    """)
    script.until("asking")
    script.interrupt()
    assert "waiting for 'ask'" in script.until_error("waiting for")
    script.interrupt()
    script.end()


def test_the_first_one_names_the_line_that_keeps_the_loops_thread(start):
    script = start("""
        @cs.task(mode="inline")
        def work():
            say("busy")
            forever.wait()

        cs.run(work(), use_vm=USE_VM)
    """)
    script.until("busy")
    script.interrupt()
    line = script.until_error("waiting for")
    script.interrupt()
    errors = script.end()

    assert "the call at script.py:" in line
    assert "Ctrl-C again breaks into it" in line
    is_interrupted(script, errors)


def test_the_third_one_ends_a_coroutine_that_takes_no_cancel(start):
    script = start("""
        @cs.task
        async def stubborn():
            loop = asyncio.get_running_loop()
            loop.call_soon(say, "begun")
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:  # said when it waits again: the second one
                    loop.call_soon(say, "swallowed")  # breaks into a step that is under way

        cs.run(stubborn(), use_vm=USE_VM)
    """)
    script.until("begun")
    for count in (1, 2):
        script.interrupt()
        while script.lines.count("swallowed") < count:
            line = script._process.stdout.readline()
            assert line, script.end()
            script.lines.append(line.rstrip())
    script.interrupt()
    errors = script.end()

    assert script.code in (-signal.SIGINT, 130), errors
    assert "KeyboardInterrupt" in errors
    assert "was destroyed" not in errors


# -- SIGTERM and SIGHUP -----------------------------------------------------------------------


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"], ids=["term", "hup"])
def test_it_winds_down_and_ends_with_128_and_the_number(start, number):
    script = start("""
        @cs.task
        async def work(tool=cs.inject(tool)):
            say("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled")

        try:
            cs.run(pair(work()), use_vm=USE_VM)
        finally:
            say("after")
    """)
    script.until("waiting")
    number = getattr(signal, number)
    script.interrupt(number)
    errors = script.end()

    assert script.code == 128 + number, errors
    assert script.lines[3:] == ["cancelled", "close tool", "close base", "after"]
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"], ids=["int", "term", "hup"])
def test_a_signal_that_another_thread_gets_wakes_the_event_loop(start, number):
    """It does not break off the system call in which the loop sleeps. A signal that comes between
    the loop's last look and that call does not either.
    """
    script = start(f"""
        import signal

        @cs.task
        async def work():
            say("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled")

        def send():
            signal.pthread_kill(threading.get_ident(), signal.{number})

        threading.Timer(0.1, send).start()  # when the loop sleeps
        cs.run(pair(work()), use_vm=USE_VM)
    """)
    script.until("waiting", "cancelled")
    script.end()


def test_a_second_one_abandons_plain_functions(start):
    script = start("""
        @cs.task(mode="blocking")
        def work():
            say("working")
            forever.wait()

        cs.run(pair(work()), use_vm=USE_VM)
    """)
    script.until("working")
    script.interrupt(signal.SIGTERM)
    line = script.until_error("waiting for")
    script.interrupt(signal.SIGTERM)
    errors = script.end()

    assert "stopped by SIGTERM; waiting for 'work' (a signal again abandons" in line
    assert script.code == 128 + signal.SIGTERM, errors


def test_a_handler_of_the_programs_own_stays(start):
    script = start("""
        import signal
        signal.signal(signal.SIGTERM, lambda *_: say("its own"))

        @cs.task
        async def work(tool=cs.inject(tool)):
            say("waiting")
            await asyncio.Event().wait()

        cs.run(pair(work()), use_vm=USE_VM)
    """)
    script.until("waiting")
    script.interrupt(signal.SIGTERM)
    script.until("its own")
    script.interrupt()
    is_interrupted(script, script.end())


def test_signals_have_their_handlers_back_after_a_run(use_vm):
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP  # not at import: Windows lacks one
    before = [signal.getsignal(number) for number in numbers]
    seen = []

    @cs.task(mode="inline")
    def work():
        seen.extend(signal.getsignal(number) for number in numbers)

    cs.run(work(), use_vm=use_vm)
    assert [signal.getsignal(number) for number in numbers] == before
    assert not set(seen) & {signal.SIG_DFL, signal.default_int_handler}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_the_command_ends_with_128_and_the_number(tmp_path, number):
    path = tmp_path / "flow.py"
    path.write_text(PROLOGUE.replace('sys.argv[1] == "vm"', "False") + "target = wait()\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "cascade", "run", f"{path}:target"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    printed, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 128 + number, errors
    assert printed == "cancelled\n"
    said = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    assert errors.splitlines()[-1] == f"cascade: {said}"
