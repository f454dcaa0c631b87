"""Runs that workers of a cluster execute: ``engine.start(…, on=…)``. Kills are real.

They are steered as runs in other processes of this machine are (``test_hosting``).
"""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests import agents_elsewhere as agents
from tests import remote_tasks as tasks
from tests.engine import hosted
from tests.engine.hosted import pids, status
from tests.processes import is_there

import cascade as cs
from cascade.runtime.elsewhere import losses
from cascade.runtime.events import Event, TaskFailed
from cascade.spec.errors import ExecutorError, RunCancelledError, RunError, WorkerLostError
from cascade.spec.run_rows import RunStatus

pytestmark = pytest.mark.timeout(300)

#: Name → fixture with what the executor is made of.
CLUSTERS = {
    "dask": ("dask_cluster", cs.DaskExecutor),
    "ray": ("ray_cluster", cs.RayExecutor),
}


@pytest.fixture(scope="module", params=CLUSTERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def make(kind, request):
    """``make()``: a new executor."""
    fixture, make = CLUSTERS[kind]
    found = request.getfixturevalue(fixture)
    return lambda: make(found)


@pytest.fixture(scope="module")
def shared(make):
    with make() as executor:
        yield executor


@pytest.fixture
def on(shared, kind):
    """The executor. A worker of Dask that was killed starts again, slowly on a busy machine."""
    if kind == "dask":
        shared._client.wait_for_workers(2, timeout=280)
    return shared


async def until(condition):
    """Patient, as Ray starts a process for each host."""
    await hosted.until(condition, 120)


def hosts_there(client):
    """The number of hosts in the workers of Dask."""

    def count():
        from cascade.adapters.executors import dask_worker

        return len(dask_worker._hosts)

    return sum(client.run(count).values())


async def test_workers_execute_whole_runs(on, url, path):
    async with cs.Engine(store=url) as engine:
        engine.constraints.pause("task:counts")
        runs = [engine.start(agents.counts(path, 5), on=on) for _ in range(2)]
        asking = engine.start(agents.asks(path), run_id="asks", on=on)
        await until(lambda: "signal answer" in [one.reason for one in engine.waiting()])
        await engine.signal("asks", "answer", 42)
        answer, pid = await asking.result()
        assert answer == 42
        assert pid != os.getpid()
        assert set(tasks.lines(path)) == {"asks"}
        engine.constraints.resume("task:counts")
        made = {await run.result() for run in runs}
        assert os.getpid() not in made
        assert engine.runs() == []
        assert await cs.run_async(tasks.add(1), executor=on) == 2  # workers make calls as well


async def test_hosts_are_spread_and_leave_nothing_behind(on, kind, url, path):
    async with cs.Engine(store=url) as engine:
        runs = [engine.start(agents.counts(path, 5), on=on) for _ in range(3)]
        made = {await run.result() for run in runs}
        assert len(made) == 2
        assert len(on._hosts) == 2
    assert len(tasks.lines(path)) == 18
    assert on._hosts == {}
    if kind == "ray":
        await until(lambda: not any(map(is_there, made)))
    else:
        await until(lambda: hosts_there(on._client) == 0)


async def test_errors_and_cancels(on, url, path):
    async with cs.Engine(store=url) as engine:
        with pytest.raises(tasks.OddError) as caught:
            await engine.start(agents.fails(), run_id="fails", on=on).result()
        assert caught.value.code == 404
        assert status(url, "fails") is RunStatus.FAILED
        endless = engine.start(agents.counts(path, 10**9), run_id="endless", on=on)
        await until(lambda: len(tasks.lines(path)) > 3)
        endless.cancel()
        with pytest.raises(RunCancelledError):
            await endless.result()
        assert status(url, "endless") is RunStatus.CANCELLED
    made = len(tasks.lines(path))
    await asyncio.sleep(0.1)
    assert len(tasks.lines(path)) == made


async def test_they_are_among_the_runs_and_the_events_of_the_driver(on, url, path):
    events = []
    async with cs.Engine(store=url) as engine:
        engine.bus.subscribe(Event, events.append)
        run = engine.start(agents.counts(path, 10**9), run_id="one", on=on)
        await until(lambda: engine.runs() and engine.runs()[0].steps > 5)
        assert engine.runs()[0].task == "counts"
        run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
        with pytest.raises(tasks.OddError):
            await engine.start(agents.fails(), run_id="fails", on=on).result()
    told = [(event.run_id, type(event).__name__) for event in events]
    for run_id in ("one", "fails"):
        assert told.count((run_id, "RunStarted")) == told.count((run_id, "RunFinished")) == 1
    (failed,) = (event for event in events if isinstance(event, TaskFailed))
    assert failed.error.code == 404


async def test_constraints_that_come_later_hold_there(on, url, path):
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.counts(path, 10**9), on=on)
        await until(lambda: tasks.lines(path))
        for _ in range(3):  # the last one counts, however close they come
            engine.constraints.pause("task:counts")
            engine.constraints.resume("task:counts")
        made = len(tasks.lines(path))
        await until(lambda: len(tasks.lines(path)) > made)
        engine.constraints.pause("task:counts")
        await asyncio.sleep(0.3)
        made = len(tasks.lines(path))
        await asyncio.sleep(0.1)
        assert len(tasks.lines(path)) == made
        run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()


async def test_another_worker_goes_on_with_a_run(on, url, path):
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.counts(path, 60), on=on)
        await until(lambda: len(tasks.lines(path)) > 5)
        first = pids(path)[0]
        os.kill(first, tasks.KILL)
        assert await run.result() != first
    lefts = [int(line.split()[1]) for line in tasks.lines(path)]
    assert sorted({*lefts}, reverse=True) == [*range(60, -1, -1)]


async def test_an_agent_that_ends_its_worker_is_tried_again(on, url, path):
    async with cs.Engine(store=url) as engine:
        assert await engine.start(agents.dies(path), on=on).result() != os.getpid()
    assert len(tasks.lines(path)) == 3


async def test_an_agent_that_always_ends_its_worker_is_given_up(on, url, path, monkeypatch):
    monkeypatch.setattr(losses, "MOST_LOSSES", 2)
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.always_dies(path), run_id="one", on=on)
        with pytest.raises(WorkerLostError, match="made no progress") as caught:
            await run.result()
        assert caught.value.task == "always_dies"
    assert len(tasks.lines(path)) == 2
    assert status(url, "one") is RunStatus.DEAD


async def test_runs_are_handed_over_when_the_engine_is_closed(on, url, path):
    async with cs.Engine(store=url) as engine:
        engine.start(agents.counts(path, 30), run_id="moves", on=on)
        await until(lambda: len(tasks.lines(path)) > 5)
    assert status(url, "moves") is RunStatus.ENQUEUED
    async with cs.Engine(store=url) as engine:
        assert await engine.run(agents.counts(path, 30), run_id="moves") == os.getpid()


async def test_an_engine_leaves_the_cluster_that_it_was_given_by_name(on, kind, url, path):
    if kind == "ray":
        pytest.skip("test_ray_client has it: a process cannot use two clusters of Ray")
    address = on._client.scheduler.address.replace("tcp://", "dask://")
    async with cs.Engine(store=url) as engine:
        engine.start(agents.counts(path, 30), run_id="moves", on=address)
        await until(lambda: len(tasks.lines(path)) > 5)
    assert status(url, "moves") is RunStatus.ENQUEUED


async def test_a_run_is_handed_over_when_its_executor_is_shut_down(make, on, url, path):
    """Its handle says so, instead of waiting for ever or being cancelled."""
    async with cs.Engine(store=url) as engine:
        with make() as executor:
            run = engine.start(agents.counts(path, 10**9), run_id="moves", on=executor)
            idle = engine.start(agents.counts(path, 0), on=executor)
            await idle.result()
            await until(lambda: len(tasks.lines(path)) > 5)
            await asyncio.to_thread(executor.shutdown)
            with pytest.raises(ExecutorError, match="starts no more hosts"):
                await run.result()
        assert executor._hosts == {}
        assert status(url, "moves") is RunStatus.ENQUEUED


async def test_hosts_that_cannot_begin_are_told_of(on):
    with pytest.raises(ExecutorError, match=r"cannot host runs: .* cannot make its engine"):
        await asyncio.to_thread(on.start_host, "cascade.runtime.hosted", b"none", print)
    with pytest.raises(ExecutorError, match=r"cannot host runs: .*no_such_module"):
        await asyncio.to_thread(on.start_host, "no_such_module", b"", print)
    assert on._hosts == {}


async def test_a_store_that_others_can_open_is_needed(on, path):
    async with cs.Engine() as engine:
        with pytest.raises(RunError, match="needs a store that other processes can open"):
            engine.start(agents.counts(path, 1), on=on)


DRIVER = """
    import asyncio, sys
    import cascade as cs
    from tests import agents_elsewhere as agents

    async def main(url, path, address):
        async with cs.Engine(store=url) as engine:
            await engine.start(agents.counts(path, 10**9), run_id="one", on=address).result()

    if __name__ == "__main__":
        asyncio.run(main(*sys.argv[1:]))
"""


def test_hosts_end_when_their_driver_is_killed(on, kind, url, path, tmp_path):
    if kind == "ray":
        pytest.skip("test_ray_client has it: a process cannot use two clusters of Ray")
    address = on._client.scheduler.address.replace("tcp://", "dask://")
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    driver = subprocess.Popen([sys.executable, script, url, path, address], env=env)
    try:
        tasks.wait_until(lambda: len(tasks.lines(path)) > 5, 60)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    tasks.wait_until(lambda: hosts_there(on._client) == 0, 60)
    assert status(url, "one") is RunStatus.ENQUEUED
