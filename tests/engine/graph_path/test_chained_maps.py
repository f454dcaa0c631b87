"""Maps over maps: an item begins when its item of the inner map has ended (R8)."""

import asyncio
import re
import threading

import pytest
from tests.sample_tasks import add, same

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.state import InMemoryStateBackend

PATIENCE = 30


@cs.task
def count(values):
    return len(values)


def noting(seen):
    """A task that notes its argument."""

    @cs.task
    def note(value):
        seen.append(value)

    return note


class Meeting:
    """Items that meet: the second one of the inner map waits for the first one of the outer."""

    def __init__(self, is_async):
        self.began = []
        self.met = threading.Event()
        self.inner = cs.task(name="inner")(self._async_inner if is_async else self._inner)
        self.outer = cs.task(name="outer")(self._outer)

    def _inner(self, n):
        if n:
            assert self.met.wait(PATIENCE), "the outer map waits for the whole list"
        return n

    async def _async_inner(self, n):
        if n:
            await asyncio.to_thread(self._inner, n)
        return n

    def _outer(self, n, other=0):
        self.began.append(n)
        self.met.set()
        return n + other


@pytest.fixture(params=[False, True], ids=["plain", "coroutine"])
def meeting(request):
    return Meeting(request.param)


async def test_an_item_begins_when_its_item_of_the_inner_map_has_ended(run, meeting):
    target = meeting.outer.map(n=meeting.inner.map(n=[0, 1, 2]))

    assert await run(target) == [0, 1, 2]
    assert meeting.began[0] == 0


async def test_it_does_so_in_a_program(engine, meeting):
    program = engine.compile(meeting.outer.map(n=meeting.inner.map(n=[0, 1, 2])))

    assert await program.run() == [0, 1, 2]


async def test_it_does_so_beside_a_column_that_is_known_later(run, meeting):
    @cs.task
    def others():
        return [10, 20, 30]

    waits = others().after(same(0).after(same(1)))
    target = meeting.outer.map(n=meeting.inner.map(n=[0, 1, 2]), other=waits)

    assert await run(target) == [10, 21, 32]


async def test_it_does_so_where_the_list_is_used_as_well(run, meeting):
    inner = meeting.inner.map(n=[0, 1, 2])

    assert await run([meeting.outer.map(n=inner), count(inner)]) == [[0, 1, 2], 3]


async def test_it_does_so_through_several_maps(run, meeting):
    target = meeting.inner.map(n=[0, 1, 2])
    for _ in range(20):
        target = same.map(value=target)

    assert await run(meeting.outer.map(n=target)) == [0, 1, 2]


async def test_it_does_so_where_a_task_returns_the_outer_map(run, meeting):
    inner = meeting.inner.map(n=[0, 1, 2])

    @cs.task
    def later():
        return meeting.outer.map(n=inner)

    assert await run([later(), inner]) == [[0, 1, 2], [0, 1, 2]]


async def test_a_list_that_only_a_later_task_uses_is_made_as_well(run):
    """The run keeps it, because the task can name the map (M21)."""
    inner = same.map(value=[1, 2, 3])

    @cs.task
    def items():
        return same.map(value=inner)

    @cs.task
    def later(_items):
        return count(inner)

    for _ in range(50):  # the list may be made before the segment of the outer map ends, or after
        assert await run(later(items())) == 3


async def test_items_of_a_shared_inner_map_are_computed_once(run):
    calls = []

    @cs.task
    def note(n):
        calls.append(n)
        return n

    inner = note.map(n=[1, 2, 3])
    maps = [add.map(a=inner, b=[k] * 3) for k in (10, 20)]

    assert await run([*maps, add.map(a=inner, b=inner), count(inner)]) == [
        [11, 12, 13],
        [21, 22, 23],
        [2, 4, 6],
        3,
    ]
    assert sorted(calls) == [1, 2, 3]


async def test_two_inner_maps_are_taken_side_by_side(run):
    target = add.map(a=same.map(value=[1, 2]), b=same.map(value=same([10, 20])))

    assert await run(target) == [11, 22]


@pytest.mark.parametrize("length", [0, 1, 3])
async def test_any_length_will_do(run, length):
    target = same.map(value=same.map(value=same(list(range(length)))))

    assert await run([target, count(target)]) == [list(range(length)), length]


class Values:
    """Counts the values of an inner map that live at the same time."""

    def __init__(self):
        self.live = self.most = 0
        self.make = cs.task(name="make")(lambda n: Value(self, n))
        self.read = cs.task(name="read")(lambda value: value.n)


class Value:
    def __init__(self, values, n):
        self.values, self.n = values, n
        values.live += 1
        values.most = max(values.most, values.live)

    def __del__(self):
        self.values.live -= 1


async def test_few_values_of_the_inner_map_live_at_the_same_time(use_vm):
    """With one worker: an item of the inner map, and what the outer map has made of it."""
    values, executor = Values(), LocalExecutor(1, name="cascade")
    async with cs.Engine(threads=executor) as engine:
        target = count(values.read.map(value=same.map(value=values.make.map(n=range(2000)))))
        assert await engine.run(target, use_vm=use_vm) == 2000
    executor.shutdown()

    assert values.most <= 3


# -- lengths --------------------------------------------------------------------------------------


async def test_unequal_lengths_are_refused_before_any_item_of_the_outer_map(run):
    @cs.task
    def never(a, b):
        raise AssertionError

    for other in ([1], same([1]), same.map(value=[1])):
        with pytest.raises(cs.errors.ArgumentError, match="'a' has 2, 'b' has 1 items"):
            await run(never.map(a=same.map(value=[1, 2]), b=other))


async def test_the_inner_map_still_runs_where_the_outer_one_makes_no_items(engine, use_vm):
    calls = []
    target = add.map(a=noting(calls).map(value=[1, 2]), b=same([1]))

    with pytest.raises(ExceptionGroup) as caught:
        await engine.run(target, use_vm=use_vm, fail_fast=False)
    assert sorted(calls) == [1, 2]
    assert [type(error) for error in caught.value.exceptions] == [cs.errors.ArgumentError]


# -- items without a value ------------------------------------------------------------------------


class BadError(Exception):
    pass


@cs.task
def fail_at(n, bad=1):
    if n == bad:
        raise BadError(n)
    return n


async def test_a_failed_item_counts_as_the_input_of_its_item_alone(engine, use_vm):
    began = []
    target = noting(began).map(value=fail_at.map(n=[0, 1, 2]))
    with pytest.raises(ExceptionGroup) as caught:
        await engine.run(target, use_vm=use_vm, fail_fast=False)

    assert [error.args for error in caught.value.exceptions] == [(1,)]
    assert sorted(began) == [0, 2]


async def test_only_its_item_fails_beside_a_column_that_is_known_later(engine, use_vm):
    target = add.map(a=fail_at.map(n=[0, 1, 2]), b=same([5, 5, 5]).after(same(0)))
    caught = [same.map(value=target, return_exceptions=True)]

    ((first, second, third),) = await engine.run(caught, use_vm=use_vm)
    assert (first, third) == (5, 7)
    assert isinstance(second, BadError)


async def test_a_map_with_return_exceptions_takes_the_error_of_its_inner_item(run):
    first, second = await run(same.map(value=fail_at.map(n=[0, 1]), return_exceptions=True))

    assert first == 0
    assert isinstance(second, BadError)


async def test_an_inner_map_with_return_exceptions_hands_over_the_error(run):
    kinds = cs.task(lambda value: type(value).__name__, name="kinds")
    target = kinds.map(value=fail_at.map(n=[0, 1], return_exceptions=True))

    assert await run(target) == ["int", "BadError"]


async def test_a_skipped_item_skips_its_item_alone(engine, use_vm):
    began = []

    @cs.task
    def only_even(n):
        return same(n).run_if(same(n % 2 == 0))

    target = noting(began).map(value=only_even.map(n=[0, 1, 2]))
    with pytest.raises(cs.errors.DependencyMissingError):
        await engine.run(target, use_vm=use_vm)
    assert sorted(began) == [0, 2]


async def test_the_path_of_an_error_names_the_items(run):
    @cs.task
    def slow():
        return [0, 0, 0]

    for other in ([0, 0, 0], slow().after(same(0))):
        target = count(add.map(a=fail_at.map(n=[0, 1, 2]), b=other))
        with pytest.raises(BadError) as caught:
            await run(target)

        (note,) = caught.value.__notes__
        assert re.sub(r", called at [^,]*", "", note) == (
            "cascade: in task 'fail_at' [item 1, n=1], on the path count → add [item 1] → fail_at"
        )


async def test_the_note_of_an_outer_item_has_its_value(run):
    with pytest.raises(BadError) as caught:
        await run(fail_at.map(n=same.map(value=[0, 1])))

    assert "in task 'fail_at' [item 1, n=1]" in caught.value.__notes__[0]


async def test_events_of_an_outer_item_have_its_value(engine, use_vm):
    told = []
    engine.bus.subscribe(cs.events.TaskStarted, told.append)
    await engine.run(add.map(a=same.map(value=[7])), use_vm=use_vm)

    assert [str(event.item) for event in told] == ["item 0, value=7", "item 0, a=7"]


# -- barriers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        lambda inner: inner.run_if(same(True)),
        lambda inner: inner.after(same(0)),
        lambda inner: inner.with_cache(cs.LRUCache()),
    ],
    ids=["run_if", "after", "cache"],
)
async def test_an_inner_map_with_a_policy_of_its_own_is_a_barrier(engine, use_vm, policy):
    began = []
    inner = policy(fail_at.map(n=[0, 1]))

    with pytest.raises(ExceptionGroup):
        await engine.run(noting(began).map(value=inner), use_vm=use_vm, fail_fast=False)
    assert began == []


async def test_an_outer_map_after_its_column_waits_for_all_of_it(engine, use_vm):
    began = []
    inner = fail_at.map(n=[0, 1])
    target = noting(began).map(value=inner).after(inner)

    with pytest.raises(ExceptionGroup):
        await engine.run(target, use_vm=use_vm, fail_fast=False)
    assert began == []


async def test_items_keep_their_policies(run):
    tries = []

    @cs.task
    def flaky(n):
        tries.append(n)
        if tries.count(n) < 2:
            raise BadError
        return n

    inner = flaky.map(n=[1, 2]).with_retry(2)
    assert await run(add.map(a=inner, b=[1, 1]).with_retry(2)) == [2, 3]


# -- around it ------------------------------------------------------------------------------------


async def test_a_recorded_run_has_the_inner_list():
    inner = same.map(value=[1, 2])
    state = InMemoryStateBackend()
    async with cs.Engine(state_backend=state) as engine:
        await engine.run(count(same.map(value=inner)))

    assert state.get_result(inner.id) == [1, 2]


def test_the_plan_shows_both_maps():
    plan = str(cs.dry_run(add.map(a=same.map(value=[1]))))

    assert re.findall(r"[a-z]+\.map", plan) == ["add.map", "same.map"]


async def test_an_item_fails_while_the_maps_above_wait_for_other_columns(use_vm):
    """The note names the way up through a map that has two maps as columns (R9)."""
    failed = asyncio.Event()

    @cs.task
    def check(value):
        if value == 2:
            raise ValueError("two")
        return value

    @cs.task
    async def later():
        await failed.wait()

    inner = check.map(value=[1, 2, 3])
    outer = add.map(a=inner, b=later())
    target = add.map(a=same.map(value=[1, 2, 3]), b=outer)
    async with cs.Engine() as engine:
        with pytest.raises(ValueError, match="two") as caught:
            await engine.run(target, use_vm=use_vm)
    (note,) = caught.value.__notes__
    assert "on the path add [item 1] → add [item 1] → check" in note
