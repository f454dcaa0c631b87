"""Waits for worker threads: what waits, what holds the threads, runs that hold up each other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from time import monotonic

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime import run_waits
from cascade.runtime.events import TaskWaiting

both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


class Gate:
    """Tasks on threads that stay until ``open``."""

    def __init__(self):
        self.open = threading.Event()
        self.inside = []

        @cs.task(mode="blocking")
        def stay(n):
            self.inside.append(n)
            self.open.wait()
            return n

        self.stay = stay


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()  # also if the test has failed


async def until(condition):
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def waits_for_threads(engine, inputs=False):
    return [w for w in engine.waiting(inputs=inputs) if "thread" in w.reason]


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "cascade.engine"]


@both_paths
async def test_nodes_without_a_thread_are_listed_with_the_tasks_that_hold_the_threads(gate, use_vm):
    """M6: mode="blocking" means a thread at once, if one is free."""
    before = monotonic()
    async with cs.Engine(threads=2) as engine:
        lazies = [gate.stay(n) for n in range(5)]
        running = asyncio.ensure_future(engine.run(lazies, use_vm=use_vm))
        await until(lambda: len(waits_for_threads(engine)) == 3)
        waits = waits_for_threads(engine)
        assert {w.node for w in waits} == {lazy.number for lazy in lazies[2:]}
        assert {(w.task, w.reason, w.holders, w.seconds) for w in waits} == {
            ("stay", "worker thread", ("stay",), None)
        }
        assert all(before <= w.since <= monotonic() for w in waits)
        gate.open.set()
        assert await running == [0, 1, 2, 3, 4]
        assert not engine.waiting()


@both_paths
async def test_tasks_that_have_a_thread_wait_for_none(gate, use_vm):
    async with cs.Engine(threads=3) as engine:
        running = asyncio.ensure_future(engine.run(gate.stay.map(n=[1, 2, 3]), use_vm=use_vm))
        other = asyncio.ensure_future(engine.run(gate.stay(4), use_vm=use_vm))
        await until(lambda: waits_for_threads(engine))
        (wait,) = waits_for_threads(engine)
        assert wait.holders == ("stay",)
        gate.open.set()
        assert (await running, await other) == ([1, 2, 3], 4)


@both_paths
async def test_the_holders_may_belong_to_other_runs_of_the_same_threads(gate, use_vm):
    executor = LocalExecutor(2)
    quick = cs.task(name="quick")(lambda n: n)
    async with cs.Engine(executor=executor) as one, cs.Engine(executor=executor) as two:
        running = asyncio.ensure_future(one.run(gate.stay.map(n=[1, 2]), use_vm=use_vm))
        await until(lambda: len(gate.inside) == 2)
        other = asyncio.ensure_future(two.run(quick(quick(3)), use_vm=use_vm))
        await until(lambda: waits_for_threads(two))
        assert not waits_for_threads(one)
        (wait,) = waits_for_threads(two)
        assert (wait.task, wait.reason, wait.holders) == ("quick", "worker thread", ("stay",))
        gate.open.set()
        assert (await running, await other) == ([1, 2], 3)
    executor.shutdown()


@both_paths
async def test_a_call_with_a_timeout_waits_and_holds_like_others(gate, use_vm):
    async with cs.Engine(threads=1) as engine:
        first = gate.stay(1).with_timeout(60)
        running = asyncio.ensure_future(engine.run(first, use_vm=use_vm))
        await until(lambda: gate.inside)
        others = [gate.stay(2).with_timeout(60), gate.stay(3)]
        more = asyncio.ensure_future(engine.run(others, use_vm=use_vm))
        await until(lambda: len(waits_for_threads(engine)) == 2)
        assert {(w.task, w.reason, w.holders) for w in waits_for_threads(engine)} == {
            ("stay", "worker thread", ("stay",))
        }
        gate.open.set()
        assert (await running, await more) == (1, [2, 3])


async def test_a_quick_look_lists_only_the_next_nodes(gate, monkeypatch):
    monkeypatch.setattr(run_waits, "_MOST_LISTED", 2)
    async with cs.Engine(threads=1) as engine:
        running = asyncio.ensure_future(engine.run(gate.stay.map(n=range(6))))
        await until(lambda: len(waits_for_threads(engine, inputs=True)) == 5)
        first = [w.node for w in waits_for_threads(engine, inputs=True)][:2]
        listed = waits_for_threads(engine)
        assert [w.node for w in listed] == first
        assert [w.item.index for w in listed] == [1, 2]
        gate.open.set()
        await running


@both_paths
async def test_the_next_node_is_an_event(gate, use_vm):
    told = []
    async with cs.Engine(threads=1) as engine:
        engine.bus.subscribe(TaskWaiting, told.append)
        running = asyncio.ensure_future(engine.run(gate.stay.map(n=range(3)), use_vm=use_vm))
        await until(lambda: told)
        await until(lambda: len(waits_for_threads(engine)) == 2)
        await asyncio.sleep(0.3)  # several looks
        (event,) = told
        assert (event.task, event.reason, event.holders) == ("stay", "worker thread", ("stay",))
        assert event.node == waits_for_threads(engine)[0].node
        gate.open.set()
        await running


@cs.resource(scope="task")
async def ticket():
    yield "ticket"


@cs.resource(scope="task")
def slow_ticket():
    yield "slow ticket"


@cs.task
def use(n, ticket=cs.inject("ticket")):
    return ticket


@both_paths
@pytest.mark.parametrize("seconds", [None, 60], ids=["no timeout", "timeout"])
async def test_a_call_with_resources_of_its_own_that_waits_is_listed_and_an_event(
    gate, use_vm, seconds
):
    """Without a timeout it stands in the queue of the workers, whose next node is the event."""
    told = []
    events = 1 if seconds is None else 2
    async with cs.Engine(threads=1, resources=[ticket]) as engine:
        engine.bus.subscribe(TaskWaiting, told.append)
        running = asyncio.ensure_future(engine.run(gate.stay(1), use_vm=use_vm))
        await until(lambda: gate.inside)
        lazies = [use(n).with_timeout(seconds) for n in range(2)]
        other = asyncio.ensure_future(engine.run(lazies, use_vm=use_vm))
        await until(lambda: len(waits_for_threads(engine)) == 2 and len(told) == events)
        for found, count in (told, events), (waits_for_threads(engine), 2):
            assert {wait.node for wait in found} == {lazy.number for lazy in lazies[:count]}
            assert {(wait.task, wait.reason, wait.holders) for wait in found} == {
                ("use", "worker thread", ("stay",))
            }
        gate.open.set()
        assert (await running, await other) == (1, ["ticket", "ticket"])
        assert not engine.waiting()


@both_paths
async def test_a_node_with_a_timeout_that_waits_is_an_event(gate, use_vm):
    told = []
    async with cs.Engine(threads=1) as engine:
        engine.bus.subscribe(TaskWaiting, told.append)
        running = asyncio.ensure_future(engine.run(gate.stay(1), use_vm=use_vm))
        await until(lambda: gate.inside)
        other = asyncio.ensure_future(engine.run(inner(2).with_timeout(60), use_vm=use_vm))
        await until(lambda: told)
        (event,) = told
        assert (event.task, event.reason, event.holders) == ("inner", "worker thread", ("stay",))
        gate.open.set()
        assert (await running, await other) == (1, 2)


@both_paths
async def test_a_provider_on_the_thread_of_its_call_waits_as_that(gate, use_vm):
    told = []
    async with cs.Engine(threads=1, resources=[slow_ticket]) as engine:
        engine.bus.subscribe(TaskWaiting, told.append)
        running = asyncio.ensure_future(engine.run(gate.stay(1), use_vm=use_vm))
        await until(lambda: gate.inside)
        target = use(1, ticket=cs.inject("slow_ticket"))
        other = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
        await until(lambda: waits_for_threads(engine))
        (wait,) = waits_for_threads(engine)
        assert (wait.task, wait.node, wait.reason, wait.holders) == (
            "use",
            target.number,
            "worker thread",
            ("stay",),
        )
        await until(lambda: told)
        gate.open.set()
        assert (await running, await other) == (1, "slow ticket")
        assert not engine.waiting()


class Nested:
    """Plain tasks that run a target on the same engine, and wait for it on their thread."""

    def __init__(self, engine, use_vm):
        self.loop = asyncio.get_running_loop()
        self.engine = engine
        self.use_vm = use_vm
        self.begun = []

    def run(self, target):
        return asyncio.run_coroutine_threadsafe(self._nested(target), self.loop).result()

    async def _nested(self, target):
        self.begun.append(asyncio.current_task())  # before the run can warn of anything
        return await self.engine.run(target, use_vm=self.use_vm)

    async def give_up(self, running):
        for call in self.begun:
            call.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            await running


@cs.task(mode="blocking")
def inner(n):
    return n


@both_paths
async def test_runs_whose_callers_hold_all_threads_warn_once(use_vm, caplog):
    async with cs.Engine(threads=2) as engine:
        nested = Nested(engine, use_vm)

        @cs.task(mode="blocking")
        def outer(n):
            return nested.run(inner(n))

        running = asyncio.ensure_future(engine.run(outer.map(n=range(4)), use_vm=use_vm))
        await until(lambda: warnings(caplog))
        await until(lambda: len(waits_for_threads(engine)) == 4)
        assert {(w.task, w.holders) for w in waits_for_threads(engine)} == {
            ("inner", ("outer",)),
            ("outer", ("outer",)),
        }
        await nested.give_up(running)
    (warning,) = warnings(caplog)
    assert warning.startswith(
        "task 'inner' waits for a worker thread, and all 2 threads are held by tasks that have led "
        "to its run: 'outer'; if these wait for the run, all of them wait for ever"
    )
    assert "async def outer(…): await engine.run(…)" in warning


@both_paths
async def test_a_run_warns_of_the_callers_of_its_caller(use_vm, caplog):
    async with cs.Engine(threads=2) as engine:
        nested = Nested(engine, use_vm)

        @cs.task(mode="blocking")
        def middle():
            return nested.run(inner(1).with_timeout(60))

        @cs.task(mode="blocking")
        def outer():
            return nested.run(middle())

        running = asyncio.ensure_future(engine.run(outer(), use_vm=use_vm))
        await until(lambda: warnings(caplog))
        await nested.give_up(running)
    (warning,) = warnings(caplog)
    assert "task 'inner' waits" in warning
    assert "'middle', 'outer'" in warning


@both_paths
async def test_a_run_that_waits_behind_others_warns_of_nothing(gate, use_vm, caplog):
    async with cs.Engine(threads=2) as engine:
        nested = Nested(engine, use_vm)

        @cs.task(mode="blocking")
        def outer():
            return nested.run(inner(1))

        other = asyncio.ensure_future(engine.run(gate.stay(2), use_vm=use_vm))
        await until(lambda: gate.inside)
        running = asyncio.ensure_future(engine.run(outer(), use_vm=use_vm))
        await until(lambda: any(w.task == "inner" for w in waits_for_threads(engine)))
        (wait,) = waits_for_threads(engine)
        assert set(wait.holders) == {"stay", "outer"}
        gate.open.set()
        assert (await running, await other) == (1, 2)
    assert not warnings(caplog)


@both_paths
async def test_a_coroutine_that_awaits_a_run_holds_no_thread(use_vm, caplog):
    async with cs.Engine(threads=1) as engine:

        @cs.task
        async def outer(n):
            return await engine.run(inner(n), use_vm=use_vm)

        assert await engine.run(outer.map(n=range(4)), use_vm=use_vm) == [0, 1, 2, 3]
    assert not warnings(caplog)


@both_paths
async def test_a_plain_task_that_waits_for_a_run_that_needs_its_capacity(use_vm, caplog):
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        nested = Nested(engine, use_vm)

        @cs.task
        def outer():
            return nested.run(inner(1).with_capacity(gpu=1))

        target = outer().with_capacity(gpu=1)
        running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
        await until(lambda: [r for r in caplog.records if r.name == "cascade.limits"])
        await nested.give_up(running)
    (record,) = [r for r in caplog.records if r.name == "cascade.limits"]
    assert record.getMessage().startswith(
        "task 'inner' waits for 1 of the capacity 'gpu', held by task 'outer', which started"
    )
