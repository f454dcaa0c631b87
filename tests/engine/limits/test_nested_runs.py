"""A run that needs a capacity of the task that started it: both wait for ever, with a warning."""

import asyncio
import logging

import pytest

import cascade as cs
from cascade.runtime.events import TaskWaiting

both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


@cs.task
def inner(n):
    return n


async def until(condition):
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def in_a_task(engine, target, use_vm):
    """A coroutine task that runs ``target``, beside something else."""

    @cs.task
    async def outer():
        found, _ = await asyncio.gather(engine.run(target, use_vm=use_vm), asyncio.sleep(0))
        return found

    return outer()


def warnings(caplog):
    """The warnings about limits; a busy machine may add others, about steps that block."""
    return [r.getMessage() for r in caplog.records if r.name == "cascade.limits"]


async def stands_still(engine, target, caplog, use_vm, expected=1):
    running = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
    await until(lambda: any(w.task == "inner" for w in engine.waiting(inputs=False)))
    await until(lambda: len(warnings(caplog)) >= expected)  # a worker may say so a little later
    told = warnings(caplog)
    running.cancel()
    await asyncio.wait([running])
    return told


@both_paths
async def test_a_capacity_that_the_caller_has(use_vm, caplog):
    async with cs.Engine(capacities={"gpu": 2}) as engine:
        target = in_a_task(engine, inner(1).with_capacity(gpu=1), use_vm).with_capacity(gpu=2)
        (told,) = await stands_still(engine, target, caplog, use_vm)
    assert told.startswith(
        "task 'inner' waits for 1 of the capacity 'gpu', held by task 'outer', which started "
        "this run: if 'outer' waits for the run, both wait for ever"
    )


async def test_the_same_is_said_once_however_many_wait(caplog):
    async with cs.Engine(capacities={"gpu": 2}) as engine:
        inners = [inner(n).with_capacity(gpu=1) for n in range(5)]
        target = in_a_task(engine, inners, use_vm=False).with_capacity(gpu=2)
        told = []
        engine.bus.subscribe(TaskWaiting, told.append)
        running = asyncio.ensure_future(engine.run(target))
        await until(lambda: len(told) == 5)
        running.cancel()
        await asyncio.wait([running])
    assert len(warnings(caplog)) == 1


@both_paths
async def test_a_place_under_a_constraint_that_the_caller_has(use_vm, caplog):
    async with cs.Engine() as engine:
        engine.constraints.limit_concurrency("global", 1)
        target = in_a_task(engine, inner(1), use_vm)
        (told,) = await stands_still(engine, target, caplog, use_vm)
    assert told.startswith(
        "task 'inner' waits for room under 'concurrency global 1', held by task 'o"
    )


@both_paths
async def test_a_capacity_that_the_callers_caller_has(use_vm, caplog):
    async with cs.Engine(capacities={"gpu": 2}) as engine:
        between = cs.task(name="between")(lambda value: value)
        innermost = inner(1).with_capacity(gpu=1)

        @cs.task
        async def middle():
            return await engine.run(innermost, use_vm=use_vm)

        target = in_a_task(engine, between(middle()), use_vm).with_capacity(gpu=2)
        (told,) = await stands_still(engine, target, caplog, use_vm)
    assert "held by task 'outer'" in told


@both_paths
async def test_nothing_is_said_where_the_caller_need_not_leave(use_vm, caplog):
    caplog.set_level(logging.WARNING)
    held, may_end = asyncio.Event(), asyncio.Event()

    @cs.task
    async def other():
        held.set()
        await may_end.wait()

    async with cs.Engine(capacities={"gpu": 2}) as engine:
        running = asyncio.ensure_future(engine.run(other().with_capacity(gpu=1)))
        await held.wait()
        target = in_a_task(engine, inner(1).with_capacity(gpu=1), use_vm).with_capacity(gpu=1)
        nested = asyncio.ensure_future(engine.run(target, use_vm=use_vm))
        await until(lambda: engine.waiting(inputs=False))
        may_end.set()
        assert await nested == 1
        await running
    assert not warnings(caplog)
