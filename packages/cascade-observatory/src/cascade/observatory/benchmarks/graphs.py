"""Costs of a node on the graph path: the sections of ``graph_overhead``."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from rich.console import Console

from cascade.observatory.benchmarks.contenders import (
    TASKS,
    AsyncioGather,
    Cascade,
    PlainCalls,
    System,
    ThreadPool,
)
from cascade.observatory.benchmarks.findings import Figures
from cascade.observatory.benchmarks.loops import descend, descend_by_calls
from cascade.observatory.benchmarks.memory import peak_bytes
from cascade.observatory.benchmarks.peers import installed_peers
from cascade.observatory.benchmarks.program import PLAIN_CALLS, Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender, Samples
from cascade.observatory.benchmarks.shapes import CHAIN, SHAPES, TREE, WIDE, Shape
from cascade.observatory.benchmarks.tables import figure
from cascade.runtime.bus import MessageBus
from cascade.runtime.telemetry.progress import show_progress
from cascade.spec.task import task

CASCADE, GATHER, PLAIN = Cascade.name, AsyncioGather.name, PlainCalls.name
#: The size that growth is measured from, and the name of its contender.
SMALL, SMALL_NAME = 1_000, "cascade, 1 000"
#: The plain calls that measure the speed of the machine; those of a tree also make its levels.
WIDE_NAME = "wide plain calls"
SLEEP_S, WORKERS = 0.01, 32


def shapes(bench: Bench) -> None:
    """Every shape at every size."""
    peers = bench.those_installed(installed_peers())
    with ExitStack() as stack:
        systems: list[System] = [
            stack.enter_context(Cascade()),
            stack.enter_context(AsyncioGather()),
            PlainCalls(),
            stack.enter_context(ThreadPool()),
            *peers,
        ]
        small = stack.enter_context(Cascade())
        for shape in SHAPES:
            by_size = {n: _shape(bench, shape, n, systems, small) for n in bench.sizes(100)}
            titles = {figure(size): _title(shape, size) for size in by_size}
            bench.show(f"{shape.name}: author, plan and run", titles, "nodes")
            _shape_targets(bench, shape, by_size)


def _title(shape: Shape, size: int) -> str:
    return f"{shape.name}, {figure(size)} nodes"


def _shape(bench: Bench, shape: Shape, size: int, systems: list[System], small: Cascade) -> Samples:
    contenders = [one.contender(shape, size) for one in systems if size <= one.largest(shape)]
    if size > 10**4:
        contenders.append(small.contender(shape, SMALL, SMALL_NAME))
    if size == 10**4 and shape is TREE:
        contenders.append(PlainCalls().contender(WIDE, size, WIDE_NAME))
    return bench.measure(_title(shape, size), contenders, bench.rounds(size), GATHER, "node")


def _shape_targets(bench: Bench, shape: Shape, by_size: Mapping[int, Samples]) -> None:
    target = bench.found.target
    if shape is not CHAIN and 10**4 in by_size:
        samples = by_size[10**4]
        speed = samples.ratio(GATHER, CASCADE).median
        target(f"{shape.name}, 10 000: speed over asyncio.gather", speed, least=2)
        calls = samples.ratio(CASCADE, WIDE_NAME if shape is TREE else PLAIN).median
        what = f"{shape.name}, 10 000: nodes/s at 25 M calls/s"
        target(what, PLAIN_CALLS / calls, least=500_000)
    for size, most in ((10**5, 2.0), (10**6, 6.0 if shape is TREE else 3.0)):
        if size in by_size:
            growth = by_size[size].ratio(CASCADE, SMALL_NAME).median
            target(f"{shape.name}, {figure(size)}: cost over that at 1 000", growth, most=most)


def _single(bench: Bench) -> int:
    """The size of measurements at one size only; smaller ones would show the start of a run."""
    return min(max(10**4, bench.sizes(100)[-1]), 10**5)


def memory(bench: Bench) -> Figures:
    """Bytes per node at the peak, by shape; the result is part of it."""
    size = _single(bench)
    peaks: dict[str, float] = {}
    for shape in SHAPES:
        with Cascade() as cascade:
            cascade.contender(shape, SMALL).run()  # the first run's imports and caches do not count

            def work(shape: Shape = shape, cascade: Cascade = cascade) -> object:
                return cascade.run(lambda: shape.calls(TASKS, size))

            peaks[shape.name] = peak_bytes(work) / shape.nodes(size)
        what = f"{shape.name}, {figure(size)}: memory of a node"
        bench.found.target(what, peaks[shape.name], most=1024, unit="B")
    return {"memory_bytes_per_node": peaks}


def sleep(bench: Bench) -> None:
    """Tasks that block; the ideal is the least possible number of waves."""
    rounds = bench.options.rounds or (3 if bench.options.quick else 7)
    with Cascade() as cascade, ThreadPoolExecutor(WORKERS) as pool:

        def by_pool(count: int) -> Any:
            naps = [pool.submit(time.sleep, SLEEP_S) for _ in range(count)]
            return [one.result() for one in naps]

        for count, most in ((100, 1.5), (1_000, 1.2)):
            expected = [None] * count
            contenders = [
                Contender(CASCADE, _gathering(cascade, nap, count), count, expected),
                Contender("thread pool", partial(by_pool, count), count, expected),
            ]
            title = f"sleep, {count} tasks"
            samples = bench.measure(title, contenders, rounds, "thread pool", "task")
            ideal_s = math.ceil(count / WORKERS) * SLEEP_S
            times = samples.cost(CASCADE).median * count / ideal_s
            bench.found.target(f"{figure(count)} sleeps: time over the ideal", times, most)
    titles = {figure(count): f"sleep, {count} tasks" for count in (100, 1_000)}
    bench.show(f"sleep: tasks of time.sleep({SLEEP_S}) on {WORKERS} workers", titles, "tasks")


def recursion(bench: Bench) -> None:
    """A task that returns a lazy call of itself."""
    steps = _single(bench)
    with Cascade() as cascade:
        contenders = [
            Contender(CASCADE, lambda: cascade.run(lambda: descend(steps)), steps, 0),
            Contender(PLAIN, lambda: descend_by_calls(steps), steps, 0),
        ]
        samples = bench.measure("recursion", contenders, bench.rounds(steps), PLAIN, "step")
    bench.show("recursion: a task that returns a lazy call of itself", {figure(steps): "recursion"})
    per_second = PLAIN_CALLS / samples.ratio(CASCADE, PLAIN).median
    bench.found.target("recursion: steps/s at 25 M calls/s", per_second, least=400_000)


def progress(bench: Bench) -> None:
    """The wide graph, with and without a progress display."""
    size = 10**4
    with ExitStack() as stack:
        contenders = [stack.enter_context(Cascade()).contender(WIDE, size)]
        for name, is_terminal in (("progress lines", False), ("progress bars", True)):
            cascade = stack.enter_context(Cascade(MessageBus()))
            screen = Console(file=io.StringIO(), force_terminal=is_terminal, width=80)
            contenders.append(_watched(cascade.contender(WIDE, size, name), cascade, screen))
        samples = bench.measure("progress", contenders, bench.rounds(size), CASCADE, "node")
    bench.show("progress: the wide graph with progress shown", {figure(size): "progress"}, "nodes")
    for name in ("progress lines", "progress bars"):
        bench.found.target(f"{name}: cost", samples.ratio(name, CASCADE).median, most=2)


@task
def nap() -> None:
    """Blocks a thread and computes nothing."""
    time.sleep(SLEEP_S)


def _gathering(cascade: Cascade, make: Callable[[], Any], count: int) -> Callable[[], object]:
    return lambda: cascade.run(lambda: [make() for _ in range(count)])


def _watched(contender: Contender, cascade: Cascade, screen: Console) -> Contender:
    def run() -> object:
        with show_progress(cascade.engine.bus, screen):
            return contender.run()

    return Contender(contender.name, run, contender.operations, contender.expected)


PROGRAM = Program(
    "graph_overhead",
    "Costs of a node on the graph path, from authoring a graph to its result.",
    (
        Section(
            "shapes",
            "From authoring a graph of trivial tasks to its result",
            "Wide, chain and tree graphs, against `asyncio.gather` of trivial coroutines (once per "
            "level of the graph), plain calls, a thread pool, and those peers that are installed.",
            shapes,
        ),
        Section(
            "memory",
            "Memory",
            "The peak per node, its value included, as tracemalloc sees it.",
            memory,
            {"memory_bytes_per_node": ("shape", "B", 1.0)},
        ),
        Section(
            "sleep",
            "Tasks that block",
            "`time.sleep(0.01)` on the 32 workers of an engine, and on a thread pool of 32.",
            sleep,
        ),
        Section(
            "recursion",
            "A task that returns a lazy call of itself",
            "Against as many plain calls.",
            recursion,
        ),
        Section(
            "progress",
            "Progress displays",
            "The wide graph while its progress is shown, in lines and in bars.",
            progress,
        ),
    ),
    most=10**6,
    quick=10**4,
    of="nodes of a graph",
)
