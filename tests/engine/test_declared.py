"""Policies that tasks declare, in runs on both paths."""

import threading

import pytest

import cascade as cs


class Flaky:
    def __init__(self, failures):
        self.left = failures

    def __call__(self, value=None):
        if self.left:
            self.left -= 1
            raise OSError("not yet")
        return value


async def test_a_program_has_the_declared_policies(engine):
    fetch = cs.task(name="fetch", retry=3)(Flaky(2))

    assert await engine.compile(fetch(cs.Param("n", type=int))).run(n=5) == 5


@pytest.mark.parametrize("use_vm", [False, True])
async def test_a_blueprint_for_tail_calls_has_the_policies_of_the_node(engine, use_vm):
    from cascade.graph.compiler import BlueprintBuilder

    fetch = cs.task(name="fetch", retry=3)(Flaky(2))
    engine.register_blueprint("fetch", BlueprintBuilder().build(fetch(1)))

    @cs.task
    def first():
        return cs.TailCall([1], target_blueprint_id="fetch")

    with pytest.raises(OSError, match="not yet"):
        await engine.run(first(), use_vm=use_vm)
    assert await engine.run(first().with_retry(2), use_vm=use_vm) == 1


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_declared_timeout_ends_a_call(use_vm):
    held = threading.Event()

    @cs.task(timeout=0.01)
    def wait():
        held.wait()

    try:
        with pytest.raises(cs.errors.TaskTimeoutError):
            cs.run(wait(), use_vm=use_vm)
    finally:
        held.set()


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_declared_capacity_that_no_engine_has_is_refused_before_the_run(use_vm):
    calls = []

    @cs.task(capacities={"gpu": 1})
    def train(n):
        calls.append(n)

    for target in (train(1), train.map(n=[1])):
        with pytest.raises(cs.errors.CapacityError):
            cs.run([cs.task(calls.append)(0), target], use_vm=use_vm)
    assert calls == []


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_declared_cache_is_asked(use_vm):
    calls = []

    @cs.task(cache=cs.LRUCache())
    def square(n):
        calls.append(n)
        return n * n

    assert cs.run([square(3), square.map(n=[3, 4])], use_vm=use_vm) == [9, [9, 16]]
    assert cs.run(square(4), use_vm=use_vm) == 16
    assert sorted(calls) == [3, 4]


def test_explain_counts_the_declared_policies():
    @cs.task(retry=2)
    def count(n):
        return count.tail(n - 1) if n else 0

    assert cs.explain(count).tier == "interpreted"
    assert cs.explain(count(1).with_retry(None)).tier == "fused"
