"""GraphExecutionStrategy: concurrency, order, memory. Semantics: test_engine.py."""

import asyncio
import threading

import pytest
from tests.sample_tasks import add, add_async, same

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.graph_path.node_rules.chains import Chains


async def reached(event):
    assert await asyncio.to_thread(event.wait, 10)


# -- overlapping calls ------------------------------------------------------------------------


async def test_blocking_tasks_overlap_with_no_flag(engine):
    """A barrier lets them pass only if all are inside at once."""
    barrier = threading.Barrier(32)

    @cs.task
    def meet(n):
        barrier.wait(10)
        return n

    assert await engine.run(meet.map(n=range(32))) == list(range(32))


async def test_blocking_tasks_overlap_behind_each_other(engine):
    """Also where each blocked task makes others ready."""
    barrier = threading.Barrier(6)

    @cs.task
    def meet(*_):
        barrier.wait(10)

    await engine.run([meet(meet(meet())) for _ in range(6)])
    assert not barrier.broken


async def test_tasks_that_wait_for_each_other_by_returned_lazies_and_tail_calls(engine):
    barrier = threading.Barrier(4)

    @cs.task
    def loop(n):
        barrier.wait(10)
        return loop.tail(n - 1) if n else "end"

    @cs.task
    def nest(n):
        barrier.wait(10)
        return nest(n - 1) if n else "end"

    @cs.task
    def wrap(n):
        barrier.wait(10)
        return same(wrap(n - 1)) if n else "end"

    assert await engine.run([loop(3), nest(3), wrap(3), loop(3)]) == ["end"] * 4


async def test_coroutine_tasks_overlap(engine):
    barrier = asyncio.Barrier(100)

    @cs.task
    async def meet(n):
        await barrier.wait()
        return n

    assert await engine.run(meet.map(n=range(100))) == list(range(100))


async def test_a_coroutine_task_is_not_held_up_by_a_blocked_plain_one(engine, held):
    begun = threading.Event()

    @cs.task
    def blocked():
        begun.set()
        assert held.wait(10)

    @cs.task
    async def free():
        await reached(begun)
        held.set()
        return "free"

    assert await engine.run([blocked(), free()]) == [None, "free"]


async def test_short_tasks_are_not_held_up_by_a_blocked_one(engine, held):
    """Handoff: another worker takes over the queue."""

    @cs.task
    def blocked():
        assert held.wait(10)

    @cs.task
    def release(*_):
        held.set()

    await engine.run([blocked(), release(add(add(1)), add(2))])


async def test_a_plain_loop_does_not_hold_up_its_siblings(engine):
    """A loop of tail calls stays on its worker for ever."""
    go = threading.Event()

    @cs.task
    def spin(n):
        return n if go.is_set() else spin.tail(n + 1)

    @cs.task
    def stop(*_):
        go.set()

    await engine.run([spin(0), stop(add(1))])


async def test_there_are_no_barriers_between_stages(engine, held):
    """An independent branch comes to its end while a sibling of its first stage is held."""

    @cs.task
    def slow():
        assert held.wait(10)
        return "slow"

    @cs.task
    async def slow_async():
        await reached(held)
        return "slow"

    @cs.task
    def release(x):
        held.set()
        return x

    branch = release(add(add_async(add(1))))

    assert await engine.run([slow(), slow_async(), branch]) == ["slow", "slow", 1]


async def test_independent_things_that_wait_for_each_other(engine):
    """M5: a producer and a consumer must not deadlock, whichever lane they are on."""
    queue: asyncio.Queue = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @cs.task
    async def consume():
        return await queue.get()

    @cs.task
    def produce():
        loop.call_soon_threadsafe(queue.put_nowait, "thing")

    assert await engine.run([consume(), produce()]) == ["thing", None]


async def test_one_worker_is_enough(use_vm):
    executor = LocalExecutor(1)

    @cs.resource(scope="task")
    def tool():
        yield 1

    @cs.task
    def use(n, tool=cs.inject(tool)):
        return n + tool

    @cs.task
    def nest(n):
        return use(nest(n - 1)) if n else 0

    async with cs.Engine(threads=executor) as engine:
        result = await engine.run([nest(5), use.map(n=[1, 2]), add(add_async(1), 1)], use_vm=use_vm)
    executor.shutdown()

    assert result == [5, [2, 3], 2]


# -- the solver's priorities ------------------------------------------------------------------


class ByName:
    """A solver with stages in the order of the tasks' names, inputs first."""

    def __init__(self, reverse=False):
        self.reverse = reverse

    def resolve(self, graph):
        by_name = sorted(graph.nodes, key=lambda node: node.name, reverse=self.reverse)
        return [[node] for node in by_name]


@pytest.mark.parametrize("reverse", [False, True])
async def test_stages_are_priorities_among_ready_nodes(reverse):
    """One worker takes ready nodes by stage, whatever the order they were made in."""
    order = []

    def named(name):
        @cs.task(name=name)
        def note(*_):
            order.append(name)

        return note

    @cs.task(name="m-end")
    def end(*_): ...

    executor = LocalExecutor(1)
    async with cs.Engine(solver=ByName(reverse), threads=executor) as engine:
        leaves = [named(n)() for n in ["c", "a", "d", "b"]]
        await engine.run(end(*leaves))
    executor.shutdown()

    assert order == sorted("abcd", reverse=reverse)


async def test_a_stage_is_no_barrier(engine, held):
    """A node of a late stage runs while one of an early stage is held."""

    @cs.task(name="a")
    def early():
        assert held.wait(10)

    @cs.task(name="z")
    def late():
        held.set()

    async with cs.Engine(solver=ByName()) as engine:
        await engine.run([early(), late()])


async def test_a_returned_lazy_is_planned_too():
    planned = []

    class Recording(ByName):
        def resolve(self, graph):
            planned.append([node.name for node in graph.nodes])
            return super().resolve(graph)

    @cs.task
    def outer():
        return add(add_async(1), 1)

    async with cs.Engine(solver=Recording()) as engine:
        assert await engine.run(outer()) == 2
    assert planned == [["outer"], ["add_async", "add"]]


async def test_a_plan_that_leaves_out_a_node_is_refused():
    class Forgetful:
        def resolve(self, graph):
            return [list(graph.nodes)[1:]]

    async with cs.Engine(solver=Forgetful()) as engine:
        with pytest.raises(ValueError, match="leaves out the node 'add'"):
            await engine.run(add_async(add(1)))


async def test_a_solver_that_fails_fails_the_run():
    class Broken:
        def resolve(self, graph):
            raise RuntimeError("no plan")

    @cs.task
    def outer():
        return add(1)

    async with cs.Engine(solver=Broken()) as engine:
        with pytest.raises(RuntimeError, match="no plan"):
            await engine.run(outer())


# -- memory -----------------------------------------------------------------------------------


async def test_a_loop_of_tail_calls_takes_no_memory(engine, blocks):
    """R5."""

    @cs.task
    def loop(n):
        blocks.look(n)
        return loop.tail(n - 1) if n else "end"

    assert await engine.run(loop(blocks.steps)) == "end"
    assert blocks.are_few


async def test_a_loop_of_returned_lazies_takes_no_memory(engine, blocks):
    """R4: in tail position."""

    @cs.task
    def loop(n):
        blocks.look(n)
        return loop(n - 1) if n else "end"

    assert await engine.run(loop(blocks.steps)) == "end"
    assert blocks.are_few


async def test_a_loop_of_lazies_with_inputs_takes_no_memory(engine, blocks):
    """R4: values made and used by a step are released."""

    @cs.task
    def loop(n, _=None):
        blocks.look(n)
        return loop(add(n, -1), add(1)) if n else "end"

    assert await engine.run(loop(blocks.steps)) == "end"
    assert blocks.are_few


async def test_a_loop_of_lazies_in_a_node_takes_no_memory(engine, blocks):
    @cs.task
    def loop(n):
        blocks.look(n)
        return loop(add(n, -1)) if n else "end"

    assert await engine.run(same(loop(blocks.steps))) == "end"
    assert blocks.are_few


async def test_a_loop_of_tail_calls_with_lazy_arguments_takes_no_memory(engine, blocks):
    """M2."""

    @cs.task
    def loop(n):
        blocks.look(n)
        return loop.tail(add(n, -1)) if n else "end"

    assert await engine.run(loop(blocks.steps)) == "end"
    assert blocks.are_few


async def test_a_mutual_loop_over_both_lanes_takes_no_memory(engine, blocks):
    @cs.task
    async def ping(n):
        blocks.look(n)
        return pong.tail(n - 1) if n else "end"

    @cs.task
    def pong(n):
        blocks.look(n)
        return ping(n - 1) if n else "end"

    assert await engine.run(ping(blocks.steps)) == "end"
    assert blocks.are_few


# -- shapes -----------------------------------------------------------------------------------


async def test_wide_and_shared_graphs(engine):
    base = add(1)
    middle = [add(base, n) for n in range(1000)]

    @cs.task
    def total(*parts):
        return sum(parts)

    target = total(total(*middle), total(*middle[::2]), base)

    assert (
        await engine.run(target)
        == sum(n + 1 for n in range(1000)) + sum(n + 1 for n in range(0, 1000, 2)) + 1
    )


async def test_a_long_chain_through_both_lanes(engine):
    lazy = add(0)
    for n in range(2000):
        lazy = (add_async if n % 10 == 0 else add)(lazy, 1)

    assert await engine.run(lazy) == 2000


async def test_a_lazy_met_again_while_it_is_computed(engine, held):
    """M14: it is waited for, not computed again."""
    calls = []
    begun = threading.Event()

    @cs.task
    def slow():
        calls.append(1)
        begun.set()
        assert held.wait(10)
        return "value"

    shared = slow()

    @cs.task
    def again():
        assert begun.wait(10)
        held.set()
        return shared

    assert await engine.run([shared, again(), again()]) == ["value"] * 3
    assert calls == [1]


def test_two_workers_that_return_the_same_lazy_value_at_once_add_it_once(monkeypatch):
    """M14: each finds that the run has not met it, before the other adds it."""
    both, made = threading.Barrier(2, timeout=20), []

    @cs.task
    def base():
        return 1

    @cs.task
    def shared(n):
        made.append(n)
        return n + 1

    def wait_for_the_other(chains, work, lazy):
        both.wait()

    monkeypatch.setattr(Chains, "go_along", wait_for_the_other)
    late = shared(base())
    holder = [late]

    @cs.task(mode="blocking")
    def give(n):
        return holder[0]

    assert cs.run([give(1), give(2)]) == [2, 2]
    assert made == [1]
