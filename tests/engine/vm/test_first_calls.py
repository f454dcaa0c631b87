"""The first call of a run that may be one coroutine loop, in its first run and in later ones."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

import cascade as cs
from cascade.runtime.graph_path.small_runs.lone_loops import LoneLoop
from cascade.runtime.graph_path.strategy import GraphRun
from cascade.spec.errors import StepLimitError

variable: ContextVar[object] = ContextVar("variable", default=None)


@pytest.fixture
def made(monkeypatch):
    """The names of the loops and graphs, in the order in which they were made."""
    made = []

    def note(kind, method, name):
        original = getattr(kind, method)

        def noted(self, *args, **options):
            made.append(name)
            original(self, *args, **options)

        monkeypatch.setattr(kind, method, noted)

    note(LoneLoop, "__init__", "loop")
    note(GraphRun, "__init__", "graph")
    return made


@pytest.fixture
async def engine():
    async with cs.Engine() as engine:
        yield engine


def make_count(wait=False):
    """A task that no engine knows yet."""

    @cs.task
    async def count(left, made=0):
        if wait:
            await asyncio.sleep(0)
        return count.tail(left - 1, made=made + 1) if left else made

    return count


@pytest.mark.parametrize("wait", [False, True])
async def test_a_call_that_returns_a_value_makes_neither_loop_nor_graph(engine, made, wait):
    assert await engine.run(make_count(wait)(0), use_vm=True) == 0
    assert made == []


async def test_nor_do_later_ones_until_one_has_gone_on(engine, made):
    count = make_count()
    assert [await engine.run(count(n), use_vm=True) for n in (0, 0, 3, 0)] == [0, 0, 3, 0]
    assert made == ["loop", "loop"]


async def test_of_many_that_wait_only_the_first_is_tried(engine, made):
    count = make_count(wait=True)
    runs = [engine.run(count(2), use_vm=True) for _ in range(5)]
    assert await asyncio.gather(*runs) == [2] * 5
    assert made == ["loop"] * 5


@pytest.mark.parametrize("options", [{"max_steps": 3}, {"max_rounds": 3}])
async def test_its_tail_call_counts_for_the_limits(options):
    async with cs.Engine() as engine:
        for _ in range(2):
            count = make_count()
            assert await engine.run(count(3), use_vm=True, **options) == 3
            with pytest.raises(StepLimitError):
                await engine.run(make_count()(4), use_vm=True, **options)


async def test_its_tail_call_is_a_step_of_the_run(engine):
    steps = []

    @cs.task
    async def look(left):
        (info,) = engine.runs()
        steps.append(info.steps)
        return look.tail(left - 1) if left else "end"

    for _ in range(2):
        await engine.run(look(3), use_vm=True)
    assert steps == [0, 1, 2, 3] * 2


@cs.task
async def pair(left, right):
    return (left, right)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda task: task.tail(1, 2, 3),
        lambda task: task.tail(1, 2, third=3),
        lambda task: task.tail(cs.inject("missing"), [pair]),
        lambda task: 1 / 0,
    ],
)
async def test_an_error_is_that_of_any_run(engine, wrong):
    @cs.task
    async def fails(left, right):
        return wrong(fails)

    told = []
    for _ in range(2):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            assert await engine.run(fails(1, 2), use_vm=True) is None
        told.append((type(caught.value), str(caught.value), caught.value.__notes__))
    assert told[0] == told[1]


async def test_lazy_arguments_of_its_tail_call_are_computed(engine, made):
    @cs.task
    async def sums(left, total):
        return sums.tail(left - 1, pair(left, total)) if left else total

    expected = (1, (2, 0))
    assert [await engine.run(sums(2, 0), use_vm=True) for _ in range(2)] == [expected] * 2


async def test_the_arguments_of_its_tail_call_are_freed_by_the_next_step(engine):
    class Value:
        pass

    @cs.task
    async def go_on(left, held):
        if left == 3:
            return go_on.tail(2, Value())
        if left == 2:
            return go_on.tail(1, weakref.ref(held))
        gc.collect()
        return held() is None

    assert await engine.run(go_on(3, None), use_vm=True)


async def test_the_steps_do_not_see_what_it_has_set(engine):
    @cs.task
    async def sets(left):
        found = variable.get()
        variable.set(left)
        return sets.tail(left - 1) if left and found is None else found

    assert [await engine.run(sets(3), use_vm=True) for _ in range(2)] == [None, None]


@pytest.mark.parametrize("waits", [0, 1])
async def test_a_cancel_ends_it_in_its_first_step_and_later(engine, waits):
    event = asyncio.Event()

    @cs.task
    async def waiting(left):
        if not left:
            await event.wait()
        return waiting.tail(left - 1)

    running = asyncio.ensure_future(engine.run(waiting(waits), use_vm=True))
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.runs() == []
