"""Priorities order the nodes that wait for threads and for capacities (M24)."""

import asyncio
import threading

import pytest
from tests.sample_tasks import same

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.clock import run_virtually
from cascade.runtime.graph_path.queues.ranks import by_rank
from cascade.runtime.graph_path.queues.ready import ByPriority

#: The arguments of the calls, in their order.
order: list[object] = []


@cs.task
def note(n):
    order.append(n)
    return n


@cs.task
async def hold(n, seconds=1.0):
    order.append(n)
    await asyncio.sleep(seconds)
    return n


@pytest.fixture(autouse=True)
def fresh():
    order.clear()


# -- ready nodes ------------------------------------------------------------------------------


def test_ready_nodes_run_by_priority(use_vm):
    nodes = [note(n).with_priority(n) for n in (0, -1, 2, 1, 3)]
    assert cs.run(nodes, use_vm=use_vm, threads=1) == [0, -1, 2, 1, 3]
    assert order == [3, 2, 1, 0, -1]


def test_nodes_of_equal_priority_run_in_their_order(use_vm):
    cs.run(
        [note(0), note(1), *[note(n).with_priority(7) for n in (2, 3, 4)]], use_vm=use_vm, threads=1
    )
    assert order == [2, 3, 4, 0, 1]


def test_items_of_a_map_have_its_priority(use_vm):
    target = [note(1), note(2), note.map(n=[10, 11]).with_priority(3), note(3)]
    assert cs.run(target, use_vm=use_vm, threads=1) == [1, 2, [10, 11], 3]
    assert order == [10, 11, 1, 2, 3]


def test_nodes_that_a_task_returns_are_ordered_with_those_that_wait(use_vm):
    @cs.task
    def late():
        return [note(n).with_priority(n) for n in (1, 3, 2)]

    assert cs.run([late(), *map(note, (7, 8))], use_vm=use_vm, threads=1) == [[1, 3, 2], 7, 8]
    assert order == [3, 2, 1, 7, 8]


def test_a_node_keeps_its_priority_in_each_step_and_attempt(use_vm):
    failed = []

    @cs.task
    def flaky(n):
        order.append(n)
        if not failed:
            failed.append(n)
            raise OSError
        return flaky.tail(n - 1) if n else "end"

    target = [flaky(2).with_retry(2).with_priority(5), *map(note, (10, 11))]
    assert cs.run(target, use_vm=use_vm, threads=1)[0] == "end"
    assert order[0] == 2
    assert sorted(order) == [0, 1, 2, 2, 10, 11]


def test_a_solver_comes_first_and_priorities_order_what_it_leaves_open():
    class OddFirst:
        def resolve(self, graph):
            odd = [node for node in graph.nodes if graph.lazies[node.index].args[0] in (1, 3)]
            return [odd, [node for node in graph.nodes if node not in odd]]

    cs.run([note(n).with_priority(n) for n in range(5)], solver=OddFirst(), threads=1)
    assert order == [3, 1, 4, 2, 0]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_waiting_adds_1_a_second():
    clock = Clock()
    ready = ByPriority(by_rank(clock))
    old, urgent, late = note("old"), note("urgent").with_priority(5), note("late").with_priority(5)
    ready.append(old)
    clock.now += 4
    ready.append(urgent)
    clock.now += 2
    ready.append(late)  # 6 seconds after the old one
    assert [ready.popleft() for _ in range(3)] == [urgent, old, late]


def test_all_nodes_run_if_priorities_become_known_while_threads_work(use_vm):
    """Threads that use the queue in order of arrival come for the other one."""
    begun = threading.Barrier(4, timeout=30)

    @cs.task
    def together(n):
        begun.wait()
        return note(n).with_priority(n)

    chains = []
    for n in range(40):
        lazy = note(n)
        for _ in range(20):
            lazy = same(lazy)
        chains.append(lazy)
    for _ in range(10):
        target = [*chains, *[together(n) for n in range(4)], *chains[:3]]
        assert cs.run(target, use_vm=use_vm, threads=4) == [*range(40), *range(4), *range(3)]


# -- capacities -------------------------------------------------------------------------------


async def held_in_turn(*nodes, use_vm):
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        await engine.run([node.with_capacity(gpu=1) for node in nodes], use_vm=use_vm)


def test_permits_are_granted_by_priority(use_vm):
    nodes = [hold(f"{p}") if not p else hold(f"{p}").with_priority(p) for p in (0, -5, 3, 1, 3)]
    run_virtually(lambda: held_in_turn(*nodes, use_vm=use_vm))
    assert order == ["0", "3", "3", "1", "-5"]


def test_a_permit_that_waits_rises_by_1_a_second(use_vm):
    @cs.task
    async def arrive(seconds, priority):
        await asyncio.sleep(seconds)
        return hold(f"at {seconds}").with_priority(priority).with_capacity(gpu=1)

    async def main():
        async with cs.Engine(capacities={"gpu": 1}) as engine:
            first = hold("first", 10).with_capacity(gpu=1)
            low = hold("low").with_capacity(gpu=1)
            await engine.run([first, low, arrive(3, 4), arrive(5, 4)], use_vm=use_vm)

    run_virtually(main)
    assert order == ["first", "at 3", "low", "at 5"]


def test_a_high_priority_does_not_interrupt_what_runs(use_vm):
    async def main():
        async with cs.Engine(capacities={"gpu": 2}) as engine:
            low = hold("low", 5).with_capacity(gpu=2)
            high = hold("high", 1).with_capacity(gpu=1).with_priority(100).after(same(0))
            loop = asyncio.get_running_loop()
            await engine.run([low, high], use_vm=use_vm)
            return loop.time()

    assert run_virtually(main) == 6
    assert order == ["low", "high"]


def test_of_runs_that_share_capacities_the_order_is_that_of_their_nodes():
    async def main():
        async with cs.Engine(capacities={"gpu": 1}) as engine:
            first = engine.start(hold("first").with_capacity(gpu=1))
            await asyncio.sleep(0.5)
            others = [
                engine.start(hold(f"{n}").with_capacity(gpu=1).with_priority(n)) for n in (1, 2)
            ]
            for handle in (first, *others):
                await handle.result()

    run_virtually(main)
    assert order == ["first", "2", "1"]


# -- misuse -----------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [True, 1.5, "1", None, 10**12, same(1)])
def test_a_priority_is_an_int(priority):
    with pytest.raises(
        cs.errors.ArgumentError, match=r"with_priority\(\) of .* takes an int, high"
    ):
        note(1).with_priority(priority)


def test_a_node_that_calls_no_task_has_no_priority():
    with pytest.raises(cs.errors.LazyUseError, match="calls no task"):
        cs.gather(note(1)).with_priority(1)


# -- runs -------------------------------------------------------------------------------------


def test_the_priority_of_a_run_is_added_to_those_of_its_nodes():
    async def main():
        async with cs.Engine(capacities={"gpu": 1}) as engine:

            def start(name, run, node):
                lazy = hold(name).with_capacity(gpu=1).with_priority(node)
                return engine.start(lazy, priority=run)

            first = start("first", 0, 0)
            await asyncio.sleep(0.5)
            rest = [start("3 + 4", 3, 4), start("0 + 6", 0, 6), start("9 - 1", 9, -1)]
            for handle in (first, *rest):
                await handle.result()

    run_virtually(main)
    assert order == ["first", "9 - 1", "3 + 4", "0 + 6"]


def test_a_program_has_the_priority_that_it_was_compiled_with():
    async def main():
        async with cs.Engine(capacities={"gpu": 1}) as engine:
            low = engine.compile(hold("low").with_capacity(gpu=1))
            high = engine.compile(hold("high").with_capacity(gpu=1), priority=2)
            first = engine.start(hold("first").with_capacity(gpu=1))
            await asyncio.sleep(0.5)
            await asyncio.gather(low.run(), high.run(), first.result())

    run_virtually(main)
    assert order == ["first", "high", "low"]


class Call:
    def __init__(self, name, priority=0):
        self.name = name
        if priority:
            self.cascade_priority = priority

    def __call__(self):
        order.append(self.name)


def test_calls_that_wait_for_a_thread_begin_by_priority():
    begun, release = threading.Event(), threading.Event()
    executor = LocalExecutor(1)
    calls = [executor.submit(lambda: begun.set() or release.wait(30))]
    assert begun.wait(30)  # otherwise the first call waits with the others
    for name, priority in [("a", 0), ("b", 0), ("c", 2), ("d", 0), ("e", 5), ("f", 2), ("g", -1)]:
        calls.append(executor.submit(Call(name, priority)))
    release.set()
    for call in calls:
        call.result(30)
    assert order == ["e", "c", "f", "a", "b", "d", "g"]
    assert executor.most_urgent is None
    executor.submit(Call("later")).result(30)
    executor.shutdown()
    assert order[-1] == "later"


@pytest.mark.parametrize("threads", [1, 2])
async def test_a_run_gives_way_to_a_more_urgent_one_between_two_nodes(threads, use_vm):
    """Although it has ready nodes for all threads."""
    begun, urgent_ran = threading.Event(), threading.Event()

    @cs.task(mode="blocking")
    def slow(n):
        begun.set()
        urgent_ran.wait(0.02)
        order.append(n)
        return n

    @cs.task(mode="blocking")
    def urgent():
        order.append("urgent")
        urgent_ran.set()

    async with cs.Engine(threads=threads) as engine:
        long = engine.start([slow(n) for n in range(500)], use_vm=use_vm)
        await asyncio.to_thread(begun.wait, 30)
        await engine.run(urgent(), priority=10, use_vm=use_vm)
        assert await long.result() == list(range(500))
    assert order.index("urgent") < 499


async def test_runs_of_equal_priority_give_no_way(use_vm):
    begun, release = threading.Event(), threading.Event()

    @cs.task(mode="blocking")
    def slow(n):
        begun.set()
        release.wait(30)
        order.append(n)

    async with cs.Engine(threads=1) as engine:
        first = engine.start([slow(n) for n in range(50)], use_vm=use_vm)
        await asyncio.to_thread(begun.wait, 30)
        second = engine.start(slow("second"), use_vm=use_vm)
        await asyncio.sleep(0.01)
        release.set()
        await first.result()
        await second.result()
    assert order == [*range(50), "second"]


@pytest.mark.parametrize("priority", [True, "1", 2.0])
def test_the_priority_of_a_run_is_an_int(priority):
    with pytest.raises(cs.errors.ArgumentError, match="priority takes an int, higher first"):
        cs.run(note(1), priority=priority)
