"""Nodes whose policies have nothing to do cost what plain ones cost, and mean what they meant."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.events import (
    ResourceAcquired,
    ResourceReleased,
    TaskFinished,
    TaskRetrying,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.graph_path.lanes.event_loop_lane import EventLoopLane
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.resources.session import Attempt

NODES = 50


@cs.resource
def pool():
    yield ["connection"]


@cs.task
def use(n, pool=cs.inject(pool)):
    return n, *pool


@cs.task
def double(n):
    return 2 * n


@pytest.fixture
async def one_worker():
    executor = LocalExecutor(1)
    async with cs.Engine(threads=executor, capacities={"gpu": 2}) as engine:
        yield engine
    executor.shutdown()


@pytest.fixture
async def two_workers():
    executor = LocalExecutor(2)
    async with cs.Engine(threads=executor, capacities={"gpu": 2}) as engine:
        yield engine
    executor.shutdown()


@pytest.fixture
async def made(monkeypatch):
    """Counts the objects that a node costs besides those of a plain one."""
    counts = {"work": 0, "task": 0}
    begin = Work.__init__

    def count_work(self, *args):
        counts["work"] += 1
        begin(self, *args)

    def count_task(loop, coroutine, **options):
        counts["task"] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    monkeypatch.setattr(Work, "__init__", count_work)
    asyncio.get_running_loop().set_task_factory(count_task)
    return counts


# -- the cost --------------------------------------------------------------------------------------


def keyed(cache):
    return lambda n: double(n).with_cache(cache)


@pytest.mark.parametrize(
    "node",
    [
        lambda n: double(n).with_retry(3),
        lambda n: double(n).with_capacity(gpu=1),
        lambda n: double(n).with_priority(n % 3),
        lambda n: double(n).after(double(n)),
        lambda n: double(cs.literal(n)),
        lambda n: double(double(n)).with_retry(3).with_capacity(gpu=2),
        keyed(cs.LRUCache()),
    ],
    ids=["retry", "capacity", "priority", "after", "literal", "several", "cache"],
)
async def test_a_node_costs_no_work_and_no_asyncio_task(one_worker, made, node):
    made["task"] = 0  # without that of the test
    for _ in range(2):
        await one_worker.run([node(n) for n in range(NODES)])

    assert made == {"work": 0, "task": 0}


async def test_nodes_with_an_open_resource_cost_no_work_and_no_asyncio_task(one_worker, made):
    """The first use opens it; that is all."""
    made["task"] = 0
    found = await one_worker.run([use(n).with_retry(2) for n in range(NODES)])

    assert found == [(n, "connection") for n in range(NODES)]
    assert made["task"] <= 2  # that of the opening, and the resource's own
    assert made["work"] <= 1


async def test_steps_of_a_loop_with_a_resource_make_no_asyncio_tasks(one_worker, made):
    @cs.task
    def count(n, pool=cs.inject(pool)):
        return count.tail(n - 1) if n else list(pool)

    made["task"] = 0
    assert await one_worker.run(count(NODES)) == ["connection"]
    assert made["task"] <= 2


async def test_coroutines_with_an_open_resource_make_no_attempt(engine, monkeypatch):
    """Nor do those that wait for its opening: their asyncio tasks begin when it is open."""
    attempts, lanes = [], []
    begin, work_on = Attempt.__init__, EventLoopLane.work_on

    def count(self, *args):
        attempts.append(self)
        begin(self, *args)

    def count_lanes(self, *args, **more):
        lanes.append(is_open.is_set())
        return work_on(self, *args, **more)

    is_open = asyncio.Event()
    monkeypatch.setattr(Attempt, "__init__", count)
    monkeypatch.setattr(EventLoopLane, "work_on", count_lanes)

    @cs.resource
    async def pool():
        await asyncio.sleep(0)
        is_open.set()
        yield ["connection"]

    @cs.task
    async def fetch(n, pool=cs.inject(pool)):
        return n, *pool

    found = await engine.run([fetch(n) for n in range(NODES)])
    assert found == [(n, "connection") for n in range(NODES)]
    assert not attempts
    assert all(lanes)


# -- the meaning -----------------------------------------------------------------------------------


async def test_arguments_of_all_kinds_find_their_places(run):
    @cs.task
    def show(a, b, *rest, c, pool=cs.inject(pool), **more):
        return a, b, rest, c, pool, more

    one, two = double(1), double(2)
    got = await run(
        show(one, cs.literal("l"), 3, two, c=two, pool=cs.inject(pool), d=one, e=cs.literal([]))
    )

    assert got == (2, "l", (3, 4), 4, ["connection"], {"d": 2, "e": []})


async def test_an_attempt_after_a_failed_one_gets_the_same_arguments_and_the_resource(run, engine):
    told, seen = [], []
    engine.bus.subscribe(TaskRetrying, told.append)

    @cs.task
    def flaky(items, note, pool=cs.inject(pool)):
        items.append(len(items))
        seen.append((items, note, pool))
        if len(items) < 3:
            raise ConnectionError
        return items

    items = []
    assert await run(flaky(items, cs.literal("x")).with_retry(3)) is items
    assert seen == [(items, "x", ["connection"])] * 3
    assert [(event.attempt, event.task) for event in told] == [(1, "flaky"), (2, "flaky")]


async def test_a_failed_node_returns_its_capacity_before_the_delay(one_worker):
    free = []

    @cs.task
    def flaky(tries=[]):  # noqa: B006
        tries.append(None)
        if len(tries) == 1:
            raise ConnectionError
        return one_worker.capacities.available

    def pause(_error, _attempt):
        free.append(one_worker.capacities.available)
        return 0

    assert await one_worker.run(flaky().with_retry(2, delay=pause).with_capacity(gpu=2)) == {
        "gpu": 0
    }
    assert [*free, one_worker.capacities.available] == [{"gpu": 2}, {"gpu": 2}]


async def test_nodes_that_hold_all_of_a_capacity_do_not_overlap(engine_of_many):
    inside, most, lock = [0], [0], threading.Lock()

    @cs.task(mode="blocking")
    def work(n, busy=threading.Event()):  # noqa: B008
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        busy.wait(0.001)
        with lock:
            inside[0] -= 1
        return n

    nodes = [work(n).with_capacity(gpu=1) for n in range(20)]
    assert await engine_of_many.run(nodes) == [*range(20)]
    assert most[0] <= 2


@pytest.fixture
async def engine_of_many():
    executor = LocalExecutor(8)
    async with cs.Engine(threads=executor, capacities={"gpu": 2}) as engine:
        yield engine
    executor.shutdown()


async def test_context_variables_of_nodes_with_capacities_are_their_own(one_worker):
    """M12, though they share a context, in which the permit stands while they run."""
    tone: ContextVar[str] = ContextVar("tone", default="none")

    @cs.task
    def write(value):
        before = tone.get()
        tone.set(value)
        return before

    nodes = [write(n).with_capacity(gpu=1) for n in range(3)]
    assert await one_worker.run(nodes) == ["none"] * 3


async def test_fractions_of_a_capacity_add_up(one_worker):
    @cs.task
    def free():
        return one_worker.capacities.available["gpu"]

    nodes = [free().with_capacity(gpu=0.1) for _ in range(30)]
    assert await one_worker.run(nodes) == [1.9] * 30
    assert one_worker.capacities.available == {"gpu": 2}


async def test_an_iterator_from_another_task_is_refused_before_the_attempt(run):
    """M23."""
    called = []

    @cs.task
    def rows():
        return cs.literal(iter([1, 2]))

    @cs.task
    def total(rows):
        called.append(rows)

    with pytest.raises(cs.errors.ArgumentError, match="'rows' is an iterator"):
        await run(total(rows()).with_retry(2))
    assert not called


async def test_an_error_of_a_cache_is_the_nodes_and_is_not_retried(run):
    class Broken:
        def key(self, task, arguments):
            raise LookupError(dict(arguments))

        def load(self, key, arguments):
            raise AssertionError

        save = load

    with pytest.raises(LookupError, match="'n': 4") as got:
        await run(double(double(2)).with_cache(Broken()).with_retry(3))
    assert "in task 'double'" in got.value.__notes__[0]


@pytest.mark.parametrize("ends", ["value", "lazy value", "tail call", "second attempt", "error"])
async def test_an_equal_call_beside_the_first_waits_for_its_end(two_workers, ends):
    begun, asked, calls = threading.Event(), threading.Event(), []

    class Noting(cs.ByArguments):
        def key(self, task, arguments):
            if begun.is_set():
                asked.set()
            return super().key(task, arguments)

    @cs.task
    def first(n):
        calls.append(n)
        begun.set()
        assert asked.wait(10)
        if ends == "error" or (ends == "second attempt" and len(calls) == 1):
            raise ValueError(n)
        if ends == "tail call" and n < 3:
            return first.tail(n + 1)
        return double(2) if ends == "lazy value" else 4

    @cs.task
    def after_the_first():
        assert begun.wait(10)
        return 1

    cache = Noting(cs.LRUCache())
    attempts = 2 if ends == "second attempt" else 1
    node = first(1).with_cache(cache).with_retry(attempts)
    target = [node, first(after_the_first()).with_cache(cache)]
    if ends == "error":
        with pytest.raises(ValueError, match="1"):
            await two_workers.run(target)
    else:
        assert await two_workers.run(target) == [4, 4]
        assert calls.count(1) == attempts


async def test_resources_count_in_the_key_of_a_cache_by_their_names_only(run):
    keys = []

    class Recording(cs.LRUCache):
        def put(self, key, value, ttl=None):
            keys.append(key)
            super().put(key, value, ttl)

    cache = Recording()
    target = [use(1).with_cache(cache), use(1).with_cache(cache)]
    assert await run(target) == [(1, "connection")] * 2
    assert await run([use(1).with_cache(cache)]) == [(1, "connection")]
    assert len(keys) == 1


# -- resources that open ---------------------------------------------------------------------------


async def test_other_nodes_run_while_a_resource_opens(two_workers):
    """Nodes that wait for it hold no thread: here one opens it, and one is left."""
    others_ran = threading.Event()

    @cs.resource
    def slow():
        assert others_ran.wait(20)
        yield "open"

    @cs.task
    def user(n, slow=cs.inject(slow)):
        return n, slow

    @cs.task
    def other(n):
        if n == NODES - 1:
            others_ran.set()

    users = [user(n) for n in range(NODES)]
    got, _ = await two_workers.run([users, [other(n) for n in range(NODES)]])
    assert got == [(n, "open") for n in range(NODES)]


async def test_nodes_that_waited_for_a_resource_keep_their_order(one_worker):
    others_ran, order = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    @cs.resource
    async def slow():
        await others_ran.wait()
        yield None

    @cs.task
    def user(n, slow=cs.inject(slow)):
        order.append(n)

    @cs.task
    def last():
        loop.call_soon_threadsafe(others_ran.set)

    await one_worker.run([[user(n) for n in range(NODES)], last()])
    assert order == [*range(NODES)]


async def test_the_start_of_a_node_is_told_before_its_resource_opens(one_worker):
    told = []
    for kind in (TaskStarted, ResourceAcquired, TaskFinished, ResourceReleased):
        one_worker.bus.subscribe(kind, lambda event: told.append(type(event)))

    await one_worker.run(use(1))
    assert told == [TaskStarted, ResourceAcquired, TaskFinished, ResourceReleased]


async def test_a_resource_of_a_node_that_waits_for_a_capacity_is_not_opened(two_workers):
    """An attempt begins when its limits allow it: only then are resources opened."""
    waits, opened = threading.Event(), []

    @cs.resource
    def tracked():
        opened.append(None)
        yield None

    @cs.task(capacities={"gpu": 2})
    def holder():
        assert waits.wait(20)
        return [*opened]

    @cs.task(capacities={"gpu": 1})
    def user(tracked=cs.inject(tracked)):
        return "opened"

    two_workers.bus.subscribe(TaskWaiting, lambda _event: waits.set())
    assert await two_workers.run([holder(), user()]) == [[], "opened"]
    assert opened == [None]


async def test_all_users_of_a_resource_that_fails_to_open_fail_alike(two_workers):
    began = []

    @cs.resource
    def broken():
        began.append(None)
        raise ConnectionError("no database")
        yield

    @cs.task
    def user(n, broken=cs.inject(broken)):
        raise AssertionError

    with pytest.raises(ExceptionGroup) as got:
        await two_workers.run([user(n) for n in range(NODES)], fail_fast=False)
    assert {str(error) for error in got.value.exceptions} == {"no database"}
    assert began == [None]


async def test_a_failed_opening_of_an_engines_resource_fails_its_users_and_is_tried_again_later(
    two_workers,
):
    broken = [True]

    @cs.resource(scope="engine")
    def flaky():
        if broken:
            raise ConnectionError
        yield "open"

    @cs.task
    def user(n, flaky=cs.inject(flaky)):
        return flaky

    with pytest.raises(ConnectionError):
        await two_workers.run([user(n) for n in range(NODES)])
    broken.clear()
    assert await two_workers.run([user(1), user(2)]) == ["open", "open"]


async def test_a_cancel_while_a_resource_opens_begins_none_of_its_users(two_workers):
    opening, called = asyncio.Event(), []

    @cs.resource
    async def slow():
        opening.set()
        await asyncio.Event().wait()
        yield

    @cs.task
    def user(n, slow=cs.inject(slow)):
        called.append(n)

    handle = two_workers.start([user(n) for n in range(NODES)])
    await opening.wait()
    handle.cancel()
    with pytest.raises(cs.errors.RunCancelledError):
        await handle.result()
    assert not called


async def test_a_node_that_waits_for_its_resource_returns_its_capacity_when_the_run_ends(
    two_workers, caplog
):
    opening = threading.Event()

    @cs.resource
    async def slow():
        opening.set()
        await asyncio.Event().wait()
        yield

    @cs.task(capacities={"gpu": 1})
    def user(slow=cs.inject(slow)):
        raise AssertionError

    @cs.task(mode="blocking")
    def fails():
        assert opening.wait(20)
        raise LookupError

    with pytest.raises(LookupError):
        await two_workers.run([user(), user(), fails()])
    assert two_workers.capacities.available == {"gpu": 2}
    assert not caplog.records


async def test_a_pause_while_a_resource_opens_holds_up_its_users(two_workers):
    opening, opened, called = threading.Event(), asyncio.Event(), []

    @cs.resource
    async def slow():
        opening.set()
        await opened.wait()
        yield

    @cs.task(capacities={"gpu": 2})
    def user(slow=cs.inject(slow)):
        called.append(None)

    waits = threading.Event()
    two_workers.bus.subscribe(TaskWaiting, lambda _event: waits.set())
    handle = two_workers.start(user())
    assert await asyncio.to_thread(opening.wait, 20)
    two_workers.constraints.pause()
    opened.set()
    assert await asyncio.to_thread(waits.wait, 20)
    assert not called
    two_workers.constraints.resume()
    await handle.result()
    assert called == [None]


@pytest.mark.parametrize("loops", [False, True])
async def test_an_abandoned_call_keeps_its_resources_open_until_it_ends(two_workers, held, loops):
    """M8: also those of the run. Here a second cancel abandons it, in its first step or later."""
    log, begun, closed = [], threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @cs.resource
    def used():
        yield log
        log.append("used closed")
        loop.call_soon_threadsafe(closed.set)

    @cs.resource
    def unused():
        yield
        log.append("unused closed")

    @cs.task
    def first(unused=cs.inject(unused)):
        pass

    @cs.task
    def stuck(n, used=cs.inject(used)):
        if n:
            return stuck.tail(n - 1)
        begun.set()
        assert held.wait(20)
        return used.append("call ended")

    work = asyncio.create_task(two_workers.run(stuck(3 if loops else 0).after(first())))
    assert await asyncio.to_thread(begun.wait, 20)
    for _ in range(2):
        work.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert log == ["unused closed"]

    held.set()
    await asyncio.wait_for(closed.wait(), 20)
    assert log == ["unused closed", "call ended", "used closed"]


async def test_a_literal_of_a_lazy_value_reaches_the_task_beside_values_that_are_computed():
    shielded = double(1)

    @cs.task
    def show(lazy, value):
        return lazy is shielded, value

    async with cs.Engine() as engine:
        call = show(cs.literal(shielded), double(2))
        assert await engine.run([call, call.with_retry(2)]) == [(True, 4), (True, 4)]


async def test_a_call_that_no_attempt_could_repeat_opens_no_resource():
    opened = []

    @cs.resource
    def connection():
        yield opened.append("open")

    @cs.task
    def use(items, connection=cs.inject(connection)):
        return list(items)

    @cs.task
    def numbers():
        return iter([1, 2])

    async with cs.Engine() as engine:
        with pytest.raises(cs.errors.ArgumentError, match="iterator"):
            await engine.run(use(numbers()).with_retry(2))
    assert not opened


@cs.resource
def table():
    yield ["row"]


@cs.resource(scope="task")
def own():
    yield ["own"]


def _nodes(kind):
    """Nodes that name their resources in all ways, some of them by one dict for many."""

    def get(n, more=0, pool=cs.inject(pool), table=cs.inject(table)):
        return n, more, *pool, *table

    def get_own(n, pool=cs.inject(pool), own=cs.inject(own)):
        return n, *pool, *own

    async def get_later(n, more=0, pool=cs.inject(pool), table=cs.inject(table)):
        return get(n, more, pool, table)

    async def get_own_later(n, pool=cs.inject(pool), own=cs.inject(own)):
        return get_own(n, pool, own)

    plain = kind == "plain"
    one = cs.task(get if plain else get_later)
    other = cs.task(get_own if plain else get_own_later)
    target = []
    for n in range(4):
        target += [one(n), other(n), one(n, more=1), one(double(n)), other(double(n))]
        target += [one(n, 2, cs.inject(table)), one(cs.inject(table)), one(n, table=[n])]
        target += [other(n, ["given"]), other(n, cs.inject(own)), one([n, double(n)])]
    return target


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_nodes_that_share_their_arguments_are_given_what_each_asks_for(two_workers, kind):
    expected = []
    for n in range(4):
        both = ("connection", "row")
        expected += [(n, 0, *both), (n, "connection", "own"), (n, 1, *both), (2 * n, 0, *both)]
        expected += [(2 * n, "connection", "own"), (n, 2, "row", "row"), (["row"], 0, *both)]
        expected += [(n, 0, "connection", n), (n, "given", "own"), (n, "own", "own")]
        expected += [([n, 2 * n], 0, *both)]
    assert await two_workers.run(_nodes(kind)) == expected


def test_calls_of_one_task_share_the_arguments_that_it_supplies():
    use(0)  # the first call of a task finds them, and may have a dict of its own
    first, second = use(1), use(double(2))
    assert first.kwargs is second.kwargs
    assert second._dependencies == second.args
    assert second._dependencies is not second.args  # which would say that there are no others
    assert use(1, pool=[3]).kwargs == {"pool": [3]}
    by_position = use(cs.inject(pool))
    assert use.shares_kwargs(first)
    assert use.shares_kwargs(second)
    assert not use.shares_kwargs(by_position)  # its other argument is a marker, too
    assert not use.shares_kwargs(by_position.with_retry(1))
