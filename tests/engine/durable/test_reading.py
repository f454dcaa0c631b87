"""How often a stored run is read, and which of its rows (D1, D2)."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.durable.tasks import calls, fails

import cascade as cs
from cascade.adapters.stores.memory import MemoryStore
from cascade.graph.records import graph_record
from cascade.runtime.durable import programs
from cascade.runtime.durable.rows import BLOB, ERROR, VALUE, plain_values, rows_of, written
from cascade.runtime.durable.starting import as_claimed
from cascade.spec.run_rows import (
    Change,
    Chunk,
    Commit,
    Lease,
    Loaded,
    NewRun,
    RunRecord,
    RunStatus,
)

KEYS = [bytes([number]) * 16 for number in range(1, 5)]


class CountingStore(MemoryStore):
    """Counts the reads of each run."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: Counter[int] = Counter()

    def load(self, run: int) -> Loaded:
        self.loads[run] += 1
        return super().load(run)


@cs.task
def number(value: int) -> int:
    calls["number"] += 1
    return value


@cs.task
def total(values: list[int]) -> int:
    if fails["left"]:
        fails["left"] -= 1
        raise ValueError("not yet")
    return sum(values)


def _target() -> cs.LazyResult[int]:
    return total([number(value) for value in range(5)])


def _chunk(*entries: bytes) -> Chunk:
    return Chunk(7, b"\n".join(entries))


@pytest.mark.parametrize("name", ["load", 'a",0,"",b', "übel\\", "two\nlines", ""])
@pytest.mark.parametrize("value", [1, 'x",0,"",y', ["a", None], "two\nlines"])
def test_values_are_read_without_their_rows(name: str, value: Any) -> None:
    body = json.dumps(value).encode()
    chunk = _chunk(*[written(key, name, VALUE, None, body) for key in KEYS])
    rows = rows_of(chunk)
    assert plain_values(chunk) == ([row.key for row in rows], [row.body for row in rows])
    assert [row.key for row in rows] == KEYS


@pytest.mark.parametrize(
    "other",
    [
        written(KEYS[1], "load", ERROR, None, b"{}"),
        written(KEYS[1], "load", BLOB, None, b'"00"'),
        written(KEYS[1], "load", VALUE, KEYS[2], b"1"),
        b"",
        b"damaged",
        written(KEYS[1], "load", VALUE, None, b"1").replace(b"0", b"g"),
        written(KEYS[1], "load", VALUE, None, b"1").partition(b"\n")[0],
    ],
    # Rows have the time of their writing, so they cannot be the names of tests.
    ids=["error", "blob", "owned", "empty", "damaged", "no key", "no value"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_other_chunks_are_read_row_by_row(other: bytes, order: int) -> None:
    entries = [written(KEYS[0], "load", VALUE, None, b"1"), other]
    assert plain_values(_chunk(*entries[::order])) is None


@pytest.mark.parametrize("large", [False, True])
async def test_a_run_that_goes_on_is_read_once_and_its_target_not_written(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    monkeypatch.setattr(programs, "_LARGE", 1 if large else 1_000)
    written: list[object] = []
    write = graph_record

    def noted(target: Any, *args: Any, **options: Any) -> bytes:
        written.append(target)
        return write(target, *args, **options)

    monkeypatch.setattr(programs, "graph_record", noted)
    store, fails["left"] = CountingStore(), 2
    async with cs.Engine(store=store) as engine:
        for loads in (0, 1):
            with pytest.raises(ValueError, match="not yet"):
                await engine.run(_target(), run_id="run")
            assert store.loads.total() == loads
        assert await engine.run(_target(), run_id="run") == 10
        assert store.loads.total() == 2
        assert await engine.run(_target(), run_id="run") == 10
        assert store.loads.total() == 3
    assert len(written) == (1 if large else 4)
    assert calls["number"] == 5


async def test_another_process_reads_a_large_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_LARGE", 1)
    store, fails["left"] = MemoryStore(), 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(_target(), run_id="run")
    async with cs.Engine(store=store) as engine:
        assert await engine.resume("run") == 10
    assert calls["number"] == 5


def _claimed_twice(store: MemoryStore) -> tuple[RunRecord, Loaded]:
    """A run that was read while it failed, and the same run as it is claimed again."""
    (created,) = store.create([NewRun("run", "target", b"root" * 4)], lease=Lease("one", 10.0))
    store.commit(_failed(created.run), seconds=10.0)
    loaded = store.load(created.run.number)
    return store.claim_run("run", Lease("two", 10.0), again=True), loaded


def _failed(run: RunRecord) -> Sequence[Any]:
    return [Commit(run.number, run.epoch, change=Change(RunStatus.FAILED, b"null"))]


def test_what_was_read_before_the_claim_is_used_if_it_is_all() -> None:
    run, loaded = _claimed_twice(MemoryStore())
    known = as_claimed(run, loaded)
    assert known == loaded._replace(run=run)


@pytest.mark.parametrize(
    "before",
    [
        {"status": RunStatus.RUNNING},  # its owner may have written more
        {"epoch": 0},  # another process has had it meanwhile
        {"inbox": 3},
        {"number": 0},  # it was deleted, and there is another one with its id
    ],
)
def test_what_was_read_before_others_wrote_is_read_again(before: dict[str, Any]) -> None:
    run, loaded = _claimed_twice(MemoryStore())
    stale = loaded._replace(run=loaded.run._replace(**before))
    assert as_claimed(run, stale) is None
