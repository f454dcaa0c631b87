"""Records of tail calls: lazy values in ``*args``, and large arguments, which are stored apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.forking import fork
from cascade.spec.errors import SerializationError
from cascade.spec.run_store import RunStore

calls: list[Any] = []
fails: set[Any] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()
    fails.clear()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = open_store(f"sqlite:///{tmp_path}/runs.db?synchronous=normal")
    yield store
    store.close()


def _note(*call: Any) -> None:
    calls.append(call)
    if call in fails:
        fails.discard(call)
        raise OSError("no network")


@cs.task
async def search(n: int) -> str:
    _note("search", n)
    return f"text {n}"


@cs.task
async def collect(left: int, *texts: str, **more: str) -> Any:
    _note("collect", left)
    if left == 0:
        return [*texts, more]
    return collect.tail(left - 1, *texts, search(left), last=search(10 * left), again="plain")


def _failed_then(store: RunStore, target: Any, **options: Any) -> Any:
    with pytest.raises(OSError, match="no network"):
        cs.run(target, run_id="r", store=store, **options)
    calls.clear()
    return cs.run(target, run_id="r", store=store, **options)


@pytest.mark.parametrize("use_vm", [False, True])
def test_lazy_values_in_varargs_are_recorded(store: RunStore, use_vm: bool) -> None:
    """D4: what the step needs has its outcome, and the step itself is not made again."""
    fails.add(("search", 20))
    value = _failed_then(store, collect(3), use_vm=use_vm)
    assert value == ["text 3", "text 2", "text 1", {"last": "text 10", "again": "plain"}]
    first, *rest = calls
    assert first == ("search", 20)
    assert rest[0] == ("collect", 1)
    assert ("search", 2) not in calls
    assert ("collect", 2) not in calls


@cs.task
async def agent(n: int, state: str, notes: list[int]) -> Any:
    _note("agent", n)
    if n == 0:
        return len(state), state[:3], notes
    return agent.tail(n - 1, state, [*notes, n])


@pytest.mark.parametrize("use_vm", [False, True])
def test_large_arguments_are_stored_apart_and_once(store: RunStore, use_vm: bool) -> None:
    written: list[Any] = []
    commit = store.commit

    def committed(batch: Any, *, seconds: float) -> Any:
        written.extend(blob for each in batch for blob in each.blobs)
        return commit(batch, seconds=seconds)

    store.commit = committed  # type: ignore[method-assign]
    store.commit_at_once = lambda batch, seconds: None  # type: ignore[attr-defined]
    fails.add(("agent", 1))
    with pytest.raises(OSError, match="no network"):
        cs.run(agent(5, "abc" * 50_000, []), run_id="r", store=store, use_vm=use_vm)
    run = store.find("r")
    assert run is not None
    (record,) = store.load(run.number).records
    assert len(record.body) < 1000
    assert len(written) == 1
    fork(store, Codec(), "r", "copy")
    calls.clear()
    expected = 150_000, "abc", [5, 4, 3, 2]
    assert cs.run(agent(5, "abc" * 50_000, []), run_id="r", store=store) == (
        *expected[:2],
        [5, 4, 3, 2, 1],
    )
    assert calls == [("agent", 1), ("agent", 0)]
    assert not store.blobs(run.number, [blob.digest for blob in written])
    assert cs.run(agent(5, "abc" * 50_000, []), run_id="copy", store=store)[0] == 150_000


def test_records_are_signed(store: RunStore) -> None:
    """Whoever can write to the store cannot choose what a signed run calls next."""
    fails.add(("agent", 1))
    target = agent(5, "abc" * 50_000, [])
    with pytest.raises(OSError, match="no network"):
        cs.run(target, run_id="r", store=store, signing_key="a secret")
    with pytest.raises(SerializationError, match="signed"):
        cs.run(target, run_id="r", store=store)
    with pytest.raises(SerializationError, match="signature"):
        cs.run(target, run_id="r", store=store, signing_key="another one")
    assert cs.run(target, run_id="r", store=store, signing_key="a secret")[0] == 150_000
