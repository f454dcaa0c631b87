"""The fast lane gives the same as the general way: contexts, errors, outcomes, many users."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.events import TaskFinished, TaskStarted

tone: ContextVar[object] = ContextVar("tone", default="none")


class Incomparable:
    """As a numpy array: the result of a comparison has no truth value."""

    def __eq__(self, other):
        return self

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")


@cs.task
def write(value):
    before = tone.get()
    tone.set(value)
    return before


@cs.task
def read(*_):
    return tone.get()


@pytest.fixture
async def one_worker():
    executor = LocalExecutor(1)
    async with cs.Engine(threads=executor) as engine:
        yield engine
    executor.shutdown()


async def test_a_context_variable_set_by_a_task_is_invisible_to_the_next_on_the_thread(one_worker):
    """M12, though calls share a context until one writes."""
    tone.set("of the caller")
    values = await one_worker.run([write(1), read(), write(2), read(), write(3)])

    assert values == ["of the caller"] * 5
    assert tone.get() == "of the caller"


async def test_a_context_variable_set_by_a_failing_task_is_invisible_too(one_worker):
    tone.set("of the caller")

    @cs.task
    def write_and_fail():
        tone.set("of the failed")
        raise LookupError("no")

    with pytest.raises(ExceptionGroup):
        await one_worker.run([write_and_fail(), seen := read()], fail_fast=False)
    assert await one_worker.run(seen) == "of the caller"


async def test_values_that_cannot_be_compared_are_written_and_not_seen(one_worker):
    tone.set(Incomparable())
    values = await one_worker.run([write(Incomparable()), read(), write("x"), read()])

    assert all(value is tone.get() for value in values)


async def test_a_context_variable_that_is_reset_does_not_count_as_set(one_worker):
    @cs.task
    def there_and_back():
        tone.reset(tone.set("for a moment"))
        return tone.get()

    assert await one_worker.run([there_and_back(), read()]) == ["none", "none"]


async def test_a_thousand_users_of_one_node_all_get_its_value(one_worker):
    @cs.task
    def double(n):
        return 2 * n

    source = double(10)
    users = [double(source) for _ in range(1000)]

    assert await one_worker.run(users) == [40] * 1000


async def test_arguments_by_name_and_by_position_in_any_mixture(one_worker):
    @cs.task
    def show(a, b=0, *rest, c=0, **more):
        return a, b, rest, c, more

    x = cs.gather(1)
    target = [show(x), show(1, x), show(x, x, x), show(c=x, a=2), show(x, 1, 2, x, c=3, d=x)]

    assert await one_worker.run(target) == [
        ([1], 0, (), 0, {}),
        (1, [1], (), 0, {}),
        ([1], [1], ([1],), 0, {}),
        (2, 0, (), [1], {}),
        ([1], 1, (2, [1]), 3, {"d": [1]}),
    ]


async def test_it_is_told_of_in_order(one_worker):
    seen = []
    one_worker.bus.subscribe(TaskStarted, lambda event: seen.append(("started", event.node)))
    one_worker.bus.subscribe(TaskFinished, lambda event: seen.append(("finished", event.node)))
    first = read()
    last = read(first)
    await one_worker.run(last)

    assert seen == [
        (what, lazy.number) for lazy in (first, last) for what in ("started", "finished")
    ]


async def test_a_plain_function_that_returns_a_coroutine_is_refused(run):
    async def fetch():
        return 1

    with pytest.raises(cs.errors.DefinitionError, match="declare the task itself with async def"):
        await run(cs.task(lambda: fetch(), name="fetch")())


async def test_plain_and_coroutine_nodes_that_end_at_once_lose_nothing():
    """The owner of the lock and the event loop's thread take turns, over and over."""

    @cs.task
    async def hop(n):
        await asyncio.sleep(0)
        return n + 1

    @cs.task
    def step(n):
        return n + 1

    async with cs.Engine() as engine:
        for _ in range(20):
            chains = []
            for start in range(20):
                lazy = step(start)
                for turn in range(20):
                    lazy = (hop, step)[turn % 2](lazy)
                chains.append(lazy)
            assert await engine.run(chains) == [start + 21 for start in range(20)]


async def test_tasks_that_block_run_at_once_with_others_behind_them():
    """Each waits for all, so that there must be a thread for each."""
    count = 8
    barrier = threading.Barrier(count)

    @cs.task
    def meet(n):
        barrier.wait(30)
        return n

    @cs.task
    def after(n):
        return n * 10

    async with cs.Engine() as engine:
        values = await engine.run([after(meet(n)) for n in range(count)])

    assert values == [n * 10 for n in range(count)]
