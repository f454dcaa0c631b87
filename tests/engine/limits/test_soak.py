"""Thousands of permits, and runs that are cancelled anywhere, leave every capacity whole."""

import asyncio
import contextlib
import logging
import random
import threading

import pytest
from tests.engine.limits.fakes import Limits

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.clock import VirtualLoop, run_virtually
from cascade.runtime.limits import gate
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.gate import Gate

CAPACITIES = {"gpu": 3, "disk": 0.5}
both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


def is_whole(engine):
    """Whether no task holds anything, and no task waits."""
    resources = engine.capacities
    return (
        resources.available == resources.total
        and not resources._lines
        and not resources._inside
        and not resources._called
        and engine.waiting() == []
    )


def alarms():
    """The timers that are set in the running loop."""
    loop = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


# -- permits alone --------------------------------------------------------------------------------


def drawn_amounts(chance):
    return {
        name: amount
        for name, amount in (("gpu", chance.choice([1, 1, 3])), ("disk", 0.1))
        if chance.random() < (0.6 if name == "gpu" else 0.1)
    }


@pytest.fixture(params=[3_000, pytest.param(100_000, marks=pytest.mark.thorough)], ids=str)
def permits(request):
    return request.param


def test_permits_of_coroutines(permits):
    """In virtual time, a tenth of them cancelled while they wait or hold."""
    chance = random.Random(0)
    limits = Limits(CAPACITIES)
    workers = 10

    async def one():
        loop = asyncio.get_running_loop()
        limits.run.loop = loop
        opened = loop.create_future()
        permit = limits.permit(
            f"t{chance.randrange(2)}",
            on_admitted=lambda: opened.done() or opened.set_result(None),
            **drawn_amounts(chance),
        )
        try:
            if not limits.resources.enter(permit):
                await opened
                assert limits.resources.begin(permit)
            await asyncio.sleep(chance.choice([0] * 9 + [0.01]))
        finally:
            limits.resources.leave(permit)

    async def many():
        for _ in range(permits * 4 // 5 // workers):
            if chance.random() < 0.1:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(one(), chance.choice([0.001, 0.05]))
            else:
                await one()

    async def main():
        limits.constraints.limit_concurrency("task:t1", 2)
        await asyncio.gather(*(many() for _ in range(workers)))
        assert alarms() == []

    run_virtually(main)
    assert limits.resources.available == CAPACITIES
    assert limits.resources._lines == {}


def test_permits_of_threads(permits):
    limits = Limits(CAPACITIES)
    threads = 4

    def work(number):
        chance = random.Random(number)
        for _ in range(permits // 5 // threads):
            told = threading.Event()
            amounts = drawn_amounts(chance)
            permit = limits.permit(f"t{number}", on_admitted=told.set, **amounts)
            if not limits.resources.enter(permit) and chance.random() < 0.5:
                assert told.wait(20), "it was never let in"
                assert limits.resources.begin(permit)
            limits.resources.leave(permit)

    workers = [threading.Thread(target=work, args=[n]) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert limits.resources.available == CAPACITIES
    assert limits.resources._lines == {}


# -- runs that are cancelled ----------------------------------------------------------------------


@cs.resource(scope="task")
async def tool():
    await asyncio.sleep(0.01)
    yield "tool"
    await asyncio.sleep(0.01)


@cs.task
async def amount():
    await asyncio.sleep(0.02)
    return 1


@cs.task
def plain(n):
    return n


@cs.task
async def slow(n, tool=cs.inject(tool)):
    await asyncio.sleep(0.03)
    return n


@cs.task
async def count(n):
    await asyncio.sleep(0.01)
    return count.tail(n - 1) if n else 0


@cs.task
def spin(n):
    return spin.tail(n - 1) if n else 0


def flaky(n):
    seen = []

    @cs.task
    async def fail_once():
        await asyncio.sleep(0.01)
        seen.append(n)
        if len(seen) == 1:
            raise OSError("once")
        return n

    return fail_once()


def everything():
    """Nodes of each kind that asks for a permit, more of them than there is room for."""
    return [
        *(plain(n).with_capacity(gpu=2) for n in range(3)),
        *(slow(n).with_capacity(gpu=amount(), disk=0.3) for n in range(3)),
        plain.map(n=[1, 2, 3]).with_capacity(disk=0.3),
        slow.map(n=[1, 2]).with_capacity(gpu=amount()),
        count(3).with_capacity(gpu=1),
        spin(50).with_capacity(gpu=3),
        flaky(1).with_retry(2, delay=0.02).with_capacity(gpu=1),
        slow(9).with_timeout(1).with_capacity(gpu=2),
        plain(9).with_timeout(1).with_capacity(gpu=2),
        plain(slow(5)).with_capacity(gpu=1).after(count(2)),
    ]


async def cancelled_after(engine, use_vm, wait):
    """Cancel a run when ``wait()`` is over; whether it was still under way."""
    running = asyncio.ensure_future(engine.run(everything(), use_vm=use_vm))
    await wait(running)
    was_under_way = running.cancel()
    await asyncio.wait([running])
    assert is_whole(engine)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return was_under_way


def limited(engine):
    engine.constraints.clear()
    engine.constraints.limit_concurrency("task:slow", 2)
    engine.constraints.limit_rate("task:plain", "50/s", burst=2)
    engine.constraints.pause("task:count", ttl=0.05)


@both_paths
def test_a_run_cancelled_in_any_turn_of_the_loop_leaves_nothing(use_vm, sample):
    async def main():
        async with cs.Engine(capacities=CAPACITIES) as engine:
            for turns in sample(0, 150):
                limited(engine)

                async def wait(running, turns=turns):
                    for _ in range(turns):
                        if running.done():
                            return
                        await asyncio.sleep(0)

                if not await cancelled_after(engine, use_vm, wait):
                    break
            assert turns > 20
            engine.constraints.clear()
            assert alarms() == []

    run_virtually(main)


@both_paths
def test_a_run_cancelled_at_any_time_leaves_nothing(use_vm, sample):
    chance = random.Random(1)

    async def main():
        async with cs.Engine(capacities=CAPACITIES) as engine:
            for _ in sample(0, 200):
                limited(engine)
                seconds = chance.uniform(0, 0.5)
                await cancelled_after(
                    engine, use_vm, lambda running, s=seconds: asyncio.wait([running], timeout=s)
                )
            value = await engine.run(everything(), use_vm=use_vm)
            assert value[-1] == 5
            assert is_whole(engine)

    run_virtually(main)


@both_paths
def test_a_deadline_ends_waiting_too(use_vm):
    async def main():
        async with cs.Engine(capacities=CAPACITIES) as engine:
            for target in (plain(1), slow(1), spin(3), count(3)):
                engine.constraints.pause()
                with pytest.raises(cs.errors.DeadlineError):
                    await engine.run(target.with_capacity(gpu=1), use_vm=use_vm, deadline=1)
                assert is_whole(engine)
                assert alarms() == []

    run_virtually(main)


# -- calls that are abandoned (M8) ----------------------------------------------------------------


@pytest.fixture
def held():
    event = threading.Event()
    yield event
    event.set()


def kinds_of_plain_calls(held, begun):
    @cs.task(mode="blocking")
    def on_worker(n):
        begun.set()
        held.wait(20)
        return n

    @cs.task
    def loop(n):
        if n == 1:  # in a batch of steps: the first one is made by itself
            begun.set()
            held.wait(20)
        return loop.tail(n - 1) if n else 0

    @cs.task
    async def meanwhile():
        await asyncio.sleep(3600)

    return {
        "a worker of the graph": lambda: on_worker(1).with_capacity(gpu=3),
        "a call in a worker": lambda: on_worker(1).with_timeout(3600).with_capacity(gpu=3),
        "a loop beside a coroutine": lambda: [meanwhile(), loop(3).with_capacity(gpu=3)],
    }


@both_paths
@pytest.mark.parametrize(
    "kind", ["a worker of the graph", "a call in a worker", "a loop beside a coroutine"]
)
async def test_an_abandoned_call_keeps_its_permits_until_it_ends(kind, use_vm, held):
    begun = threading.Event()
    target = kinds_of_plain_calls(held, begun)[kind]
    async with cs.Engine(capacities=CAPACITIES) as engine:
        running = asyncio.ensure_future(engine.run(target(), use_vm=use_vm))
        assert await asyncio.to_thread(begun.wait, 20)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert engine.abandoned
        assert engine.capacities.available["gpu"] == 0
        # The next one waits for that, and gets it from the thread of the abandoned call.
        following = asyncio.ensure_future(engine.run(plain(7).with_capacity(gpu=1)))
        while not engine.waiting():  # noqa: ASYNC110  # a few turns of the loop
            await asyncio.sleep(0)
        held.set()
        assert await following == 7
        assert is_whole(engine)


@both_paths
async def test_a_timed_out_call_keeps_its_permits_until_it_ends(use_vm, held):
    @cs.task
    def stuck():
        held.wait(20)

    async with cs.Engine(capacities=CAPACITIES) as engine:
        with pytest.raises(cs.errors.TaskTimeoutError):
            await engine.run(stuck().with_timeout(0.01).with_capacity(gpu=3), use_vm=use_vm)
        assert engine.capacities.available["gpu"] == 0
        held.set()
        assert await engine.run(plain(7).with_capacity(gpu=3), use_vm=use_vm) == 7
        assert is_whole(engine)


# -- the end of a run, from other threads ---------------------------------------------------------


@pytest.mark.parametrize("cancels", [1, 2])
@pytest.mark.parametrize(
    ("asks", "rules"), [("take", []), ("enter", ["task:call"])], ids=["take", "enter"]
)
def test_a_run_that_ends_while_a_worker_is_about_to_ask_calls_and_keeps_nothing(
    cancels, asks, rules, monkeypatch
):
    """A call without constraints takes its capacities; one with constraints enters a permit."""
    asking, closed = threading.Event(), threading.Event()
    called, workers = [], []
    call = cs.task(called.append, name="call")
    ask = getattr(Capacities, asks)

    def ask_late(resources, permit):
        workers.append(threading.current_thread())
        asking.set()
        assert closed.wait(20)
        return ask(resources, permit)

    async def main():
        executor = LocalExecutor(name="cascade")
        async with cs.Engine(threads=executor, capacities={"gpu": 1}) as engine:
            for scope in rules:
                engine.constraints.limit_concurrency(scope, 1)
            monkeypatch.setattr(Capacities, asks, ask_late)
            running = asyncio.ensure_future(engine.run(call(1).with_capacity(gpu=1)))
            assert await asyncio.to_thread(asking.wait, 20)
            for _ in range(cancels):  # with the second, it does not wait for the worker
                running.cancel()
                await asyncio.sleep(0)
            if cancels == 1:
                while running.cancelling() and not is_stopped(engine):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                closed.set()
            await asyncio.wait([running])
            closed.set()
            executor.shutdown()
            for worker in workers:  # shutdown() does not wait for abandoned ones
                worker.join(20)
                assert not worker.is_alive()
            assert is_whole(engine)
            assert called == []
            monkeypatch.setattr(Capacities, asks, ask)
        async with cs.Engine(capacities=engine.capacities) as engine:
            return await engine.run(plain(2).with_capacity(gpu=1))

    assert asyncio.run(main()) == 2


def is_stopped(engine):
    return all(run.admissions.closed for run in engine._runs.active)


def test_permits_held_beyond_the_end_of_a_run_are_returned_and_logged(monkeypatch, caplog):
    """It would be a fault of the engine's, so one is made here."""
    monkeypatch.setattr(gate, "_log", logging.getLogger("test.limits"))
    monkeypatch.setattr(Gate, "leave", lambda *_: None)

    async def main():
        async with cs.Engine(capacities={"gpu": 2, "disk": 0.5}) as engine:
            engine.constraints.limit_concurrency("task:slow", 3)
            assert await engine.run(slow(7).with_capacity(gpu=2, disk=0.1)) == 7
            assert is_whole(engine)

    asyncio.run(main())
    (told,) = [r.getMessage() for r in caplog.records if r.name == "test.limits"]
    assert "task 'slow' still held 0.1 of the capacity 'disk', 2 of the capacity 'gpu'" in told
    assert "'gpu', a place under 'concurrency task:slow 3', which was returned" in told


def test_virtual_time_does_not_stand_still_while_all_wait_for_a_limit():
    """Nothing is ready, and there is no thread: only the alarm of the limit."""

    async def main():
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with cs.Engine() as engine:
            engine.constraints.limit_rate("global", "1/d")
            value = await engine.run(spin(3), use_vm=True)
            return value, loop.time()

    assert run_virtually(main) == (0, pytest.approx(3 * 86400))
