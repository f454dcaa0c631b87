"""engine.stream: the values of a map or list as they come, and what tasks emit."""

from __future__ import annotations

import asyncio
import gc
import threading
from itertools import count
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.spec.errors import ArgumentError, RunCancelledError, RunError


@cs.task
async def after(gate, value):
    await gate.wait()
    return value


@cs.task
def plain(x):
    return 2 * x


@cs.task
async def later(x):
    await asyncio.sleep(0)
    return 2 * x


@cs.task
def broken(x):
    if x == 3:
        raise ValueError("three")
    return x


@pytest.fixture
def stream(engine, use_vm):
    def stream(target, *args, **options):
        return engine.stream(target, *args, use_vm=use_vm, **options)

    return stream


async def listed(stream):
    return [value async for value in stream]


async def numbers(closed: list[bool]):
    try:
        for number in count():
            yield number
    finally:
        closed.append(True)


async def test_values_come_when_they_are_there_and_not_in_their_order(stream):
    gates = [asyncio.Event() for _ in range(3)]
    values = stream(after.map(gate=gates, value=["a", "b", "c"]))
    found = []
    for place in (1, 2, 0):
        gates[place].set()
        found.append(await anext(values))
    assert found == ["b", "c", "a"]
    with pytest.raises(StopAsyncIteration):
        await anext(values)


async def test_ordered_ones_wait_for_those_before(stream):
    gates = [asyncio.Event() for _ in range(3)]
    values = stream(after.map(gate=gates, value=["a", "b", "c"]), ordered=True)
    first = asyncio.ensure_future(anext(values))
    gates[2].set()
    gates[1].set()
    await asyncio.sleep(0.01)
    assert not first.done()
    gates[0].set()
    assert [await first, *await listed(values)] == ["a", "b", "c"]


@pytest.mark.parametrize("ordered", [False, True])
async def test_any_map_list_or_tuple_is_streamed_item_by_item(stream, ordered):
    @cs.task
    def rows():
        return [1, 2, 3]

    cases: list[tuple[Any, list[Any]]] = [
        (plain.map(x=[1, 2, 3]), [2, 4, 6]),
        (plain.map(x=rows()), [2, 4, 6]),
        (plain.map(x=later.map(x=[1, 2])), [4, 8]),
        (plain.map(x=[1, 2], window=1), [2, 4]),
        (broken.map(x=[3, 1], catch=(ValueError, "caught")), ["caught", 1]),
        (plain.map(x=[1]).with_retry(2), [2]),
        ([plain(1), later(2), 7, {"a": plain(4)}], [2, 4, 7, {"a": 8}]),
        ((plain(1),), [2]),
        ([], []),
        (plain.map(x=[]), []),
    ]
    for target, values in cases:
        found = await listed(stream(target, ordered=ordered))
        if ordered:
            assert found == values
        else:
            assert sorted(map(repr, found)) == sorted(map(repr, values))


async def test_any_other_target_has_one_item(stream):
    assert await listed(stream(plain(3))) == [6]
    assert await listed(stream(plain.map(x=[1, 2], fold=max))) == [4]
    assert await listed(stream({"a": plain(1)})) == [{"a": 2}]
    assert await listed(stream(5)) == [5]


async def test_a_map_over_a_map_flows(stream):
    gates = [asyncio.Event() for _ in range(2)]
    values = stream(plain.map(x=after.map(gate=gates, value=[1, 2])))
    gates[1].set()
    assert await anext(values) == 4
    gates[0].set()
    assert await listed(values) == [2]


async def test_an_error_comes_after_all_that_came_before(stream, engine):
    gate = asyncio.Event()

    @cs.task
    async def fails_later():
        await gate.wait()
        raise ValueError("late")

    values = stream([plain(1), fails_later()])
    assert await anext(values) == 2
    gate.set()
    with pytest.raises(ValueError, match="late") as caught:
        await anext(values)
    assert caught.value.__notes__[0].startswith("cascade: in task 'fails_later', called at")
    with pytest.raises(StopAsyncIteration):
        await anext(values)
    assert values.handle.status == "failed"
    assert engine.runs() == []


async def test_without_fail_fast_the_other_items_still_come(stream):
    found = []
    with pytest.raises(ExceptionGroup):
        async for value in stream(broken.map(x=[3, 1, 2]), fail_fast=False):
            found.append(value)
    assert sorted(found) == [1, 2]


async def test_leaving_the_block_early_ends_the_run(stream, engine):
    closed: list[bool] = []
    async with stream(later.map(x=numbers(closed), window=4)) as values:
        async for value in values:
            if value == 20:
                break
    assert closed == [True]
    assert engine.runs() == []
    assert values.handle.status == "cancelled"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with pytest.raises(StopAsyncIteration):
        await anext(values)


async def test_an_error_in_the_block_ends_the_run_too(stream, engine):
    with pytest.raises(KeyError):
        async with stream(later.map(x=count(), window=4)) as values:
            await anext(values)
            raise KeyError("mine")
    assert engine.runs() == []


async def test_dropping_a_stream_ends_the_run(stream, engine):
    async for _ in stream(later.map(x=count(), window=4)):
        break
    gc.collect()
    while engine.runs():  # noqa: ASYNC110  # its end has no event of its own
        await asyncio.sleep(0)


async def test_a_cancel_of_the_consumer_leaves_nothing(stream, engine):
    never = asyncio.Event()

    async def consume():
        async with stream(after.map(gate=[never], value=[1])) as values:
            await anext(values)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await consume()
    assert engine.runs() == []


async def test_closing_waits_for_plain_calls_and_its_cancel_abandons_them(stream, engine, held):
    began = threading.Event()

    @cs.task
    def blocks(x):
        if x:
            began.set()
            held.wait(10)
        return x

    values = stream(blocks.map(x=[0, 1]))
    assert await anext(values) == 0
    await asyncio.to_thread(began.wait, 10)
    closing = asyncio.ensure_future(values.aclose())
    await asyncio.sleep(0.02)
    assert not closing.done()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert engine.abandoned == ("blocks",)
    held.set()


async def test_closing_is_possible_at_any_time_and_repeatedly(stream, engine):
    unbegun = stream(plain(1))
    await unbegun.aclose()
    assert unbegun.handle is None
    ended = stream(plain(1))
    assert await listed(ended) == [2]
    await ended.aclose()
    await ended.aclose()
    failed = stream(broken(3))
    async with failed:
        await asyncio.sleep(0.01)
    assert engine.runs() == []


async def test_cancelling_its_handle_ends_the_stream(stream):
    values = stream(after.map(gate=[asyncio.Event()], value=[1]))
    waiting = asyncio.ensure_future(anext(values))
    await asyncio.sleep(0)
    values.handle.cancel()
    with pytest.raises(RunCancelledError):
        await waiting


async def test_two_consumers_are_one_too_many(stream):
    values = stream(after.map(gate=[asyncio.Event()], value=[1]))
    async with values:
        first = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
        with pytest.raises(RunError, match="another asyncio task waits"):
            await anext(values)
        first.cancel()


async def test_a_window_waits_for_the_consumer(stream):
    read = []

    def rows():
        for n in range(100):
            read.append(n)
            yield n

    async with stream(later.map(x=rows(), window=5)) as values:
        for taken in range(1, 20):
            await anext(values)
            await asyncio.sleep(0.001)
            assert len(read) <= taken + 5


async def test_values_that_come_early_do_not_hide_that_tasks_wait_for_each_other(stream):
    late: list[Any] = []

    @cs.task
    def box():
        return [late[0]]

    for task in (plain, later):
        first = plain(box())
        late[:] = [plain(1).after(first)]
        target = task.map(x=iter([first, 2, 3, 4]), window=2)
        with pytest.raises(cs.errors.CycleError, match="the run stands still"):
            await listed(stream(target, ordered=True))


async def test_a_stream_shows_the_state_of_its_run(stream):
    values = stream(plain.map(x=[1, 2]), run_id="mine")
    assert repr(values) == "<RunStream, not begun>"
    assert values._repr_mimebundle_() == {"text/plain": repr(values)}
    assert len(await listed(values)) == 2
    assert repr(values) == "<RunStream of run mine, succeeded>"
    shown = values._repr_mimebundle_()
    assert shown["text/plain"] == repr(values)
    assert "plain.map, run mine: succeeded after " in shown["text/html"]
    closed = stream(plain(1))
    await closed.aclose()
    assert repr(closed) == "<RunStream, closed>"


async def test_parameters_and_options_are_those_of_a_run(engine, stream):
    assert await listed(stream([plain(cs.Param("n", type=int))], {"n": 4})) == [8]
    with pytest.raises(cs.errors.ParameterError):
        await anext(stream([plain(1)], {"m": 4}))
    with pytest.raises(ArgumentError, match=r"stream\(\) has no option 'deadlin'"):
        engine.stream(plain(1), deadlin=3)
    with pytest.raises(cs.errors.DeadlineError):
        await anext(stream(after(asyncio.Event(), 1), deadline=0.01))
    values = engine.stream(plain(1), run_id="mine")
    async with values:
        assert values.handle.run_id == "mine"


async def test_a_durable_run_is_not_streamed():
    async with cs.Engine(store=open_store("memory://")) as engine:
        with pytest.raises(RunError, match="a durable run gives no items"):
            engine.stream(plain.map(x=[1]), run_id="one")
        assert await listed(engine.stream(plain.map(x=[1]))) == [2]


# -- what tasks emit ------------------------------------------------------------------------------


@cs.task
def walk(n):
    cs.emit(("at", n))
    return walk.tail(n - 1) if n else "home"


@cs.task
async def walk_later(n):
    cs.emit(("at", n))
    await asyncio.sleep(0)
    return walk_later.tail(n - 1) if n else "home"


@pytest.mark.parametrize("task", [walk, walk_later], ids=lambda task: task.name)
async def test_a_loop_emits_from_each_step_also_a_compiled_one(task, stream):
    target = task(50)
    *emitted, last = await listed(stream(target, emitted=True))
    assert last == cs.StreamItem(0, "home")
    assert [part.value for part in emitted] == [("at", n) for n in range(50, -1, -1)]
    assert {(part.task, part.node) for part in emitted} == {(task.name, target.number)}


def test_a_loop_is_compiled_although_it_emits():
    assert cs.explain(walk).tier == "fused"


async def test_items_and_what_they_emit_come_in_the_order_of_their_making(stream):
    @cs.task(mode="inline")
    def tells(x):
        cs.emit(f"begin {x}")
        return x

    parts = await listed(stream(tells.map(x=[1, 2]), emitted=True, run_id="r"))
    assert [p for p in parts if isinstance(p, cs.StreamItem)] == [
        cs.StreamItem(0, 1),
        cs.StreamItem(1, 2),
    ]
    told = [part for part in parts if isinstance(part, cs.Emitted)]
    assert [(p.value, p.run_id, p.task, p.item) for p in told] == [
        ("begin 1", "r", "tells", 0),
        ("begin 2", "r", "tells", 1),
    ]
    assert parts.index(told[0]) < parts.index(cs.StreamItem(0, 1))


async def test_runs_below_emit_to_the_same_stream(stream, engine):
    @cs.task
    async def outer():
        cs.emit("outer")
        return await engine.run(walk(1))

    parts = await listed(stream(outer(), emitted=True))
    assert [part.value for part in parts] == ["outer", ("at", 1), ("at", 0), "home"]
    assert parts[0].run_id != parts[1].run_id


async def test_tasks_and_threads_of_a_task_emit_for_the_run(stream):
    @cs.task
    async def starts():
        await asyncio.create_task(below())
        await asyncio.to_thread(cs.emit, "thread")

    async def below():
        cs.emit("task")

    *parts, _ = await listed(stream(starts(), emitted=True, run_id="r"))
    assert [(part.value, part.run_id, part.task) for part in parts] == [
        ("task", "r", None),
        ("thread", "r", None),
    ]


async def test_without_a_stream_that_wants_it_nothing_happens(stream, engine, use_vm):
    cs.emit("outside")
    assert await engine.run(walk(3), use_vm=use_vm) == "home"
    assert await listed(stream(walk(3))) == ["home"]


async def test_streams_at_the_same_time_are_kept_apart(stream):
    found = await asyncio.gather(*(listed(stream(walk(n), emitted=True)) for n in range(5)))
    assert [len(parts) for parts in found] == [2, 3, 4, 5, 6]


async def test_a_slow_reader_of_an_ordered_stream_is_no_standstill() -> None:
    came = asyncio.Event()

    @cs.task
    async def item(n):
        if n == 0:
            await came.wait()
        elif n == 2:
            came.set()
        return n

    async with cs.Engine() as engine:
        values = []
        async for value in engine.stream(item.map(n=range(3), window=3), ordered=True):
            values.append(value)
            for _ in range(20):  # the slot of the first item ends, and the others wait
                await asyncio.sleep(0)
    assert values == [0, 1, 2]
