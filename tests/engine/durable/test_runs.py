"""Durable runs: begun, resumed, or their stored value (D1, D2)."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.durable.tasks import add, calls, double, fails, fragile

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.spec.errors import (
    ArgumentError,
    LeaseLostError,
    RunConflictError,
    RunLeasedError,
)
from cascade.spec.run_rows import Lease, RunRecord, RunStatus
from cascade.spec.run_store import RunStore


@cs.task
def plan(n: int) -> object:
    calls["plan"] += 1
    return add(double(n), fragile(n))


@cs.task
async def agent(n: int, total: int = 0) -> object:
    calls["agent"] += 1
    if n == 2:
        fragile.func(0)
    return total if n == 0 else agent.tail(n - 1, add(total, n))


def _found(store: RunStore, run_id: str) -> RunRecord:
    run = store.find(run_id)
    assert run is not None
    return run


common = double(2)


@cs.task
async def shared(n: int, total: int = 0) -> object:
    if n == 1:
        fragile.func(0)
    return total if n == 0 else shared.tail(n - 1, add(total, common))


looks: list[Callable[[], None]] = []


@cs.task
async def look(n: int) -> int:
    looks[-1]()
    return n


@cs.task
async def loop(n: int, seen: int = 0) -> object:
    return seen if n == 0 else loop.tail(n - 1, look(n))


async def test_a_second_run_with_the_same_id_gives_the_stored_value(store):
    async with cs.Engine(store=store) as engine:
        first = await engine.run(add(double(2), 1), run_id="order-17")
    async with cs.Engine(store=store) as engine:
        second = await engine.run(add(double(2), 1), run_id="order-17")
    assert first == second == 5
    assert calls == {"add": 1, "double": 1}


async def test_runs_that_begin_at_once_are_created_together(store):
    batches, create = [], store.create

    def counting(runs, **options):
        batches.append(len(runs))
        return create(runs, **options)

    store.create = counting
    async with cs.Engine(store=store) as engine:
        runs = [engine.run(add(n, 1), run_id=f"run {n}") for n in range(250)]
        again = [engine.run(add(n, 1), run_id=f"run {n}") for n in range(3)]
        wrong = [engine.run(add(1, 1), run_id=name) for name in ("\n", "x" * 501)]
        values = await asyncio.gather(*runs, *again, *wrong, return_exceptions=True)
    assert values[:250] == [*range(1, 251)]
    for n, value in enumerate(values[250:253]):  # it has ended, or is under way
        assert value == n + 1 or isinstance(value, RunLeasedError)
    assert [type(value) for value in values[253:]] == [ArgumentError, ArgumentError]
    assert max(batches) == 100
    assert calls["add"] == 250


async def test_a_run_without_an_id_is_not_kept(store):
    async with cs.Engine(store=store) as engine:
        assert await engine.run(add(1, 1)) == 2
    assert store.runs() == []


async def test_an_id_belongs_to_one_target(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(add(1, 1), run_id="sum")
        with pytest.raises(RunConflictError, match="'add' has other arguments") as caught:
            await engine.run(add(1, 2), run_id="sum")
    assert caught.value.run_id == "sum"


async def test_an_id_belongs_to_one_set_of_parameters(store):
    async with cs.Engine(store=store) as engine:
        target = add(cs.Param("n", type=int), 1)
        assert await engine.run(target, {"n": 1}, run_id="sum") == 2
        with pytest.raises(RunConflictError, match=r"other parameters: \{'n': 1\}"):
            await engine.run(target, {"n": 2}, run_id="sum")


@pytest.mark.parametrize("use_vm", [False, True])
async def test_a_failed_run_makes_again_only_what_failed(store, use_vm):
    """D8."""
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(plan(3), run_id="plan", use_vm=use_vm)
        assert store.find("plan").status is RunStatus.FAILED
        before = calls.copy()
        assert await engine.run(plan(3), run_id="plan", use_vm=use_vm) == 9
    assert before["plan"] == 1
    assert calls - before == Counter(fragile=1, add=1, double=1 - before["double"])


@pytest.mark.parametrize("use_vm", [False, True])
async def test_an_agent_goes_on_with_the_step_that_failed(store, use_vm):
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(agent(4), run_id="agent", use_vm=use_vm)
        assert calls == {"agent": 3, "add": 2, "fragile": 1}, calls
        assert await engine.run(agent(4), run_id="agent", use_vm=use_vm) == 10
    assert calls == {"agent": 6, "add": 4, "fragile": 2}


async def test_a_lazy_value_of_a_module_may_stand_in_every_step(store):
    """It belongs to no step, so a later process may meet it in any.

    What a step has computed is dropped with the step, so it is computed once in each process.
    """
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(shared(3), run_id="shared")
        assert await engine.run(shared(3), run_id="shared") == 12
    assert calls["double"] == 2


async def test_a_run_under_way_is_refused_to_others(store):
    begun, go_on = asyncio.Event(), asyncio.Event()

    @cs.task
    async def wait() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with cs.Engine(store=store) as first, cs.Engine(store=store) as second:
        running = asyncio.ensure_future(first.run(wait(), run_id="one"))
        await begun.wait()
        with pytest.raises(RunLeasedError) as caught:
            await second.run(wait(), run_id="one")
        assert caught.value.run_id == "one"
        go_on.set()
        assert await running == "done"


async def test_a_run_that_another_process_has_taken_over_ends_here(store):
    """D6: nothing is written by a former owner."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @cs.task
    async def wait() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with cs.Engine(store=store) as engine:
        running = asyncio.ensure_future(engine.run(add(wait(), "!"), run_id="one"))
        await begun.wait()
        owner = store.find("one").owner
        store.claim_run("one", Lease("other", 60), dead=[owner])
        go_on.set()
        with pytest.raises(LeaseLostError):
            await running
    assert store.find("one").owner == "other"
    assert calls["add"] == 0


async def test_a_cancelled_run_may_be_resumed(store):
    begun = asyncio.Event()
    release = {"now": False}

    @cs.task
    async def wait(x: int) -> int:
        begun.set()
        if not release["now"]:
            await asyncio.Event().wait()
        return x

    async with cs.Engine(store=store) as engine:
        running = asyncio.ensure_future(engine.run(wait(add(1, 2)), run_id="one"))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert store.find("one").status is RunStatus.ENQUEUED
        release["now"] = True
        assert await engine.run(wait(add(1, 2)), run_id="one") == 3
    assert calls == {"add": 1}


@pytest.fixture
def endless():
    """An event, and a task that sets it and does not end by itself."""
    begun = asyncio.Event()

    @cs.task
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    return begun, wait


async def test_a_run_cancelled_by_its_handle_is_cancelled_for_good(store, endless):
    begun, wait = endless
    async with cs.Engine(store=store) as engine:
        handle = engine.start(wait(), run_id="one")
        await begun.wait()
        assert handle.cancel()
        with pytest.raises(cs.errors.RunCancelledError):
            await handle.result()
    assert store.find("one").status is RunStatus.CANCELLED


async def test_a_run_whose_engine_is_closed_may_be_resumed(store, endless):
    begun, wait = endless
    async with cs.Engine(store=store) as engine:
        engine.start(wait(), run_id="one")
        await begun.wait()
    assert store.find("one").status is RunStatus.ENQUEUED


async def test_cancel_in_the_store_ends_a_run_under_way(store, endless):
    begun, wait = endless
    async with cs.Engine(store=store) as engine:
        running = asyncio.ensure_future(engine.run(add(double(1), wait()), run_id="one"))
        await begun.wait()
        store.cancel("one")
        with pytest.raises(cs.errors.RunCancelledError, match="'one' was cancelled"):
            await running
    assert store.find("one").status is RunStatus.CANCELLED


def test_the_storage_of_a_loop_is_flat(tmp_path: Path):
    """Each step replaces the record of the last, and drops the outcomes of its tools."""
    store = open_store(f"sqlite:///{tmp_path}/runs.db?synchronous=normal")
    sizes: list[tuple[int, int]] = []

    def look() -> None:
        loaded = store.load(_found(store, "loop").number)
        sizes.append((len(loaded.chunks), len(loaded.records)))

    looks.append(look)

    async def main() -> None:
        async with cs.Engine(store=store) as engine:
            await engine.run(loop(40), run_id="loop")

    asyncio.run(main())
    assert max(chunks for chunks, _ in sizes) <= 3
    assert max(records for _, records in sizes) <= 1
    store.close()
