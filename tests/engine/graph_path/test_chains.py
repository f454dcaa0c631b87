"""Chains that tasks return on the graph path: called by the worker that has met them."""

import asyncio
import gc
import threading
from collections import Counter

import pytest

import cascade as cs
from cascade.runtime.events import Event
from cascade.runtime.graph_path.node_rules.chains import Chains


@pytest.fixture
def taken(monkeypatch):
    """The chains followed by straight-line code: names of their targets."""
    names = []
    original = Chains.go_along

    def go_along(self, work, lazy):
        found = original(self, work, lazy)
        if found is not None:
            names.append(lazy.name)
        return found

    monkeypatch.setattr(Chains, "go_along", go_along)
    return names


@cs.task
def add(a, b=0):
    return a + b


@cs.task
async def add_async(a, b=0):
    return a + b


@cs.task
def identity(value):
    return value


@cs.task
def fail(n, at=4):
    if n == at:
        raise ValueError(f"no {n}")
    return n


@cs.task
def last(value, n, make):
    return again(n + 1, make) if n < 5 else value


@cs.task
def again(n, make):
    """Returns the same few calls some times, so that code is written for them."""
    return last(add(make(n), 1), n, make)


async def outcome(work):
    try:
        return await work
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup):
            return str(error), [described(e) for e in error.exceptions]
        return described(error)


def described(error):
    return type(error), str(error), getattr(error, "__notes__", [])


async def in_all_ways(target, **options):
    """The result of a run, in each way."""
    found = {}
    for way in ("graph", "watched", "interpreted", "auto"):
        async with cs.Engine(tier="interpreted" if way == "interpreted" else "auto") as engine:
            if way == "watched":
                engine.bus.subscribe(Event, lambda event: None)
            use_vm = way in ("interpreted", "auto")
            found[way] = await outcome(engine.run(target, use_vm=use_vm, **options))
    return found


MAKES = {
    "a value": lambda n: identity(n),
    "an error": lambda n: fail(identity(n)),
    "an error at the beginning": lambda n: identity(fail(n)),
    "a lazy value": lambda n: into(identity(n)),  # type: ignore[has-type]
    "a failing lazy value": lambda n: into_failure(identity(n)),  # type: ignore[has-type]
    "a tail call": lambda n: loop(identity(n)),  # type: ignore[has-type]
    "a failing tail call": lambda n: loop(identity(n), True),  # type: ignore[has-type]
    "a StopIteration": lambda n: stop(identity(n)),  # type: ignore[has-type]
    "a coroutine by mistake": lambda n: mistaken(identity(n)),  # type: ignore[has-type]
    "a chain that returns itself": lambda n: circle(identity(n)),  # type: ignore[has-type]
}
held = []  # type: ignore[var-annotated]


@cs.task
def into(n):
    return identity(add(n, 1)) if n == 4 else n


@cs.task
def into_failure(n):
    return fail(add(n, 0)) if n == 4 else n


@cs.task
def loop(n, fails=False):
    if n == 4 and fails:
        return fail.tail(4)
    return loop.tail(n - 1) if n else 0


@cs.task
def stop(n):
    if n == 4:
        raise StopIteration("over")
    return n


@cs.task
def mistaken(n):
    async def work():
        pass

    return work() if n == 4 else n


@cs.task
def circle(n):
    return held[-1] if n == 4 else n


@cs.task
def holding(n):
    lazy = identity(circle(identity(n)))
    held[:] = [lazy]
    return lazy if n == 4 else again_holding(n + 1)


@cs.task
def again_holding(n):
    return holding(identity(n))


@pytest.mark.parametrize("name", [name for name in MAKES if "itself" not in name])
@pytest.mark.parametrize("fail_fast", [True, False])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_chain_gives_the_same_as_separate_nodes(taken, name, fail_fast, wrapped):
    make = MAKES[name]
    target = add(again(0, make), 1) if wrapped else again(0, make)

    found = await in_all_ways(target, fail_fast=fail_fast)

    assert found["graph"] == found["watched"] == found["interpreted"] == found["auto"]
    assert taken.count("last") >= 2
    if "error" in name or "failing" in name:
        assert "no 4" in str(found["graph"])


async def test_a_chain_that_waits_for_itself_is_a_cycle():
    found = await in_all_ways(again_holding(0))

    assert {found[way][0] for way in found} == {cs.errors.CycleError}


async def test_errors_of_several_chains_are_raised_together():
    targets = [again(0, MAKES["an error"]), again(0, MAKES["a failing tail call"]), add(1)]

    found = await in_all_ways(cs.gather(*targets), fail_fast=False)

    assert {tuple(sorted(map(str, errors))) for _, errors in found.values()} == {
        tuple(sorted(map(str, found["graph"][1])))
    }
    assert len(found["graph"][1]) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda n: add_async(n),
        lambda n: add(add_async(n)),
        lambda n: add(n).with_retry(2),
        lambda n: add(n).with_timeout(10),
        lambda n: add(n).run_if(add(1)),
        lambda n: add(n).after(add(1)),
        lambda n: add(cs.literal(n)),
        lambda n: cs.gather(add(n), add(n))[0],
        lambda n: injected(n),  # type: ignore[has-type]
        lambda n: blocking(n),  # type: ignore[has-type]
    ],
)
async def test_only_chains_of_plain_calls_are_followed(taken, make):
    @cs.task
    def begin(n, total):
        if n == 5:
            return total
        return begin(n + 1, add(make(n), total))

    expected = None
    for way in ("graph", "vm"):
        async with cs.Engine(resources=[connection]) as engine:
            found = await engine.run(begin(0, 0), use_vm=way == "vm")
            expected = found if expected is None else expected
            assert found == expected
    assert taken == []


@cs.resource
def connection():
    yield 0


@cs.task
def injected(n, resource=cs.inject(connection)):
    return n + resource


@cs.task(mode="blocking")
def blocking(n):
    return n


async def test_chains_of_coroutine_tasks_are_not_called_in_the_event_loops_thread(engine, taken):
    threads = set()

    @cs.task
    def work(n):
        threads.add(threading.current_thread())
        return n

    @cs.task
    async def begin(n):
        return begin(work(work(work(n + 1)))) if n < 8 else n

    assert await engine.run(begin(0)) == 8
    assert threading.current_thread() not in threads
    assert taken == []


def chain_that_waits(go_on=None):
    """A chain that waits in the middle of its fifth round.

    Returns:
        Its task, an event for when it waits, another for when it may go on, and its calls by place.
    """
    begun, go_on, ran = threading.Event(), go_on or threading.Event(), Counter()

    @cs.task
    def work(n, place):
        ran[place] += 1
        if n == 5 and place == 1:
            begun.set()
            go_on.wait(10)
        return n

    @cs.task
    def begin(n):
        return begin(work(work(work(n + 1, 0), 1), 2))

    return begin, begun, go_on, ran


async def test_a_cancel_in_the_middle_of_a_chain_ends_it(engine, taken):
    begin, begun, go_on, ran = chain_that_waits()

    running = asyncio.create_task(engine.run(begin(0)))
    assert await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not running.done()  # it waits for the call (M8)
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert ran == {0: 5, 1: 5, 2: 4}
    assert taken == ["begin"] * 3
    assert engine.runs() == []


async def test_a_failure_elsewhere_ends_a_chain(engine, taken):
    begin, begun, go_on, ran = chain_that_waits()

    @cs.task
    async def wrong():
        assert await asyncio.to_thread(begun.wait, 10)
        asyncio.get_running_loop().call_soon(go_on.set)
        raise ValueError("elsewhere")

    with pytest.raises(ValueError, match="elsewhere"):
        await engine.run([begin(0), wrong()])
    assert ran == {0: 5, 1: 5, 2: 4}


async def test_a_deadline_in_the_middle_of_a_chain_abandons_the_call(held_event, taken):
    begin, begun, go_on, ran = chain_that_waits(held_event)

    async with cs.Engine() as engine:
        running = asyncio.create_task(engine.run(begin(0), deadline=3600))
        assert await asyncio.to_thread(begun.wait, 10)
        (run,) = engine._runs.active
        run.scope.reschedule(asyncio.get_running_loop().time())
        with pytest.raises(cs.errors.DeadlineError):
            await running
        assert len(engine.abandoned) == 1
        go_on.set()
    assert ran[1] == 5


@pytest.fixture
def held_event():
    event = threading.Event()
    yield event
    event.set()


async def test_steps_are_limited_as_on_the_vm(engine):
    found = set()
    for use_vm in (False, True):
        ran = []

        @cs.task
        def begin(n, ran=ran):
            ran.append(n)
            return begin(add(add(n, 1)))

        with pytest.raises(cs.errors.StepLimitError):
            await engine.run(begin(0), use_vm=use_vm, max_steps=7)
        found.add(tuple(ran))

    assert found == {tuple(range(8))}


@pytest.mark.parametrize("depth", [3000])
async def test_nested_chains_take_no_stack(engine, use_vm, depth):
    """Each returns a chain from its inner node, which is met while the outer one waits."""

    @cs.task
    def down(n):
        return add(add(down(n - 1), 1)) if n else 0

    @cs.task
    def inner(n):
        return identity(inner(identity(n - 1))) if n else "end"

    assert await engine.run(down(depth), use_vm=use_vm) == depth
    assert await engine.run(inner(depth), use_vm=use_vm) == "end"


async def test_values_of_a_chain_are_not_kept(engine, use_vm):
    alive, most = [0], [0]

    class Value:
        def __init__(self):
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    @cs.task
    def work(_value):
        return Value()

    @cs.task
    def begin(value, n):
        return begin(work(work(work(value))), n - 1) if n else "end"

    gc.disable()
    try:
        assert await engine.run(begin(None, 2000), use_vm=use_vm) == "end"
    finally:
        gc.enable()
    assert most[0] < 50
