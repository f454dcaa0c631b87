"""``cs.current``: what a task knows about its own call."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime.current import Current
from cascade.spec.errors import RunError

PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


def helper() -> Current:
    return cs.current()


@cs.task
def plain(x: Any = None) -> Current:
    return cs.current()


@cs.task
def by_helper(x: Any = None) -> Current:
    return helper()


@cs.task(mode="inline")
def inline(x: Any = None) -> Current:
    return cs.current()


@cs.task
async def first_step(x: Any = None) -> Current:
    return cs.current()


@cs.task
async def later_step(x: Any = None) -> Current:
    await asyncio.sleep(0)
    return cs.current()


@cs.task
async def later_by_helper(x: Any = None) -> Current:
    await asyncio.sleep(0)
    return helper()


KINDS = pytest.mark.parametrize(
    "task",
    [plain, by_helper, inline, first_step, later_step, later_by_helper],
    ids=lambda task: task.name,
)


@cs.resource(scope="task")
def thing():
    yield 1


@KINDS
@PATHS
def test_a_task_knows_its_run_and_its_node(task: Any, use_vm: bool) -> None:
    node = task()
    found = cs.run([node, task(1)], use_vm=use_vm, run_id="one")
    assert found[0] == Current("one", task.name, node.number, None, 1, 0, None, None)
    assert found[1].node == node.number + 1


@KINDS
@PATHS
def test_and_its_place_in_a_map(task: Any, use_vm: bool) -> None:
    found = cs.run(task.map(x=[5, 6, 7]), use_vm=use_vm)
    assert [one.item for one in found] == [0, 1, 2]
    assert {one.task for one in found} == {task.name}


@KINDS
@PATHS
def test_and_who_it_is_whatever_its_policies(task: Any, use_vm: bool) -> None:
    nodes = [
        task(1).with_retry(2),
        task(2).with_timeout(60),
        task(3).with_capacity(gpu=1),
        task(4).run_if(plain()),
        task(plain()),
    ]
    found = cs.run(nodes, use_vm=use_vm, capacities={"gpu": 1})
    assert [one.node for one in found] == [node.number for node in nodes]
    assert {one.task for one in found} == {task.name}


@PATHS
def test_and_with_a_resource_of_its_own(use_vm: bool) -> None:
    @cs.task
    def plainly(x: Any = cs.inject("thing")) -> Current:
        return cs.current()

    @cs.task
    async def async_(x: Any = cs.inject("thing")) -> Current:
        return cs.current()

    nodes = [plainly(), async_(), plainly().with_timeout(60)]
    found = cs.run(nodes, use_vm=use_vm, resources=[thing])
    assert [one.node for one in found] == [node.number for node in nodes]


@PATHS
@pytest.mark.parametrize("is_async", [False, True])
def test_attempts_are_counted(is_async: bool, use_vm: bool) -> None:
    seen: list[int] = []

    def attempt() -> None:
        seen.append(cs.current().attempt)
        if len(seen) < 3:
            raise ValueError

    async def attempt_async() -> None:
        attempt()

    task: Any = cs.task(attempt_async if is_async else attempt)
    cs.run(task().with_retry(5), use_vm=use_vm)
    assert seen == [1, 2, 3]


steps: list[int] = []


@cs.task
def count(n: int) -> Any:
    steps.append(cs.current().step)
    return n if n == 0 else count.tail(n - 1)


@cs.task
async def async_count(n: int) -> Any:
    steps.append(cs.current().step)
    return n if n == 0 else async_count.tail(n - 1)


@cs.task
def other(n: int) -> Any:
    """A loop that is compiled, and goes on as another one."""
    return count.tail(1) if n == 0 else other.tail(n - 1)


@pytest.mark.parametrize("task", [count, async_count])
@PATHS
def test_steps_are_counted(task: Any, use_vm: bool) -> None:
    """Also those beyond the point from which loops are compiled."""
    steps.clear()
    cs.run(task(500), use_vm=use_vm)
    assert steps == list(range(501))


@PATHS
def test_those_of_a_compiled_loop_too(use_vm: bool) -> None:
    steps.clear()
    cs.run(other(5000), use_vm=use_vm)
    assert steps == [5001, 5002]


@pytest.mark.parametrize("task", [count, async_count])
@PATHS
def test_a_program_knows_them(task: Any, use_vm: bool) -> None:
    async def main() -> Any:
        async with cs.Engine() as engine:
            program = engine.compile(plain(1))
            return [(await program.run()).task, (await program.run()).run_id]

    name, run_id = asyncio.run(main())
    assert name == "plain"
    assert run_id


@PATHS
def test_a_task_in_a_returned_chain_is_itself(use_vm: bool) -> None:
    """Straight-line code would make these calls within the one that returned them."""

    @cs.task
    def last(x: Current) -> list[str]:
        return [x.task, cs.current().task]

    @cs.task
    def chains(n: int) -> Any:
        return last(plain(n))

    found = cs.run([chains(n) for n in range(10)], use_vm=use_vm)
    assert found == [["plain", "last"]] * 10


@PATHS
def test_a_helper_in_straight_line_code_is_told_that_it_cannot_know(use_vm: bool) -> None:
    @cs.task
    def last(x: Any) -> Any:
        return x

    @cs.task
    def guess(x: int) -> str:
        try:
            return helper().task
        except RunError:
            return "cannot be told"

    @cs.task
    def chains(n: int) -> Any:
        return last(guess(n))

    found = cs.run([chains(n) for n in range(10)], use_vm=use_vm)
    assert set(found) <= {"guess", "cannot be told"}


def test_what_a_task_has_started_is_told_to_ask_the_task() -> None:
    @cs.task
    async def starts() -> list[str]:
        async def inner() -> None:
            cs.current()

        await asyncio.sleep(0)
        caught = []
        try:
            await asyncio.create_task(inner())
        except RunError as error:
            caught.append(str(error))
        return caught

    (text,) = cs.run(starts())
    assert "hand it over" in text


def test_a_thread_of_a_task_is_outside_of_the_run() -> None:
    caught: list[Exception] = []

    def outside() -> None:
        try:
            cs.current()
        except RunError as error:
            caught.append(error)

    @cs.task
    def starts() -> None:
        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()

    cs.run(starts())
    assert "outside of a run" in str(caught[0])
    with pytest.raises(RunError, match="outside of a run"):
        cs.current()


def test_the_loop_of_a_task_that_asks_is_not_compiled() -> None:
    assert cs.explain(count).tier == "interpreted"
    assert "cs.current()" in str(cs.explain(count))
    assert cs.explain(other).tier == "fused"


@PATHS
async def test_a_durable_call_knows_its_key_and_the_epoch(use_vm: bool) -> None:
    store = open_store("memory:")
    found = []
    for run_id in ("one", "two"):
        async with cs.Engine(store=store) as engine:
            found.append(await engine.run([plain(1), plain(2)], run_id=run_id, use_vm=use_vm))
    assert [one.key for one in found[0]] == [two.key for two in found[1]]
    assert len({one.key for one in found[0]}) == 2
    assert {one.epoch for one in found[0]} == {1}
    store.close()


fails = [False]


@cs.task
async def fragile(n: int) -> Any:
    steps.append(cs.current().step)
    if n == 5 and fails[0]:
        raise ValueError
    return n if n == 0 else fragile.tail(n - 1)


@PATHS
async def test_the_steps_of_a_resumed_loop_go_on(use_vm: bool) -> None:
    store = open_store("memory:")
    steps.clear()
    fails[0] = True
    async with cs.Engine(store=store) as engine:
        with pytest.raises(ValueError):  # noqa: PT011
            await engine.run(fragile(10), run_id="one", use_vm=use_vm)
        fails[0] = False
        await engine.run(fragile(10), run_id="one", use_vm=use_vm)
    assert steps == [*range(6), *range(5, 11)]
    store.close()
