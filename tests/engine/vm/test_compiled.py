"""Compiled maps, and several blueprints compiled together, on the machine."""

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.blueprint import TailCall
from cascade.runtime.vm import VirtualMachine


@cs.task
def increment(x, by=1):
    return x + by


@cs.task
def numbers(n):
    return list(range(n))


@cs.task
def row(n):
    return increment.map(x=list(range(n)))


@cs.task
def no():
    return False


@cs.task
def loop(n):
    return TailCall(kwargs={"n": n - 1}) if n else "end"


async def execute(target, template):
    """The value of ``target``, twice: blueprints may be executed any number of times."""
    blueprint = BlueprintBuilder().build(target, template=template)
    cs.verify(blueprint, strict=True)
    machine = VirtualMachine()
    first = await machine.execute(blueprint)
    assert await machine.execute(blueprint) == first
    return first


# -- maps at the root -------------------------------------------------------------------------

MAPS = {
    "a list": (lambda: increment.map(x=[1, 2, 3]), [2, 3, 4]),
    "nothing": (lambda: increment.map(x=[]), []),
    "a lazy list": (lambda: increment.map(x=numbers(3)), [1, 2, 3]),
    "a list of lazy values": (lambda: increment.map(x=[numbers(3)[2], 5]), [3, 6]),
    "two lists": (lambda: increment.map(x=[1, 2], by=numbers(2)), [1, 3]),
    "a shared value": (lambda: increment.map(x=numbers(2), by=cs.literal(10)), [10, 11]),
    "a map": (lambda: increment.map(x=increment.map(x=numbers(3))), [2, 3, 4]),
    "tasks that map": (lambda: row.map(n=numbers(4)), [[], [1], [1, 2], [1, 2, 3]]),
    "tasks that loop": (lambda: loop.map(n=[3, 1000]), ["end", "end"]),
    "one of many values": (lambda: increment.map(x=range(500)), list(range(1, 501))),
    "after a skipped node": (
        lambda: increment.map(x=[1]).after(increment(1).run_if(no())),
        [2],
    ),
}


@pytest.mark.parametrize("template", [True, False])
@pytest.mark.parametrize("name", MAPS)
async def test_a_map_over(name, template):
    """R8."""
    target, expected = MAPS[name]

    assert await execute(target(), template) == expected


async def test_a_map_keeps_its_retries_and_the_errors_of_its_items():
    """R10: each item for itself."""
    calls = []

    @cs.task
    def flaky(x):
        calls.append(x)
        if calls.count(x) < x:
            raise OSError(x)
        return x

    target = flaky.map(x=[1, 2, 9], return_exceptions=True).with_retry(2).with_timeout(5)
    first, second, third = await VirtualMachine().execute(BlueprintBuilder().build(target))

    assert (first, second, type(third)) == (1, 2, OSError)
    assert sorted(calls) == [1, 2, 2, 9, 9]


async def test_a_map_keeps_its_cache():
    target = increment.map(x=[1, 1, 2]).with_cache(cs.LRUCache())

    assert await execute(target, True) == [2, 2, 3]


async def test_a_map_that_is_skipped_has_no_value():
    """R6."""
    with pytest.raises(cs.errors.DependencyMissingError, match=r"its condition 'no' was falsy"):
        await execute(increment.map(x=[1]).run_if(no()), True)


# -- several blueprints at once ---------------------------------------------------------------


@cs.task
def even(n):
    return TailCall(kwargs={"n": n - 1}, target_blueprint_id="odd") if n else True


@cs.task
def odd(n):
    return TailCall(kwargs={"n": n - 1}, target_blueprint_id="even") if n else False


@pytest.mark.parametrize("targets", [{"even": even, "odd": odd}, {"even": even(0), "odd": odd(0)}])
async def test_blueprints_that_are_built_together_continue_as_each_other(targets):
    """R5."""
    blueprints = BlueprintBuilder().build_all(targets)
    machine = VirtualMachine()
    for name, blueprint in blueprints.items():
        cs.verify(blueprint, strict=True)
        machine.register_blueprint(name, blueprint)

    assert list(blueprints) == ["even", "odd"]
    assert await machine.execute(blueprints["even"], initial_kwargs={"n": 1000}) is True
    assert await machine.execute(blueprints["odd"], initial_kwargs={"n": 1000}) is False
