"""Engines in one process, steered from others through a real broker, as people do it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from tests.in_process import call
from tests.services import Mosquitto, running_mosquitto

from cascade.command.main import main

PROGRAM = """
import asyncio
import sys
import cascade as cs
from cascade.adapters.connectors import MqttConnector

@cs.task
def spin(n: int = 0) -> int:
    return spin.tail(n + 1)

@cs.task
async def fetch(n: int) -> int:
    await asyncio.sleep(0)
    return n

async def main() -> None:
    async with cs.Engine() as engine, cs.ControlPlane(
        engine, MqttConnector(), name="agents", every=0.05
    ):
        agent = asyncio.ensure_future(engine.run(spin(), use_vm=True))
        print("spinning", flush=True)
        graph = await engine.run(fetch.map(n=list(range(40))))
        print("graph", sum(graph), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
    print("ended", flush=True)

asyncio.run(main())
"""
COMMAND = [sys.executable, "-m", "cascade"]
#: Seconds for any expected event; far more than any takes.
PATIENCE = 30


class Lines:
    """The output of a process, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[str] = []
        self._lines: Queue[str] = Queue()
        assert process.stdout is not None
        stream = process.stdout
        self._reader = threading.Thread(target=lambda: [*map(self._lines.put, stream)])
        self._reader.start()

    def until(self, holds: Any) -> str:
        """The next line for which this holds."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except Empty:
                raise AssertionError(f"nothing more came than {self.seen}") from None
            self.seen.append(line)
            if holds(line):
                return line

    def end(self) -> int:
        """Wait for the end of the process; its exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mosquitto]:
    monkeypatch.setenv("COLUMNS", "80")
    for name in [name for name in os.environ if name.startswith("CASCADE_MQTT_")]:
        monkeypatch.delenv(name)
    with running_mosquitto(tmp_path) as running:
        monkeypatch.setenv("CASCADE_MQTT_URL", running.url)
        monkeypatch.setenv("CASCADE_MQTT_RECONNECT_MIN", "0.02")
        monkeypatch.setenv("CASCADE_MQTT_RECONNECT_MAX", "0.1")
        yield running


@pytest.fixture(params=["broker", "machine"])
def meeting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where commands and engines meet: at a broker, or in the folder of this user."""
    if request.param == "broker":
        request.getfixturevalue("broker")
        return
    monkeypatch.setenv("COLUMNS", "80")
    for name in [name for name in os.environ if name.startswith("CASCADE_MQTT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts processes and reads their lines; ends them all."""
    processes: list[Lines] = []

    def start(*words: str) -> Lines:
        # As users have it: what is not flushed does not arrive.
        environment = {n: v for n, v in os.environ.items() if n != "PYTHONUNBUFFERED"}
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        processes.append(Lines(process))
        return processes[-1]

    yield start
    for lines in processes:
        if lines.process.poll() is None:
            lines.process.kill()
        if lines.process.stdin is not None:
            lines.process.stdin.close()
        lines.end()


def cascade(*words: str) -> str:
    """The output of a command that only sends messages to engines, or asks them."""
    done = call(main, *words, cwd=Path.cwd())
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def status_where(watching: Lines, holds: Any) -> Any:
    """The next status of the engine for which this holds."""
    found = watching.until(lambda line: holds(json.loads(line)))
    return json.loads(found)


def steps_of(status: Any) -> int:
    return sum(run["steps"] for run in status["runs"] if run["target"] == "spin")


def waits_for(reason: str) -> Any:
    return lambda status: any(w["reason"] == reason for w in status["waiting"])


def test_agents_and_graphs_are_paused_slowed_and_resumed_from_another_terminal(
    broker: Mosquitto, started: Any
) -> None:
    unheard = call(main, "pause", "task:fetch", cwd=Path.cwd())  # before there is any engine
    assert (unheard.returncode, unheard.stdout) == (1, "")
    assert "no engine is connected, so none confirms it" in unheard.stderr
    program = started(sys.executable, "-c", PROGRAM)
    program.until(lambda line: line == "spinning\n")
    watching = started(*COMMAND, "watch", "--json")

    first = status_where(watching, waits_for("pause task:fetch"))
    assert len(first["waiting"]) == 40
    spinning = status_where(watching, lambda s: steps_of(s) > steps_of(first) + 10_000)

    assert cascade("pause", "task:spin") == "pause task:spin: holds for agents\n"
    paused = status_where(watching, waits_for("pause task:spin"))
    assert steps_of(paused) > steps_of(spinning)
    still = [status_where(watching, waits_for("pause task:spin")) for _ in range(3)]
    assert {steps_of(status) for status in still} == {steps_of(paused)}

    cascade("limit", "rate", "task:fetch", "5/s")
    assert cascade("resume", "task:fetch") == "no more pause task:fetch: holds for agents\n"
    slowed = status_where(watching, waits_for("rate_limit task:fetch 5/s"))
    assert 30 < len([w for w in slowed["waiting"] if w["task"] == "fetch"]) <= 40
    assert not program.seen[-1].startswith("graph")

    broker.stop()  # nothing fails by that, and constraints in force stay in force
    broker.start()
    back = status_where(watching, lambda s: s["time"] > slowed["time"] + 0.3)
    assert waits_for("pause task:spin")(back)
    assert {(c["scope"], c["kind"]) for c in back["constraints"]} == {
        ("task:spin", "pause"),
        ("task:fetch", "rate_limit"),
    }

    cascade("limit", "off", "task:fetch")
    program.until(lambda line: line == f"graph {sum(range(40))}\n")
    cascade("pause", "task:spin", "--ttl", "0.5")  # which lapses by itself
    lapsed = status_where(watching, lambda s: steps_of(s) > steps_of(paused) + 10_000)
    assert lapsed["constraints"] == []

    program.process.stdin.write("\n")
    program.until(lambda line: line == "ended\n")
    assert program.end() == 0
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == 130


def test_a_target_that_runs_by_the_command_is_steered_too(
    meeting: None, started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(
        "import cascade as cs\n\n@cs.task\ndef spin(n: int = 0) -> int:\n"
        "    return spin.tail(n + 1)\n"
    )
    cascade("limit", "concurrency", "global", "3")
    running = started(*COMMAND, "run", "flows.py:spin", "--vm", "--max-steps", str(10**12))
    watching = started(*COMMAND, "watch")
    watching.until(lambda line: "1 run, " in line and "1 constraint" in line)

    shown = cascade("status")
    assert "spin" in shown
    assert "concurrency  global" in shown
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 130
    for process in (watching,):
        process.process.send_signal(signal.SIGINT)
        assert process.end() == 130
    done = call(main, "status", cwd=tmp_path)
    kept = "no engine is connected; for those that come:\n  concurrency global 3\n"
    assert (done.returncode, done.stdout) == (1, kept)
    cascade("limit", "off", "global")
    done = call(main, "status", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "no engine is connected\n")


def test_the_last_will_of_a_killed_engine_removes_its_status_at_once(
    meeting: None, started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its last will: no one has to wait for missing heartbeats."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(
        "import cascade as cs\n\n@cs.task\ndef spin(n: int = 0) -> int:\n"
        "    return spin.tail(n + 1)\n"
    )
    watching = started(*COMMAND, "watch", "--json")
    running = started(*COMMAND, "run", "flows.py:spin", "--vm")
    told = status_where(watching, lambda s: s["runs"])
    running.process.kill()

    for _ in range(50):
        done = call(main, "status", "--json", cwd=tmp_path)
        if done.returncode == 1:
            break
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert told["engine"]
