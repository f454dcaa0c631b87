"""examples/agent.py: tools, an approval, and a process that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import agent

import cascade as cs
from cascade.testing import VirtualTime

QUESTION = [{"role": "user", "content": "Is the library open? If so, book room 4."}]


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, agent.__file__, "--store", f"sqlite:///{folder}/agent.db", *options]


def test_an_agent_that_was_killed_goes_on_and_waits_for_a_person(tmp_path: Path) -> None:
    quick = {**os.environ, "MODEL_SECONDS": "0", "PYTHONUTF8": "1"}
    printed = []
    first = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, text=True, env=quick)
    with first:
        assert first.stdout is not None
        for line in first.stdout:
            printed.append(line)
            if line.startswith("approve"):
                os.kill(first.pid, signal.SIGKILL)
                break
        printed += first.stdout
    assert printed[0] == "thinking\n"
    assert "looking up the opening hours\n" in printed
    subprocess.run(command(tmp_path, "--approve", "yes"), check=True, timeout=60, env=quick)

    second = subprocess.run(
        command(tmp_path), stdout=subprocess.PIPE, text=True, env=quick, check=True, timeout=60
    )

    told = second.stdout.splitlines()
    assert told[-1] == "The library is open until 20:00 today. Room 4 is booked."
    assert "looking up the opening hours" not in told
    assert told.count("booking") == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SECONDS", "0")


async def answer(approved: bool) -> str:
    async with cs.Engine(store="memory:") as engine:
        run = engine.start(agent.agent(QUESTION), run_id="librarian")
        await engine.signal("librarian", "approval", approved)
        return str(await run.result())


@pytest.mark.usefixtures("quick")
def test_a_tool_that_a_person_has_refused_is_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    told = asyncio.run(answer(False))

    assert told.endswith("A person has refused this.")
    assert "booking" not in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_a_model_that_is_down_is_asked_again() -> None:
    class Flaky(agent.ScriptedModel):
        fails = 2

        async def complete(self, messages: list[agent.Message]) -> agent.Message:
            if self.fails:
                self.fails -= 1
                raise ConnectionError("overloaded")
            return await super().complete(messages)

    flaky = Flaky()

    @cs.resource
    def model() -> Iterator[agent.ScriptedModel]:
        yield flaky

    async def run() -> str:
        with cs.override_resource(agent.model, model):
            return await answer(True)

    time = VirtualTime()
    assert time.run(run).endswith("Room 4 is booked.")
    assert (flaky.fails, time.elapsed >= 1 + 2) == (0, True)
