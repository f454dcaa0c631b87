"""Plain calls that plain calls return: a worker makes them one after the other."""

import asyncio
import gc
import time
import weakref
from contextvars import ContextVar

import pytest

import cascade as cs
from cascade.runtime.graph_path.lanes.returned_calls import ReturnedCalls
from cascade.runtime.graph_path.segments import Work

variable = ContextVar("variable", default="nobody's")


@pytest.fixture
def made(monkeypatch):
    """The names of the calls that were made without remembering their lazy values."""
    names = []
    inside = []
    call, continue_as = ReturnedCalls.call, Work.continue_as

    def calling(self, work):
        inside.append(work)
        try:
            return call(self, work)
        finally:
            inside.pop()

    def continuing(self, lazy):
        if inside:
            names.append(lazy.name)
        continue_as(self, lazy)

    monkeypatch.setattr(ReturnedCalls, "call", calling)
    monkeypatch.setattr(Work, "continue_as", continuing)
    return names


@pytest.fixture(params=[False, True], ids=["graph", "vm"])
async def run(request):
    async with cs.Engine() as engine:

        def run(target, **options):
            return engine.run(target, use_vm=request.param, **options)

        run.engine = engine
        yield run


@cs.task
def same(value):
    return value


def beside(target):
    """``target`` as a node of a graph that is no small run."""
    return cs.gather(target, *[same(n) for n in range(20)])


async def test_a_recursion_makes_its_calls(run, made):
    seen = []

    @cs.task
    def descend(n):
        seen.append(n)
        return descend(n - 1) if n else "end"

    value, *_ = await run(beside(descend(50)))
    assert value == "end"
    assert seen == list(range(50, -1, -1))
    assert len(made) > 40


async def test_several_tasks_return_each_other(run, made):
    @cs.task
    def even(n):
        return odd(n - 1) if n else "even"

    @cs.task
    def odd(n, *, by=0):
        return even(n - 1) if n else "odd"

    value, *_ = await run(beside(even(51)))
    assert value == "odd"
    assert {"even", "odd"} <= set(made)


async def test_a_lazy_value_that_other_code_has_is_computed_once(run):
    """It may be returned again: by another node, later (M14)."""
    calls, kept = [], []

    @cs.task
    def leaf(n):
        calls.append(n)
        return object()

    @cs.task
    def first(n):
        if n:
            return first(n - 1)
        kept.append(leaf(1))
        return kept[0]

    @cs.task
    def second(value, n):
        return second(value, n - 1) if n else kept[0]

    one = first(5)
    value, again, *_ = await run(cs.gather(one, second(one, 5)))
    assert value is again
    assert calls == [1]


async def test_a_lazy_value_in_a_weak_dictionary_is_computed_once(run):
    calls, memo = [], weakref.WeakValueDictionary()

    @cs.task
    def leaf(n):
        calls.append(n)
        found = memo.get("leaf")
        if n and found is not None:
            return same("found again")
        return object()

    @cs.task
    def first(n):
        if n:
            return first(n - 1)
        made = memo["leaf"] = leaf(1)
        return made

    value, *_ = await run(beside(first(5)))
    assert value == "found again"  # the run holds it while it is called
    assert calls == [1]


async def test_a_weakly_known_value_that_another_node_returns_is_computed_once(run):
    calls, memo = [], weakref.WeakValueDictionary()
    both = []

    @cs.task
    def leaf(n):
        calls.append(n)
        until = time.monotonic() + 10
        while not both and time.monotonic() < until:
            time.sleep(0.001)
        return object()

    @cs.task
    def first(n):
        if n:
            return first(n - 1)
        made = memo["leaf"] = leaf(1)
        return made

    @cs.task(mode="blocking")
    def second():
        while "leaf" not in memo:
            time.sleep(0.001)
        found = memo["leaf"]
        both.append(True)
        return found

    one, other = await run(cs.gather(first(5), second()))
    assert one is other
    assert calls == [1]


async def test_a_variable_that_a_call_sets_is_invisible_to_the_next(run, made):
    seen = []

    @cs.task
    def descend(n):
        seen.append(variable.get())
        if n % 3 == 0:
            variable.set(n)
        return descend(n - 1) if n else "end"

    await run(beside(descend(20)))
    assert set(seen) == {"nobody's"}

    variable.set("the caller's")
    seen.clear()
    await run(beside(descend(20)))
    assert set(seen) == {"the caller's"}
    assert made


async def test_an_error_is_that_of_the_call_that_raised_it(run, made):
    @cs.task
    def descend(n):
        if n == 7:
            raise ValueError(f"no {n}")
        return other(n - 1)

    @cs.task
    def other(n):
        return descend(n)

    with pytest.raises(ValueError, match="no 7") as caught:
        await run(beside(descend(30)))
    assert any("'descend'" in note for note in caught.value.__notes__)
    assert made


async def test_calls_with_policies_go_the_general_way(run, made):
    attempts = []

    @cs.task
    def flaky(n):
        attempts.append(n)
        if len(attempts) < 3:
            raise ConnectionError
        return descend(n - 1)

    @cs.task
    def descend(n):
        if n == 5:
            return flaky(n).with_retry(3, delay=0)
        return descend(n - 1) if n else "end"

    value, *_ = await run(beside(descend(20)))
    assert value == "end"
    assert attempts == [5, 5, 5]
    assert "flaky" not in made
    assert "descend" in made


@pytest.mark.parametrize("returned", ["tail", "list", "nested", "coroutine"])
async def test_other_results_go_the_general_way(run, made, returned):
    @cs.task
    def descend(n):
        if n > 5:
            return descend(n - 1)
        if returned == "tail":
            return end.tail(n)
        if returned == "list":
            return [end(n), "beside"]
        if returned == "nested":
            return end(same(n))
        return end_async(n)

    @cs.task
    def end(n):
        assert type(n) is int
        return same(n)

    @cs.task
    async def end_async(n):
        return same(n)

    value, *_ = await run(beside(descend(20)))
    assert value == ([5, "beside"] if returned == "list" else 5)
    assert made.count("descend") > 10


@pytest.mark.parametrize("limit", [30, 31])
async def test_steps_are_counted_and_limited(run, limit):
    @cs.task
    def descend(n):
        if not n:
            (info,) = run.engine.runs()
            return info.steps
        return descend(n - 1)

    assert (await run(beside(descend(30))))[0] == 30
    if limit < 31:
        with pytest.raises(cs.errors.StepLimitError):
            await run(beside(descend(31)), max_steps=limit)
    assert (await run(beside(descend(30)), max_steps=limit))[0] == 30


async def test_an_endless_recursion_is_cancelled(run):
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @cs.task
    def descend(n):
        if n == 1000:
            loop.call_soon_threadsafe(began.set)
        return descend(n + 1)

    running = asyncio.ensure_future(run(beside(descend(0))))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_constraint_that_is_set_on_the_way_holds(run, made):
    @cs.task
    def descend(n):
        if n == 40:
            run.engine.constraints.limit_concurrency("task:descend", 1)
        return descend(n - 1) if n else "end"

    value, *_ = await run(beside(descend(60)))
    assert value == "end"
    assert 10 < len(made) <= 20


async def test_arguments_are_freed_by_the_next_call(run, made):
    class Thing:
        pass

    known = []

    @cs.task
    def descend(n, thing=None):
        gc.collect() if n % 8 == 0 else None
        alive = [ref for ref in known if ref() is not None]
        assert len(alive) <= 2
        new = Thing()
        known.append(weakref.ref(new))
        return descend(n - 1, new) if n else "end"

    value, *_ = await run(beside(descend(40)))
    assert value == "end"
    assert made
