"""Runs in other processes: ``engine.start(…, on=…)``. Kills are real."""

import asyncio
import gc
import importlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests import agents_elsewhere as agents
from tests import remote_tasks as tasks
from tests.engine.durable.trials import MANY
from tests.engine.hosted import pids, status, until
from tests.processes import is_there

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime import hosting
from cascade.runtime.elsewhere import losses
from cascade.runtime.elsewhere.host_messages import EndThere, RunEnded, RunThere
from cascade.runtime.events import Event, RunFinished, RunStarted, TaskFailed
from cascade.spec.errors import (
    ExecutorError,
    RunCancelledError,
    RunError,
    SendError,
    SerializationError,
    WorkerLostError,
)
from cascade.spec.run_rows import Lease, RunStatus


async def test_an_agent_lives_elsewhere_and_its_process_ends_with_the_engine(url, path):
    async with cs.Engine(store=url) as engine:
        with cs.ProcessExecutor(2) as executor:
            runs = [engine.start(agents.counts(path, 5), on=executor) for _ in range(3)]
            found = {await run.result() for run in runs}
    assert os.getpid() not in found
    assert len(found) == 2
    assert len(tasks.lines(path)) == 18
    assert not any(map(is_there, found))


async def test_a_finished_run_gives_its_value_again(url, path):
    for _ in range(2):
        async with cs.Engine(store=url) as engine:
            run = engine.start(agents.counts(path, 2), run_id="one", on="process")
            assert await run.result() == pids(path)[0]
    assert len(tasks.lines(path)) == 3


async def test_signals_and_errors_and_cancels(url, path):
    async with cs.Engine(store=url) as engine:
        asking = engine.start(agents.asks(path), run_id="asks", on="process")
        await engine.signal("asks", "answer", {"ok": True})
        answer, pid = await asking.result()
        assert answer == {"ok": True}
        assert pid != os.getpid()
        with pytest.raises(tasks.OddError) as caught:
            await engine.start(agents.fails(), run_id="fails", on="process").result()
        assert caught.value.code == 404
        assert status(url, "fails") is RunStatus.FAILED
        endless = engine.start(agents.counts(path, 10**9), run_id="endless", on="process")
        await until(lambda: len(tasks.lines(path)) > 3)
        endless.cancel()
        with pytest.raises(RunCancelledError):
            await endless.result()
        assert status(url, "endless") is RunStatus.CANCELLED


async def test_constraints_hold_there(url, path):
    async with cs.Engine(store=url) as engine:
        engine.constraints.pause("task:counts")
        run = engine.start(agents.counts(path, 3), on="process")
        ready = engine.start(agents.asks(path), run_id="asks", on="process")
        await until(lambda: tasks.lines(path) == ["asks"])
        engine.constraints.resume("task:counts")
        await run.result()
        assert len(tasks.lines(path)) == 5
        ready.cancel()


async def test_closing_the_engine_hands_its_runs_over(url, path):
    async with cs.Engine(store=url) as engine:
        engine.start(agents.counts(path, 40), run_id="moves", on="process")
        await until(lambda: len(tasks.lines(path)) > 5)
    assert status(url, "moves") is RunStatus.ENQUEUED
    made = len(tasks.lines(path))
    async with cs.Engine(store=url) as engine:
        await engine.start(agents.counts(path, 40), run_id="moves", on="process").result()
    first, _second = dict.fromkeys(pids(path))
    assert pids(path).count(first) == made
    assert len(tasks.lines(path)) - 41 in (0, 1)  # the step that was cancelled is made again


async def test_another_process_goes_on_when_one_is_killed(url, path):
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.counts(path, 60), run_id="moves", on=cs.ProcessExecutor(1))
        await until(lambda: len(tasks.lines(path)) > 5)
        os.kill(pids(path)[0], signal.SIGKILL)
        last = await run.result()
    first, second = dict.fromkeys(pids(path))
    assert (first, second) == (pids(path)[0], last)
    assert len(tasks.lines(path)) - 61 in (0, 1, 2)


async def test_a_process_that_ends_before_it_is_given_its_run_is_replaced(url, path):
    executor = cs.ProcessExecutor(1)
    start_host = executor.start_host
    ended, started = threading.Event(), []

    def start(entry, options, told):
        def tell(host, message):
            told(host, message)
            if message is None:
                ended.set()

        def kill(_message):  # in the turn of the start, so that the end is told in the next one
            os.kill(host.pid, signal.SIGKILL)
            ended.wait()

        host = start_host(entry, options, tell)
        if not started:
            host.send = kill
        started.append(host)
        return host

    executor.start_host = start
    async with cs.Engine(store=url) as engine:
        assert await engine.start(agents.counts(path, 1), on=executor).result() == started[1].pid
    assert len(started) == 2


async def test_processes_that_begin_no_run_are_given_up(url, path, monkeypatch):
    monkeypatch.setattr(losses, "MOST_STARTS", 2)
    executor = cs.ProcessExecutor(1)
    start_host = executor.start_host

    def start(*given):
        host = start_host(*given)
        send = host.send
        host.send = lambda message: (
            os.kill(host.pid, signal.SIGKILL) if isinstance(message, RunThere) else send(message)
        )
        return host

    executor.start_host = start
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.counts(path, 1), run_id="one", on=executor)
        with pytest.raises(ExecutorError, match="before they began run"):
            await run.result()
        assert await engine.start(agents.counts(path, 1), run_id="one", on="process").result()
    assert len(tasks.lines(path)) == 2


async def test_a_cancelled_run_leaves_the_process_that_is_started_to_the_next(url, path):
    executor = cs.ProcessExecutor(1)
    start_host = executor.start_host
    starting, go_on = threading.Event(), threading.Event()

    def start(*given):
        starting.set()
        go_on.wait()
        return start_host(*given)

    executor.start_host = start
    async with cs.Engine(store=url) as engine:
        first = engine.start(agents.counts(path, 10**9), on=executor)
        await asyncio.to_thread(starting.wait)
        starting.clear()
        first.cancel()
        with pytest.raises(RunCancelledError):
            await first.result()
        second = engine.start(agents.counts(path, 1), on=executor)
        await until(engine._hosting._choosing.locked)
        go_on.set()
        await second.result()
        assert not starting.is_set()


async def test_an_executor_that_cannot_be_made_is_made_again_for_the_next_run(
    url, path, monkeypatch
):
    make, problems = hosting.named, [OSError("no sockets are left"), ExecutorError("no cluster")]

    def made(name):
        if problems:
            raise problems.pop(0)
        return make(name)

    monkeypatch.setattr(hosting, "named", made)
    async with cs.Engine(store=url) as engine:
        for error in (OSError, ExecutorError):
            with pytest.raises(error):
                await engine.start(agents.counts(path, 1), on="process").result()
        assert await engine.start(agents.counts(path, 1), on="process").result() != os.getpid()


async def test_capacities_and_rates_of_a_store_are_shared_with_the_processes(url, path):
    shared = cs.Capacities({"seat": 1}, store=url)
    async with cs.Engine(store=url, capacities=shared) as engine:
        engine.constraints.limit_rate("task:takes_seat", "1000/s", shared="lines")
        with cs.ProcessExecutor(2) as executor:
            calls = [agents.takes_seat(path).with_capacity(seat=1) for _ in range(2)]
            runs = [engine.start(call, on=executor) for call in calls]
            assert len({await run.result() for run in runs}) == 2
    shared.end_sharing()
    assert tasks.lines(path) == ["begun", "ended"] * 2


async def test_capacities_that_cannot_be_shared_are_refused(url):
    store = open_store(url)
    shared = cs.Capacities({"seat": 1}, store=store)
    async with cs.Engine(store=url, capacities=shared) as engine:
        with pytest.raises(RunError, match="needs capacities that other processes can share"):
            engine.start(agents.fails(), on="process")
    shared.end_sharing()
    store.close()


async def test_hosted_runs_are_among_the_runs_and_the_events_of_the_driver(url, path):
    events = []
    async with cs.Engine(store=url) as engine:
        engine.bus.subscribe(Event, events.append)
        run = engine.start(agents.counts(path, 10**9), run_id="one", on="process")
        await asyncio.sleep(0)
        assert [(one.run_id, one.target) for one in engine.runs()] == [("one", "counts")]
        await until(lambda: engine.runs()[0].steps > 5)
        assert engine.runs()[0].task == "counts"
        run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
        assert engine.runs() == []
        failing = engine.start(agents.fails(), run_id="fails", on="process")
        with pytest.raises(tasks.OddError):
            await failing.result()
    told = [(event.run_id, type(event).__name__) for event in events]
    for run_id in ("one", "fails"):
        assert told.count((run_id, "RunStarted")) == told.count((run_id, "RunFinished")) == 1
    assert told.index(("one", "TaskStarted")) < told.index(("one", "RunFinished"))
    (failed,) = (event for event in events if isinstance(event, TaskFailed))
    assert failed.error.code == 404


async def test_the_end_of_a_run_is_published_if_its_process_could_not_tell_of_it(
    url, path, monkeypatch
):
    monkeypatch.setattr(losses, "MOST_LOSSES", 1)
    statuses = []
    async with cs.Engine(store=url) as engine:
        engine.bus.subscribe(RunFinished, lambda event: statuses.append(event.status))
        engine.bus.subscribe(RunStarted, lambda event: statuses.append("started"))
        run = engine.start(agents.dies_late(path), on="process")
        with pytest.raises(WorkerLostError):
            await run.result()
    assert statuses == ["started", "failed"]


async def test_an_agent_that_ends_its_process_is_tried_again(url, path):
    async with cs.Engine(store=url) as engine:
        pid = await engine.start(agents.dies(path), on="process").result()
    assert len(tasks.lines(path)) == 3
    assert not is_there(pid)


async def test_an_agent_that_always_ends_its_process_is_given_up(url, path, monkeypatch):
    monkeypatch.setattr(losses, "MOST_LOSSES", 2)
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.always_dies(path), run_id="one", on="process")
        with pytest.raises(WorkerLostError, match=r"made no progress .* exit code 3") as caught:
            await run.result()
        assert (caught.value.task, caught.value.exit_code) == ("always_dies", 3)
    assert len(tasks.lines(path)) == 2
    assert status(url, "one") is RunStatus.DEAD


async def test_only_the_agent_that_ends_its_processes_is_given_up(url, path, monkeypatch):
    """Other agents lose as many processes, but these do not count against them."""
    monkeypatch.setattr(hosting, "TRIAL", 0.05)
    monkeypatch.setattr(losses, "_PAUSE", 0.01)
    executor = FakeHosts(url, ends_with="killer")
    async with cs.Engine(store=url) as engine:
        ids = [*"abcd", "killer", *"efgh"]
        runs = {name: engine.start(agents.asks(path), run_id=name, on=executor) for name in ids}
        with pytest.raises(WorkerLostError, match="run 'killer'"):
            await runs.pop("killer").result()
        assert {run.status for run in runs.values()} == {"running"}
    assert executor.started > losses.MOST_LOSSES
    assert {status(url, name) for name in runs} == {RunStatus.RUNNING}  # owned by a fake


class FakeHosts:
    """Starts hosts that claim their runs and do nothing else; one run ends each of them."""

    max_workers = 1

    def __init__(self, url, ends_with):
        self.store, self.ends_with, self.started = open_store(url), ends_with, 0

    def start_host(self, entry, options, told):
        self.started += 1
        return FakeHost(self, told, f"fake-{self.started}")


class FakeHost:
    exit_code = 3

    def __init__(self, executor, told, owner):
        self.runs = set()
        self.is_gone = False
        self._executor, self._told, self._owner = executor, told, owner

    def send(self, message):
        if isinstance(message, EndThere) and not self.is_gone:
            self._told(self, RunEnded(message.run_id, None))
        if isinstance(message, RunThere) and not self.is_gone:
            store, ends = self._executor.store, message.run_id == self._executor.ends_with
            dead = set(store.owners()) - {self._owner}
            lease = Lease(self._owner, 0 if ends else 60)
            store.claim_run(message.run_id, lease, again=True, dead=dead)
            if ends:
                self.is_gone = True
                self._told(self, None)

    def close(self):
        pass


async def test_what_cannot_live_elsewhere_is_refused_at_once(url, path):
    @cs.task
    async def local():
        raise AssertionError

    async with cs.Engine(store=url) as engine:
        with pytest.raises(SerializationError, match="local"):
            engine.start(local(), on="process")
        with pytest.raises(ExecutorError, match="on= takes 'process'"):
            engine.start(agents.fails(), on=object())
        with pytest.raises(ExecutorError, match="but got 'proces'"):
            engine.start(42, on="proces")
        assert engine.runs() == []
    async with cs.Engine(store=url) as engine:
        lock = threading.Lock()

        @cs.resource
        def guarded():
            yield lock

        engine.register(guarded)
        with pytest.raises(SendError, match=r"(?s)the resource 'guarded' .* at the top level"):
            engine.start(agents.fails(), on="process")
    for store in (None, "memory:"):
        async with cs.Engine(store=store) as engine:
            with pytest.raises(RunError, match="needs a store that other processes can open"):
                engine.start(agents.fails(), on="process")


async def test_a_module_that_the_process_cannot_import_is_named(url, tmp_path, monkeypatch):
    """It was on the path when the driver imported it."""
    (tmp_path / "moved_flows.py").write_text(
        "import cascade as cs\n@cs.task\nasync def moved(): pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    moved_flows = importlib.import_module("moved_flows")
    (tmp_path / "moved_flows.py").unlink()
    importlib.invalidate_caches()
    async with cs.Engine(store=url) as engine:
        run = engine.start(moved_flows.moved(), on="process")
        with pytest.raises(SendError, match="cannot import module 'moved_flows'") as caught:
            await run.result()
    assert caught.value.place == "module 'moved_flows'"


@pytest.mark.filterwarnings("error")
async def test_a_cancel_in_the_turn_of_the_start_leaves_nothing(url, path):
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.counts(path, 1), on="process")
        run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
        gc.collect()  # a coroutine that was never awaited would be told of here
        assert engine._hosting._starts == {}


async def test_a_cancel_before_there_is_a_process_leaves_neither_process_nor_run(url, path):
    executor = cs.ProcessExecutor(1)
    started = []
    start_host = executor.start_host
    executor.start_host = lambda *given: started.append(start_host(*given)) or started[0]
    async with cs.Engine(store=url) as engine:
        run = engine.start(agents.counts(path, 10**9), run_id="early", on=executor)
        await until(lambda: os.path.exists(url.removeprefix("sqlite:///")))
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
    assert status(url, "early") is RunStatus.CANCELLED
    assert not any(is_there(host.pid) for host in started)
    assert tasks.lines(path) == []


UNCLOSED = """
    import asyncio, sys
    import cascade as cs
    from tests import agents_elsewhere as agents, remote_tasks as tasks

    async def main(url, path):
        engine = cs.Engine(store=url)
        engine.start(agents.counts(path, 10**9), on="process")
        await asyncio.to_thread(tasks.wait_until, lambda: tasks.lines(path))

    if __name__ == "__main__":
        asyncio.run(main(*sys.argv[1:]))
"""


def test_a_program_ends_although_its_engine_was_not_closed(url, path, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(UNCLOSED), encoding="utf-8")
    subprocess.run(
        [sys.executable, script, url, path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        timeout=50,
    )
    tasks.wait_until(lambda: not any(map(is_there, {*pids(path)})))


@pytest.mark.thorough
async def test_agents_survive_any_number_of_kills(url, path):
    """Each step is made, whichever processes are killed at whatever moment."""
    steps, agents_at_once = 300, 3
    async with cs.Engine(store=url) as engine:
        executor = cs.ProcessExecutor(2)
        paths = [f"{path}{n}" for n in range(agents_at_once)]
        runs = [engine.start(agents.counts(one, steps, 0.02), on=executor) for one in paths]
        for _ in range(MANY):
            before = sum(len(tasks.lines(one)) for one in paths)
            if all(run.status != "running" for run in runs):
                break
            hosts = engine._hosting._all
            if hosts:
                os.kill(random.choice(hosts).pid, signal.SIGKILL)
            with suppress(AssertionError):  # all have ended meanwhile
                await asyncio.to_thread(
                    tasks.wait_until,
                    lambda before=before: sum(len(tasks.lines(one)) for one in paths) > before,
                    5,
                )
        for run in runs:
            await run.result()
    for one in paths:
        lefts = [int(line.split()[1]) for line in tasks.lines(one)]
        assert sorted({*lefts}, reverse=True) == [*range(steps, -1, -1)]
        assert lefts == sorted(lefts, reverse=True)  # no step comes after a later one
