"""``override``: on both paths, in programs, loops and maps, and nowhere else."""

import asyncio
import threading

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.vm import VirtualMachine
from cascade.testing import VirtualTime, override


@cs.task
def fetch(n):
    return n


@cs.task
async def fetch_async(n):
    await asyncio.sleep(0)
    return n


@cs.task
def add(numbers):
    return sum(numbers)


@cs.task
def countdown(n):
    return countdown.tail(n - 1) if n else "lift-off"


@cs.task
async def poll(n):
    return poll.tail(n - 1) if n else "done"


@cs.task
def spread(n):
    return add(fetch.map(n=list(range(n))))


@cs.task(pure=True)
def known(n):
    return n


class Shop:
    @cs.task
    def price(self, item):
        return len(item)


shop = Shop()
one, mapped, asked = fetch(1), fetch.map(n=[1, 2]), fetch_async(3)
summed, total, loop, polled = one + 10, add([one, asked]), countdown(5), poll(4)
inner, param, priced = spread(4), cs.Param("n", 7, int), shop.price("tea")
NODES = {
    "one": one, "mapped": mapped, "asked": asked, "summed": summed, "total": total,
    "loop": loop, "polled": polled, "inner": inner, "param": param, "priced": priced,
}  # fmt: skip
USUAL = {
    "one": 1, "mapped": [1, 2], "asked": 3, "summed": 11, "total": 4,
    "loop": "lift-off", "polled": "done", "inner": 6, "param": 7, "priced": 3,
}  # fmt: skip


async def later(n):
    await asyncio.sleep(0)
    return n * 100


REPLACED = {
    "value of a task": (
        lambda: override(fetch, value=50),
        {"one": 50, "mapped": [50, 50], "summed": 60, "total": 53, "inner": 200},
    ),
    "function of a task": (
        lambda: override(fetch, function=lambda n: -n),
        {"one": -1, "mapped": [-1, -2], "summed": 9, "total": 2, "inner": -6},
    ),
    "lazy value of a function": (
        lambda: override(fetch, function=lambda n: fetch_async(n + 1)),
        {"one": 2, "mapped": [2, 3], "summed": 12, "total": 5, "inner": 10},
    ),
    "coroutine function": (
        lambda: override(fetch_async, function=later),
        {"asked": 300, "total": 301},
    ),
    "plain function of a coroutine task": (
        lambda: override("fetch_async", function=lambda n: 9),
        {"asked": 9, "total": 10},
    ),
    "value of a loop": (lambda: override(countdown, value="stop"), {"loop": "stop"}),
    "steps of a loop": (
        lambda: override(poll, function=lambda n: poll.tail(n - 2) if n > 0 else "even"),
        {"polled": "even"},
    ),
    "name": (lambda: override("add", value=0), {"total": 0, "inner": 0}),
    "method": (lambda: override(Shop.price, function=lambda self, item: 99), {"priced": 99}),
    "method of an object": (lambda: override(shop.price, value=98), {"priced": 98}),
    "node of a task": (
        lambda: override(one, value=5),
        {"one": 5, "summed": 15, "total": 8},
    ),
    "node of a map": (lambda: override(mapped, value=[]), {"mapped": []}),
    "node of an operator": (lambda: override(summed, value=0), {"summed": 0}),
    "node of a parameter": (lambda: override(param, value=8), {"param": 8}),
    "node that returns a graph": (lambda: override(inner, value=-1), {"inner": -1}),
}


@pytest.mark.parametrize("case", REPLACED)
@pytest.mark.parametrize("use_vm", [False, True])
def test_it_holds_in_runs(case, use_vm):
    make, changed = REPLACED[case]
    with make():
        assert cs.run(NODES, use_vm=use_vm) == USUAL | changed
    assert cs.run(NODES, use_vm=use_vm) == USUAL


@pytest.mark.parametrize("case", REPLACED)
async def test_it_holds_in_programs_compiled_before_and_inside(case):
    make, changed = REPLACED[case]
    async with cs.Engine() as engine:
        before = engine.compile(NODES)
        assert await before.run() == USUAL
        with make():
            inside = engine.compile(NODES)
            for program in (before, inside):
                assert await program.run() == USUAL | changed
        for program in (before, inside):
            assert await program.run() == USUAL


@pytest.mark.parametrize("tier", ["interpreted", "generated", "fused"])
async def test_it_holds_in_every_tier_of_a_loop(tier):
    async with cs.Engine(tier=tier) as engine:
        program = engine.compile(countdown(100))
        with override(
            countdown, function=lambda n: countdown.tail(n - 10) if n else "by tens"
        ) as by:
            assert await program.run() == "by tens"
        assert [call.arguments["n"] for call in by.calls] == list(range(100, -1, -10))
        assert await program.run() == "lift-off"


@pytest.mark.parametrize("use_vm", [False, True])
def test_policies_apply_to_it(use_vm):
    time = VirtualTime()
    target = fetch(1).with_retry(3, delay=60).catch(ConnectionError, "gave up")
    with override(fetch, error=ConnectionError("no")) as failing:
        assert time.run(target, use_vm=use_vm) == "gave up"
    assert time.elapsed == 120
    failing.assert_called(3, n=1)


def test_an_error_is_raised_anew_each_time():
    error = ValueError("no")
    with override(fetch, error=error):
        with pytest.raises(ValueError, match="no"):
            cs.run(fetch(1))
        depth = len(list(iter_frames(error)))
        with pytest.raises(ValueError, match="no"):
            cs.run(fetch(1))
        assert len(list(iter_frames(error))) == depth
    with override(fetch, error=KeyError), pytest.raises(KeyError):
        cs.run(fetch(1))


def iter_frames(error):
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


async def test_no_cache_gives_or_keeps_a_value_of_such_a_run(tmp_path):
    own = cs.LRUCache(10)
    target = [known(1), fetch(2).with_cache(own), add([known(1)]).with_cache(own)]
    async with cs.Engine(cache=f"sqlite:///{tmp_path}/cache.db") as engine:
        with override(known, value=100), override("fetch", value=200):
            assert await engine.run(target) == [100, 200, 100]
        assert await engine.run(target) == [1, 2, 1]
        with override(known, value=300), override(fetch, value=400):
            assert await engine.run(target) == [300, 400, 300]
        assert await engine.run(target) == [1, 2, 1]


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_call_that_would_go_to_another_process_is_made_here(use_vm):
    here = threading.get_ident()
    seen = []
    away = cs.task(lambda n: n, name="away", mode="process")
    with override(away, function=lambda n: seen.append(n) or here):
        assert cs.run([away(1), away(2)], use_vm=use_vm) == [here, here]
    assert sorted(seen) == [1, 2]


@pytest.mark.parametrize("use_vm", [False, True])
def test_waits_and_missing_parameters_can_be_replaced(use_vm):
    signal, pause, missing = cs.wait_for("ok"), cs.sleep(60), cs.Param("missing", type=int)
    time = VirtualTime()
    with override(signal, value=True), override(missing, value=2):
        assert time.run([signal, missing, pause], use_vm=use_vm) == [True, 2, None]
    assert time.elapsed == 60
    with override("sleep", value="awake"):
        assert time.run([pause, fetch(1).after(pause)], use_vm=use_vm) == ["awake", 1]
    assert time.elapsed == 60


@pytest.mark.parametrize("use_vm", [False, True])
def test_it_holds_in_maps_over_streams_and_for_routes(use_vm):
    with override(fetch, function=lambda n: -n), override(fetch_async, value=5):
        stream = fetch.map(n=iter(range(5)), window=2)
        assert cs.run(stream, use_vm=use_vm) == [0, -1, -2, -3, -4]
        assert cs.run(fetch_async.map(n=iter("ab"), window=1), use_vm=use_vm) == [5, 5]
        assert cs.run(fetch_async.map(n=fetch.map(n=[1, 2])), use_vm=use_vm) == [5, 5]


async def test_it_holds_in_streams_started_runs_and_durable_runs():
    async with cs.Engine(store="memory:") as engine:
        with override(fetch, value=9):
            assert [value async for value in engine.stream(fetch.map(n=[1, 2]))] == [9, 9]
            assert await engine.start(fetch(1)).result() == 9
            assert await engine.run(add([fetch(1), 1]), run_id="one") == 10
        assert await engine.run(add([fetch(1), 1]), run_id="one") == 10  # as it was stored


def test_it_holds_where_everything_would_go_to_other_processes():
    with override(fetch, function=lambda n: (threading.get_native_id(), n)):
        values = cs.run([fetch(1), fetch.map(n=[2])], executor="process")
    assert [values[0][1], values[1][0][1]] == [1, 2]


async def test_it_holds_on_a_virtual_machine_without_an_engine():
    blueprint = BlueprintBuilder().build(fetch(2))
    with override(fetch, value=77):
        assert await VirtualMachine().execute(blueprint, (2,)) == 77
    assert await VirtualMachine().execute(blueprint, (2,)) == 2


def test_the_inner_of_two_wins_and_blocks_end_in_any_order():
    outer, inner_one = override(fetch, value=1000), override("fetch", value=2000)
    outer.__enter__()
    inner_one.__enter__()
    assert cs.run(one) == 2000
    outer.__exit__(None, None, None)
    assert cs.run(one) == 2000
    inner_one.__exit__(None, None, None)
    assert cs.run(one) == 1


async def test_a_run_keeps_what_was_in_force_when_it_began():
    began, go_on = asyncio.Event(), asyncio.Event()

    @cs.task
    async def wait():
        began.set()
        await go_on.wait()
        return 1

    target = fetch(wait())
    async with cs.Engine() as engine:
        with override(fetch, value=77):
            replaced = asyncio.create_task(engine.run(target))
            await began.wait()
        began.clear()
        plain = asyncio.create_task(engine.run(target))
        await began.wait()
        with override(fetch, value=88):
            go_on.set()
            assert await replaced == 77
            assert await plain == 1


async def test_middlewares_are_around_it():
    def seen(call):
        value = yield
        return (call.task, call.kwargs or list(call.args), value)

    async with cs.Engine(middleware=[seen]) as engine:
        with override(fetch, value=5):
            assert await engine.run(fetch(1)) == ("fetch", [1], 5)


def test_its_calls_are_listed_and_checked():
    with override(add, value=0) as replaced:
        replaced.assert_not_called()
        cs.run([add([1, 2]), add(numbers=[3])])
    replaced.assert_called()
    replaced.assert_called(2)
    replaced.assert_called(1, numbers=[3])
    with pytest.raises(AssertionError) as told:
        replaced.assert_called(numbers=[4])
    assert str(told.value).splitlines()[0] == (
        "'add' was called 0 times with numbers=[4], not at least once; its calls:"
    )
    assert sorted(str(told.value).splitlines()[1:]) == [
        "    add(numbers=[1, 2])",
        "    add(numbers=[3])",
    ]


@pytest.mark.parametrize(
    ("target", "by", "message"),
    [
        (fetch, {}, "takes one of value=, function= and error=, but got none"),
        (fetch, {"value": 1, "error": KeyError}, "but got value, error"),
        (fetch, {"function": 3}, "takes a function=, but got 3"),
        (fetch, {"error": "no"}, "takes an error to raise, but got 'no'"),
        (fetch, {"function": later}, "'fetch' is a coroutine function, but the task is not"),
        (one, {"function": later}, "'fetch' is a coroutine function, but the task is not"),
        (3, {"value": 1}, "takes a task, the name of one, or a lazy value, but got 3"),
        ("", {"value": 1}, "takes a task, the name of one, or a lazy value, but got ''"),
    ],
)
def test_what_cannot_be_is_refused_at_once(target, by, message):
    with pytest.raises(cs.errors.DefinitionError) as told:
        override(target, **by)
    assert message in str(told.value)


def test_a_coroutine_function_for_a_name_of_a_plain_task_fails_the_call():
    with (
        override("fetch", function=later),
        pytest.raises(cs.errors.DefinitionError, match="the task is not"),
    ):
        cs.run(one)
