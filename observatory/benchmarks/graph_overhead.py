"""What a node costs on the graph path: from authoring a graph of trivial tasks to its result.

    hatch run bench-graph
    hatch run bench-graph --quick
    hatch run bench-graph --only shapes --max 10000 --json out.json --plot out.html

Wide, chain and tree graphs of 100 to 1 000 000 nodes are authored, planned and run, against
``asyncio.gather`` of trivial coroutines (once per level of the graph), plain calls, a thread pool,
and those peers that are installed (``hatch run peers:bench-graph``). Besides:

- *growth*: the cost of a node in a large graph, in times of that in a graph of 1 000;
- *memory*: the peak per node, as tracemalloc sees it;
- *sleep*: tasks of ``time.sleep(0.01)`` on the engine's own 32 workers, against the ideal;
- *recursion*: a task that returns a lazy call of itself;
- *policies*: nodes that are no plain calls, beside those that are;
- *progress*: what somebody who watches costs.

All that is compared is timed in the same rounds (see ``cascade.observatory.benchmarks.rounds``).
The garbage collector is left as it is. Whether a target is met is printed and makes no exit status:
on a machine that is busy, ratios are still telling, but not as sharp. A full run takes some eight
minutes.
"""

from __future__ import annotations

import io
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

import cascade as cs
from cascade.observatory.benchmarks.contenders import (
    TASKS,
    AsyncioGather,
    Cascade,
    PlainCalls,
    System,
    ThreadPool,
)
from cascade.observatory.benchmarks.findings import Figures, Findings
from cascade.observatory.benchmarks.memory import peak_bytes
from cascade.observatory.benchmarks.panels import panels_of
from cascade.observatory.benchmarks.peers import installed_peers
from cascade.observatory.benchmarks.program import (
    conclude,
    introduce,
    options_of,
    page_of,
    run_sections,
    start,
)
from cascade.observatory.benchmarks.rounds import Contender, Samples, measure
from cascade.observatory.benchmarks.shapes import CHAIN, SHAPES, TREE, WIDE, Shape
from cascade.observatory.benchmarks.surroundings import surroundings
from cascade.observatory.benchmarks.tables import figure, samples_table
from cascade.runtime.subscribers.progress import show_progress

CASCADE, GATHER, PLAIN = Cascade.name, AsyncioGather.name, PlainCalls.name
#: What growth is measured from, and what that contender is called.
SMALL, SMALL_NAME = 1_000, "cascade, 1 000"
#: The plain calls that tell how fast the machine is; those of a tree also make its levels.
WIDE_NAME = "wide plain calls"
#: Plain calls per second of the machine that absolute targets are stated for.
PLAIN_CALLS = 25_000_000
SLEEP_S, WORKERS = 0.01, 32


class Benchmark:
    """One run of this program."""

    def __init__(self, largest: int, rounds: int | None, quick: bool, console: Console) -> None:
        self.sizes = [10**k for k in range(2, 7) if 10**k <= largest]
        self.quick = quick
        # Of what is measured at one size only; smaller ones would show the start of a run.
        self._single = min(max(10**4, self.sizes[-1]), 10**5)
        self.console = console
        self.found = Findings()
        self._rounds = rounds

    def rounds(self, size: int) -> int:
        """How many rounds graphs of ``size`` nodes get: large ones take their time."""
        if self._rounds is not None:
            return self._rounds
        if self.quick:
            return 5 if size <= 10**4 else 3
        return 15 if size <= 10**4 else 7 if size <= 10**5 else 3

    # -- shapes -------------------------------------------------------------------------------

    def shapes(self) -> None:
        """Every shape at every size."""
        peers, absent = installed_peers()
        if absent:
            self.console.print(f"not installed, so left out: {', '.join(absent)}", style="dim")
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
                self._sizes(shape, systems, small)

    def _sizes(self, shape: Shape, systems: list[System], small: Cascade) -> None:
        by_size: dict[int, Samples] = {}
        for size in self.sizes:
            contenders = [
                system.contender(shape, size) for system in systems if size <= system.largest(shape)
            ]
            if size > 10**4:
                contenders.append(small.contender(shape, SMALL, SMALL_NAME))
            if size == 10**4 and shape is TREE:
                contenders.append(PlainCalls().contender(WIDE, size, WIDE_NAME))
            by_size[size] = measure(contenders, self.rounds(size))
            self.found.add(f"{shape.name}, {figure(size)} nodes", by_size[size], GATHER, "node")
        sections = {figure(size): samples for size, samples in by_size.items()}
        title = f"{shape.name}: author, plan and run"
        self.console.print(samples_table(title, sections, GATHER, heading="nodes"))
        self._shape_targets(shape, by_size)

    def _shape_targets(self, shape: Shape, by_size: Mapping[int, Samples]) -> None:
        if shape is not CHAIN and 10**4 in by_size:
            samples = by_size[10**4]
            speed_up = samples.ratio(GATHER, CASCADE).median
            self.found.target(f"{shape.name}, 10 000: speed over asyncio.gather", speed_up, least=2)
            calls = samples.ratio(CASCADE, WIDE_NAME if shape is TREE else PLAIN).median
            self.found.target(
                f"{shape.name}, 10 000: nodes/s at 25 M calls/s",
                PLAIN_CALLS / calls,
                least=500_000,
            )
        for size, most in ((10**5, 2.0), (10**6, 6.0 if shape is TREE else 3.0)):
            if size in by_size:
                growth = by_size[size].ratio(CASCADE, SMALL_NAME).median
                what = f"{shape.name}, {figure(size)}: cost over that at 1 000"
                self.found.target(what, growth, most=most)

    # -- memory -------------------------------------------------------------------------------

    def memory(self) -> Figures:
        """Bytes per node at the peak, by shape; the result is part of it."""
        size = self._single
        peaks = {}
        for shape in SHAPES:
            with Cascade() as cascade:
                cascade.contender(
                    shape, SMALL
                ).run()  # what the first run imports and caches is no node's
                peaks[shape.name] = peak_bytes(_author(cascade, shape, size)) / shape.nodes(size)
            what = f"{shape.name}, {figure(size)}: memory of a node"
            self.found.target(what, peaks[shape.name], most=1024, unit="B")
        return {"memory_bytes_per_node": peaks}

    # -- sleep, recursion, progress -----------------------------------------------------------

    def sleep(self) -> None:
        """Tasks that block; the ideal is as many waves of them as there have to be."""
        sections = {}
        with Cascade() as cascade, ThreadPoolExecutor(WORKERS) as pool:
            for count, most in ((100, 1.5), (1_000, 1.2)):
                samples = measure(
                    _sleepers(cascade, pool, count), self._rounds or (3 if self.quick else 7)
                )
                ideal_s = math.ceil(count / WORKERS) * SLEEP_S
                times = samples.cost(CASCADE).median * count / ideal_s
                self.found.target(f"{figure(count)} sleeps: time over the ideal", times, most)
                self.found.add(f"sleep, {count} tasks", samples, "thread pool", "task")
                sections[figure(count)] = samples
        title = f"sleep: tasks of time.sleep({SLEEP_S}) on {WORKERS} workers"
        self.console.print(
            samples_table(title, sections, "thread pool", heading="tasks", unit="task")
        )

    def recursion(self) -> None:
        """A task that returns a lazy call of itself."""
        steps = self._single
        with Cascade() as cascade:
            contenders = [
                Contender(CASCADE, lambda: cascade.run(lambda: count_down(steps)), steps, 0),
                Contender(PLAIN, lambda: call_down(steps), steps, 0),
            ]
            samples = measure(contenders, self.rounds(steps))
        self.found.add("recursion", samples, PLAIN, "step")
        title = "recursion: a task that returns a lazy call of itself"
        self.console.print(
            samples_table(title, {figure(steps): samples}, PLAIN, heading="steps", unit="step")
        )
        per_second = PLAIN_CALLS / samples.ratio(CASCADE, PLAIN).median
        self.found.target("recursion: steps/s at 25 M calls/s", per_second, least=400_000)

    def policies(self) -> None:
        """Nodes with policies that have nothing to do: no attempt fails, no cache hits."""
        size = 2_000
        with Cascade() as cascade:
            contenders = [
                Contender(name, _gathering(cascade, make, size), size, [None] * size)
                for name, make in NODES.items()
            ]
            contenders.append(PlainCalls().contender(WIDE, size, WIDE_NAME))
            samples = measure(contenders, self.rounds(size))
        self.found.add("policies", samples, "plain call", "node")
        title = "policies: nodes that are no plain calls"
        self.console.print(
            samples_table(title, {figure(size): samples}, "plain call", heading="nodes")
        )
        cost = samples.ratio("with_retry", WIDE_NAME).median / PLAIN_CALLS * 1e6
        what = "policies: a node with retry, µs at 25 M calls/s"
        self.found.target(what, cost, most=15, unit="µs")

    def progress(self) -> None:
        """The wide graph, watched and not."""
        size = 10**4
        with ExitStack() as stack:
            contenders = [stack.enter_context(Cascade()).contender(WIDE, size)]
            for name, is_terminal in (("progress lines", False), ("progress bars", True)):
                cascade = stack.enter_context(Cascade(cs.MessageBus()))
                screen = Console(file=io.StringIO(), force_terminal=is_terminal, width=80)
                contenders.append(_watched(cascade.contender(WIDE, size, name), cascade, screen))
            samples = measure(contenders, self.rounds(size))
        self.found.add("progress", samples, CASCADE, "node")
        title = "progress: the wide graph with somebody watching"
        self.console.print(samples_table(title, {figure(size): samples}, CASCADE, heading="nodes"))
        for name in ("progress lines", "progress bars"):
            self.found.target(f"{name}: cost", samples.ratio(name, CASCADE).median, most=2)


@cs.task
def nap() -> None:
    """What blocks a thread and computes nothing."""
    time.sleep(SLEEP_S)


@cs.task
def nothing() -> None:
    """A trivial task."""


@cs.task
async def nothing_async() -> None:
    """A trivial coroutine task."""


@cs.task
def number(_number: int) -> None:
    """A trivial task whose calls differ."""


NUMBERS = itertools.count()
CACHE = cs.LRUCache()
#: Kinds of nodes → how to make one.
NODES: Mapping[str, Callable[[], Any]] = {
    "plain call": nothing,
    "with_retry": lambda: nothing().with_retry(3),
    "with_cache": lambda: number(next(NUMBERS)).with_cache(CACHE),
    "with_timeout": lambda: nothing().with_timeout(60),
    "coroutine": nothing_async,
    "coroutine, with_timeout": lambda: nothing_async().with_timeout(60),
}


@cs.task
def count_down(left: int) -> Any:
    """As many generations as the argument says."""
    return count_down(left - 1) if left else 0


def call_down(left: int) -> int:
    """The same by plain calls, one after the other: as deep as this they cannot be nested."""

    def once(left: int) -> int:
        return left - 1

    while left:
        left = once(left)
    return left


def _author(cascade: Cascade, shape: Shape, size: int) -> Callable[[], object]:
    return lambda: cascade.run(lambda: shape.calls(TASKS, size))


def _sleepers(cascade: Cascade, pool: ThreadPoolExecutor, count: int) -> list[Contender]:
    def by_tasks() -> Any:
        return cascade.run(lambda: [nap() for _ in range(count)])

    def by_pool() -> Any:
        naps = [pool.submit(time.sleep, SLEEP_S) for _ in range(count)]
        return [one.result() for one in naps]

    nothing = [None] * count
    return [
        Contender(CASCADE, by_tasks, count, nothing),
        Contender("thread pool", by_pool, count, nothing),
    ]


def _gathering(cascade: Cascade, make: Callable[[], Any], count: int) -> Callable[[], object]:
    return lambda: cascade.run(lambda: [make() for _ in range(count)])


def _watched(contender: Contender, cascade: Cascade, screen: Console) -> Contender:
    def run() -> object:
        with show_progress(cascade.engine.bus, screen):
            return contender.run()

    return Contender(contender.name, run, contender.operations, contender.expected)


def plot(document: Mapping[str, Any]) -> str | None:
    """The cost of a node over the size of the graph, one picture per shape, as an HTML page."""
    panels = panels_of(document)
    lead = (
        "From authoring a graph of trivial tasks to its result. Points are medians over rounds in "
        "which all took turns, the bars behind them quartiles; both axes are logarithmic."
    )
    return page_of(document, "What a node costs", lead, panels) if panels else None


#: In the order in which they are run.
SECTIONS: Mapping[str, Callable[[Benchmark], Figures | None]] = {
    "shapes": Benchmark.shapes,
    "memory": Benchmark.memory,
    "sleep": Benchmark.sleep,
    "recursion": Benchmark.recursion,
    "policies": Benchmark.policies,
    "progress": Benchmark.progress,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the figures and the picture."""
    options = options_of(
        arguments,
        "graph_overhead",
        "What a node costs on the graph path.",
        sections=list(SECTIONS),
        most=10**6,
        quick=10**4,
        of="nodes of a graph",
    )
    console = Console(highlight=False)
    where = surroundings(Path(__file__).parent)
    introduce(console, where)
    benchmark = Benchmark(options.max, options.rounds, options.quick, console)
    run_sections(benchmark, benchmark.found, SECTIONS, options.only)
    conclude(console, options, where, "graph_overhead", benchmark.found, plot)


if __name__ == "__main__":
    start(main)
