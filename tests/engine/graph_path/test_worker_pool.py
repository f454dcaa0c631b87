"""WorkerPool: one thread for short work, more if it blocks, and no thread left behind."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine_parts import EngineParts
from cascade.runtime.execution.registry import BlueprintRegistry
from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.queues.ready import ByPriority
from cascade.runtime.graph_path.workers.worker_pool import WorkerPool
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.run import Run


class Outcome:
    """The reports of the workers: idle times, and refusals."""

    def __init__(self):
        self.idle = asyncio.Event()
        self.refusals = []


@pytest.fixture
def executor():
    executor = LocalExecutor(8)
    yield executor
    executor.shutdown()


@pytest.fixture
async def outcome():
    return Outcome()


@pytest.fixture
async def make(executor, outcome):
    """``make(work)``: a WorkerPool that hands its items to ``work``."""

    def make(work, ready=None, executor=executor):
        bus = MessageBus()
        lent = EngineParts(
            bus=bus,
            threads=executor,
            container=ResourceContainer(bus),
            blueprints=BlueprintRegistry(),
        )
        run = Run(lent)
        host = SimpleNamespace(
            is_alone=True,
            drain=draining(work),
            idle=outcome.idle.set,
            looked=lambda: None,
            short_of_threads=lambda: None,
            refused=outcome.refusals.append,
        )
        return WorkerPool(run, BiasedLock(), host, ready)

    return make


def draining(work):
    """The body of a thread that hands ready items to ``work``."""

    def drain(pool):
        current = pool.enter()
        while True:
            try:
                current[0] = pool.ready.popleft()
            except IndexError:
                if pool.leave():
                    return
                continue
            work(current[0])

    return drain


async def idle(outcome):
    async with asyncio.timeout(10):
        await outcome.idle.wait()
    outcome.idle.clear()


async def test_things_are_done_in_order_of_arrival_by_one_thread(make, outcome):
    done, threads = [], set()

    def work(item):
        threads.add(threading.get_ident())
        done.append(item)

    pool = make(work)
    for n in range(100):
        pool.push(n)
    assert pool.busy
    pool.wake()
    await idle(outcome)

    assert done == list(range(100))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    assert not pool.busy


async def test_priorities_go_before_arrival(make, outcome):
    done = []
    pool = make(done.append, ByPriority(lambda item: item[0]))
    for item in [(2, "a"), (0, "b"), (1, "c"), (0, "d"), (2, "e")]:
        pool.push(item)
    pool.wake()
    await idle(outcome)

    assert done == [(0, "b"), (0, "d"), (1, "c"), (2, "a"), (2, "e")]


async def test_an_awake_thread_takes_the_items_it_pushes(make, outcome):
    done, threads = [], set()

    def work(n):
        threads.add(threading.get_ident())
        done.append(n)
        if n:
            pool.push(n - 1)

    pool = make(work)
    pool.push(1000)
    pool.wake()
    await idle(outcome)

    assert done == list(range(1000, -1, -1))
    assert len(threads) == 1


async def test_work_that_blocks_gets_more_threads(make, outcome):
    """All parties of a barrier have to be inside at once."""
    barrier = threading.Barrier(8)
    pool = make(lambda _: barrier.wait(10))
    for n in range(8):
        pool.push(n)
    pool.wake()
    await idle(outcome)

    assert not barrier.broken


async def test_there_are_never_more_threads_than_the_executor_has(make, outcome):
    executor = LocalExecutor(2)
    inside, most = 0, 0
    lock = threading.Lock()
    barrier = threading.Barrier(2)

    def work(_):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        barrier.wait(10)
        with lock:
            inside -= 1
        barrier.wait(10)

    pool = make(work, executor=executor)
    for n in range(6):
        pool.push(n)
    pool.wake()
    await idle(outcome)
    executor.shutdown()

    assert most == 2


async def test_waking_twice_starts_one_thread(make, outcome, held):
    pool = make(lambda _: held.wait(10))
    pool.push(1)
    pool.wake()
    pool.wake()
    held.set()
    await idle(outcome)

    assert not outcome.idle.is_set()


async def test_waking_for_nothing_does_nothing(make, outcome):
    pool = make(lambda _: None)
    pool.wake()

    assert not pool.busy
    await pool.quiet()


async def test_they_can_be_woken_again(make, outcome):
    done = []
    pool = make(done.append)
    for n in range(3):
        pool.push(n)
        pool.wake()
        await idle(outcome)

    assert done == [0, 1, 2]


async def test_stopping_drops_ready_items(make, outcome, held):
    begun = threading.Event()
    done = []

    def work(n):
        begun.set()
        held.wait(10)
        done.append(n)
        pool.push("more")

    pool = make(work)
    for n in range(5):
        pool.push(n)
    pool.wake()
    assert await asyncio.to_thread(begun.wait, 10)
    pool.stop()
    quiet = asyncio.ensure_future(pool.quiet())
    await asyncio.sleep(0)
    assert not quiet.done()
    held.set()
    await quiet

    assert len(done) < 5
    assert not pool.busy


async def test_a_refusal_of_the_executor_is_reported_and_no_thread_is_awake(make, outcome):
    executor = LocalExecutor()
    executor.shutdown()
    pool = make(lambda _: None, executor=executor)
    pool.push(1)
    pool.wake()

    (refusal,) = outcome.refusals
    assert isinstance(refusal, RuntimeError)
    pool.stop()
    await pool.quiet()


def test_a_queue_by_priority_is_emptied():
    ready = ByPriority(int)
    ready.append(3)
    ready.append(1)
    ready.append(2)
    assert (len(ready), ready[0], ready.copy()) == (3, 1, [1, 2, 3])
    assert ready.popleft() == 1
    assert ready[0] == 2
    ready.clear()
    assert len(ready) == 0
    with pytest.raises(IndexError):
        ready.popleft()
