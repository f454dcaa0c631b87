"""``engine.resume(run_id)``: the target comes from the store."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.engine.durable.tasks import calls, fails

import cascade as cs
from cascade.spec.errors import (
    RunError,
    RunLeasedError,
    RunNotFoundError,
    SerializationError,
    TaskNotImportedError,
)
from cascade.spec.run_rows import Lease, RunStatus


@cs.task
def draw() -> int:
    calls["draw"] += 1
    return calls["draw"]


@cs.task
def fragile(*values: int) -> list[int]:
    calls["fragile"] += 1
    if fails["left"]:
        fails["left"] -= 1
        raise ValueError("not yet")
    return list(values)


@cs.task
def scaled(value: int, factor: int) -> int:
    fragile.func()
    return value * factor


@pytest.mark.parametrize("use_vm", [False, True])
async def test_a_failed_run_goes_on_by_its_id(store, use_vm):
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(fragile(draw(), draw()), run_id="two")
    async with cs.Engine(store=store) as engine:
        value = await engine.resume("two", use_vm=use_vm)
    assert sorted(value) == [1, 2]
    assert calls == {"draw": 2, "fragile": 2}
    assert store.find("two").status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("missing", [None, 39])
async def test_users_of_many_done_nodes_get_their_values(store, missing):
    """Also a user that still waits for another value."""
    made: list[int] = []
    fails["left"] = 1

    @cs.task
    def number(value: int) -> int:
        made.append(value)
        if value == missing and fails["left"]:
            fails["left"] -= 1
            raise ValueError("not yet")
        return value

    @cs.task
    def both(some: list[int], others: list[int]) -> list[int]:
        return fragile.func(*some, *others)

    def target() -> list[int]:
        return both([number(n) for n in range(20)], [number(n) for n in range(20, 40)])

    async with cs.Engine(store=store, threads=1) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target(), run_id="forty")
    before = len(made)
    async with cs.Engine(store=store, threads=1) as engine:
        assert await engine.run(target(), run_id="forty") == [*range(40)]
    assert made[before:] == ([] if missing is None else [missing])


async def test_equal_nodes_are_told_apart_by_the_keys_that_were_stored(store):
    """They are in one argument, so only their order of creation tells them apart."""
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        target = fragile(*[draw() for _ in range(4)], draw())
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target, run_id="five")
        assert sorted(await engine.resume("five")) == [1, 2, 3, 4, 5]
    assert calls["draw"] == 5


async def test_the_parameters_come_from_the_store(store):
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        target = scaled(draw(), cs.Param("factor", type=int))
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target, {"factor": 7}, run_id="one")
        assert await engine.resume("one") == 7


async def test_a_run_that_has_succeeded_gives_its_value(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(draw(), run_id="one")
        assert await engine.resume("one") == 1
    assert calls["draw"] == 1


async def test_a_run_under_way_is_refused(store):
    async with cs.Engine(store=store) as engine:
        handle = cs.enqueue(store, draw(), run_id="one")
        store.claim_run(handle.run_id, Lease("another", 60))
        with pytest.raises(RunLeasedError, match="executed by another"):
            await engine.resume("one")


async def test_an_unknown_id_is_an_error(store):
    async with cs.Engine(store=store) as engine:
        with pytest.raises(RunNotFoundError, match=r"MemoryStore\(\) has no run 'one'"):
            await engine.resume("one")


async def test_an_engine_without_a_store_cannot_resume():
    async with cs.Engine() as engine:
        with pytest.raises(RunError, match=r"engine\.resume\(\) needs a store"):
            await engine.resume("one")


async def test_a_target_with_a_local_task_needs_the_program_that_made_it(store):
    @cs.task
    def local() -> int:
        return fragile.func() and 0

    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(local(), run_id="one")
        assert not store.find("one").portable
        with pytest.raises(SerializationError, match="run 'one' has no stored target"):
            await engine.resume("one")
    assert store.find("one").status is RunStatus.FAILED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a module that nothing has imported."""
    (tmp_path / "orders_of_this_test.py").write_text(
        "import cascade as cs\n\n@cs.task\ndef order(n):\n    return 2 * n\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
async def test_modules_are_imported_only_if_the_engine_allows_it(store):
    """As those of JSON are."""
    import orders_of_this_test as orders  # type: ignore[import-not-found]

    cs.enqueue(store, orders.order(3), run_id="one")
    del sys.modules["orders_of_this_test"]
    async with cs.Engine(store=store) as engine:
        with pytest.raises(TaskNotImportedError, match="orders_of_this_test"):
            await engine.resume("one")
    assert store.find("one").status is RunStatus.ENQUEUED
    async with cs.Engine(store=store, modules=["orders_of_this_test"]) as engine:
        assert await engine.resume("one") == 6
    del sys.modules["orders_of_this_test"]


def test_a_signed_program_is_not_read_with_another_key(store):
    cs.enqueue(store, draw(), run_id="one", signing_key="secret")

    async def main() -> None:
        async with cs.Engine(store=store, signing_key="other") as engine:
            with pytest.raises(SerializationError, match="signature"):
                await engine.resume("one")
        async with cs.Engine(store=store, signing_key="secret") as engine:
            assert await engine.resume("one") == 1

    asyncio.run(main())
