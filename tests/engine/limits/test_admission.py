"""Limits hold in every lane, also where a part of the rule is tested inline (``admission``)."""

import asyncio

import pytest

import cascade as cs

calls: list[int] = []


def note():
    calls.append(shared.available["gpu"])


shared = cs.Capacities({"gpu": 1})


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


@cs.task
def probe(after=None):
    note()
    return 1


@cs.task
async def probe_async(after=None):
    note()
    return 1


@cs.task(mode="inline")
def probe_inline(after=None):
    note()
    return 1


@cs.task(mode="blocking")
def probe_blocking(after=None):
    note()
    return 1


@cs.task
def probe_loop(n=3, after=None):
    note()
    return probe_loop.tail(n - 1) if n else 1


@cs.task
async def probe_loop_async(n=3, after=None):
    note()
    return probe_loop_async.tail(n - 1) if n else 1


@cs.task
def probe_there(n=3, after=None):
    note()
    return probe_back.tail(n - 1) if n else 1


@cs.task
def probe_back(n=3):
    note()
    return probe_there.tail(n - 1) if n else 1


@cs.resource
def opened_for_the_run():
    yield "run"


@cs.resource(scope="task")
def opened_for_the_call():
    yield "call"


@cs.task
def probe_with_shared(after=None, thing=cs.inject(opened_for_the_run)):
    note()
    return 1


@cs.task
def probe_with_own(after=None, thing=cs.inject(opened_for_the_call)):
    note()
    return 1


@cs.task
async def probe_async_with_shared(after=None, thing=cs.inject(opened_for_the_run)):
    note()
    return 1


@cs.task
async def probe_async_with_own(after=None, thing=cs.inject(opened_for_the_call)):
    note()
    return 1


@cs.task
def join(items):
    return 1


@cs.task
def both(value):
    return [value, value]


def chain(after, limited):
    value = after
    for _ in range(30):
        value = limited(probe(value))
    return value


def many(task):
    return lambda after, limited: join([limited(task(after)) for _ in range(20)])


def one(task, *arguments):
    return lambda after, limited: limited(task(*arguments, after))


#: Lane → makes a target from a lazy value that all its calls of a probe come after, and a function
#: that makes these calls take a capacity or not.
LANES = {
    "one plain call": one(probe),
    "one coroutine": one(probe_async),
    "one inline call": one(probe_inline),
    "one blocking call": one(probe_blocking),
    "workers": many(probe),
    "coroutines": many(probe_async),
    "inline calls": many(probe_inline),
    "a chain": chain,
    "a retry": lambda after, limited: limited(probe(after).with_retry(2)),
    "a timeout": lambda after, limited: limited(probe(after).with_timeout(60)),
    "a coroutine with a timeout": lambda after, limited: limited(
        probe_async(after).with_timeout(60)
    ),
    "a shared resource": one(probe_with_shared),
    "a resource of its own": one(probe_with_own),
    "a coroutine with a shared resource": one(probe_async_with_shared),
    "a coroutine with its own": one(probe_async_with_own),
    "items of a map": lambda after, limited: join(limited(probe.map(after=both(after)))),
    "a loop": one(probe_loop, 3),
    "a long loop": one(probe_loop, 60),
    "a loop of coroutines": one(probe_loop_async, 60),
    "a loop of two tasks": one(probe_there, 60),
}
lane = pytest.mark.parametrize("lane", LANES)
both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


def new_engine():
    return cs.Engine(capacities=shared)


def unlimited(call):
    return call


def limited(call):
    return call.with_capacity(gpu=1)


async def waits(engine):
    """Wait until a call waits under a pause."""
    # A subscriber to TaskWaiting would send the calls to other lanes.
    while not any(wait.reason.startswith("pause") for wait in engine.waiting()):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@lane
@both_paths
async def test_a_paused_call_waits(lane, use_vm):
    async with new_engine() as engine:
        engine.constraints.pause("task:probe*")
        run = asyncio.ensure_future(engine.run(LANES[lane](None, unlimited), use_vm=use_vm))
        await waits(engine)
        assert calls == []
        engine.constraints.resume("task:probe*")
        assert await run == 1


@lane
@both_paths
async def test_a_pause_by_an_earlier_call_of_the_run_holds(lane, use_vm):
    async with new_engine() as engine:

        @cs.task
        def pause():
            engine.constraints.pause("task:probe*")

        run = asyncio.ensure_future(engine.run(LANES[lane](pause(), unlimited), use_vm=use_vm))
        await waits(engine)
        assert calls == []
        engine.constraints.resume("task:probe*")
        assert await run == 1


@lane
@both_paths
async def test_constraints_on_other_tasks_hold_nothing_up(lane, use_vm):
    async with new_engine() as engine:
        engine.constraints.pause("task:other")
        assert await engine.run(LANES[lane](None, unlimited), use_vm=use_vm) == 1
        assert calls


@lane
@both_paths
@pytest.mark.parametrize("paused", [False, True])
async def test_a_call_has_its_capacities(lane, use_vm, paused):
    async with new_engine() as engine:
        if paused:
            engine.constraints.pause("task:other")
        assert await engine.run(LANES[lane](None, limited), use_vm=use_vm) == 1
        assert set(calls) == {0}
        assert shared.available == {"gpu": 1}


@pytest.mark.parametrize("kind", [probe, probe_async, probe_inline, probe_blocking])
async def test_a_program_waits_too(kind):
    async with new_engine() as engine:
        program = engine.compile(join([kind(), kind()]))
        engine.constraints.pause("task:probe*")
        run = asyncio.ensure_future(program.run())
        await waits(engine)
        assert calls == []
        engine.constraints.resume("task:probe*")
        assert await run == 1
