"""Costs of nodes with policies and resources: sections of ``node_kinds``, and that program."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import cascade.observatory.benchmarks.coroutines as coroutine_nodes
import cascade.observatory.benchmarks.maps as map_nodes
from cascade.adapters.cache.lru import LRUCache
from cascade.observatory.benchmarks.awaiting import AT_ONCE
from cascade.observatory.benchmarks.contenders import TASKS, Cascade, EventLoop
from cascade.observatory.benchmarks.program import REFERENCE, Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender, Samples
from cascade.observatory.benchmarks.tables import figure
from cascade.spec.caching import ByArguments
from cascade.spec.resource import inject, resource
from cascade.spec.task import task

PLAIN, COROUTINE = "plain", "coroutine"
RETRY, CACHE, CAPACITY = "with_retry", "with_cache", "with_capacity"
RUN_PLAIN, RUN_COROUTINE = "run's, plain", "run's, coroutine"
TASK_PLAIN, TASK_COROUTINE = "call's, plain", "call's, coroutine"
#: The unavoidable work of two of these kinds, written by hand, without nodes.
CACHE_BY_HAND, TASK_BY_HAND = "with_cache, by hand", "call's, coroutine, by hand"
#: The most µs of a node, on a machine with 25 M calls/s.
MOST: Mapping[str, float] = {
    RETRY: 5,
    CACHE: 10,
    CAPACITY: 6,
    RUN_PLAIN: 4,
    RUN_COROUTINE: 8,
    TASK_PLAIN: 40,
    TASK_COROUTINE: 40,
}
_FRESH = itertools.count()
_CACHE = LRUCache()


@resource
def shared() -> Iterator[int]:
    """Opened once in a run."""
    yield 0


@resource(scope="task")
def own() -> Iterator[int]:
    """Opened for each call."""
    yield 0


@task
def use_shared(value: int, base: int = inject("shared")) -> int:
    """A plain node with a resource of the run."""
    return value + base


@task
async def use_shared_in_loop(value: int, base: int = inject("shared")) -> int:
    """A coroutine node with a resource of the run."""
    return value + base


@task
def use_own(value: int, base: int = inject("own")) -> int:
    """A plain node with a resource of its own."""
    return value + base


@task
async def use_own_in_loop(value: int, base: int = inject("own")) -> int:
    """A coroutine node with a resource of its own."""
    return value + base


@task
def first_of(value: int, _fresh: int) -> int:
    """A node whose arguments no earlier one had."""
    return value


#: Kinds of nodes → how to make that of a number.
POLICIES: Mapping[str, Callable[[int], Any]] = {
    PLAIN: TASKS.leaf,
    RETRY: lambda number: TASKS.leaf(number).with_retry(3),
    CACHE: lambda number: first_of(number, next(_FRESH)).with_cache(_CACHE),
    CAPACITY: lambda number: TASKS.leaf(number).with_capacity(slots=1),
}
RESOURCES: Mapping[str, Callable[[int], Any]] = {
    PLAIN: TASKS.leaf,
    RUN_PLAIN: use_shared,
    TASK_PLAIN: use_own,
    COROUTINE: AT_ONCE.tasks.leaf,
    RUN_COROUTINE: use_shared_in_loop,
    TASK_COROUTINE: use_own_in_loop,
}


def keep_by_hand(count: int) -> list[int]:
    """The values of ``first_of``, each looked up and kept."""
    policy, values = ByArguments(_CACHE), []
    for number in range(count):
        arguments = {"value": number, "_fresh": next(_FRESH)}
        key = policy.key(first_of, arguments)
        found, value = policy.load(key, arguments)
        if not found:
            value = first_of.func(**arguments)
            policy.save(key, arguments, value)
        values.append(value)
    return values


async def use_own_by_hand(number: int) -> int:
    """``use_own_in_loop``, whose provider is a plain generator and so runs on threads."""
    generate: Any = own.func
    provider = contextmanager(generate)()
    base = await asyncio.to_thread(provider.__enter__)
    try:
        return int(await use_own_in_loop.func(number, base))
    finally:
        await asyncio.to_thread(provider.__exit__, None, None, None)


def policies(bench: Bench) -> None:
    """Nodes with policies that have nothing to do."""
    size = min(bench.largest, 2_000)
    by_hand = Contender(CACHE_BY_HAND, lambda: keep_by_hand(size), size, list(range(size)))
    _kinds(bench, "policies", POLICIES, size, [by_hand])


def resources(bench: Bench) -> None:
    """Nodes that are given a resource."""
    size = min(bench.largest, 500)
    with EventLoop() as loop:

        async def all_at_once() -> list[int]:
            return await asyncio.gather(*map(use_own_by_hand, range(size)))

        expected = list(range(size))
        work = partial(loop.wait_for, all_at_once)
        by_hand = Contender(TASK_BY_HAND, work, size, expected)
        _kinds(bench, "resources", RESOURCES, size, [by_hand])


def _kinds(
    bench: Bench,
    title: str,
    kinds: Mapping[str, Callable[[int], Any]],
    size: int,
    by_hand: Sequence[Contender],
) -> Samples:
    with Cascade(capacities={"slots": size}, resources=[shared, own]) as cascade:
        contenders = [
            Contender(name, _running(cascade, make, size), size, list(range(size)))
            for name, make in kinds.items()
        ]
        contenders += [*by_hand, bench.reference()]
        samples = bench.measure(title, contenders, bench.rounds(size), PLAIN, "node")
    bench.show(f"{title}: nodes that are not plain calls", {figure(size): title}, "nodes")
    for name in kinds:
        if name in MOST:
            what = f"{title}: {name}, at 25 M calls/s"
            bench.target_at(what, samples, name, REFERENCE, MOST[name])
    return samples


def _running(cascade: Cascade, make: Callable[[int], Any], count: int) -> Callable[[], Any]:
    return lambda: cascade.run(lambda: [make(number) for number in range(count)])


SECTIONS = (
    Section(
        "policies",
        "Nodes with policies",
        "A wide graph of plain nodes whose policies stay idle: every attempt succeeds, no cache "
        "hits, and of the capacity there is enough for all. By hand: the calls with a cache in a "
        "loop that makes their keys, asks the cache and keeps the values, without nodes.",
        policies,
    ),
    Section(
        "resources",
        "Nodes with resources",
        "A wide graph of nodes that are given a resource: one that is opened once for the run, or "
        "one that is opened and closed for each call. By hand: coroutines of `asyncio.gather` that "
        "open and close a plain generator by `asyncio.to_thread`.",
        resources,
    ),
)

PROGRAM = Program(
    "node_kinds",
    "Costs of nodes that are more than a plain call: coroutines, policies, resources, maps.",
    (*coroutine_nodes.SECTIONS, *SECTIONS, *map_nodes.SECTIONS),
    most=10**4,
    quick=10**3,
    of="nodes of a graph",
)
