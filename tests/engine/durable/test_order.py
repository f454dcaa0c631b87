"""No call is based on a value that a crash takes back (D4): each value is another one each time."""

import asyncio
import itertools
import os
import random
from collections import defaultdict
from typing import Any, cast

import pytest
from tests.differential.crashes import POINTS, Crash, Life, View

import cascade as cs
from cascade.adapters.stores.memory import MemoryStore
from cascade.runtime.durable.rows import rows_of
from cascade.spec.run_store import RunStore

SEEDS = int(os.environ.get("CASCADE_SEEDS", "25"))
tokens = itertools.count()
#: Node → the inputs that its calls have seen.
seen: defaultdict[str, list[Any]] = defaultdict(list)
life = Life(None)


def _token(node: str, given: Any) -> str:
    """The value of a call: never the same."""
    if not life.passes("call"):
        raise RuntimeError("the process does not live any more")
    seen[node].append(given)
    life.passes("called")
    return f"{node}:{next(tokens)}"


@cs.task
def plain(node: str, *given: str) -> str:
    return _token(node, given)


@cs.task
async def awaiting(node: str, *given: str) -> str:
    await asyncio.sleep(0)
    return _token(node, given)


@cs.task
def planned(node: str, *given: str) -> object:
    token = _token(node, given)
    return awaiting(f"{node}.b", plain(f"{node}.a", token), token)


@cs.task
async def looping(node: str, left: int, *given: str) -> object:
    token = _token(f"{node}.{left}", given)
    if not left:
        return token
    return looping.tail(node, left - 1, token)


@cs.task
async def asking(node: str, left: int, last: str) -> object:
    token = _token(f"{node}.{left}", last)
    if not left:
        return token
    return asking.tail(node, left - 1, plain(f"{node}.{left}.tool", token))


@cs.task
def joined(node: str, given: list[str]) -> str:
    return _token(node, tuple(given))


def _graph(rng: random.Random) -> Any:
    """Layers of nodes, each of which needs some of those before."""
    nodes: list[Any] = []
    for number in range(rng.randint(3, 9)):
        node: Any
        name, given = f"n{number}", rng.sample(nodes, min(len(nodes), rng.randint(0, 2)))
        match rng.randint(0, 6):
            case 0 | 1:
                node = plain(name, *given)
            case 2:
                node = awaiting(name, *given)
            case 3:
                node = planned(name, *given)
            case 4:
                node = looping(name, rng.randint(1, 3), *given)
            case 5:
                node = asking(name, rng.randint(1, 3), given[0] if given else "")
            case _:
                node = joined(name, given)
        nodes.append(node)
    return joined("end", nodes)


async def _live(store: MemoryStore, seed: int, crash: Crash | None) -> object:
    global life
    life = Life(crash)
    target = _graph(random.Random(seed))
    use_vm = crash is not None and crash.tier is not None
    async with cs.Engine(store=cast(RunStore, View(store, life))) as engine:
        return await engine.run(target, run_id="run", use_vm=use_vm)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_node_is_called_with_two_inputs(seed: int) -> None:
    seen.clear()
    rng, store = random.Random(seed), MemoryStore()
    for _ in range(rng.randint(1, 4)):
        crash = Crash(rng.choice(POINTS), rng.randint(0, 10), rng.choice([None, "auto"]))
        try:
            asyncio.run(_live(store, seed, crash))
        except Exception:
            assert life.is_over
    asyncio.run(_live(store, seed, None))
    different = {node: given for node, given in seen.items() if len(set(given)) > 1}
    assert not different
    run = store.find("run")
    assert run is not None
    loaded = store.load(run.number)
    assert not loaded.records
    for chunk in loaded.chunks:  # each has an outcome of the target's graph
        assert any(row.owner is None for row in rows_of(chunk))
