"""Long and deep programs: no stack, whatever their shape (rules R4, R5, ruling M4)."""

import pytest

from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.engine import Engine
from cascade.runtime.runners import run
from cascade.spec.blueprint import TailCall
from cascade.spec.lazy_types import LazyResult, gather
from cascade.spec.task import task


@pytest.fixture(params=[1_500, pytest.param(5_000, marks=pytest.mark.thorough)], ids=str)
def deep(request) -> int:
    """Levels that nest, more than Python's stack has."""
    return int(request.param)


both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
def total(*values: int) -> int:
    return sum(values)


@task
def length(values: list) -> int:
    return len(values)


@task
def loop(n: int, steps: int = 0):
    return TailCall(kwargs={"n": n - 1, "steps": steps + 1}) if n else steps


@task
async def async_loop(n: int, steps: int = 0):
    return TailCall(kwargs={"n": n - 1, "steps": steps + 1}) if n else steps


@task
def ping(n: int):
    return pong.tail(n - 1) if n else "ping"


@task
async def pong(n: int):
    return ping.tail(n - 1) if n else "pong"


@task
def generation(n: int, steps: int = 0):
    return generation(n - 1, steps + 1) if n else steps


@task
def generation_with_a_child(n: int):
    return generation_with_a_child(add(n, -1)) if n else "done"


@task
def by_id(n: int):
    return TailCall(kwargs={"n": n - 1}, target_blueprint_id="by_id") if n else "done"


@task
def nested(n: int):
    return add(nested(n - 1)) if n else 0


@task
async def async_nested(n: int):
    return add(async_nested(n - 1)) if n else 0


@task
def nested_tail(n: int):
    return TailCall(kwargs={"n": nested_tail(n - 1)}) if n else 0


@task
def count(n: int):
    """Maps a task that maps …: one item a level."""
    return length(count.map(n=[n - 1])) if n else 1


@both_paths
@pytest.mark.parametrize(
    ("target", "expected"),
    [(loop, None), (generation, None), (generation_with_a_child, "done")],
    ids=["tail calls", "generations", "generations with a child"],
)
def test_a_loop_of_many_steps(target, expected, use_vm: bool, many):
    assert run(target(many), use_vm=use_vm) == (expected or many)


@both_paths
def test_a_loop_of_two_tasks_by_turns_in_a_thread_and_on_the_loop(use_vm: bool, many):
    assert run(ping(many), use_vm=use_vm) == "ping"


@both_paths
def test_a_loop_of_a_coroutine_function(use_vm: bool, many):
    assert run(async_loop(many), use_vm=use_vm) == many


@both_paths
def test_an_inner_node_loops_alone(use_vm: bool, many):
    """M3: the loop belongs to the node, whatever it is an argument of."""
    assert run(total(loop(many), generation(many), 1), use_vm=use_vm) == 2 * many + 1


@both_paths
async def test_a_loop_through_a_blueprint_id(use_vm: bool, many):
    async with Engine() as engine:
        engine.register_blueprint("by_id", BlueprintBuilder().build(by_id(1)))
        assert await engine.run(by_id(many), use_vm=use_vm) == "done"


@both_paths
def test_a_long_chain(use_vm: bool, many):
    lazy: LazyResult[int] = add(0)
    for _ in range(many - 1):
        lazy = add(lazy)
    assert run(lazy, use_vm=use_vm) == many


@both_paths
def test_a_long_chain_of_containers(use_vm: bool, many):
    lazy: LazyResult = add(0)
    for _ in range(many):
        lazy = length([lazy])
    assert run(lazy, use_vm=use_vm) == 1


@both_paths
def test_many_arguments(use_vm: bool, many):
    assert run(total(*map(add, range(many))), use_vm=use_vm) == sum(range(1, many + 1))


@both_paths
def test_a_map_of_many_items(use_vm: bool, many):
    assert run(length(add.map(a=range(many))), use_vm=use_vm) == many


@both_paths
def test_many_users_of_one_lazy_value(use_vm: bool, many):
    shared = add(1)
    assert run(total(*[add(shared) for _ in range(many)]), use_vm=use_vm) == 3 * many


@both_paths
def test_a_long_chain_of_order(use_vm: bool, many):
    first = previous = add(0)
    for _ in range(many):
        previous = add(0).after(previous)
    assert run(gather(previous, first), use_vm=use_vm) == [1, 1]


@both_paths
def test_a_long_chain_of_skipped_nodes(use_vm: bool, many):
    lazy = add(1).run_if(add(-1))
    for _ in range(many):
        lazy = add(lazy)
    assert run(add(5).after(lazy), use_vm=use_vm) == 6


@both_paths
@pytest.mark.parametrize("target", [nested, async_nested])
def test_inner_nodes_that_return_lazy_values_nest_deep(target, use_vm: bool, deep):
    """M4: a task with an argument that returns a lazy value with such an argument …"""
    assert run(target(deep), use_vm=use_vm) == deep


@both_paths
def test_tail_calls_in_arguments_of_tail_calls_nest_deep(use_vm: bool, deep):
    assert run(nested_tail(deep), use_vm=use_vm) == 0


@both_paths
def test_maps_nest_deep(use_vm: bool, deep):
    assert run(count(deep), use_vm=use_vm) == 1
