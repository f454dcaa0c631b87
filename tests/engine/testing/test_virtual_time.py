"""``cascade.testing``: virtual time for users' tests."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import cascade as cs
from cascade.testing import VirtualEngine, VirtualTime, virtual_time  # noqa: F401

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


@cs.task
def always_down():
    raise ConnectionError("refused")


@cs.task
async def wait(seconds):
    await asyncio.sleep(seconds)
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
def test_an_hour_of_retries(virtual_time, use_vm):  # noqa: F811
    with pytest.raises(ConnectionError):
        virtual_time.run(always_down().with_retry(61, delay=60), use_vm=use_vm)

    assert virtual_time.elapsed == 3600


def test_the_clock_goes_on_from_run_to_run():
    time = VirtualTime(start=1000)

    assert time.run(wait(60)) == 1060
    assert time.run([wait(5), wait(10)], use_vm=True) == [1065, 1070]
    assert (time.now, time.elapsed) == (1070, 70)


def test_a_run_that_fails_takes_its_time_too():
    time = VirtualTime()

    with pytest.raises(cs.errors.DeadlineError):
        time.run(wait(3600), deadline=60)

    assert time.elapsed == 60


def test_coroutines_and_coroutine_functions_run_too():
    async def main():
        async with cs.Engine() as engine:
            return await engine.run(wait(60))

    time = VirtualTime()

    assert time.run(main) == 60
    assert time.run(main()) == 120


def test_chance_depends_on_the_seed_alone():
    def jittered(seed):
        time = VirtualTime(seed)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                time.run(always_down().with_retry(5, delay=60, jitter=0.5))
        return time.elapsed

    first = [jittered(seed) for seed in range(5)]
    random.seed(99)

    assert [jittered(seed) for seed in range(5)] == first
    assert len(set(first)) == 5


def test_the_second_run_does_not_repeat_the_chance_of_the_first():
    @cs.task
    def throw():
        return random.random()

    time = VirtualTime(7)

    assert time.run(throw()) != time.run(throw())


def test_the_module_random_is_left_as_it_was():
    state = random.getstate()

    with pytest.raises(ConnectionError):
        VirtualTime(3).run(always_down().with_retry(3, delay=1, jitter=1))

    assert random.getstate() == state


async def test_inside_an_event_loop_the_error_shows_the_right_way():
    with pytest.raises(cs.errors.RunError, match=r"right:  def test_it\(virtual_time\)"):
        VirtualTime().run(asyncio.sleep(1))


def test_options_are_for_targets():
    coroutine = asyncio.sleep(1)
    with pytest.raises(TypeError, match="not for coroutines: use_vm"):
        VirtualTime().run(coroutine, use_vm=True)
    coroutine.close()


def test_an_endless_wait_names_some_waiting_tasks(monkeypatch):
    monkeypatch.setattr("cascade.runtime.clock.GRACE", 0.01)

    @cs.task
    async def forever():
        await asyncio.Event().wait()

    with pytest.raises(cs.errors.StalledError, match=r"pending are (Task-\d+, ){10}\d+ more$"):
        VirtualTime().run([forever() for _ in range(50)], use_vm=True)


def test_asking_for_it_needs_no_pytest():
    """Only the fixture does."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import cascade.testing\n"
        "assert cascade.testing.VirtualTime().elapsed == 0\n"
        "try: cascade.testing.virtual_time\n"
        "except ImportError: print('asked')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("asked\n", "")


def test_the_tests_on_the_page_pass(tmp_path):
    """With the plugin, and pytest-asyncio for a coroutine."""
    files = re.findall(r"^```python (\w+\.py)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    for name, text in files:
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    command += ["-p", "no:randomly", "-p", "no:benchmark", "-o", "asyncio_mode=auto"]
    command += ["-o", "asyncio_default_fixture_loop_scope=function"]
    if "cascade.testing.plugin" not in {point.value for point in entry_points(group="pytest11")}:
        command += ["-p", "cascade.testing.plugin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert [name for name, _ in files] == ["test_bill.py", "test_news.py"]
    assert "8 passed" in done.stdout, done.stdout + done.stderr


def test_a_virtual_engine_may_be_closed_again():
    with VirtualEngine() as virtual:
        virtual.run(wait(60))
        virtual.close()

    assert virtual.time.now == 60
