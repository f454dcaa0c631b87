"""Costs of coroutine nodes and of timeouts: sections of ``node_kinds``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from cascade.observatory.benchmarks.awaiting import AT_ONCE, IN_TIME, IN_TURN, KINDS, LONG, Kind
from cascade.observatory.benchmarks.contenders import (
    TASKS,
    AsyncioGather,
    Cascade,
    EventLoop,
    InARow,
    System,
    TaskGroups,
)
from cascade.observatory.benchmarks.floors import BegunEarly, Watched
from cascade.observatory.benchmarks.peers import counting, installed_counters
from cascade.observatory.benchmarks.program import REFERENCE, Bench, Section
from cascade.observatory.benchmarks.rounds import Contender, Samples
from cascade.observatory.benchmarks.shapes import CHAIN, PLAIN, WIDE, Shape
from cascade.observatory.benchmarks.tables import figure

CASCADE, GATHER = Cascade.name, AsyncioGather.name
#: The most that a coroutine node may cost, times ``asyncio.gather``.
MOST: Mapping[Kind, float] = {AT_ONCE: 0.75, IN_TURN: 1.3, IN_TIME: 1.6}
#: The size at which targets are looked at.
TARGET_SIZE = 1_000
#: The length of chains that other libraries compute.
PEER_STEPS = 100


def coroutines(bench: Bench) -> None:
    """Wide graphs and chains of each kind of coroutine."""
    for shape in (WIDE, CHAIN):
        for kind in KINDS:
            titles: dict[str, str] = {}
            for size in bench.sizes(100):
                title = titles[figure(size)] = f"{shape.name}, {kind.name}, {figure(size)} nodes"
                samples = _measured(bench, title, shape, kind, size)
                if shape is WIDE and size == TARGET_SIZE:
                    cost = samples.ratio(CASCADE, GATHER).median
                    bench.found.target(f"coroutines, {kind.name}: over gather", cost, MOST[kind])
            bench.show(f"{shape.name}: coroutine nodes, {kind.name}", titles, "nodes")


def _measured(bench: Bench, title: str, shape: Shape, kind: Kind, size: int) -> Samples:
    with ExitStack() as stack:
        systems: list[System] = [
            stack.enter_context(Cascade(tasks=kind.tasks)),
            stack.enter_context(AsyncioGather(kind.functions)),
            stack.enter_context(TaskGroups(kind.functions)),
            stack.enter_context(InARow(kind.functions)),
            stack.enter_context(BegunEarly(kind.functions)),
            stack.enter_context(Watched(kind.functions)),
        ]
        contenders = [one.contender(shape, size) for one in systems]
        return bench.measure(title, contenders, bench.rounds(size), GATHER, "node")


def peers(bench: Bench) -> None:
    """A chain of coroutines, beside libraries whose steps are coroutines or become such."""
    counters = bench.those_installed(installed_counters())
    if not counters:
        return
    with ExitStack() as stack:
        loop = stack.enter_context(EventLoop())
        systems: list[System] = [
            stack.enter_context(Cascade(tasks=AT_ONCE.tasks)),
            stack.enter_context(AsyncioGather()),
            stack.enter_context(InARow()),
        ]
        contenders = [one.contender(CHAIN, PEER_STEPS) for one in systems]
        for one in counters:
            countdown = counting(one, loop, PEER_STEPS)
            contenders.append(replace(countdown, operations=PEER_STEPS))
        rounds = bench.rounds(PEER_STEPS)
        bench.measure("coroutines, other libraries", contenders, rounds, GATHER, "node")
    title = "a chain of coroutines, beside other libraries"
    bench.show(title, {figure(PEER_STEPS): "coroutines, other libraries"}, "nodes")


def timeouts(bench: Bench) -> None:
    """Plain nodes with a timeout that never expires."""
    size = min(bench.largest, 1_000)
    expected = list(range(size))
    with Cascade() as cascade, EventLoop() as loop:

        async def on_threads() -> Any:
            calls = (asyncio.to_thread(PLAIN.leaf, number) for number in range(size))
            return await asyncio.gather(*[asyncio.wait_for(call, LONG) for call in calls])

        def nodes() -> Any:
            return [TASKS.leaf(number).with_timeout(LONG) for number in range(size)]

        contenders = [
            cascade.contender(WIDE, size, "plain"),
            Contender("with_timeout", lambda: cascade.run(nodes), size, expected),
            Contender("wait_for(to_thread(…))", lambda: loop.wait_for(on_threads), size, expected),
            bench.reference(),
        ]
        samples = bench.measure("timeouts", contenders, bench.rounds(size), "plain", "node")
    bench.show("plain nodes with a timeout", {figure(size): "timeouts"}, "nodes")
    what = "a plain node with a timeout, at 25 M calls/s"
    bench.target_at(what, samples, "with_timeout", REFERENCE, 8)


SECTIONS = (
    Section(
        "coroutines",
        "Coroutine nodes",
        "Coroutines that return at once, that wait for one turn of the event loop, and that do so "
        "under a timeout that never expires, as wide graphs and as chains. Authoring the graph "
        "counts. By hand: `asyncio.gather` or a `TaskGroup` for each level of the graph, and "
        "plain `await`s in a row, which overlap nothing. *begun early* is the least that any "
        "scheduler pays for coroutines that overlap: their first steps are made at once, and those "
        "that wait get asyncio tasks; no errors, cancels or context variables are looked after. "
        "*begun early, watched* looks after them: each step can be found from other threads with "
        "its start, and its context variables and its own cancels are told from those of others. "
        "It has no graph: a node of Cascade also has to be authored and wired, and its value goes "
        "to the nodes that wait for it.",
        coroutines,
    ),
    Section(
        "coroutine peers",
        "Coroutine nodes beside other libraries",
        f"A chain of {PEER_STEPS} coroutines that return at once; the other libraries, where they "
        "are installed, make as many steps of a loop.",
        peers,
    ),
    Section(
        "timeouts",
        "Plain nodes with a timeout",
        "Plain functions on the workers, with a timeout that never expires, beside such nodes "
        "without one and beside `asyncio.wait_for` around `asyncio.to_thread`.",
        timeouts,
    ),
)
