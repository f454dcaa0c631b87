"""What a run keeps, and for how long (M21)."""

import asyncio
import gc
import weakref
from collections import deque
from typing import Any, ClassVar

import pytest

import cascade as cs


class Block:
    """A value that tells how many of its kind are alive."""

    alive: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()
    most = 0

    def __init__(self, *_inputs):
        Block.alive.add(self)
        Block.most = max(Block.most, len(Block.alive))


@pytest.fixture(autouse=True)
def counted():
    """Only reference counts free values."""
    gc.collect()
    gc.disable()
    Block.alive.clear()
    Block.most = 0
    yield
    gc.enable()


def only_graph(use_vm):
    """The path that keeps what M21 says."""
    if use_vm:
        pytest.xfail("the interpreter keeps its registers: the next issue (one machinery)")


@cs.task
def make(*inputs):
    return Block(*inputs)


@cs.task
async def amake(*inputs):
    await asyncio.sleep(0)
    return Block(*inputs)


@cs.task
def number(*inputs):
    return len(inputs)


def chain(task, n=40, change=lambda node: node):
    node = task()
    for _ in range(n):
        node = change(task(node))
    return number(node)


CHANGES = {
    "plain": lambda node: node,
    "with a retry": lambda node: node.with_retry(2),
    "with a timeout": lambda node: node.with_timeout(20),
    "with a capacity": lambda node: node.with_constraints(gpu=1),
    "with a condition": lambda node: node.run_if(number(1)),
    "after another": lambda node: node.after(number()),
}


@pytest.mark.parametrize("task", [make, amake], ids=["plain", "async"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_value_is_released_when_its_last_user_has_it(change, task):
    async with cs.Engine(system_resources={"gpu": 2}) as engine:
        await engine.run(chain(task, 40, CHANGES[change]))

    assert Block.most <= 3


async def test_a_value_that_several_use_is_released_after_the_last(engine):
    @cs.task
    def look(block, alive):
        assert len(Block.alive) == alive

    block = make()
    first, second = look(block, 1), look(block, 1)
    done = number(first, second)
    await engine.run(look(None, 0).after(done))


async def test_one_that_is_used_twice_by_one_node_is_released(engine):
    node = make()
    for _ in range(40):
        node = make(node, node)
    await engine.run(number(node))

    assert Block.most <= 3


async def test_diamonds_release_their_values(engine):
    node = make()
    for _ in range(40):
        node = make(make(node), make(node))
    await engine.run(number(node))

    assert Block.most <= 6


async def test_arguments_by_name_and_in_containers_are_released(engine):
    @cs.task
    def named(*, one=None, many=()):
        return Block()

    node = named()
    for _ in range(40):
        node = named(one=node, many=[1, {"a": node}])
    await engine.run(number(node))

    assert Block.most <= 4


async def test_what_a_task_returns_releases_its_values(engine):
    @cs.task
    def chained(n):
        return chain(make, n)

    await engine.run(number(chained(40), make(make())))

    assert Block.most <= 4


async def test_a_loop_of_returned_graphs_releases_its_values(engine):
    @cs.task
    def turn(n, _block=None):
        return turn(n - 1, make(make(make()))) if n else n

    await engine.run(turn(60))

    assert Block.most <= 5


async def test_inputs_of_what_is_skipped_or_failed_are_released(engine):
    @cs.task
    def no():
        return False

    @cs.task
    def look(*_):
        assert not Block.alive

    @cs.task
    def fail(_block):
        raise ValueError

    skipped = number(make()).run_if(no())
    look_after = look().after(skipped)
    await engine.run(look_after)

    failing = fail.map(_block=[make()], return_exceptions=True)
    await engine.run(look().after(number(failing)))


async def test_a_map_releases_each_item_with_its_last_use(engine):
    @cs.task
    def item(i):
        return make(make(make(i)))

    @cs.task
    def look(_list):
        return len(Block.alive)

    assert await engine.run(look(item.map(i=range(10)))) == 10


# -- pins -------------------------------------------------------------------------------------

shared_global = None
registry: "list[cs.LazyResult]" = []


class Holder:
    kept = None

    def __init__(self, lazy):
        self.lazy = lazy
        self.others = {"x": deque([lazy])}

    def direct(self):
        return self.lazy

    def inner(self):
        return self._deeper()

    def _deeper(self):
        return self.others["x"][0]

    @property
    def value(self):
        return self.lazy


def by_closure(lazy):
    return lambda _: lazy


def by_default(lazy):
    return lambda _, given=lazy: given


def by_helper(lazy):
    def helper():
        return [lazy][0]

    return lambda _: helper()


def by_global(lazy):
    global shared_global
    shared_global = lazy
    return lambda _: shared_global


def by_registry(lazy):
    registry[:] = [lazy]
    return lambda _: registry[0]


def by_attribute(lazy):
    holder = Holder(lazy)
    return lambda _: holder.direct()


def by_deep_attribute(lazy):
    holder = Holder(lazy)
    return lambda _: holder.inner()


def by_property(lazy):
    holder = Holder(lazy)
    return lambda _: holder.value


def by_class(lazy):
    Holder.kept = lazy
    return lambda _: Holder.kept


def by_bound_method(lazy):
    holder = Holder(lazy)
    return lambda _, method=holder.inner: method()


def by_other_task(lazy):
    @cs.task
    def other():
        return lazy

    return lambda _: other()


def by_use(lazy):
    using = number(lazy)
    return lambda _: using


WAYS = [
    by_closure,
    by_default,
    by_helper,
    by_global,
    by_registry,
    by_attribute,
    by_deep_attribute,
    by_property,
    by_class,
    by_bound_method,
    by_other_task,
    by_use,
]


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_task_can_name_is_computed_once_and_kept(run, way):
    made = []

    @cs.task
    def once(_block):
        made.append(1)
        return 7

    lazy = once(make())
    late = cs.task(way(lazy), name="late")
    expected = 1 if way is by_use else 7

    assert await run(cs.gather(late(number(lazy)), late(number(lazy, 2)))) == [expected, expected]
    assert made == [1]


async def test_a_literal_is_kept(run):
    lazy = number(make())

    @cs.task
    def late(_, box):
        return box["lazy"]

    assert await run(late(number(lazy), cs.literal({"lazy": lazy}))) == 1


async def test_what_routes_use_is_kept_until_one_is_chosen(run):
    lazy = number(make())
    router = cs.Router(selector=number(lazy), routes={1: number(lazy, lazy), 2: number(lazy)})

    assert await run(router) == 2


async def test_amounts_of_the_items_of_a_map_are_kept(use_vm):
    amount = number(make())

    @cs.task
    def item(i):
        return i

    target = item.map(i=[number(amount), 5]).with_constraints(gpu=amount)
    async with cs.Engine(system_resources={"gpu": 2}) as engine:
        assert await engine.run(target, use_vm=use_vm) == [1, 5]


hidden: "weakref.WeakValueDictionary[str, cs.LazyResult]" = weakref.WeakValueDictionary()


def late_by_a_way_that_is_not_seen(keep):
    base = number(make())
    if keep:
        assert base.keep() is base
    hidden["base"] = base

    @cs.task
    def late(_first):
        return hidden["base"]

    first = number(base)
    return base, late(first)


async def test_a_released_value_that_is_asked_for_is_an_error_that_says_what_to_do(engine):
    base, target = late_by_a_way_that_is_not_seen(keep=False)
    with pytest.raises(cs.ReleasedValueError, match=r"\.keep\(\)") as caught:
        await engine.run(target)

    assert f"{base!r}" in str(caught.value)
    assert "in task 'late'" in caught.value.__notes__[0]


async def test_a_value_that_is_to_be_kept_is(run):
    _base, target = late_by_a_way_that_is_not_seen(keep=True)

    assert await run(target) == 1


async def test_a_state_backend_gets_what_is_released():
    from cascade.adapters.state.memory import InMemoryStateBackend

    inner = number(make())
    target = number(inner)
    async with cs.Engine(state_backend=InMemoryStateBackend()) as engine:
        await engine.run(target)
        assert engine.state_backend.get_result(inner.id) == 1
