"""Maps with a window read their columns item by item (M29), on both paths."""

from __future__ import annotations

import asyncio
import gc
import operator
import threading
import time
import weakref
from itertools import count
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.portable import blueprint_to_json
from cascade.graph.serialize import to_json
from cascade.spec.errors import (
    ArgumentError,
    DependencyMissingError,
    NotStorableError,
    SerializationError,
)

PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


@cs.task
def plain(x):
    return 2 * x


@cs.task(mode="inline")
def inline(x):
    return 2 * x


@cs.task
async def later(x):
    await asyncio.sleep(0)
    return 2 * x


KINDS = pytest.mark.parametrize("task", [plain, inline, later], ids=lambda task: task.name)


@cs.task
def join(so_far, value):
    return [*so_far, value]


async def numbers(n: int, closed: list[bool] | None = None):
    try:
        for number in range(n):
            await asyncio.sleep(0)
            yield number
    finally:
        if closed is not None:
            closed.append(True)


SOURCES = pytest.mark.parametrize(
    "source",
    [
        lambda: range(20),
        lambda: iter(range(20)),
        lambda: (n for n in range(20)),
        lambda: numbers(20),
    ],
    ids=["sequence", "iterator", "generator", "async generator"],
)


@PATHS
@KINDS
@SOURCES
def test_the_values_are_those_of_a_map_without_window(task: Any, source: Any, use_vm: bool) -> None:
    found = cs.run(task.map(x=source(), window=3), use_vm=use_vm)
    assert found == [2 * n for n in range(20)]


@PATHS
@KINDS
@SOURCES
def test_a_fold_takes_the_values_in_the_order_of_the_items(
    task: Any, source: Any, use_vm: bool
) -> None:
    for fold in (join, lambda so_far, value: [*so_far, value]):
        found = cs.run(task.map(x=source(), window=3, fold=fold, initial=[]), use_vm=use_vm)
        assert found == [2 * n for n in range(20)]


@PATHS
def test_a_fold_begins_with_the_first_value_if_it_is_given_none(use_vm: bool) -> None:
    assert cs.run(plain.map(x=range(5), fold=operator.sub), use_vm=use_vm) == -20
    assert cs.run(plain.map(x=[3], fold=join), use_vm=use_vm) == 6
    with pytest.raises(ArgumentError, match=r"plain.map\(\) has no items, and nothing to begin"):
        cs.run(plain.map(x=[], fold=operator.add), use_vm=use_vm)
    assert cs.run(plain.map(x=[], fold=operator.add, initial=plain(1)), use_vm=use_vm) == 2
    assert cs.run(plain.map(x=[], window=2), use_vm=use_vm) == []


@PATHS
def test_at_most_so_many_items_are_under_way(use_vm: bool) -> None:
    under_way: set[int] = set()
    most = 0

    @cs.task
    async def work(x):
        nonlocal most
        under_way.add(x)
        most = max(most, len(under_way))
        await asyncio.sleep(0.001 * (x % 4))
        under_way.discard(x)

    cs.run(work.map(x=range(40), window=5), use_vm=use_vm)
    assert most == 5


@PATHS
def test_an_item_is_read_when_another_has_been_folded_and_not_before(use_vm: bool) -> None:
    events: list[str] = []

    def source():
        for n in range(12):
            events.append(f"read {n}")
            yield n

    @cs.task
    async def work(x):
        await asyncio.sleep(0.003 if x % 4 == 0 else 0)
        return x

    def fold(so_far, value):
        events.append(f"fold {value}")
        return value

    cs.run(work.map(x=source(), window=3, fold=fold, initial=None), use_vm=use_vm)
    for place, event in enumerate(events):
        kind, number = event.split()
        if kind == "read" and int(number) >= 3:
            assert f"fold {int(number) - 3}" in events[:place]
    assert [e for e in events if e[0] == "f"] == [f"fold {n}" for n in range(12)]


@PATHS
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_rows_are_let_go_as_the_run_goes_on(kind: str, use_vm: bool) -> None:
    class Row:
        pass

    alive: weakref.WeakSet[Row] = weakref.WeakSet()
    most = 0

    def rows():
        nonlocal most
        for _ in range(600):
            row = Row()
            alive.add(row)
            most = max(most, len(alive))
            yield row

    if kind == "plain":

        @cs.task
        def work(row):
            return [row]
    else:

        @cs.task
        async def work(row):
            return [row]

    gc.disable()  # nothing may depend on it
    try:
        counted = work.map(row=rows(), window=8, fold=lambda n, _: n + 1, initial=0)
        assert cs.run(counted, use_vm=use_vm) == 600
    finally:
        gc.enable()
    assert most <= 8 + 24  # those under way, and on each worker's stack at most a few more
    assert not alive


@cs.task
def add(so_far, value):
    return so_far + value


@pytest.mark.parametrize(
    ("task", "fold"),
    [(plain, operator.add), (inline, operator.add), (later, add)],
    ids=["on workers", "on the event loop", "with a task"],
)
def test_memory_is_flat(task: Any, fold: Any, blocks: Any) -> None:
    def rows():
        for n in range(blocks.steps, -1, -1):
            blocks.look(n)
            yield 1

    assert cs.run(task.map(x=rows(), window=16, fold=fold)) == 2 * (blocks.steps + 1)
    assert blocks.are_few


@pytest.mark.thorough
@pytest.mark.timeout(3600)
async def test_memory_is_flat_over_ten_million_rows(engine: cs.Engine) -> None:
    import tracemalloc

    async def rows():
        for n in range(10_000_000):
            yield n

    seen, peaks = 0, []
    async with engine.stream(inline.map(x=rows(), window=64)) as values:
        async for _ in values:
            seen += 1
            if seen == 100_000:
                tracemalloc.start()
            if seen in (110_000, 9_000_000):
                tracemalloc.reset_peak()
            if seen in (120_000, 9_010_000):
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()  # it makes all of this several times as slow
            if seen == 8_990_000:
                tracemalloc.start()
    assert seen == 10_000_000
    assert peaks[1] < 2 * peaks[0]


@PATHS
@pytest.mark.parametrize("fold", [None, operator.add, join], ids=["list", "function", "task"])
def test_an_item_that_fails_ends_the_map_and_closes_the_source(fold: Any, use_vm: bool) -> None:
    @cs.task
    def broken(x):
        if x == 5:
            raise ValueError("five")
        return [x]

    for is_fast in (True, False):
        closed: list[bool] = []
        target = broken.map(x=numbers(1_000_000, closed), window=3, fold=fold)
        with pytest.raises(ValueError if is_fast else ExceptionGroup) as caught:
            cs.run(target, use_vm=use_vm, fail_fast=is_fast)
        raised: Any = caught.value
        error = raised if is_fast else raised.exceptions[0]
        assert error.__notes__[0].startswith("cascade: in task 'broken' [item 5, x=5], called at")
        assert closed == [True]


@PATHS
def test_an_item_that_is_skipped_skips_the_map(use_vm: bool) -> None:
    rows = [1, plain(2).run_if(plain(0)), 3]
    for fold in (None, operator.add):
        with pytest.raises(DependencyMissingError):
            cs.run(plain.map(x=iter([*rows, *range(100)]), window=2, fold=fold), use_vm=use_vm)
    assert cs.run(plain.map(x=iter(rows), window=2, skipped="none"), use_vm=use_vm) == [
        2,
        "none",
        6,
    ]


@PATHS
def test_items_take_the_policies_and_the_joins_of_the_map(use_vm: bool) -> None:
    tries: dict[int, int] = {}

    @cs.task
    def flaky(x):
        tries[x] = tries.get(x, 0) + 1
        if tries[x] < 2 or x == 3:
            raise OSError(str(x))
        return x

    target = flaky.map(x=range(5), window=2, catch=(OSError, "lost")).with_retry(2)
    assert cs.run(target, use_vm=use_vm) == [0, 1, 2, "lost", 4]
    found = cs.run(flaky.map(x=range(5), window=2, return_exceptions=True), use_vm=use_vm)
    assert [type(one) for one in found] == [int, int, int, OSError, int]


@PATHS
def test_a_retry_takes_an_iterator_of_rows_but_no_row_that_is_one(use_vm: bool) -> None:
    target = plain.map(x=iter([1, 2]), fold=operator.add, initial=0).with_retry(2)
    assert cs.run(target, use_vm=use_vm) == 6
    with pytest.raises(ArgumentError, match="is an iterator, which the first attempt would use up"):
        cs.run(plain.map(x=iter([iter([1])]), window=2).with_retry(2), use_vm=use_vm)


@PATHS
def test_a_fold_that_fails_fails_the_map(use_vm: bool) -> None:
    @cs.task
    def refuse(so_far, value):
        raise KeyError(value)

    def refuses(so_far, value):
        raise KeyError(value)

    for fold in (refuse, refuses):
        closed: list[bool] = []
        with pytest.raises(KeyError, match="2"):
            source = numbers(1_000_000, closed)
            cs.run(plain.map(x=source, window=3, fold=fold), use_vm=use_vm)
        assert closed == [True]
    with pytest.raises(ArgumentError, match="only a task can"):
        cs.run(plain.map(x=range(3), fold=lambda a, b: plain(a)), use_vm=use_vm)

    def stops(so_far, value):
        raise StopIteration

    for task in (plain, later):
        with pytest.raises(cs.errors.TaskStopIterationError, match="stops' raised"):
            cs.run(task.map(x=range(3), fold=stops), use_vm=use_vm)


@PATHS
@pytest.mark.parametrize("task", [plain, later], ids=lambda task: task.name)
def test_a_run_that_goes_on_ends_after_a_slot_has_failed(task: Any, use_vm: bool) -> None:
    def refuses(so_far, value):
        raise KeyError(value)

    folded = task.map(x=range(9), window=3, fold=refuses)
    assert cs.run(folded.catch(KeyError, "refused"), use_vm=use_vm) == "refused"
    with pytest.raises(ExceptionGroup) as caught:
        cs.run(task.map(x=range(9), fold=refuses), use_vm=use_vm, fail_fast=False)
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    limits: tuple[dict[str, Any], ...] = {"max_rounds": 2}, {"max_steps": 3}
    for limit in limits:
        for fold in (None, max):
            with pytest.raises(ExceptionGroup) as caught:
                target = task.map(x=range(9), window=2, fold=fold)
                cs.run(target, use_vm=use_vm, fail_fast=False, **limit)
            assert isinstance(caught.value.exceptions[0], cs.errors.StepLimitError)


@PATHS
@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_the_error_of_a_source_is_that_of_the_run(kind: str, use_vm: bool) -> None:
    def broken():
        yield 1
        raise OSError("no more")

    async def broken_later():
        yield 1
        raise OSError("no more")

    for fold in (None, join):
        source = broken() if kind == "generator" else broken_later()
        with pytest.raises(OSError, match="no more"):
            cs.run(plain.map(x=source, window=3, fold=fold), use_vm=use_vm)


@PATHS
def test_a_source_that_is_slow_is_read_on_a_worker(use_vm: bool) -> None:
    threads: list[str] = []

    def slow():
        for n in range(4):
            threads.append(threading.current_thread().name)
            time.sleep(0.006)
            yield n

    assert cs.run(later.map(x=slow(), window=2), use_vm=use_vm) == [0, 2, 4, 6]
    main = threading.current_thread().name
    assert threads[0] == main
    assert main not in threads[1:]

    def breaks():
        yield 1
        time.sleep(0.006)
        yield 2
        raise OSError("late")

    with pytest.raises(OSError, match="late"):
        cs.run(later.map(x=breaks(), window=3, fold=join, initial=[]), use_vm=use_vm)


@PATHS
def test_columns_are_read_in_step_and_must_be_equally_long(use_vm: bool) -> None:
    @cs.task
    def pair(a, b, c):
        return a, b, c

    target = pair.map(a=range(3), b=numbers(3), c=cs.literal("c"), window=2)
    assert cs.run(target, use_vm=use_vm) == [(n, n, "c") for n in range(3)]
    with pytest.raises(ArgumentError, match="'a' has more than 2, 'b' has 2 items"):
        cs.run(pair.map(a=count(), b=range(2), c=cs.literal(0), window=2), use_vm=use_vm)


@PATHS
def test_a_source_may_be_lazy_and_items_may_be(use_vm: bool) -> None:
    @cs.task
    def source():
        return iter([1, 2, 3])

    assert cs.run(plain.map(x=source(), window=2), use_vm=use_vm) == [2, 4, 6]
    assert cs.run(plain.map(x=plain.map(x=[1, 2]), window=2), use_vm=use_vm) == [4, 8]
    assert cs.run(plain.map(x=[plain(1), 2], window=2), use_vm=use_vm) == [4, 4]
    items = (plain(n) for n in range(4))
    assert cs.run(plain.map(x=items, window=2, fold=operator.add), use_vm=use_vm) == 24


@PATHS
def test_maps_with_windows_nest(use_vm: bool) -> None:
    @cs.task
    def inner(n):
        return plain.map(x=range(n), window=2, fold=operator.add, initial=0)

    assert cs.run(inner.map(n=range(5), window=2), use_vm=use_vm) == [0, 0, 2, 6, 12]


def waiting_for_each_other() -> tuple[Any, Any]:
    """Two lazy values; the second waits for the first, which is found to wait for the second."""
    late: list[Any] = []

    @cs.task
    def box() -> Any:
        return [late[0]]

    first = plain(box())
    late.append(inline(1).after(first))
    return first, late[0]


@PATHS
@KINDS
@pytest.mark.parametrize("fold", [None, operator.add, add], ids=["list", "function", "task"])
def test_tasks_that_wait_for_each_other_are_a_cycle_beside_a_window_too(
    task: Any, fold: Any, use_vm: bool
) -> None:
    for window, before in ((1, 0), (2, 0), (3, 2)):
        first, second = waiting_for_each_other()
        closed: list[bool] = []

        async def rows(*values: Any, closed: list[bool] = closed):
            try:
                for value in values:
                    yield value
            finally:
                closed.append(True)

        # The items after the second wait for their turns in the fold.
        source = rows(*range(before), second, *range(6))
        target = [task.map(x=source, window=window, fold=fold), first]
        with pytest.raises(cs.errors.CycleError, match="stands still, because tasks") as caught:
            cs.run(target, use_vm=use_vm)
        assert sorted(caught.value.cycle[1:]) == ["box", "inline", "plain"]
        assert closed == [True]


@PATHS
def test_what_is_busy_outside_of_a_run_is_no_standstill(use_vm: bool) -> None:
    async def rows():
        passed = asyncio.Event()
        yield 1
        asyncio.get_running_loop().call_later(0.001, passed.set)
        await passed.wait()
        yield 2

    for fold in (None, operator.add):
        found = cs.run(plain.map(x=rows(), window=2, fold=fold), use_vm=use_vm)
        assert found == ([2, 4] if fold is None else 6)
    slept = cs.sleep(0.001, then=1)
    assert cs.run(plain.map(x=iter([slept, 2]), fold=operator.add), use_vm=use_vm) == 6


@PATHS
async def test_cancelling_the_run_closes_the_source(use_vm: bool) -> None:
    closed: list[bool] = []
    began = asyncio.Event()

    @cs.task
    async def waits(x):
        began.set()
        await asyncio.Event().wait()

    async with cs.Engine() as engine:
        for source in (numbers(10, closed), endless(closed)):
            began.clear()
            handle = engine.start(waits.map(x=source, window=3), use_vm=use_vm)
            await began.wait()
            handle.cancel()
            with pytest.raises(cs.errors.RunCancelledError):
                await handle.result()
    assert closed == [True, True]


def endless(closed: list[bool]):
    try:
        yield from count()
    finally:
        closed.append(True)


async def test_an_iterator_is_read_by_one_run_and_a_list_by_many() -> None:
    async with cs.Engine() as engine:
        program = engine.compile(plain.map(x=[1, 2], window=2, fold=operator.add))
        assert [await program.run() for _ in range(2)] == [6, 6]
        once = plain.map(x=iter([1, 2]), window=2)
        assert await engine.run(once) == [2, 4]
        with pytest.raises(ArgumentError, match=r"was run before, and has read its iterator 'x'"):
            await engine.run(once)


async def test_several_columns_may_be_iterators() -> None:
    @cs.task
    def added(a, b):
        return a + b

    async with cs.Engine() as engine:
        pairs = added.map(a=iter([1, 2, 3]), b=iter([10, 20, 30]), window=2)
        assert await engine.run(pairs) == [11, 22, 33]
        with pytest.raises(ArgumentError, match=r"was run before, and has read its iterator 'a'"):
            await engine.run(pairs)


@PATHS
def test_a_window_costs_one_step_an_item(use_vm: bool) -> None:
    # The map itself, and for each of two slots one step an item.
    assert cs.run(inline.map(x=range(4), window=2), use_vm=use_vm, max_steps=5) == [0, 2, 4, 6]
    with pytest.raises(cs.errors.StepLimitError):
        cs.run(inline.map(x=range(4), window=2), use_vm=use_vm, max_steps=4)


def test_a_durable_run_refuses_it() -> None:
    store = open_store("memory://")
    for target in (plain.map(x=[1], window=2), returns_window()):
        with pytest.raises(NotStorableError, match=r"plain.map\(…, window=…\) in a durable run"):
            cs.run(target, store=store, run_id=f"run of {target.name}")


@cs.task
def returns_window():
    return plain.map(x=[1], window=2)


def test_it_has_no_json_form() -> None:
    target = plain.map(x=[1], window=2)
    for write in (to_json, lambda lazy: blueprint_to_json(BlueprintBuilder().build(lazy))):
        with pytest.raises(SerializationError, match="the window of its map of 'plain'"):
            write(target)


def test_what_fits_no_window_is_refused_at_the_call() -> None:
    @cs.task
    def smooth(x, window=1, initial=0):
        return x

    cases: list[tuple[Any, str]] = [
        (lambda: plain.map(x=[1], window=0), "window of plain.map() must be an int ≥ 1"),
        (lambda: plain.map(x=[1], window=2, initial=3), "takes initial= together with fold="),
        (lambda: plain.map(x=[1], fold=3), "must be a task, or a plain function, but is 3"),
        (lambda: plain.map(x=[1], fold=later.func), "must be a task, or a plain function"),
        (lambda: plain.map(x=[1], fold=plain), "is called with the value so far and that of"),
        (lambda: plain.map(x="abc", window=2), "but it is a string: 'abc'"),
        (lambda: plain.map(x=3, window=2), "but it is no iterable: 3"),
        (lambda: plain.map(x=numbers(3)), "reads 'x' as a whole, but it is an async iterator"),
        (
            lambda: smooth.map(x=[1], window=[2]),  # type: ignore[call-overload]
            "takes window= itself, so a parameter of that",
        ),
    ]
    for make, text in cases:
        with pytest.raises(ArgumentError) as caught:
            make()
        assert text in str(caught.value)
    assert cs.run(smooth.map(x=[1])) == [1]
