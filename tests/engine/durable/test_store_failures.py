"""Stores that fail just when a run is claimed, read or waited for (D6, D8)."""

import asyncio
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine.durable.tasks import add, calls, fails, fragile

import cascade as cs
from cascade.adapters.stores.memory import MemoryStore
from cascade.adapters.stores.sqlite import SQLiteStore
from cascade.runtime.durable.blobs import LARGE
from cascade.spec.errors import RunLeasedError, StoreError
from cascade.spec.run_rows import Chunk, Commit, Lease, RunRecord, RunStatus


class Failing(MemoryStore):
    """Fails some calls of some methods."""

    def __init__(self, transient: bool = True) -> None:
        super().__init__()
        self.transient = transient
        #: Method → how many of its next calls fail.
        self.failures: Counter[str] = Counter()

    def _fail(self, method: str) -> None:
        if self.failures[method]:
            self.failures[method] -= 1
            raise StoreError("the store is away", self.transient)

    def find(self, run_id: str) -> RunRecord | None:
        self._fail("find")
        return super().find(run_id)

    def load(self, run: int) -> Any:
        self._fail("load")
        return super().load(run)

    def blobs(self, run: int, digests: Any) -> Any:
        self._fail("blobs")
        return super().blobs(run, digests)

    def commit(self, batch: Any, *, seconds: float) -> Any:
        self._fail("commit")
        return super().commit(batch, seconds=seconds)


def _record(store: MemoryStore, run_id: str) -> RunRecord:
    run = MemoryStore.find(store, run_id)
    assert run is not None
    return run


# -- claims that come to nothing ------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("transient", [True, False])
@pytest.mark.timeout(9)  # a lease holds for ten seconds
async def test_a_worker_leaves_a_run_to_others_that_it_has_claimed_and_cannot_load(
    transient: bool, told: bool
) -> None:
    store, stop = Failing(transient), asyncio.Event()
    store.failures.update({"load": 1, "commit": 0 if told else 1})
    handle = cs.enqueue(store, add(1, 2), run_id="one")
    async with cs.Engine(store=store) as engine:
        worker = asyncio.create_task(engine.serve(stop=stop))
        assert await handle.result() == 3
        stop.set()
        await worker
    run = _record(store, "one")
    assert run.epoch == 2
    assert calls == {"add": 1}


async def test_a_run_that_cannot_be_loaded_is_tried_less_and_less_often() -> None:
    """Others may have it earlier than at the end of a lease, but not again and again."""
    store, pauses = Failing(), []

    def commit(batch: Any, *, seconds: float) -> Any:
        pauses.append(seconds)
        return super(Failing, store).commit(batch, seconds=0)

    store.commit = commit  # type: ignore[method-assign]
    cs.enqueue(store, add(1, 2), run_id="one")
    async with cs.Engine(store=store) as engine:
        for _ in range(8):
            store.failures["load"] = 1
            with pytest.raises(StoreError, match="away"):
                await engine.run(add(1, 2), run_id="one")
        assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]
        assert await engine.run(add(1, 2), run_id="one") == 3


@pytest.mark.parametrize("method", ["load", "commit"])
async def test_a_run_that_its_store_has_interrupted_can_be_run_again_at_once(method: str) -> None:
    """By any engine of the process; another process waits for the end of the lease."""
    store = Failing(transient=False)
    cs.enqueue(store, add(1, 2), run_id="one")
    store.failures[method] = 2
    async with cs.Engine(store=store) as engine:
        with pytest.raises(StoreError, match="away"):
            await engine.run(add(1, 2), run_id="one")
    store.failures.clear()
    run = _record(store, "one")
    assert run.status is RunStatus.RUNNING
    with pytest.raises(RunLeasedError):
        store.claim_run("one", Lease("another process", 10))
    async with cs.Engine(store=store) as engine:
        assert await engine.resume("one") == 3


async def test_the_run_of_another_engine_is_not_taken_for_an_interrupted_one() -> None:
    store = Failing(transient=False)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @cs.task
    async def wait() -> str:
        begun.set()
        await go_on.wait()
        return "waited"

    async with cs.Engine(store=store) as first, cs.Engine(store=store) as second:
        store.failures["commit"] = 2
        with pytest.raises(StoreError, match="away"):
            await first.run(wait().after(add(1, 2)), run_id="one")
        store.failures.clear()
        running = asyncio.ensure_future(second.run(wait().after(add(1, 2)), run_id="one"))
        await begun.wait()
        with pytest.raises(RunLeasedError):
            await first.run(wait().after(add(1, 2)), run_id="one")
        go_on.set()
        assert await running == "waited"


async def test_a_run_is_let_go_of_if_the_call_is_cancelled_while_it_claims_it() -> None:
    store, claims, go_on = Failing(), asyncio.Event(), threading.Event()
    loop, create = asyncio.get_running_loop(), store.create

    def slow(*args: Any, **options: Any) -> Any:
        loop.call_soon_threadsafe(claims.set)
        assert go_on.wait(20)
        return create(*args, **options)

    store.create = slow  # type: ignore[method-assign]
    async with cs.Engine(store=store) as engine:
        running = asyncio.ensure_future(engine.run(add(1, 2), run_id="one"))
        await claims.wait()
        running.cancel()
        loop.call_later(0.01, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await running
    store.claim_run("one", Lease("another process", 10))


async def test_a_damaged_run_is_left_to_other_workers(caplog: pytest.LogCaptureFixture) -> None:
    store, stop = MemoryStore(), asyncio.Event()
    cs.enqueue(store, add(1, 2), run_id="damaged")
    run = store.claim_run("damaged", Lease("one", 10))
    store.commit([Commit(run.number, run.epoch, chunks=[Chunk(1, b"nonsense")])], seconds=0)
    handle = cs.enqueue(store, add(3, 4), run_id="whole")
    async with cs.Engine(store=store) as engine:
        worker = asyncio.create_task(engine.serve(stop=stop))
        assert await handle.result() == 7
        told = "run 'damaged' is left to other workers: chunk 1 of a journal is damaged"
        async with asyncio.timeout(20):
            while told not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        stop.set()
        await worker
    store.claim_run("damaged", Lease("another process", 10), dead=store.owners())


# -- what is read while a run is under way --------------------------------------------------------


@cs.task
def long_text() -> str:
    calls["long_text"] += 1
    return LARGE * "x"


@cs.task
def length(text: str) -> int:
    return len(text)


async def test_a_large_value_that_cannot_be_read_interrupts_the_run() -> None:
    """It has not failed."""
    store = Failing()

    def target() -> Any:
        text = long_text()
        return length(text).after(fragile(1).after(text))

    async with cs.Engine(store=store) as engine:
        fails["left"] = 1
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target(), run_id="one")
        store.failures["blobs"] = 1
        with pytest.raises(StoreError, match="away"):
            await engine.run(target(), run_id="one")
        assert _record(store, "one").status is RunStatus.RUNNING
        assert await engine.run(target(), run_id="one") == LARGE
    assert calls["long_text"] == 1


@pytest.mark.parametrize("method", ["find", "load"])
async def test_the_result_of_a_run_is_waited_for_while_the_store_is_away(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing()
    handle = cs.enqueue(store, add(1, 2), run_id="one")
    async with cs.Engine(store=store) as engine:
        await engine.resume("one")
        store.failures[method] = 2
        waiting = asyncio.create_task(handle.result())
        assert await waiting == 3
    assert caplog.text.count("run 'one' is waited for: the store is away") == 1


async def test_the_result_of_a_run_is_an_error_if_the_store_will_not_come_back() -> None:
    store = Failing(transient=False)
    handle = cs.enqueue(store, add(1, 2), run_id="one")
    store.failures["find"] = 1
    with pytest.raises(StoreError, match="away"):
        await handle.result()


# -- transactions of tasks -------------------------------------------------------------------------


@cs.task
def pay(tx: Any = cs.inject(cs.transaction)) -> str:
    tx.execute("INSERT INTO payments VALUES ('paid')")
    return "paid"


async def test_a_transaction_waits_while_another_program_holds_the_lock(tmp_path: Path) -> None:
    """Longer than the timeout: nothing has happened in it yet, so it is begun again."""
    loop, refused = asyncio.get_running_loop(), asyncio.Event()

    class Watched(SQLiteStore):
        def transaction(self, run: int, epoch: int) -> Any:
            self.begun += 1
            if self.begun == 3:
                loop.call_soon_threadsafe(refused.set)
            return super().transaction(run, epoch)

        begun = 0

    @cs.task
    async def lock() -> None:
        stranger.execute("BEGIN IMMEDIATE")

    file = tmp_path / "runs.db"
    store = Watched(str(file), timeout=0.01)
    with closing(sqlite3.connect(file, isolation_level=None)) as stranger:
        stranger.execute("CREATE TABLE payments (name)")
        async with cs.Engine(store=store, durability="async") as engine:
            run = engine.start(pay().after(lock()), run_id="one")
            await refused.wait()
            stranger.execute("ROLLBACK")
            assert await run.result() == "paid"
        assert stranger.execute("SELECT count(*) FROM payments").fetchone() == (1,)
    store.close()
