"""A node's duration is that of its calls; waiting is told apart (M19)."""

import asyncio

import pytest

import cascade as cs
from cascade.runtime.events import TaskEvent, TaskFailed, TaskFinished, TaskStarted, TaskWaiting
from cascade.runtime.telemetry.history import History


class Clock:
    """Stands for ``perf_counter``: time passes when it is told to."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cascade.runtime.graph_path.task_events.perf_counter", clock)
    return clock


@pytest.fixture
def ends(engine):
    """The events of nodes that end."""
    found = {}
    engine.bus.subscribe(TaskFinished, lambda event: found.setdefault(event.task, event))
    engine.bus.subscribe(TaskFailed, lambda event: found.setdefault(event.task, event))
    return found


def tasks_that_take(clock, seconds):
    @cs.task
    def plain(*_):
        clock.now += seconds

    @cs.task
    async def awaiting(*_):
        clock.now += seconds

    return {"plain": plain, "async": awaiting}


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_waiting_for_a_constraint_is_no_work(engine, use_vm, clock, ends, kind):
    task = tasks_that_take(clock, 3.0)[kind]
    engine.constraints.pause(f"task:{task.name}")

    def go_on(_event):
        clock.now += 50.0
        engine.constraints.remove(f"task:{task.name}")

    engine.bus.subscribe(TaskWaiting, go_on)
    await engine.run(task(), use_vm=use_vm)

    assert (ends[task.name].duration, ends[task.name].waited) == (3.0, 50.0)


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_start_is_published_when_limits_let_the_call_in(engine, use_vm, clock, kind):
    task = tasks_that_take(clock, 3.0)[kind]
    seen = []
    engine.constraints.pause(f"task:{task.name}")

    def go_on(_event):
        engine.constraints.remove(f"task:{task.name}")

    engine.bus.subscribe(TaskWaiting, go_on)
    engine.bus.subscribe(TaskEvent, lambda event: seen.append(type(event).__name__))
    await engine.run(task(), use_vm=use_vm)

    assert seen == ["TaskWaiting", "TaskStarted", "TaskFinished"]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_start_is_published_once_for_a_call_and_before_it(engine, use_vm, kind):
    seen = []

    @cs.task
    def plain(n):
        seen.append("call")
        if seen.count("call") == 1:
            raise OSError
        return plain.tail(n - 1) if n else n

    @cs.task(name="async")
    async def awaiting(n):
        seen.append("call")
        await asyncio.sleep(0)
        if seen.count("call") == 1:
            raise OSError
        return awaiting.tail(n - 1) if n else n

    task = {"plain": plain, "async": awaiting}[kind]
    engine.bus.subscribe(TaskStarted, lambda _event: seen.append("start"))
    await engine.run(task(1).with_retry(2, delay=0), use_vm=use_vm)

    assert sorted(seen) == ["call", "call", "call", "start"]
    assert kind == "plain" or seen[0] == "start"


async def test_a_node_that_fails_before_its_call_has_a_start_too(use_vm):
    @cs.task
    def amount():
        return "much"

    @cs.task
    def use():
        return 1

    seen = []
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        engine.bus.subscribe(TaskEvent, lambda event: seen.append((type(event), event.task)))
        with pytest.raises(cs.errors.ArgumentError):
            await engine.run(use().with_capacity(gpu=amount()), use_vm=use_vm)

    assert seen[-2:] == [(TaskStarted, "use"), (TaskFailed, "use")]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_waiting_for_a_capacity_is_no_work(use_vm, clock, kind):
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        ends = {}
        engine.bus.subscribe(TaskFinished, lambda event: ends.setdefault(event.task, event))
        holds, waits = asyncio.Event(), asyncio.Event()
        engine.bus.subscribe(TaskWaiting, lambda _event: waits.set())

        @cs.task
        async def holder():
            holds.set()
            await waits.wait()
            clock.now += 50.0

        task = tasks_that_take(clock, 3.0)[kind]
        held = asyncio.ensure_future(engine.run(holder().with_capacity(gpu=1), use_vm=use_vm))
        await holds.wait()
        await engine.run(task().with_capacity(gpu=1), use_vm=use_vm)
        await held

    assert (ends[task.name].duration, ends[task.name].waited) == (3.0, 50.0)


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_waiting_for_the_next_attempt_is_no_work(engine, use_vm, clock, ends, kind):
    tried = []

    @cs.task
    def plain():
        clock.now += 2.0
        tried.append(1)
        if len(tried) < 3:
            raise OSError

    @cs.task(name="async")
    async def awaiting():
        plain.func()

    task = {"plain": plain, "async": awaiting}[kind]
    engine.bus.subscribe(TaskWaiting, lambda _event: setattr(clock, "now", clock.now + 50.0))
    await engine.run(task().with_retry(3, delay=0.001), use_vm=use_vm)

    assert (ends[task.name].duration, ends[task.name].waited) == (6.0, 100.0)


async def test_of_a_failure_too(engine, use_vm, clock, ends):
    @cs.task
    def fail():
        clock.now += 2.0
        raise OSError("no disk")

    engine.bus.subscribe(TaskWaiting, lambda _event: setattr(clock, "now", clock.now + 50.0))
    with History(engine.bus) as history, pytest.raises(OSError, match="no disk"):
        await engine.run(fail().with_retry(2, delay=0.001), use_vm=use_vm)

    assert (ends["fail"].duration, ends["fail"].waited) == (4.0, 50.0)
    [record] = history.nodes.values()
    assert (record.seconds, record.waited) == (4.0, 50.0)


async def test_a_node_without_waits_reports_none(engine, use_vm, clock, ends):
    task = tasks_that_take(clock, 3.0)["plain"]
    await engine.run(task(task()), use_vm=use_vm)

    assert (ends["plain"].duration, ends["plain"].waited) == (3.0, 0.0)


async def test_a_loop_under_limits_has_waited_for_each_of_its_steps(engine, use_vm, clock, ends):
    @cs.task
    def turn(n):
        clock.now += 1.0
        engine.constraints.pause("task:turn")
        return cs.TailCall((n - 1,)) if n else n

    waits = []

    def go_on(event):
        clock.now += 50.0
        waits.append(event)
        engine.constraints.remove("task:turn")

    engine.bus.subscribe(TaskWaiting, go_on)
    await engine.run(turn(3), use_vm=use_vm)

    assert waits
    assert (ends["turn"].duration, ends["turn"].waited) == (4.0, 50.0 * len(waits))
