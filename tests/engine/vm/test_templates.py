"""Templates: graphs made of blueprints, below the semantics (test_engine.py)."""

import asyncio
import gc
import weakref

import pytest
from tests.sample_tasks import add, add_async

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.blueprint import Blueprint, Call, Literal, Register, TailCall
from cascade.runtime.vm import VirtualMachine


def execute(target, *args, **kwargs):
    blueprint = BlueprintBuilder().build(target)
    return VirtualMachine().execute(blueprint, args or target.args, kwargs or target.kwargs)


async def test_values_of_past_steps_are_not_kept():
    """A loop through nested nodes keeps no values of steps that are over."""

    class Value:
        pass

    kept = []

    @cs.task
    def make():
        value = Value()
        kept.append(weakref.ref(value))
        return value

    @cs.task
    def loop(n, value):
        if n == 0:
            gc.collect()
            return sum(ref() is not None for ref in kept)
        return loop(n - 1, make())

    assert await execute(loop(20, make())) <= 2


async def test_the_prologue_runs_once_for_a_loop():
    """M3."""
    ran = []

    @cs.task
    def prepare():
        ran.append(1)
        return 5

    @cs.task
    def loop(n, base):
        return loop.tail(n - 1) if n else base

    assert await execute(loop(10, prepare())) == 5
    assert ran == [1]


async def test_a_changed_input_of_a_loop_is_not_overwritten_by_the_prologue():
    @cs.task
    def loop(n):
        return loop.tail(n - 1) if n > 0 else n

    assert await execute(loop(add(3))) == 0


async def test_started_coroutines_of_unneeded_nodes_are_awaited():
    """M16: the inputs of a skipped node still run."""
    ended = []

    @cs.task
    async def slow():
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append(1)

    skipped = add(slow()).run_if(add(0))

    @cs.task
    def end():
        return "end"

    assert await execute(end().after(skipped)) == "end"
    assert ended == [1]


async def test_coroutine_values_in_containers_are_awaited():
    """Also nodes that ended before they were needed."""

    @cs.task
    def total(parts, extra):
        return sum(parts) + sum(extra.values())

    target = total([add_async(1), add_async(add_async(2)), 3], {"x": add_async(4)})

    assert await execute(target) == 10
    assert await execute(add(add_async(1), add(add_async(2), add(add(add(1)))))) == 4


async def test_an_error_before_the_root_has_the_node_and_the_path():
    @cs.task
    def fail():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong") as caught:
        await execute(add(add_async(fail())))
    (note,) = caught.value.__notes__
    assert "in task 'fail'" in note
    assert note.endswith("add → add_async → fail")


async def test_a_hand_made_blueprint_may_return_lazies():
    """R4."""
    blueprint = Blueprint(
        [
            Call(lambda n: add(n, 1), Register(1), [Register(0)]),
            Call(lambda n: add_async(add(n), 1), Register(2), [Register(1)]),
        ],
        3,
        input_args=[0],
        entry=1,
    )

    assert await VirtualMachine().execute(blueprint, [1]) == 3


async def test_a_hand_made_inner_node_may_loop():
    """M3."""

    def loop(n):
        return TailCall([n - 1]) if n else "inner"

    blueprint = Blueprint(
        [
            Call(loop, Register(0), [Literal(3)]),
            Call(lambda x: (x, "root"), Register(1), [Register(0)]),
        ],
        2,
        entry=1,
    )

    assert await VirtualMachine().execute(blueprint) == ("inner", "root")


async def test_conditions_of_hand_made_calls():
    """R6."""
    ran = []
    blueprint = Blueprint(
        [
            Call(lambda: ran.append("a"), Register(0), conditions=[Literal(False)]),
            Call(lambda: ran.append("b"), Register(1), after=[Register(0)]),
        ],
        2,
        entry=1,
    )

    await VirtualMachine().execute(blueprint)
    assert ran == ["b"]
