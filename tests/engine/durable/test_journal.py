"""What a journal keeps, refuses and lets go of (D3, D7, D8, M20)."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.differential.crashes import Crash, Life, View

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.adapters.stores.memory import MemoryStore
from cascade.runtime.durable import starting
from cascade.runtime.events import ResultNotStored
from cascade.spec.errors import (
    NotStorableError,
    RunConflictError,
    SerializationError,
    StepLimitError,
    StoreError,
)
from cascade.spec.run_rows import Commit, Lease, Receipt, RunRecord, RunStatus

#: ``CASCADE_STEPS=100000 pytest …`` for a longer one.
STEPS = int(os.environ.get("CASCADE_STEPS", "1200"))
calls: list[str] = []
fails = {"left": 0}


@pytest.fixture(autouse=True)
def nothing_called():
    calls.clear()
    fails["left"] = 0


@pytest.fixture
def store():
    return MemoryStore()


def _found(store: MemoryStore, run_id: str = "run") -> RunRecord:
    run = store.find(run_id)
    assert run is not None
    return run


class Handle:
    """An object without a stored form."""


@cs.task
def connect() -> object:
    calls.append("connect")
    return Handle()


@cs.task
def close(given: Any) -> int:
    assert isinstance(given, Handle)
    return 1


@cs.task
def fragile(x: int) -> int:
    calls.append("fragile")
    if fails["left"]:
        fails["left"] -= 1
        raise ValueError("not yet")
    return x


@cs.task
def big(size: int) -> bytes:
    calls.append("big")
    return bytes(size)


@cs.task
def add(a: int, b: int) -> int:
    calls.append("add")
    return a + b


@cs.task
def size_of(given: bytes, last: int) -> int:
    return len(given) + last


@cs.task
def count(n: int, kept: object = None) -> object:
    calls.append("count")
    return n if n >= 30 else count.tail(n + 1, kept)


@cs.task
async def ask(n: int, last: object = None) -> object:
    calls.append("ask")
    if n == 0 or isinstance(last, Handle):
        return last if n == 0 else ask.tail(n - 1, last)
    return ask.tail(n - 1, add(n, 1))


@cs.task
async def keeping(n: int, last: object = None) -> object:
    """Each step gets a large value, which the next one does not need."""
    return n if n == 0 else keeping.tail(n - 1, big(50_000))


@cs.task
async def failing_tools(n: int, last: object = None) -> object:
    """In each step a tool goes on as one that fails, and the failure is caught."""
    return n if n == 0 else failing_tools.tail(n - 1, planning().catch(ValueError, 0))


@cs.task
async def planning() -> object:
    return broken()


@cs.task
async def broken() -> object:
    raise ValueError("broken")


async def test_a_result_that_cannot_be_stored_is_told_and_the_run_goes_on(store, caplog):
    told: list[ResultNotStored] = []
    async with cs.Engine(store=store) as engine:
        engine.bus.subscribe(ResultNotStored, told.append)
        with caplog.at_level(logging.WARNING, "cascade.durable"):
            target = add(close(connect()), close(connect()))
            assert await engine.run(target, run_id="run") == 2
    assert [event.task for event in told] == ["connect", "connect"]
    assert isinstance(told[0].error, NotStorableError)
    assert sum("'connect'" in record.message for record in caplog.records) == 1


async def test_it_is_made_again_if_the_resumed_run_needs_it(store):
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        target = add(close(connect()), fragile(1))
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target, run_id="run")
        assert await engine.run(add(close(connect()), fragile(1)), run_id="run") == 2
    assert calls.count("connect") in (1, 2)  # once if `close` was done before the failure


async def test_strict_makes_it_the_error_of_the_node(store):
    async with cs.Engine(store=store, strict=True) as engine:
        with pytest.raises(NotStorableError):
            await engine.run(close(connect()), run_id="run")
    assert calls == ["connect"]


@pytest.mark.parametrize("use_vm", [False, True])
@pytest.mark.parametrize("loop", [count, ask])
async def test_arguments_of_a_loop_that_cannot_be_stored_fail_at_its_first_step(
    store, loop, use_vm
):
    async with cs.Engine(store=store) as engine:
        with pytest.raises(NotStorableError, match="Handle"):
            await engine.run(loop(20, Handle()), run_id="run", use_vm=use_vm)
    assert calls.count(loop.name) == 1


async def test_large_values_lie_apart_and_are_dropped_with_their_users(store):
    async with cs.Engine(store=store) as engine:
        assert await engine.run(keeping(5), run_id="run") == 0
    loaded = store.load(_found(store).number)
    assert not loaded.records
    assert not store._runs[loaded.run.number].blobs


async def test_a_large_value_is_read_when_it_is_needed(store):
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:

        def target() -> Any:
            value = big(50_000)
            return size_of(value, fragile(1).after(value))

        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target(), run_id="run")
        assert len(store._runs[_found(store).number].blobs) == 1
        assert await engine.run(target(), run_id="run") == 50_001
    assert calls.count("big") == 1


async def test_the_rows_of_caught_failures_are_dropped_with_their_step(store):
    most = 0

    class Watching(MemoryStore):
        def commit(self, batch: Sequence[Commit], *, seconds: float) -> Sequence[Receipt]:
            nonlocal most
            found = super().commit(batch, seconds=seconds)
            most = max(most, *(len(run.records) for run in self._runs.values()))
            return found

    watching = Watching()
    async with cs.Engine(store=watching) as engine:
        assert await engine.run(failing_tools(20), run_id="run") == 0
    assert most <= 3
    assert not watching.load(_found(watching).number).records


async def test_a_run_that_nobody_brings_forward_is_dead(store, monkeypatch):
    """D3: a run that ends its process each time must not do so for ever."""
    monkeypatch.setattr(starting, "MOST_RECOVERIES", 3)
    async with cs.Engine(store=store) as engine:
        fails["left"] = 1
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(fragile(1), run_id="run")
        for _ in range(3):
            store.claim_run("run", Lease("other", 0), again=True)
        with pytest.raises(RunConflictError, match="is dead"):
            await engine.run(fragile(1), run_id="run")
        assert _found(store).status is RunStatus.DEAD
        assert calls == ["fragile"]
        assert await engine.run(fragile(1), run_id="run") == 1


async def test_a_refused_run_is_not_held(store):
    """Whoever gives other parameters does not own the run."""
    async with cs.Engine(store=store) as engine:
        fails["left"] = 1
        target = add(cs.Param("n", type=int), fragile(1))
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target, {"n": 1}, run_id="run")
        store.claim_run("run", Lease("other", 0), again=True)  # it is under way, its owner gone
        with pytest.raises(RunConflictError, match="other parameters"):
            await engine.run(target, {"n": 2}, run_id="run")
        assert _found(store).status is RunStatus.ENQUEUED
        assert await engine.run(target, {"n": 1}, run_id="run") == 2


async def test_a_full_disk_interrupts_a_run(store):
    life = Life(Crash("commit", 3))
    async with cs.Engine(store=View(store, life)) as engine:
        with pytest.raises(StoreError):
            await engine.run(ask(9), run_id="run")
    assert _found(store).status is RunStatus.RUNNING
    before = calls.count("ask")
    async with cs.Engine(store=View(store, Life(None))) as engine:
        assert await engine.run(ask(9), run_id="run") == 2
    assert before < 10
    assert 10 <= calls.count("ask") <= 11


async def test_a_cancel_of_a_run_whose_store_is_gone_is_a_cancel(store):
    life = Life(None)
    begun = asyncio.Event()

    @cs.task
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with cs.Engine(store=View(store, life)) as engine:
        running = asyncio.ensure_future(engine.run(wait(), run_id="run"))
        await begun.wait()
        life.is_over = True
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("use_vm", [False, True])
async def test_steps_of_earlier_processes_count(store, use_vm):
    """M20."""
    life = Life(Crash("committed", 6))
    async with cs.Engine(store=View(store, life)) as engine:
        with pytest.raises(StoreError):
            await engine.run(ask(9), run_id="run", use_vm=use_vm, max_steps=9)
    async with cs.Engine(store=View(store, Life(None))) as engine:
        with pytest.raises(StepLimitError):
            await engine.run(ask(9), run_id="run", use_vm=use_vm, max_steps=8)
        assert await engine.run(ask(9), run_id="run", use_vm=use_vm, max_steps=9) == 2
    assert 10 <= calls.count("ask") <= 12


async def test_a_variable_is_what_it_was_when_the_run_has_read_it(store, monkeypatch):
    monkeypatch.setenv("PLACE", "7")
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:

        def target() -> Any:
            place = cs.Env("PLACE")
            return _joined(place, fragile(1).after(_joined(place, 0)))

        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target(), run_id="run")
        monkeypatch.setenv("PLACE", "8")
        assert await engine.run(target(), run_id="run") == "7, 1"


@cs.task
def _joined(place: str, number: int) -> str:
    return f"{place}, {number}"


async def test_what_was_signed_with_another_key_is_not_read(store):
    fails["left"] = 1
    async with cs.Engine(store=store, signing_key="one") as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(add(add(1, 1), fragile(1).after(add(1, 1))), run_id="run")
    async with cs.Engine(store=store, signing_key="two") as engine:
        with pytest.raises(SerializationError):
            await engine.run(add(add(1, 1), fragile(1).after(add(1, 1))), run_id="run")


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_every_durability_keeps_the_end(store, durability):
    async with cs.Engine(store=store, durability=durability) as engine:
        assert await engine.run(ask(40), run_id="run") == 2
        made = len(calls)
        assert await engine.run(ask(40), run_id="run") == 2
    assert len(calls) == made


@cs.task
async def step(n: int, last: object = None) -> object:
    looks[-1](n)
    return last if n == 0 else step.tail(n - 1, add(n, 1))


looks: list[Callable[[int], None]] = []


@pytest.mark.timeout(0 if STEPS > 2000 else 60)
def test_storage_and_memory_of_a_long_loop_are_flat(tmp_path):
    file = tmp_path / "runs.db"
    store = open_store(f"sqlite:///{file}?synchronous=normal")
    sizes: list[tuple[int, int, int]] = []

    def look(n: int) -> None:
        if n % (STEPS // 4) == 0:
            calls.clear()
            gc.collect()
            wal = file.with_name("runs.db-wal").stat().st_size
            sizes.append((len(gc.get_objects()), file.stat().st_size, wal))

    looks.append(look)

    async def main() -> None:
        async with cs.Engine(store=store) as engine:
            assert await engine.run(step(STEPS), run_id="run") == 2

    asyncio.run(main())
    store.close()
    objects, stored, waiting = zip(*sizes[1:], strict=True)
    assert max(objects) - min(objects) < 500
    assert max(stored) <= stored[0] + 64 * 1024
    assert max(waiting) < 6 << 20  # SQLite moves it into the file at 4 MB
