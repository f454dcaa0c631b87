"""Priorities order the nodes that wait for threads and for capacities (M24)."""

import asyncio
import threading

import pytest
from tests.sample_tasks import same

import cascade as cs
from cascade.runtime.clock import run_virtually
from cascade.runtime.graph_path.ranks import by_rank
from cascade.runtime.graph_path.worker_pool import ByPriority

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
