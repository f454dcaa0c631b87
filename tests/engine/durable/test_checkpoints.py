"""What a durable run keeps when: ``cs.checkpoint`` and ``with_checkpoint`` (D4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.engine.durable.tasks import calls

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_from_json, blueprint_to_json
from cascade.graph.serialize import from_json, to_json
from cascade.runtime.durable.rows import rows_of
from cascade.spec.errors import ArgumentError, DefinitionError, LazyUseError
from cascade.spec.run_store import RunStore

looks: list[Callable[[], None]] = []
PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
MODES = pytest.mark.parametrize("durability", ["sync", "async", "exit"])


@pytest.fixture(autouse=True)
def nothing_looks() -> None:
    looks.clear()


@cs.task
def large(x: int) -> int:
    calls["large"] += 1
    return x


@cs.task
def fragile(x: int) -> int:
    calls["fragile"] += 1
    if calls["fragile"] == 1:
        raise ValueError("not yet")
    return x


@cs.task
async def order(step: int) -> Any:
    """The last step sees what is committed."""
    if step == 3:
        looks[-1]()
        return step
    return cs.checkpoint(order.tail(step + 1))


@cs.task
def plain_order(step: int) -> Any:
    if step == 100:
        looks[-1]()
        return step
    if step > 90:
        return cs.checkpoint(plain_order.tail(step + 1))
    return plain_order.tail(step + 1)


@cs.task
def steps(n: int) -> Any:
    looks[-1]()
    return n if n == 0 else steps.tail(n - 1)


@cs.task
async def async_steps(n: int) -> Any:
    looks[-1]()
    return n if n == 0 else async_steps.tail(n - 1)


def records_of(store: RunStore) -> list[bytes]:
    run = store.find("one")
    assert run is not None
    return [record.body for record in store.load(run.number).records]


@PATHS
@MODES
async def test_a_checkpoint_is_committed_before_the_next_step(
    store: RunStore, durability: Any, use_vm: bool
) -> None:
    """D4, whatever the mode."""
    seen: list[list[bytes]] = []
    looks.append(lambda: seen.append(records_of(store)))
    async with cs.Engine(store=store, durability=durability) as engine:
        assert await engine.run(order(0), run_id="one", use_vm=use_vm) == 3
    ((record,),) = seen
    assert b'"args":{"step":3}' in record


@PATHS
@MODES
async def test_so_is_one_of_a_plain_function(
    store: RunStore, durability: Any, use_vm: bool
) -> None:
    seen: list[list[bytes]] = []
    looks.append(lambda: seen.append(records_of(store)))
    async with cs.Engine(store=store, durability=durability) as engine:
        assert await engine.run(plain_order(0), run_id="one", use_vm=use_vm) == 100
    ((record,),) = seen
    assert b'"args":{"step":100}' in record


@PATHS
def test_without_a_store_a_checkpoint_is_a_tail_call(use_vm: bool) -> None:
    looks.append(lambda: None)
    assert cs.run([order(0), plain_order(0)], use_vm=use_vm) == [3, 100]


def test_a_checkpoint_is_of_a_tail_call() -> None:
    with pytest.raises(ArgumentError, match="takes a tail call, but got 3"):
        cs.checkpoint(3)


def test_a_dropped_checkpoint_is_refused() -> None:
    def drops(n: int) -> Any:
        cs.checkpoint(large.tail(n))

    with pytest.raises(DefinitionError, match="makes a tail call at"):
        cs.task(drops)


@PATHS
async def test_a_node_that_is_not_kept_is_made_again(store: RunStore, use_vm: bool) -> None:
    def target() -> Any:
        return fragile(large(3).with_checkpoint(False))

    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target(), run_id="one", use_vm=use_vm)
        assert await engine.run(target(), run_id="one", use_vm=use_vm) == 3
    assert calls == {"large": 2, "fragile": 2}
    run = store.find("one")
    assert run is not None
    rows = [row for chunk in store.load(run.number).chunks for row in rows_of(chunk)]
    assert len(rows) <= 1  # the target's


@PATHS
async def test_no_item_of_a_map_is_kept(store: RunStore, use_vm: bool) -> None:
    def target() -> Any:
        return [fragile(0), large.map(x=[1, 2, 3]).with_checkpoint(False)]

    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.run(target(), run_id="one", use_vm=use_vm)
        before = calls["large"]
        assert await engine.run(target(), run_id="one", use_vm=use_vm) == [0, [1, 2, 3]]
    assert calls["large"] == before + 3


@pytest.mark.parametrize("loop", [steps, async_steps])
@PATHS
async def test_each_step_of_a_loop_may_be_kept(store: RunStore, loop: Any, use_vm: bool) -> None:
    seen: list[list[bytes]] = []
    looks.append(lambda: seen.append(records_of(store)))
    async with cs.Engine(store=store) as engine:
        await engine.run(loop(40).with_checkpoint(every=0), run_id="one", use_vm=use_vm)
    assert seen[0] == []
    for left, (record,) in zip(range(39, -1, -1), seen[1:], strict=True):
        assert b'"args":{"n":%d}' % left in record


@pytest.mark.parametrize("kept", [{"every": 3600}, {"kept": False}], ids=str)
@pytest.mark.parametrize("loop", [steps, async_steps])
@PATHS
async def test_or_hardly_any(store: RunStore, loop: Any, kept: Any, use_vm: bool) -> None:
    seen: list[list[bytes]] = []
    looks.append(lambda: seen.append(records_of(store)))
    async with cs.Engine(store=store) as engine:
        await engine.run(loop(40).with_checkpoint(**kept), run_id="one", use_vm=use_vm)
    assert len(set(map(tuple, seen))) <= (1 if "kept" in kept else 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kept": 1}, "must be True or False, but is 1"),
        ({"every": -1}, "every= in seconds ≥ 0, but got -1"),
        ({"every": float("inf")}, "but got inf"),
        ({"kept": False, "every": 1}, "takes no every="),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        large(1).with_checkpoint(**arguments)
    with pytest.raises(LazyUseError):
        cs.gather([large(1)]).with_checkpoint(False)


@pytest.mark.parametrize("kept", [{"every": 0}, {"every": 2.5}, {"kept": False}, {}], ids=str)
def test_it_is_part_of_a_graph_as_json(kept: Any) -> None:
    lazy = large(1).with_checkpoint(**kept)
    assert from_json(to_json(lazy)).target._calls == lazy._calls
    blueprint = BlueprintBuilder().build(lazy)
    again = blueprint_from_json(blueprint_to_json(blueprint))
    assert again.instructions[-1].policies == lazy._calls


def test_it_may_be_switched_off() -> None:
    assert large(1).with_checkpoint(every=1).with_checkpoint()._calls.checkpoint is None


# -- long loops -----------------------------------------------------------------------------------


@cs.task
async def ping(left: int, limited: int) -> Any:
    if left == limited:
        looks[-1]()
    return keyed.tail(left) if left <= 0 else pong.tail(left - 1, limited)


@cs.task
async def pong(left: int, limited: int) -> Any:
    return ping.tail(left - 1, limited)


@cs.task
async def keyed(_left: int, key: str = cs.inject(cs.idempotency_key)) -> str:
    return key


@pytest.mark.parametrize("limited", [-1, 50, 1400], ids=["never", "late", "early"])
@PATHS
async def test_every_step_of_a_long_loop_counts_in_the_keys_after_it(
    limited: int, use_vm: bool
) -> None:
    """Also steps in batches without a record, for each way in which the loop may end (D3)."""
    async with cs.Engine(store="memory:", durability="async") as engine:
        looks.append(lambda: engine.constraints.limit_rate("task:pong", "1000000/s"))
        key = await engine.run(ping(1500, limited), run_id="run", use_vm=use_vm)
    assert key.rpartition("/")[2] == "1501"
