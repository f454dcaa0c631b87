"""After a pause was set no attempt and no step begins, whatever was let in before (R10)."""

import asyncio
import threading

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor

#: How a target is run: the graph path, and the tiers.
PATHS = [(False, "auto"), (True, "interpreted"), (True, "generated"), (True, "auto")]
IDS = ["graph", "interpreted", "generated", "fused"]

path = pytest.mark.parametrize(("use_vm", "tier"), PATHS, ids=IDS)
both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


async def turns(count=50):
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Give way until that holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def stepping():
    """A loop on a thread; the test counts its steps and lets them end one by one."""
    begun, may_end = [], threading.Semaphore(0)

    @cs.task(mode="blocking")
    def step(n):
        begun.append(n)
        may_end.acquire(timeout=20)
        return step.tail(n + 1)

    return step, begun, may_end


@pytest.mark.parametrize("paused_first", [False, True])
async def test_a_second_pause_holds_a_loop_that_the_first_has_parked(paused_first):
    """The steps granted at its admission are used up by then."""
    step, begun, may_end = stepping()
    async with cs.Engine() as engine:
        limits = engine.constraints
        if paused_first:
            limits.pause("task:step")
        running = asyncio.ensure_future(engine.run(step(0)))
        if paused_first:
            await until(lambda: engine.waiting())
            limits.resume("task:step")
        may_end.release()
        await until(lambda: len(begun) == 2)
        limits.pause("task:step")
        may_end.release()
        await until(lambda: engine.waiting())
        assert begun == [0, 1]
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "with a timeout"])
async def test_admitted_calls_that_have_not_begun_wait_again(kind, use_vm):
    begun = []

    @cs.task
    def plain(n):
        begun.append(n)

    @cs.task
    async def coroutine(n):
        begun.append(n)

    async with cs.Engine() as engine:
        limits = engine.constraints
        limits.pause()
        numbers = list(range(20))
        target = (coroutine if kind == "coroutine" else plain).map(n=numbers)
        if kind == "with a timeout":
            target = target.with_timeout(20)
        running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
        await until(lambda: len(engine.waiting(inputs=False)) == 20)
        limits.resume()
        limits.pause()
        assert len(engine.waiting(inputs=False)) == 20
        await turns()
        assert begun == []
        limits.resume()
        await running
        assert sorted(begun) == numbers


@both_paths
async def test_a_pause_holds_calls_that_wait_for_a_thread(use_vm):
    """They were let in before, or not asked, as nothing was limited; no thread has begun them."""
    begun, may_end = [], threading.Semaphore(0)

    @cs.task
    def work(n):
        begun.append(n)
        may_end.acquire(timeout=20)
        return n

    executor = LocalExecutor(2, name="cascade")
    try:
        async with cs.Engine(threads=executor, capacities={"gpu": 4}) as engine:
            items = [
                work(n).with_timeout(3600).with_capacity(**({"gpu": 1} if n % 2 else {}))
                for n in range(6)
            ]
            runs = (engine.run(item, use_vm=use_vm) for item in items)
            running = asyncio.gather(*runs)
            await until(lambda: len(begun) == 2)
            await turns()
            engine.constraints.pause("task:work")
            may_end.release(2)
            await until(lambda: len(engine.waiting(inputs=False)) == 4)
            assert len(begun) == 2
            await until(lambda: engine.capacities.available == {"gpu": 4})
            may_end.release(4)
            engine.constraints.resume("task:work")
            assert await running == list(range(6))
            assert sorted(begun) == list(range(6))
    finally:
        executor.shutdown(wait=True)


@both_paths
async def test_a_call_that_a_pause_keeps_from_its_thread_closes_its_resources(use_vm):
    """It opens them again when it is admitted again, and the call is made once."""
    told, occupied, may_end = [], threading.Event(), threading.Event()

    @cs.resource(scope="task")
    async def connection():
        told.append("open")
        yield "connection"
        told.append("close")

    @cs.task(mode="blocking")
    def occupy():
        occupied.set()
        may_end.wait(20)

    @cs.task
    def query(db=cs.inject("connection")):
        told.append(f"query {db}")

    executor = LocalExecutor(1, name="cascade")
    try:
        async with cs.Engine(threads=executor) as engine:
            engine.register(connection)
            first = asyncio.ensure_future(engine.run(occupy()))
            await until(occupied.is_set)
            second = asyncio.ensure_future(engine.run(query(), use_vm=use_vm))
            await until(lambda: "open" in told)
            await turns()
            engine.constraints.pause("task:query")
            may_end.set()
            await first
            await until(lambda: "close" in told)
            await until(lambda: engine.waiting(inputs=False))
            assert told == ["open", "close"]
            engine.constraints.resume("task:query")
            await second
            assert told == ["open", "close", "open", "query connection", "close"]
    finally:
        executor.shutdown(wait=True)


@path
async def test_a_step_that_is_about_to_go_on_is_the_last_under_a_pause(use_vm, tier):
    begun, go = [], asyncio.Queue()

    @cs.task
    async def step(n):
        begun.append(n)
        await go.get()
        return step.tail(n + 1)

    async with cs.Engine(tier=tier) as engine:
        running = asyncio.ensure_future(engine.run(step(0), use_vm=use_vm))
        for n in range(3):
            await until(lambda n=n: len(begun) == n + 1)
            go.put_nowait(None)
        await until(lambda: len(begun) == 4)
        for _ in range(5):
            go.put_nowait(None)  # the step is woken, and then paused
        engine.constraints.pause("task:step")
        await until(lambda: engine.waiting())
        assert len(begun) == 4
        running.cancel()
        await asyncio.wait([running])


@path
async def test_a_task_may_pause_later_tasks(use_vm, tier):
    begun = []
    async with cs.Engine(tier=tier) as engine:

        @cs.task
        def first():
            engine.constraints.pause("task:second")
            return 1

        @cs.task
        def second(n):
            begun.append(n)
            return n

        running = asyncio.ensure_future(engine.run(second(first()), use_vm=use_vm))
        await until(lambda: engine.waiting(inputs=False))
        assert begun == []
        engine.constraints.resume("task:second")
        assert await running == 1
