"""The values that a run keeps, and for how long (M21)."""

import asyncio
import gc
import weakref
from collections import deque
from typing import Any, ClassVar

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.run import Run


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
    "with a capacity": lambda node: node.with_capacity(gpu=1),
    "with a condition": lambda node: node.run_if(number(1)),
    "after another": lambda node: node.after(number()),
}


@pytest.mark.parametrize("task", [make, amake], ids=["plain", "async"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_value_is_released_when_its_last_user_has_it(change, task):
    # One worker: with two, the last frame of one may hold a value while the other makes the next.
    executor = LocalExecutor(1)
    async with cs.Engine(capacities={"gpu": 2}, threads=executor) as engine:
        await engine.run(chain(task, 40, CHANGES[change]))
    executor.shutdown()

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


async def test_graphs_returned_by_a_task_release_their_values(engine):
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


async def test_inputs_of_skipped_and_failed_nodes_are_released(engine):
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
async def test_values_that_a_task_can_name_are_computed_once_and_kept(run, way):
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


async def test_inputs_of_routes_are_kept_until_one_is_chosen(run):
    lazy = number(make())
    router = cs.Router(selector=number(lazy), routes={1: number(lazy, lazy), 2: number(lazy)})

    assert await run(router) == 2


async def test_amounts_of_the_items_of_a_map_are_kept(use_vm):
    amount = number(make())

    @cs.task
    def item(i):
        return i

    target = item.map(i=[number(amount), 5]).with_capacity(gpu=amount)
    async with cs.Engine(capacities={"gpu": 2}) as engine:
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


async def test_needing_a_released_value_is_an_error_with_the_remedy(engine):
    base, target = late_by_a_way_that_is_not_seen(keep=False)
    with pytest.raises(cs.errors.ReleasedValueError, match=r"\.keep\(\)") as caught:
        await engine.run(target)

    assert f"{base!r}" in str(caught.value)
    assert "in task 'late'" in caught.value.__notes__[0]


async def test_keep_keeps_a_value(run):
    _base, target = late_by_a_way_that_is_not_seen(keep=True)

    assert await run(target) == 1


async def test_a_state_backend_gets_values_that_are_released():
    from cascade.adapters.state.memory import InMemoryStateBackend

    inner = number(make())
    target = number(inner)
    async with cs.Engine(state_backend=InMemoryStateBackend()) as engine:
        await engine.run(target)
        assert engine.state_backend.get_result(inner.id) == 1


# -- straight-line code, and the interpreter --------------------------------------------------


@cs.task
def only(value):
    return value


async def fewest(runs):
    """Of several runs the fewest blocks: one that the event loop interrupts is interpreted."""
    found = []
    for _ in range(20):
        Block.most = 0
        await runs()
        found.append(Block.most)
    return min(found)


async def test_a_program_of_plain_calls_releases_its_values(engine):
    program = engine.compile(only(chain(make, 40)))

    assert await fewest(program.run) <= 3


async def test_a_graph_of_a_known_shape_releases_its_values_on_the_virtual_machine(engine):
    assert await fewest(lambda: engine.run(only(chain(make, 40)), use_vm=True)) <= 3


async def test_values_are_released_without_compiled_loops():
    async with cs.Engine(tier="interpreted") as engine:
        await engine.run(only(chain(make, 40)), use_vm=True)

    assert Block.most <= 3


async def test_a_program_keeps_values_that_its_tasks_can_name(engine):
    lazy = number(make())

    @cs.task
    def late(_):
        return lazy

    assert await engine.compile(late(number(lazy))).run() == 1


async def test_a_graph_of_a_known_shape_keeps_values_that_its_tasks_can_name(engine):
    @cs.task
    def late(_):
        return registry[0]

    for _ in range(5):
        registry[:] = [number(make())]
        assert await engine.run(late(number(registry[0])), use_vm=True) == 1


async def test_straight_line_code_repeats_no_call(engine, monkeypatch):
    # After a stall the code hands over to the interpreter, which has kept the value.
    monkeypatch.setattr("cascade.runtime.execution.fairness.BUDGET", float("inf"))
    base, target = late_by_a_way_that_is_not_seen(keep=False)
    with pytest.raises(cs.errors.ReleasedValueError) as caught:
        await engine.compile(target).run()

    assert f"{base!r}" in str(caught.value)


# -- leftovers of a finished run --------------------------------------------------------------


@cs.task
def fails(_block):
    raise ValueError


@cs.task
def turn(n, block):
    return cs.TailCall((n - 1, Block())) if n else block


@cs.task
async def aturn(n, block):
    await asyncio.sleep(0)
    return cs.TailCall((n - 1, Block())) if n else block


@cs.task
def becomes(n, block=None):
    return becomes(n - 1, make(block)) if n else block


@cs.task
def route(_block):
    return 1


FINISHED = {
    "success": lambda: make(make()),
    "async": lambda: amake(amake()),
    "failure": lambda: fails(make(make())),
    "async failure": lambda: fails(amake(make())),
    "retries": lambda: fails(make()).with_retry(3),
    "a timeout": lambda: make(make()).with_timeout(20),
    "a loop": lambda: turn(30, make()),
    "an async loop": lambda: aturn(30, make()),
    "returned graphs": lambda: becomes(20, make()),
    "a router": lambda: cs.Router(selector=route(make()), routes={1: make(make())}),
    "a map": lambda: turn.map(n=[2, 3], block=[make(), amake()]),
    "errors as values": lambda: fails.map(_block=[make(), 2], return_exceptions=True),
    "going on": lambda: cs.gather(fails(make(make())), make()),
}


async def threads_have_ended(executor):
    """Wait for the last frames of threads and for their messages to the event loop."""
    executor.shutdown(wait=True)
    for _ in range(2000):
        if not Block.alive:
            return
        await asyncio.sleep(0.001)


async def finish(name, way, executor):
    """Run one, and forget its value or error."""
    async with cs.Engine(threads=executor) as engine:
        lazy = FINISHED[name]()
        try:
            if way == "program":
                await engine.compile(lazy).run()
            else:
                await engine.run(lazy, {"p": Block()}, way == "vm", fail_fast=name != "going on")
        except Exception:
            return


@pytest.mark.parametrize("way", ["graph", "vm", "program"])
@pytest.mark.parametrize("name", FINISHED)
async def test_a_finished_run_leaves_no_cycle_that_keeps_its_values(name, way):
    executor = LocalExecutor()
    await finish(name, way, executor)
    await threads_have_ended(executor)

    assert not Block.alive


async def test_a_cancelled_run_leaves_no_cycle_that_keeps_its_values(use_vm):
    begun = asyncio.Event()

    @cs.task
    async def wait(_block):
        begun.set()
        await asyncio.sleep(3600)

    executor = LocalExecutor()
    async with cs.Engine(threads=executor) as engine:
        run = asyncio.ensure_future(engine.run(wait(make(make())), use_vm=use_vm))
        await begun.wait()
        run.cancel()
        await asyncio.wait([run])
        del run
    await threads_have_ended(executor)

    assert not Block.alive


@pytest.mark.parametrize("way", ["graph", "vm", "program"])
@pytest.mark.parametrize("name", FINISHED)
async def test_a_finished_run_goes_without_a_collection(name, way, monkeypatch):
    runs = weakref.WeakSet()
    enter = Run.__aenter__

    async def entered(run):
        runs.add(run)
        return await enter(run)

    monkeypatch.setattr(Run, "__aenter__", entered)
    executor = LocalExecutor()
    await finish(name, way, executor)
    executor.shutdown(wait=True)
    for _ in range(2000):  # a thread's last words, and timers that were called off
        if not runs:
            break
        await asyncio.sleep(0.001)

    assert not runs
