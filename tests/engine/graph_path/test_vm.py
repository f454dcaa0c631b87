"""VMExecutionStrategy: places of calls (M5, M6), memory. Semantics: test_engine.py."""

import asyncio
import threading

import pytest
from tests.sample_tasks import add, add_async, same

import cascade as cs


@cs.task
def where(*_):
    return threading.get_ident()


async def test_the_steps_of_a_loop_run_inline(engine):
    """M6: an agent's step is short."""

    @cs.task
    def step(n):
        return step.tail(n - 1) if n else threading.get_ident()

    assert await engine.run(step(3), use_vm=True) == threading.get_ident()


async def test_the_nodes_of_a_graph_run_on_workers(engine):
    """M6."""
    threads = await engine.run([where(), where(add(1))], use_vm=True)

    assert threading.get_ident() not in threads


async def test_plain_functions_run_on_a_worker_while_a_coroutine_is_under_way(engine):
    """M6."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    @cs.task
    async def wait():
        await done.wait()

    @cs.task
    def end():
        loop.call_soon_threadsafe(done.set)
        return threading.get_ident()

    _, thread = await engine.run([wait(), end()], use_vm=True)

    assert thread != threading.get_ident()


async def test_independent_coroutine_calls_overlap(engine):
    """M5."""
    barrier = asyncio.Barrier(20)

    @cs.task
    async def meet(n):
        await barrier.wait()
        return n

    assert await engine.run([meet(n) for n in range(20)], use_vm=True) == list(range(20))


async def test_mapped_coroutine_calls_overlap(engine):
    barrier = asyncio.Barrier(20)

    @cs.task
    async def meet(n):
        await barrier.wait()
        return n

    assert await engine.run(meet.map(n=range(20)), use_vm=True) == list(range(20))


@pytest.mark.parametrize("first", ["consumer", "producer"])
async def test_a_producer_and_a_consumer_do_not_deadlock(engine, first):
    """M5."""
    queue: asyncio.Queue = asyncio.Queue(1)

    @cs.task
    async def consume():
        return [await queue.get() for _ in range(5)]

    @cs.task
    async def produce():
        for n in range(5):
            await queue.put(n)

    target = [consume(), produce()] if first == "consumer" else [produce(), consume()]

    assert [0, 1, 2, 3, 4] in await engine.run(target, use_vm=True)


async def test_a_producer_on_a_worker_and_a_consumer(engine):
    queue: asyncio.Queue = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @cs.task
    async def consume():
        return await queue.get()

    @cs.task
    def produce():
        loop.call_soon_threadsafe(queue.put_nowait, "thing")

    assert await engine.run([consume(), produce()], use_vm=True) == ["thing", None]


async def test_coroutines_behind_coroutines_overlap(engine):
    """A chain waits only for its inputs."""
    first, second = asyncio.Event(), asyncio.Event()

    @cs.task
    async def open_first(_):
        first.set()

    @cs.task
    async def wait_first():
        await first.wait()
        second.set()

    @cs.task
    async def wait_second():
        await second.wait()

    await engine.run([wait_second(), wait_first(), open_first(add_async(1))], use_vm=True)


async def test_a_coroutine_loop_in_a_node_overlaps_with_its_siblings(engine):
    """M3, M5."""
    barrier = asyncio.Barrier(3)

    @cs.task
    async def loop(n):
        await barrier.wait()
        return loop.tail(n - 1) if n else "end"

    assert await engine.run([loop(3), loop(3), loop(3)], use_vm=True) == ["end"] * 3


async def test_a_loop_of_tail_calls_takes_no_memory(engine, blocks):
    """R5: flat memory, no stack."""

    @cs.task
    def loop(n, unchanged="x"):
        blocks.look(n)
        return loop.tail(n - 1) if n else "end"

    assert await engine.run(loop(blocks.steps), use_vm=True) == "end"
    assert blocks.are_few


async def test_a_mutual_loop_takes_no_memory(engine, blocks):
    @cs.task
    def even(n):
        blocks.look(n)
        return odd.tail(n - 1) if n else "end"

    @cs.task
    def odd(n):
        return even.tail(n - 1) if n else "end"

    assert await engine.run(even(blocks.steps), use_vm=True) == "end"
    assert blocks.are_few


async def test_a_loop_of_returned_lazies_takes_no_memory(engine, blocks):
    """R4."""

    @cs.task
    def loop(n):
        blocks.look(n)
        return loop(n - 1) if n else "end"

    assert await engine.run(loop(blocks.steps), use_vm=True) == "end"
    assert blocks.are_few


@pytest.mark.parametrize(
    ("way", "inner"),
    [
        ("lazy", add),
        ("tail", add_async),
        pytest.param("lazy", add_async, marks=pytest.mark.thorough),
        pytest.param("tail", add, marks=pytest.mark.thorough),
    ],
)
async def test_a_loop_with_lazy_arguments_takes_no_memory(engine, blocks, inner, way):
    """R4, M2: values made and used by a step are released."""

    @cs.task
    def loop(n):
        blocks.look(n)
        if not n:
            return "end"
        return loop(inner(n, -1)) if way == "lazy" else loop.tail(inner(n, -1))

    assert await engine.run(loop(blocks.steps), use_vm=True) == "end"
    assert blocks.are_few


async def test_a_coroutine_loop_takes_no_memory(engine, blocks):
    @cs.task
    async def loop(n):
        blocks.look(n)
        return loop.tail(n - 1) if n else "end"

    assert await engine.run(loop(blocks.steps), use_vm=True) == "end"
    assert blocks.are_few


@pytest.mark.parametrize("way", ["lazy", "tail"])
async def test_a_loop_inside_of_a_node_takes_no_memory(engine, blocks, way):
    @cs.task
    def loop(n):
        blocks.look(n)
        if not n:
            return "end"
        return loop(n - 1) if way == "lazy" else loop.tail(n - 1)

    assert await engine.run(same(loop(blocks.steps)), use_vm=True) == "end"
    assert blocks.are_few


async def test_a_lazy_met_again_while_it_is_computed(engine):
    """M14: it is waited for, not computed again."""
    calls = []
    go = asyncio.Event()

    @cs.task
    async def slow():
        calls.append(1)
        await go.wait()
        return "value"

    shared = slow()

    @cs.task
    async def again():
        go.set()
        return shared

    assert await engine.run([shared, again(), again()], use_vm=True) == ["value"] * 3
    assert calls == [1]
