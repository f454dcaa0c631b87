"""Forks: a new run that begins with what another one knows."""

import sqlite3

import pytest
from tests.engine.durable.tasks import calls, fails, fragile

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.forking import fork, graphs_of
from cascade.spec.errors import ArgumentError, RunConflictError, RunNotFoundError
from cascade.spec.run_rows import RunStatus

CODEC = Codec()


@pytest.fixture(params=["memory", "sqlite"])
def store(request, store_url):
    store = open_store(store_url(request.param))
    yield store
    store.close()


@cs.task
def load(n: int) -> list[int]:
    calls["load"] += 1
    return list(range(n))


@cs.task
def double(x: int) -> int:
    calls["double"] += 1
    return 2 * x


@cs.task
def total(values: list[int], scale: int) -> int:
    calls["total"] += 1
    return sum(values) * scale


@cs.task
def plan(n: int) -> object:
    calls["plan"] += 1
    return fragile(double(n) + double(n + 1))


@cs.task
def large(n: int) -> str:
    calls["large"] += 1
    return "x" * n


def report():
    return total(double.map(x=load(3)), cs.Param("scale", 1, int))


async def resumed(store, run_id):
    calls.clear()
    async with cs.Engine(store=store) as engine:
        return await engine.resume(run_id)


async def test_a_fork_knows_what_the_run_knows(store):
    async with cs.Engine(store=store) as engine:
        assert await engine.run(report(), run_id="one") == 6
    made = fork(store, CODEC, "one", "two")
    assert (made.run_id, made.parent, made.status) == ("two", "one", RunStatus.ENQUEUED)
    assert await resumed(store, "two") == 6
    assert calls == {}


@cs.task
def pay(order: str, tx=cs.inject(cs.transaction)) -> str:
    calls["pay"] += 1
    tx.execute("INSERT INTO paid VALUES (?)", (order,))
    return f"paid {order}"


async def test_a_fork_knows_what_transactions_have_committed(tmp_path):
    """D5: the effect is there, so the call is not made again."""
    store = open_store(f"sqlite:///{tmp_path}/runs.db")
    with sqlite3.connect(f"{tmp_path}/runs.db") as database:
        database.execute("CREATE TABLE paid (name)")
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(fragile(pay("book")), run_id="one")
    steps = graphs_of(CODEC, store.load(store.find("one").number)).steps()
    assert [step.task for step in steps] == ["pay"]
    fork(store, CODEC, "one", "two")
    fork(store, CODEC, "one", "three", again=["pay"])
    assert await resumed(store, "two") == "paid book"
    assert calls == {"fragile": 1}
    assert await resumed(store, "three") == "paid book"
    assert calls == {"pay": 1, "fragile": 1}
    assert database.execute("SELECT count(*) FROM paid").fetchone() == (2,)
    database.close()
    store.close()


@pytest.mark.parametrize(
    ("again", "called"),
    [
        ("total", {"total": 1}),
        ("double", {"double": 3, "total": 1}),
        ("load", {"load": 1, "double": 3, "total": 1}),
    ],
)
async def test_a_node_is_made_again_with_all_that_needs_it(store, again, called):
    async with cs.Engine(store=store) as engine:
        await engine.run(report(), run_id="one")
    fork(store, CODEC, "one", "two", again=[again])
    assert await resumed(store, "two") == 6
    assert calls == called
    assert store.find("one").status is RunStatus.SUCCEEDED


async def test_a_node_is_named_by_its_key(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(report(), run_id="one")
    steps = graphs_of(CODEC, store.load(store.find("one").number)).steps()
    assert [step.task for step in steps] == ["load", "double", "double", "double", "total"]
    fork(store, CODEC, "one", "two", again=[steps[1].key.hex()[:12]])
    assert await resumed(store, "two") == 6
    assert calls == {"double": 1, "total": 1}


async def test_another_parameter_makes_its_readers_again(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(report(), run_id="one")
    fork(store, CODEC, "one", "two", params={"scale": 5})
    assert await resumed(store, "two") == 30
    assert calls == {"total": 1}


async def test_a_fork_of_a_failed_run_has_its_continuations(store):
    """The task that returned a graph is not called again, what is done in the graph neither."""
    fails["left"] = 1
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(plan(3), run_id="one")
    steps = graphs_of(CODEC, store.load(store.find("one").number)).steps()
    assert [(step.task, step.state) for step in steps] == [
        ("double", "done"),
        ("double", "done"),
        ("plan", "continued"),
    ]
    fork(store, CODEC, "one", "as it is")
    fork(store, CODEC, "one", "doubled again", again=["double"])
    fork(store, CODEC, "one", "planned again", again=["plan"])
    assert await resumed(store, "as it is") == 14
    assert calls == {"fragile": 1}
    assert await resumed(store, "doubled again") == 14
    assert calls == {"fragile": 1, "double": 2}
    assert await resumed(store, "planned again") == 14
    assert calls == {"plan": 1, "fragile": 1, "double": 2}


async def test_large_values_belong_to_the_fork_as_well(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(fragile(large(100_000)), run_id="one")
    fork(store, CODEC, "one", "two", again=["fragile"])
    store.delete("one")
    assert await resumed(store, "two") == "x" * 100_000
    assert calls == {"fragile": 1}


async def test_what_cannot_be_forked_is_refused(store):
    async with cs.Engine(store=store) as engine:
        await engine.run(report(), run_id="one")
    with pytest.raises(RunNotFoundError, match="no run 'other'"):
        fork(store, CODEC, "other", "two")
    with pytest.raises(RunConflictError, match="there is a run 'one' already"):
        fork(store, CODEC, "one", "one")
    with pytest.raises(ArgumentError, match=r"no node 'lod' \(did you mean 'load'\?\)"):
        fork(store, CODEC, "one", "two", again=["lod"])
    with pytest.raises(ArgumentError, match="no parameter 'factor'; it has scale"):
        fork(store, CODEC, "one", "two", params={"factor": 2})
    assert [run.run_id for run in store.runs()] == ["one"]
