"""A resource that the first node of a run needs opens while the workers begin."""

import asyncio
import gc
import threading
import weakref

import pytest
from tests.engine.hosted import until

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.clock import run_virtually
from cascade.runtime.graph_path import dispatch
from cascade.runtime.graph_path.queues.resource_waits import ResourceWaits


@pytest.fixture
async def one_worker():
    executor = LocalExecutor(1)
    async with cs.Engine(threads=executor) as engine:
        yield engine
    executor.shutdown()


@pytest.fixture
def opened():
    return []


@pytest.fixture
def use(opened):
    @cs.resource
    def pool():
        opened.append("pool")
        yield ["connection"]

    @cs.task
    def use(n, pool=cs.inject(pool)):
        return n, *pool

    return use


@pytest.fixture
def asked(monkeypatch):
    """The items whose workers had to ask for a resource."""
    items = []
    opened = ResourceWaits.opened

    def noted(self, wanted, item, *patience):
        items.append(item)
        return opened(self, wanted, item, *patience)

    monkeypatch.setattr(ResourceWaits, "opened", noted)
    return items


@cs.task
def fail():
    raise ValueError("first")


async def test_no_worker_asks_for_the_resource_of_the_first_node(
    one_worker, use, opened, asked, monkeypatch
):
    """The only thread opens it, and must not wait for itself."""
    monkeypatch.setattr(dispatch, "PATIENCE", 60)  # a thread may begin late
    assert await one_worker.run([use(n) for n in range(3)]) == [(n, "connection") for n in range(3)]
    assert opened == ["pool"]
    assert asked == []


async def test_a_node_that_fails_before_it_keeps_a_resource_closed(one_worker, use, opened):
    with pytest.raises(ValueError, match="first"):
        await one_worker.run([fail(), use(1)])

    assert opened == []


async def test_a_resource_that_fails_early_is_opened_once_and_fails_its_users(one_worker):
    calls = []

    @cs.resource
    def broken():
        calls.append("open")
        raise ConnectionError("no server")
        yield

    @cs.task
    def use(n, broken=cs.inject(broken)):
        return n

    with pytest.raises(ConnectionError, match="no server") as caught:
        await one_worker.run([use(1), use(2)])

    assert calls == ["open"]
    assert any("task 'use'" in note for note in caught.value.__notes__)


async def test_other_nodes_run_while_the_resource_of_the_first_one_opens():
    is_called = asyncio.Event()
    loop = asyncio.get_running_loop()

    @cs.resource
    async def slow():
        await is_called.wait()
        yield 1

    @cs.task
    def first(slow=cs.inject(slow)):
        return slow

    @cs.task
    def other():
        loop.call_soon_threadsafe(is_called.set)
        return 2

    async with cs.Engine() as engine:
        assert await engine.run([first(), other()]) == [1, 2]


def test_other_nodes_begin_at_once_in_virtual_time():
    @cs.resource
    async def slow():
        await asyncio.sleep(5)
        yield 1

    @cs.task
    def first(slow=cs.inject(slow)):
        return slow

    async def main():
        begun = []
        loop = asyncio.get_running_loop()

        @cs.task
        def other():
            begun.append(loop.time())

        async with cs.Engine() as engine:
            await engine.run([first(), other()])
        return begun, loop.time()

    assert run_virtually(main) == ([0], 5)


async def test_the_end_of_a_run_closes_a_resource_that_was_still_opening(one_worker):
    opening = asyncio.Event()
    closed = []

    @cs.resource
    async def slow():
        try:
            opening.set()
            await asyncio.Event().wait()
            yield
        finally:
            closed.append("slow")

    @cs.task
    def use(slow=cs.inject(slow)): ...

    running = asyncio.ensure_future(one_worker.run([use(), use()]))
    await opening.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert closed == ["slow"]


async def test_an_engines_resource_that_is_open_is_asked_for_by_no_worker(one_worker, asked):
    @cs.resource(scope="engine")
    def client():
        yield object()

    @cs.task
    def use(n, client=cs.inject(client)):
        return client

    first, second = await one_worker.run([use(1), use(2)])
    asked.clear()
    assert await one_worker.run([use(3), use(4)]) == [first, second]
    assert first is second
    assert asked == []


async def test_a_marker_by_position_is_filled_beside_those_that_a_task_supplies(one_worker):
    """Copies of a node share its keyword arguments, as the calls of a task do."""

    @cs.resource
    def pool():
        yield "pool"

    @cs.task
    def both(first, second=cs.inject(pool)):
        return first, second

    node = both(cs.inject(pool))
    nodes = [node.with_retry(3), both(1), node.with_retry(3), both(2), node, both(3), both(4)]

    assert await one_worker.run(nodes) == [
        ("pool", "pool"),
        (1, "pool"),
        ("pool", "pool"),
        (2, "pool"),
        ("pool", "pool"),
        (3, "pool"),
        (4, "pool"),
    ]


async def test_a_pause_from_a_node_holds_for_later_ones_with_the_same_resource(one_worker):
    """Nodes of one task mostly skip what an earlier one was asked."""
    called, is_paused = [], threading.Event()

    @cs.resource
    def pool():
        yield "pool"

    @cs.task
    def watched(n, pool=cs.inject(pool)):
        called.append(n)
        if n == 5:
            one_worker.constraints.pause()
            is_paused.set()

    handle = one_worker.start([watched(n) for n in range(10)])
    assert await asyncio.to_thread(is_paused.wait, 20)
    await until(one_worker.waiting)  # the worker has met the next node
    assert called == [*range(6)]
    one_worker.constraints.resume()
    await handle.result()
    assert called == [*range(10)]


async def test_nothing_holds_what_a_run_has_opened(one_worker):
    """Not even a cycle that waits for the collector."""

    class Connection: ...

    opened = []

    @cs.resource
    def pool():
        connection = Connection()
        opened.append(weakref.ref(connection))
        yield connection

    @cs.task
    def use(n, pool=cs.inject(pool)):
        return n

    gc.collect()
    gc.disable()
    try:
        assert await one_worker.run([use(1), use(2)]) == [1, 2]
        await until(lambda: opened[0]() is None)  # a thread may have to leave it yet
    finally:
        gc.enable()
