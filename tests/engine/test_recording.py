"""``record(node, outcome)``: the one seam through which the outcome of each node goes."""

import asyncio
from collections import Counter
from functools import partial

import pytest

import cascade as cs
from cascade.adapters.cache.lru import LRUCache
from cascade.adapters.state import InMemoryStateBackend
from cascade.runtime.engine import Engine
from cascade.runtime.semantics.outcomes import Failed, Skipped

pytestmark = pytest.mark.asyncio


@cs.task
def double(n):
    return 2 * n


@cs.task
def add(a, b):
    return a + b


@cs.task
async def later(n):
    await asyncio.sleep(0)
    return n


@cs.task
def broken(_=None):
    raise ValueError("no")


@cs.task
def count(n):
    return count.tail(n - 1) if n else "done"


@cs.task
async def count_later(n):
    return count_later.tail(n - 1) if n else "done"


@cs.task
def fib(n):
    return n if n < 2 else add(fib(n - 1), fib(n - 2))


@cs.task
def returns(lazy):
    return lazy


PATHS = pytest.mark.parametrize("path", ["graph", "vm", "program"])


async def outcomes(target, path, *, fail_fast=True, **options):
    """The recorded outcomes by node, one for each, and the result of the run."""
    recorded = []
    async with Engine(**options) as engine:
        engine.record = lambda node, outcome: recorded.append((node, outcome))
        if path == "program":
            work = engine.compile(target).run()
        else:
            work = engine.run(target, use_vm=path == "vm", fail_fast=fail_fast)
        try:
            result = await work
        except (Exception, ExceptionGroup) as error:
            result = error
    found = dict(recorded)
    assert len(found) == len(recorded), "a node was recorded twice"
    return found, result


def names(found):
    return Counter(node.name for node in found)


@PATHS
async def test_each_value_of_a_graph_is_recorded_once(path):
    shared = double(1)
    leaves = [double(shared), later(shared), add(shared, 1)]
    target = add(add(leaves[0], leaves[1]), leaves[2])

    found, result = await outcomes(target, path)

    assert result == 9
    assert found == {
        shared: 2,
        leaves[0]: 4,
        leaves[1]: 2,
        leaves[2]: 3,
        target.args[0]: 6,
        target: 9,
    }


@PATHS
async def test_values_of_plain_calls_are_recorded_in_each_order_of_completion(path):
    target = cs.gather(*[double(double(n)) for n in range(40)])

    found, result = await outcomes(target, path)

    assert result == [4 * n for n in range(40)]
    assert names(found) == {"double": 80, target.name: 1}


@PATHS
async def test_items_of_a_map_and_the_map_are_recorded(path):
    target = double.map(n=double.map(n=[1, 2, 3]))

    found, result = await outcomes(target, path)

    assert result == [4, 8, 12]
    assert names(found)["double"] == 6
    assert found[target] == result


@PATHS
@pytest.mark.parametrize("loop", [count, count_later])
async def test_the_node_of_a_loop_is_recorded_once_with_its_last_value(path, loop):
    target = loop(100)

    found, result = await outcomes(target, path)

    assert result == "done"
    assert found == {target: "done"}


@PATHS
async def test_a_returned_graph_and_the_node_that_returned_it_are_recorded(path):
    target = fib(5)

    found, result = await outcomes(target, path)

    assert result == 5
    assert found[target] == 5
    assert names(found) == {"fib": 15, "add": 7}


@PATHS
async def test_the_node_that_returns_a_call_without_inputs_is_recorded_once(path):
    target = returns(cs.literal(double(4)))

    found, result = await outcomes(target, path)

    assert result == 8
    assert found == {target: 8}


@PATHS
async def test_a_skipped_node_and_those_that_need_it_are_recorded_as_skipped(path):
    condition = double(0)
    skipped = double(1).run_if(condition)
    target = double(skipped)

    found, result = await outcomes(target, path)

    assert isinstance(result, cs.errors.DependencyMissingError)
    assert found[condition] == 0
    assert isinstance(found[skipped], Skipped)
    assert found[target] is found[skipped]


@PATHS
async def test_the_failure_that_ends_a_run_is_recorded(path):
    failing = broken(double(1))
    target = double(failing)

    found, result = await outcomes(target, path)

    assert isinstance(found.pop(failing), Failed)
    assert isinstance(result, ValueError)
    assert list(found.values()) == [2]


@pytest.mark.parametrize("path", ["graph", "vm"])
async def test_survived_failures_are_recorded_with_the_nodes_that_need_them(path):
    failing = broken()
    user = double(failing)
    target = cs.gather(user, double(1))

    found, result = await outcomes(target, path, fail_fast=False)

    assert isinstance(result, ExceptionGroup)
    assert type(found[failing]) is type(found[user]) is type(found[target]) is Failed
    assert 2 in found.values()


@PATHS
async def test_an_error_that_is_a_value_is_recorded_as_failure_of_its_item(path):
    target = broken.map(_=[1, 2], return_exceptions=True)

    found, result = await outcomes(target, path)

    assert [type(error) for error in result] == [ValueError, ValueError]
    failed = [outcome for outcome in found.values() if type(outcome) is Failed]
    assert [failure.error for failure in failed] in (result, result[::-1])
    assert found[target] == result


@PATHS
async def test_values_from_a_cache_and_from_equal_calls_are_recorded(path):
    cache = LRUCache()
    nodes = [double(3).with_cache(cache) for _ in range(3)]

    found, _ = await outcomes(cs.gather(*nodes), path)
    again = double(3).with_cache(cache)
    cached, _ = await outcomes(again, path)

    assert [found[node] for node in nodes] == [6, 6, 6]
    assert cached == {again: 6}


@PATHS
async def test_a_state_backend_and_a_hook_are_both_told(path):
    state = InMemoryStateBackend()
    target = double(double(1))

    found, _ = await outcomes(target, path, state_backend=state)

    assert {node: state.get_result(node.id) for node in found} == found


@pytest.mark.parametrize("target", [partial(double, 1), partial(later, 1)])
@pytest.mark.parametrize("fail_fast", [True, False])
@PATHS
async def test_an_error_of_the_hook_ends_the_run(path, target, fail_fast):
    def refuse(node, _):
        raise OSError(f"the journal of {node.name} is full")

    async with Engine() as engine:
        engine.record = refuse
        with pytest.raises((OSError, ExceptionGroup)) as caught:
            if path == "program":
                await engine.compile(add(target(), 1)).run()
            else:
                await engine.run(add(target(), 1), use_vm=path == "vm", fail_fast=fail_fast)

    error = caught.value
    assert "is full" in str(error.exceptions[0] if isinstance(error, ExceptionGroup) else error)
