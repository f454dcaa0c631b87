"""Costs of the items of maps and of long arguments of loops: sections of ``node_kinds``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from cascade.observatory.benchmarks import awaiting
from cascade.observatory.benchmarks.contenders import TASKS, Cascade, EventLoop, repetitions
from cascade.observatory.benchmarks.program import PLAIN_CALLS, REFERENCE, Bench, Section, repeated
from cascade.observatory.benchmarks.rounds import Contender, Samples, summarise
from cascade.observatory.benchmarks.shapes import PLAIN
from cascade.observatory.benchmarks.tables import figure
from cascade.spec.task import task

MAP, CALLS, ASYNC_MAP, COMPREHENSION = "map", "list of calls", "map of coroutines", "comprehension"
GATHER = "asyncio.gather"
#: Maps over maps, in a chain.
CHAINED = 3
#: Elements of the list that is an argument of each step, and steps of that loop.
ELEMENTS, STEPS = 10_000, 200
NO_LIST, SAME_LIST, NEW_LIST, BY_HAND = "no list", "the same list", "a new list", "new, by hand"


def maps(bench: Bench) -> None:
    """Maps of n items."""
    _items(bench, "map", 1)
    _items(bench, "map of map of map", CHAINED)


def _items(bench: Bench, group: str, depth: int) -> None:
    """Maps over maps, as many as ``depth``; one operation is one call of a task."""
    titles = {}
    for size in bench.sizes(100):
        title = titles[figure(size)] = f"{group}, {figure(size)} tasks"
        with Cascade() as cascade, EventLoop() as loop:
            contenders = _item_contenders(cascade, loop, range(size), depth)
            bench.measure(title, contenders, bench.rounds(size), GATHER, "item")
    bench.show(f"{group}: calls of tasks", titles, "tasks")


def _item_contenders(
    cascade: Cascade, loop: EventLoop, numbers: Sequence[int], depth: int
) -> list[Contender]:
    times = repetitions(len(numbers))
    tasks = {MAP: TASKS.step, ASYNC_MAP: awaiting.AT_ONCE.tasks.step}
    graphs = {name: partial(_mapped, step, numbers, depth) for name, step in tasks.items()}
    graphs[CALLS] = partial(_called, TASKS.step, numbers, depth)
    runs: dict[str, Callable[[], Any]] = {
        name: partial(cascade.run, author, times=times) for name, author in graphs.items()
    }
    runs[COMPREHENSION] = repeated(partial(_called, PLAIN.step, numbers, depth), times)
    gathered = partial(_gathered, numbers, depth)
    runs[GATHER] = repeated(lambda: loop.wait_for(gathered), times)
    operations, expected = times * depth * len(numbers), [number + depth for number in numbers]
    return [Contender(name, run, operations, expected) for name, run in runs.items()]


def _mapped(step: Any, numbers: Sequence[int], depth: int) -> Any:
    column: Any = numbers
    for _ in range(depth):
        column = step.map(value=column)
    return column


def _called(step: Callable[[Any], Any], numbers: Sequence[int], depth: int) -> Any:
    values: Sequence[Any] = numbers
    for _ in range(depth):
        values = [step(value) for value in values]
    return values


async def _gathered(numbers: Sequence[int], depth: int) -> Any:
    values: Sequence[int] = numbers
    for _ in range(depth):
        values = await asyncio.gather(*[awaiting.step(value) for value in values])
    return values


def long_arguments(bench: Bench) -> None:
    """Loops that take a long list from step to step."""
    steps = min(bench.largest, STEPS)
    numbers = list(range(ELEMENTS))
    loops: dict[str, Callable[[], Any]] = {
        NO_LIST: lambda: keep_counting(steps, 0),
        SAME_LIST: lambda: keep_counting(steps, numbers),
        NEW_LIST: lambda: keep_copying(steps, numbers),
    }
    with ExitStack() as stack:
        contenders = []
        for name, author in loops.items():
            cascade = stack.enter_context(Cascade())
            contenders.append(Contender(name, _looping(cascade, author), steps, 0))
        contenders.append(Contender(BY_HAND, lambda: copy_by_hand(steps, numbers), steps, 0))
        contenders.append(bench.reference())
        samples = bench.measure("long arguments", contenders, bench.rounds(steps), BY_HAND, "step")
    title = f"a list of {ELEMENTS:,} elements as an argument of each step"
    bench.show(title, {figure(steps): "long arguments"}, "steps")
    same = samples.ratio(SAME_LIST, NO_LIST).median
    bench.found.target("the same long list in each step: cost", same, most=1.5)
    what = "a new long list: an element, at 25 M calls/s"
    bench.found.target(what, 1e9 / PLAIN_CALLS * _searched(samples), most=15, unit="ns")


def _searched(samples: Samples) -> float:
    """The search of an element, times a plain call."""
    columns = (samples.seconds[name] for name in (NEW_LIST, BY_HAND, REFERENCE))
    rounds = zip(*columns, strict=True)
    return summarise([(new - hand) / ELEMENTS / call for new, hand, call in rounds]).median


def _looping(cascade: Cascade, author: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: cascade.run(author, use_vm=True)


@task
def keep_counting(left: int, kept: Any) -> int:
    """A loop that hands on an argument as it is."""
    if left:
        return keep_counting.tail(left - 1, kept)
    return 0


@task
def keep_copying(left: int, numbers: list[int]) -> int:
    """A loop that hands on a new list at each step."""
    if left:
        return keep_copying.tail(left - 1, numbers.copy())
    return 0


def copy_by_hand(left: int, numbers: list[int]) -> int:
    """``keep_copying`` without a framework."""
    while left:
        left, numbers = left - 1, numbers.copy()
    return 0


SECTIONS = (
    Section(
        "maps",
        "Maps",
        "`task.map` over n numbers, beside a list of n calls, a plain list comprehension, and "
        "`asyncio.gather` of coroutines; then a chain of three maps, in which the items of one "
        "are the inputs of the next. One operation is one call.",
        maps,
    ),
    Section(
        "long arguments",
        "A loop with a long argument",
        f"A loop whose tail calls hand on a list of {ELEMENTS:,} numbers: always the same list, or "
        "a new copy at each step, which is searched for lazy values (M2). By hand: a `while` that "
        "makes the same copies.",
        long_arguments,
    ),
)
