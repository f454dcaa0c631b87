"""Small runs: they make only the parts that they need, and take no needless turn of the loop."""

import asyncio
import threading

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.run import current_run


@pytest.fixture
async def engine():
    async with cs.Engine() as engine:
        yield engine


@pytest.fixture
def patient(monkeypatch):
    """The loop's thread waits for a worker as long as it takes, and needs no turn meanwhile."""
    monkeypatch.setattr("cascade.runtime.graph_path.dispatch.MOMENT", 60)
    monkeypatch.setattr("cascade.runtime.graph_path.small_runs.shared_runs.MOMENT", 60)
    monkeypatch.setattr("cascade.runtime.engine_runs.BUDGET", 60)


@pytest.fixture
def turns():
    """``turns()``: how many turns the event loop has had since the last call."""
    count = 0

    def turn():
        nonlocal count
        count += 1
        asyncio.get_running_loop().call_soon(turn)

    def taken():
        nonlocal count
        if not count:
            turn()
        made, count = count - 1, 1
        return made

    return taken


@cs.task
def parts():
    """The parts that the run has made when its only node is called."""
    return {name for name in vars(current_run.get()) if not name.startswith("_")}


@cs.task
async def parts_here():
    return parts.func()


#: Parts of a run with limits, resources, loops, or waits of their own.
RARE = {"gate", "id", "resources", "steps", "thread_waits"}


@pytest.mark.parametrize("target", [parts, parts_here])
async def test_a_run_makes_no_parts_that_it_does_not_need(engine, target):
    await engine.run(target())
    assert not RARE & await engine.run(target())


async def test_a_part_is_the_same_object_at_each_use(engine):
    @cs.task
    def ids():
        run = current_run.get()
        return run.id, run.id, run.gate is run.gate

    first, second, same = await engine.run(ids())
    assert first == second
    assert same


@cs.task
def add(x, y):
    return x + y


async def test_a_run_of_short_plain_calls_ends_in_the_turn_of_its_caller(engine, patient, turns):
    await engine.run(add(1, 2))
    turns()
    assert await engine.run(add(add(1, 2), add(3, 4))) == 10
    assert turns() == 0


async def test_runs_one_after_the_other_give_the_event_loop_its_turns(
    engine, patient, turns, monkeypatch
):
    """M9: a task that makes nothing but small runs does not keep the loop for itself."""
    monkeypatch.setattr("cascade.runtime.engine_runs.BUDGET", 0)
    turns()
    for _ in range(10):
        await engine.run(add(1, 2))
    assert turns() >= 10


@pytest.mark.parametrize("budget", [60, 0], ids=["no turn", "turn"])
async def test_a_cancel_that_comes_at_the_end_of_a_run_is_for_its_caller(
    monkeypatch, budget, use_vm
):
    """As one in the last step of an asyncio task is. The run itself has its value."""
    monkeypatch.setattr("cascade.runtime.engine_runs.BUDGET", budget)
    told = []

    @cs.resource
    def table():
        yield "table"
        told.append("closed")

    @cs.task
    async def sit(table=cs.inject("table")):
        return table

    def cancel(event):
        told.append(event.status)
        running.cancel()

    async with cs.Engine(resources=[table]) as engine:
        engine.bus.subscribe(RunFinished, cancel)
        running = asyncio.ensure_future(engine.run(sit(), use_vm=use_vm))
        await asyncio.wait([running])
        assert running.cancelled()
        assert told == ["closed", "succeeded"]
        assert engine.runs() == []


async def test_a_timeout_that_ends_in_the_last_turn_of_a_run_is_not_lost(engine, monkeypatch):
    monkeypatch.setattr("cascade.runtime.engine_runs.BUDGET", 0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60) as scope:
            now = asyncio.get_running_loop().time()
            engine.bus.subscribe(RunFinished, lambda event: scope.reschedule(now))
            await engine.run(parts_here())


async def test_a_plain_call_may_wait_for_the_event_loop(engine):
    """The loop's thread waits for a worker for a moment only."""
    released = threading.Event()

    @cs.task
    def waits():
        return released.wait(60)

    for _ in range(3):
        released.clear()
        asyncio.get_running_loop().call_soon(released.set)
        assert await engine.run(waits())


async def test_coroutines_of_other_runs_go_on_beside_a_run_that_blocks(engine):
    inside, ended = threading.Event(), threading.Event()

    @cs.task
    def blocks():
        inside.set()
        return ended.wait(60)

    async def elsewhere():
        await asyncio.to_thread(inside.wait, 60)
        ended.set()

    values = await asyncio.gather(engine.run(blocks()), elsewhere())
    assert values[0]


async def test_the_events_of_a_run_without_a_turn_come_in_their_order(engine, patient):
    seen = []
    engine.bus.subscribe(cs.events.Event, lambda event: seen.append(type(event).__name__))
    await engine.run(add(1, 2))
    assert seen == ["RunStarted", "NodesPlanned", "TaskStarted", "TaskFinished", "RunFinished"]


async def test_a_failure_is_raised_in_the_turn_of_the_caller(engine, patient):
    @cs.task
    def fails():
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            await engine.run(add(fails(), 1))


async def test_the_one_worker_of_a_run_owns_its_lock(engine, patient, monkeypatch):
    """A part that a worker had to make would end the bias of the lock, at each run."""
    ended = []
    monkeypatch.setattr(BiasedLock, "share", lambda lock: ended.append(lock))
    value = add(1, 2)
    for _ in range(10):
        value = add(value, add(1, 1))
    assert await engine.run(value) == 23
    assert ended == []
