"""Costs of runs of three nodes, alone and in a service: sections of ``services``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import cascade.observatory.benchmarks.fleets as fleets
from cascade.observatory.benchmarks import awaiting
from cascade.observatory.benchmarks.contenders import TASKS, Cascade, EventLoop
from cascade.observatory.benchmarks.delays import summarised
from cascade.observatory.benchmarks.findings import Figures
from cascade.observatory.benchmarks.floors import HandOff
from cascade.observatory.benchmarks.peers import counting, installed_counters, installed_peers
from cascade.observatory.benchmarks.program import REFERENCE, Bench, Program, Section, repeated
from cascade.observatory.benchmarks.rounds import Contender
from cascade.observatory.benchmarks.shapes import PLAIN, TREE
from cascade.observatory.benchmarks.tables import Table, figure
from cascade.spec.params import Param
from cascade.spec.task import task

GRAPH, INLINE, PROGRAM_NAME, BY_HAND = "engine.run", "mode='inline'", "program", "TaskGroup"
#: The least that a run costs whose plain functions are called on a thread: the same run without
#: threads, which can be watched and cancelled, closes what it has opened and so on; and the
#: hand-off.
HOPPED = f"{INLINE}, {HandOff.name}"
#: The most µs of a run at 25 M calls/s: of three plain nodes, and of two beside a coroutine.
MOST_PLAIN: Mapping[str, float] = {GRAPH: 90, INLINE: 30}
MOST_MIXED: Mapping[str, float] = {GRAPH: 100, INLINE: 40, PROGRAM_NAME: 20}
#: Nodes of each run.
NODES = 3
#: Requests in flight, and seconds that each of them waits as if for a database.
IN_FLIGHT, WAIT_S = 100, 0.001

_leaf_inline = task(mode="inline")(PLAIN.leaf)
_add_inline = task(mode="inline")(PLAIN.add)


# -- a run of three nodes -------------------------------------------------------------------------

#: A way to make one run → a function that makes it on an engine.
Ways = Mapping[str, Callable[[], Awaitable[Any]]]


def _plain_ways(cascade: Cascade) -> Ways:
    """Two plain nodes, and one that adds them."""
    run, leaf, add = cascade.engine.run, TASKS.leaf, TASKS.add
    program = cascade.engine.compile(add(leaf(Param("left", type=int)), leaf(1)))
    return {
        GRAPH: lambda: run(add(leaf(2), leaf(1))),
        INLINE: lambda: run(_add_inline(_leaf_inline(2), _leaf_inline(1))),
        PROGRAM_NAME: lambda: program.run(left=2),
        BY_HAND: partial(_by_hand, awaiting.leaf, awaiting.leaf),
    }


def _mixed_ways(cascade: Cascade) -> Ways:
    """A coroutine beside a plain node, and a plain node that adds them."""
    run, leaf, add, coroutine = cascade.engine.run, TASKS.leaf, TASKS.add, awaiting.AT_ONCE.tasks
    program = cascade.engine.compile(add(coroutine.leaf(Param("left", type=int)), leaf(1)))
    return {
        GRAPH: lambda: run(add(coroutine.leaf(2), leaf(1))),
        INLINE: lambda: run(_add_inline(coroutine.leaf(2), _leaf_inline(1))),
        PROGRAM_NAME: lambda: program.run(left=2),
        BY_HAND: partial(_by_hand, awaiting.leaf, None),
    }


async def _by_hand(left: Callable[[int], Any], right: Callable[[int], Any] | None) -> Any:
    """As one writes it: coroutines in a group, plain functions called."""
    async with asyncio.TaskGroup() as group:
        first = group.create_task(left(2))
        second = None if right is None else group.create_task(right(1))
    return PLAIN.add(first.result(), PLAIN.leaf(1) if second is None else second.result())


async def _handed_off(thread: HandOff, left: Callable[[int], Awaitable[int]] | None) -> Any:
    """The plain functions on a thread, while the event loop's thread waits for them."""
    first = None if left is None else await left(2)
    return thread.call(lambda: PLAIN.add(PLAIN.leaf(2) if first is None else first, PLAIN.leaf(1)))


async def _hopped(thread: HandOff, once: Callable[[], Awaitable[Any]]) -> Any:
    """A run without threads, and a hand-off to a thread that has nothing to do."""
    value = await once()
    thread.call(int)
    return value


def runs(bench: Bench) -> None:
    """Runs of three nodes, one after the other on one engine."""
    times = min(bench.largest, 300)
    with Cascade() as cascade, HandOff() as thread:
        plain, mixed = dict(_plain_ways(cascade)), dict(_mixed_ways(cascade))
        for ways, left in ((plain, None), (mixed, awaiting.leaf)):
            ways[HandOff.name] = partial(_handed_off, thread, left)
            ways[HOPPED] = partial(_hopped, thread, ways[INLINE])
        for title, ways, most in (
            ("3 plain", plain, MOST_PLAIN),
            ("3 mixed", mixed, MOST_MIXED),
        ):
            contenders = [
                Contender(name, _awaiting(cascade, once, times), times, 3)
                for name, once in ways.items()
            ]
            rounds = bench.rounds(times)
            samples = bench.measure(title, [*contenders, bench.reference()], rounds, BY_HAND, "run")
            bench.show(f"a run of {title}", {"": title})
            for name, at_most in most.items():
                what = f"{title}: {name}, at 25 M calls/s"
                bench.target_at(what, samples, name, REFERENCE, at_most)


def _awaiting(
    loop: EventLoop | Cascade, once: Callable[[], Awaitable[Any]], times: int
) -> Callable[[], Any]:
    async def work() -> Any:
        for _ in range(times - 1):
            await once()
        return await once()

    return lambda: loop.wait_for(work)


def peers(bench: Bench) -> None:
    """Three nodes, or three steps, in other libraries."""
    graphs = bench.those_installed(installed_peers())
    counters = bench.those_installed(installed_counters())
    if not graphs and not counters:
        return
    title, times = "runs, other libraries", min(bench.largest, 300)
    with Cascade() as cascade, EventLoop() as loop:
        contenders = [
            Contender(name, _awaiting(cascade, once, times), times, 3)
            for name, once in _plain_ways(cascade).items()
        ]
        few = max(1, times // 10)
        for graph in graphs:
            once = graph.contender(TREE, NODES)
            contenders.append(Contender(graph.name, repeated(once.run, few), few, once.expected))
        contenders += [counting(one, loop, NODES, few) for one in counters]
        bench.measure(title, contenders, bench.rounds(times), BY_HAND, "run")
    bench.show("a run of three nodes, beside other libraries", {"": title})


# -- a service ------------------------------------------------------------------------------------


async def fetch(request: int) -> int:
    """What a request waits for."""
    await asyncio.sleep(WAIT_S)
    return request


fetched = task(fetch)


def service(bench: Bench) -> Figures:
    """Requests of many clients at once, each with a new run."""
    each = 3 if bench.options.quick else 20
    clients = min(bench.largest, IN_FLIGHT)
    with Cascade() as cascade:
        ways = _request_ways(cascade)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        count = clients * each
        contenders = [
            Contender(name, _serving(cascade, once, taken[name], clients, each), count, count)
            for name, once in ways.items()
        ]
        bench.measure(SERVICE, contenders, bench.rounds(count), BY_HAND, "request")
    bench.show(f"a service with {clients} requests in flight", {"": SERVICE})
    # The first run of each is not timed; a client of the first requests waits for imports.
    latencies = {name: summarised(seconds[count:]).in_ms() for name, seconds in taken.items()}
    rows = [(name, *map(figure, one.values())) for name, one in latencies.items()]
    title = "latency: ms from a request to its answer"
    bench.console.print(Table(title, ("request", "p50", "p99", "max"), rows).rich())
    return {"latency_ms": latencies}


SERVICE = "service"


def _request_ways(cascade: Cascade) -> Mapping[str, Callable[[int], Awaitable[Any]]]:
    """A coroutine that waits, and two plain nodes: the answer is the number of the request + 1."""
    run, step, leaf = cascade.engine.run, TASKS.step, TASKS.leaf
    program = cascade.engine.compile(leaf(step(fetched(Param("request", type=int)))))
    step_inline = task(mode="inline")(PLAIN.step)

    async def by_hand(request: int) -> int:
        async with asyncio.TaskGroup() as group:
            value = group.create_task(fetch(request))
        return int(PLAIN.leaf(PLAIN.step(value.result())))

    return {
        GRAPH: lambda request: run(leaf(step(fetched(request)))),
        INLINE: lambda request: run(_leaf_inline(step_inline(fetched(request)))),
        PROGRAM_NAME: lambda request: program.run(request=request),
        BY_HAND: by_hand,
    }


def _serving(
    cascade: Cascade,
    once: Callable[[int], Awaitable[Any]],
    taken: list[float],
    clients: int,
    each: int,
) -> Callable[[], Any]:
    """Clients that make one request after the other; the number of right answers."""

    async def client(number: int) -> int:
        right = 0
        for request in range(number, number + each):
            began = perf_counter()
            right += await once(request) == request + 1
            taken.append(perf_counter() - began)
        return right

    async def serve() -> int:
        return sum(await asyncio.gather(*[client(number) for number in range(clients)]))

    return lambda: cascade.wait_for(serve)


SECTIONS = (
    Section(
        "runs",
        "Runs of three nodes",
        "`await engine.run(…)` of a new graph of three nodes, again and again on one engine: two "
        "sources and their sum. *3 plain*: all are plain functions. *3 mixed*: one of the sources "
        'is a coroutine that returns at once. Also with `mode="inline"`, as a compiled program, '
        "and by hand with a `TaskGroup`, in which plain functions are called where they stand. "
        "`engine.run` calls plain functions on a thread, because they may block; *a thread and "
        "back* is the hand-off alone, by a queue and a lock, while the event loop stands still. "
        "*mode='inline', a thread and back* adds it to a run without threads: the least that "
        "such a run costs.",
        runs,
    ),
    Section(
        "run peers",
        "Runs of three nodes beside other libraries",
        "The three plain nodes in other task graphs, and three steps of a loop in other libraries, "
        "where they are installed.",
        peers,
    ),
    Section(
        "service",
        f"A service with {IN_FLIGHT} requests in flight",
        f"In one process, without sockets: {IN_FLIGHT} clients make one request after the other. A "
        f"request waits {figure(WAIT_S * 1e3)} ms in a coroutine, as if for a database, and "
        "passes two plain functions. Each is a new run of an engine that all share, a run of a "
        "compiled program, or a `TaskGroup`.",
        service,
        {"latency_ms": ("request", "ms", 1.0)},
    ),
)

PROGRAM = Program(
    "services",
    "Costs of many runs on one engine: small ones, requests of a service, fleets of agents.",
    (*SECTIONS, *fleets.SECTIONS),
    most=10**4,
    quick=10**2,
    of="agents at once",
)
