"""Engines and runs: many at once, several loops, deadlines, nothing left after close."""

import asyncio
import bdb
import sys
import threading

import pytest
from tests.sample_tasks import add

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.runtime.clock import run_virtually
from cascade.runtime.events import RunFinished


@cs.task
async def wait(seconds):
    await asyncio.sleep(seconds)
    return seconds


def fresh_threads(before):
    return [thread for thread in threading.enumerate() if thread not in before]


# -- runs ---------------------------------------------------------------------------------------


async def test_runs_of_one_engine_overlap(engine, use_vm):
    """Each needs the other to get on."""
    first, second = asyncio.Event(), asyncio.Event()

    @cs.task
    async def meet(mine, other):
        mine.set()
        await other.wait()
        return "met"

    values = await asyncio.gather(
        engine.run(meet(first, second), use_vm=use_vm),
        engine.run(meet(second, first), use_vm=use_vm),
    )

    assert values == ["met", "met"]


async def test_one_lazy_value_in_two_runs_at_once_is_computed_in_each(engine, use_vm):
    calls = []

    @cs.task
    async def shared():
        calls.append(1)
        await asyncio.sleep(0)
        return len(calls)

    lazy = shared()
    await asyncio.gather(*(engine.run(add(lazy, 1), use_vm=use_vm) for _ in range(5)))

    assert len(calls) == 5


def test_an_engine_serves_one_event_loop_after_the_other(use_vm):
    engine = cs.Engine()

    async def once(n):
        return await engine.run(add(wait(0), n), use_vm=use_vm)

    assert [asyncio.run(once(n)) for n in range(3)] == [0, 1, 2]
    asyncio.run(engine.close())


def test_an_engine_serves_several_event_loops_at_once(use_vm):
    """They meet in the middle of their runs, so that all are under way at the same time."""
    engine = cs.Engine()
    barrier = threading.Barrier(3)
    values = {}

    @cs.task
    async def meet(n):
        barrier.wait(30)
        return n

    def serve(n):
        values[n] = asyncio.run(engine.run(add(meet(n), 10), use_vm=use_vm))

    threads = [threading.Thread(target=serve, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asyncio.run(engine.close())

    assert values == {0: 10, 1: 11, 2: 12}


# -- deadlines ----------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_ends_at_its_deadline(use_vm):
    async def main():
        ended = []
        async with cs.Engine() as engine:
            engine.bus.subscribe(RunFinished, ended.append)
            with pytest.raises(cs.errors.DeadlineError, match="deadline of 60 s") as caught:
                await engine.run([wait(3600), wait(30)], use_vm=use_vm, deadline=60)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.seconds == 60
        assert asyncio.get_running_loop().time() == 60
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [event.status for event in ended] == ["failed"]

    run_virtually(main)


def test_a_run_that_ends_in_time_has_its_value(use_vm):
    async def main():
        async with cs.Engine() as engine:
            value = await engine.run(wait(59), use_vm=use_vm, deadline=60)
        return value, asyncio.get_running_loop().time()

    assert run_virtually(main) == (59, 59)


def test_a_timeout_in_user_code_is_not_one_of_the_run(use_vm):
    @cs.task
    async def impatient():
        async with asyncio.timeout(1):
            await asyncio.sleep(3600)

    async def main():
        async with cs.Engine() as engine:
            await engine.run(impatient(), use_vm=use_vm, deadline=60)

    with pytest.raises(TimeoutError) as caught:
        run_virtually(main)
    assert not isinstance(caught.value, cs.errors.DeadlineError)


@pytest.mark.parametrize("deadline", [0, -1, True, "soon", float("nan")])
async def test_a_deadline_is_a_number_of_seconds(engine, deadline):
    with pytest.raises(cs.errors.ArgumentError, match="deadline takes seconds"):
        await engine.run(add(1), deadline=deadline)


# -- waiting ------------------------------------------------------------------------------------


def test_why_a_node_waits(use_vm):
    """For its inputs (on the graph path), or for its next attempt."""
    attempts = []

    @cs.task
    async def flaky():
        attempts.append(1)
        if len(attempts) < 2:
            raise OSError("not yet")
        return 1

    async def main():
        async with cs.Engine() as engine:
            target = add(flaky().with_retry(2, delay=100))
            running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
            await asyncio.sleep(50)
            waiting = {w.task: w for w in engine.waiting()}
            assert [w.task for w in engine.waiting(inputs=False)] == ["flaky"]
            assert await running == 1
            assert engine.waiting() == []
        return waiting

    waiting = run_virtually(main)
    assert waiting["flaky"].reason == "retry delay"
    assert waiting["flaky"].seconds == 100
    if not use_vm:
        assert waiting["add"].reason == "inputs"
        assert waiting["add"].holders == ("flaky",)


# -- the end ------------------------------------------------------------------------------------


def test_no_thread_is_left_after_close(use_vm):
    before = threading.enumerate()

    async def main():
        async with cs.Engine() as engine:
            await engine.run([add(n, wait(0)) for n in range(50)], use_vm=use_vm)
        fresh = fresh_threads(before)
        for thread in fresh:
            await asyncio.to_thread(thread.join, 30)
        return [thread.name for thread in fresh if thread.is_alive()]

    assert [name for name in asyncio.run(main()) if "cascade" in name] == []


async def test_closing_may_be_repeated_and_is_final():
    engine = cs.Engine()
    assert await engine.run(add(1)) == 1
    await engine.close()
    await engine.close()
    with pytest.raises(cs.errors.RunError, match="the engine is closed"):
        await engine.run(add(1))
    with pytest.raises(cs.errors.RunError, match="the engine is closed"):
        async with engine:
            pass


# -- debugging ----------------------------------------------------------------------------------


async def test_the_inline_executor_runs_all_in_order_in_this_thread():
    order = []

    @cs.task
    def note(n, *_):
        order.append((n, threading.get_ident()))
        return n

    async with cs.Engine(threads=InlineExecutor()) as engine:
        first = [note(n) for n in range(10)]
        await engine.run(note(10, *first))

    assert order == [(n, threading.get_ident()) for n in range(11)]


def test_a_debugger_stops_in_a_task(use_vm):
    """With the inline executor, in the thread that runs ``pdb``."""
    stops = []

    class Debugger(bdb.Bdb):
        def user_line(self, frame):
            stops.append((frame.f_code.co_name, dict(frame.f_locals)))
            self.set_continue()

    debugger = Debugger()

    @cs.task
    def suspicious(n):
        doubled = 2 * n
        debugger.set_trace()
        return doubled

    async def main():
        async with cs.Engine(threads=InlineExecutor()) as engine:
            return await engine.run(suspicious(21), use_vm=use_vm)

    before = sys.gettrace()
    try:
        assert asyncio.run(main()) == 42
    finally:
        sys.settrace(before)
    name, seen = stops[0]
    assert name == "suspicious"
    assert (seen["n"], seen["doubled"]) == (21, 42)


@pytest.mark.parametrize("ends", [False, True])
def test_an_engine_that_is_closed_tells_of_the_runs_that_do_not_end(use_vm, ends, caplog):
    async def main():
        engine = cs.Engine()
        engine.constraints.pause("task:add")
        running = asyncio.ensure_future(engine.run(add(1), use_vm=use_vm))
        await asyncio.sleep(1)
        await engine.close()
        await asyncio.sleep(4)
        if ends:
            running.cancel()
        await asyncio.sleep(2)
        if not ends:
            assert [w.reason for w in engine.waiting()] == ["pause task:add"]
        running.cancel()
        await asyncio.wait([running])

    run_virtually(main)
    told = (
        "the engine was closed 5 s ago, and these runs are still active: 'add', where task "
        "'add' waits: pause task:add; cancel them, or remove the constraints they wait for"
    )
    found = [r.getMessage() for r in caplog.records if r.name == "cascade.engine"]
    assert found == ([] if ends else [told])
