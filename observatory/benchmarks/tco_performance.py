"""What a step of a loop costs: by tail calls, by recursion, on all paths and tiers.

    hatch run bench-tco
    hatch run bench-tco --quick
    hatch run bench-tco --only memory --only delay
    hatch run bench-tco --max 100000 --json out.json --plot out.html

Countdown, logistic map, Collatz lengths, and two tasks that continue as each other loop for 1 000
to 1 000 000 steps on the virtual machine's tiers and on the graph path, against a bare ``while``,
the trampoline that one would write by hand, and an asyncio loop that yields at each step. Besides:

- *recursion*: on the graph path a task that returns a lazy call of itself, and one whose next call
  depends on a chain of other tasks;
- *agents*: coroutine tasks that await something at each step, alone and up to 1 000 at once;
- *three nodes*: a chain that was compiled, against running it from the graph;
- *memory*: the peak over 10 000 000 tail calls (interpreted: a tenth), as tracemalloc sees it;
- *delay*: how long other work waits for its turn while fused loops spin;
- *making a loop*: what fusing a task and generating a loop for it take;
- *watching*: what somebody costs who is told of steps;
- *peers*: the libraries that loop over steps and are installed (``hatch run peers:bench-tco``).

All that is compared is timed in the same rounds (see ``cascade.observatory.benchmarks.rounds``).
The garbage collector is left as it is. Whether a target is met is printed and makes no exit status:
on a machine that is busy, ratios are still telling, but not as sharp.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

import cascade as cs
from cascade.observatory.benchmarks.contenders import TASKS, Cascade, EventLoop
from cascade.observatory.benchmarks.delays import Delays, delays_beside
from cascade.observatory.benchmarks.findings import Figures, Findings
from cascade.observatory.benchmarks.loop_peers import installed_counters
from cascade.observatory.benchmarks.loops import (
    EVEN_ODD,
    LOOPS,
    Loop,
    count_down,
    descend,
    descend_by_calls,
    descend_by_chains,
    inbox_of,
    read_inbox,
    read_inbox_by_hand,
    root_of,
    take_turns,
    take_turns_by_hand,
)
from cascade.observatory.benchmarks.memory import peak_bytes
from cascade.observatory.benchmarks.panels import panels_of
from cascade.observatory.benchmarks.program import (
    conclude,
    introduce,
    options_of,
    page_of,
    run_sections,
    start,
)
from cascade.observatory.benchmarks.rounds import Contender, Samples, measure
from cascade.observatory.benchmarks.shapes import PLAIN
from cascade.observatory.benchmarks.surroundings import surroundings
from cascade.observatory.benchmarks.tables import (
    figure,
    figures_table,
    samples_table,
)
from cascade.runtime.events import StepsMade
from cascade.runtime.vm.fuser import Fused, fuse
from cascade.runtime.vm.generator import Generated, generate
from cascade.runtime.vm.tiers import Tier

FUSED: Tier = "fused"
GENERATED: Tier = "generated"
INTERPRETED: Tier = "interpreted"
TIERS = (FUSED, GENERATED, INTERPRETED)
GRAPH, MACHINE = "graph path", "virtual machine"
WHILE, TRAMPOLINE, TURNS, BY_HAND = "bare while", "trampoline", "asyncio loop", "by hand"
SIMPLE, HEAVY, PLAIN_NAME = "simple", "heavy", "plain calls"
#: Plain calls per second of the machine that absolute targets are stated for.
PLAIN_CALLS = 25_000_000
#: How many plain calls are timed, to tell how fast this machine is.
CALLS = 100_000
#: Steps that are timed at once at least, where loops are shorter.
_STEPS_OF_A_RUN = 10_000
#: For a fused loop, the times of a bare while: newer Pythons are faster at the latter.
FUSED_MOST = 1.2 if sys.version_info < (3, 12) else 1.4


class Benchmark:
    """One run of this program."""

    def __init__(self, largest: int, rounds: int | None, quick: bool, console: Console) -> None:
        self.sizes: list[int] = [10**k for k in range(3, 7) if 10**k <= largest] or [largest]
        self.largest = self.sizes[-1]
        self.quick = quick
        self.console = console
        self.found = Findings()
        self._rounds = rounds
        #: Most steps of those that take microseconds for each.
        self._patience = 10**4 if quick else 10**5

    def rounds(self, size: int) -> int:
        """How many rounds loops of ``size`` steps get: long ones take their time."""
        if self._rounds is not None:
            return self._rounds
        if self.quick:
            return 5 if size <= 10**4 else 3
        return 15 if size <= 10**4 else 7 if size <= 10**5 else 5

    def times(self, size: int) -> int:
        """How often a loop of ``size`` steps is run in what is timed at once."""
        return max(1, min(_STEPS_OF_A_RUN, self.largest) // size)

    # -- recursion on the graph path ----------------------------------------------------------

    def recursion(self) -> None:
        """Tasks that return lazy calls of themselves."""
        sections = {}
        with Cascade() as cascade:
            for size in self.sizes:
                if size > self._patience:
                    break
                times = self.times(size)
                contenders = [
                    _by_engine(name, cascade, task, {"left": size}, size, 0, False, times)
                    for name, task in ((SIMPLE, descend), (HEAVY, descend_by_chains))
                ]
                contenders.append(_plain_calls())
                sections[figure(size)] = measure(contenders, self.rounds(size))
        for size_name, samples in sections.items():
            self.found.add(f"recursion, {size_name} steps", samples, PLAIN_NAME, "step")
        self._print("recursion: a task that returns a lazy call of itself", sections, PLAIN_NAME)
        per_second = PLAIN_CALLS / list(sections.values())[-1].ratio(HEAVY, PLAIN_NAME).median
        self.found.target("heavy recursion: steps/s at 25 M calls/s", per_second, least=40_000)

    # -- loops on the virtual machine ---------------------------------------------------------

    def loops(self) -> None:
        """Every loop at every size."""
        with ExitStack() as stack:
            tiers = {tier: stack.enter_context(Cascade(tier=tier)) for tier in TIERS}
            graph = stack.enter_context(Cascade())
            by_hand = stack.enter_context(EventLoop())
            for loop in LOOPS:
                sections = {
                    figure(size): measure(
                        self._contenders(loop, size, tiers, graph, by_hand), self.rounds(size)
                    )
                    for size in self.sizes
                }
                for size, samples in sections.items():
                    self.found.add(f"{loop.name}, {size} steps", samples, WHILE, "step")
                self._print(f"{loop.name}: a loop by tail calls", sections, WHILE)
                self._loop_targets(loop, sections[figure(self.largest)])

    def _contenders(
        self,
        loop: Loop,
        size: int,
        tiers: Mapping[Tier, Cascade],
        graph: Cascade,
        by_hand: EventLoop,
    ) -> list[Contender]:
        arguments, steps = loop.arguments(size), loop.steps(size)
        times = self.times(size)
        value = loop.plain(**arguments)

        def of(name: str, once: Callable[[], Any]) -> Contender:
            def run() -> Any:
                for _ in range(times - 1):
                    once()
                return once()

            return Contender(name, run, times * steps, value)

        def on(name: str, cascade: Cascade, use_vm: bool = True) -> Contender:
            return _by_engine(name, cascade, loop.task, arguments, steps, value, use_vm, times)

        contenders = [on(FUSED, tiers[FUSED])]
        if size <= self._patience or loop is not EVEN_ODD:  # which leaves its loop at each step
            contenders.append(on(GENERATED, tiers[GENERATED]))
        if size <= self._patience:
            contenders += [on(INTERPRETED, tiers[INTERPRETED]), on(GRAPH, graph, use_vm=False)]
        contenders += [
            of(WHILE, lambda: loop.plain(**arguments)),
            of(TRAMPOLINE, lambda: loop.bounce(size)),
        ]
        if size <= self._patience:
            contenders.append(of(TURNS, lambda: by_hand.wait_for(lambda: loop.turns(**arguments))))
        return contenders

    def _loop_targets(self, loop: Loop, samples: Samples) -> None:
        most = 1.6 if loop is EVEN_ODD else FUSED_MOST
        fused = samples.ratio(FUSED, WHILE).median
        self.found.target(f"{loop.name}: fused over bare while", fused, most)
        if loop is not EVEN_ODD:
            generated = samples.ratio(GENERATED, TRAMPOLINE).median
            self.found.target(f"{loop.name}: generated over trampoline", generated, most=1)

    # -- agents -------------------------------------------------------------------------------

    def agents(self) -> None:
        """Coroutine tasks: each step of one, and many at once."""
        steps = min(self.largest, 10**4)
        with ExitStack() as stack:
            tiers = {tier: stack.enter_context(Cascade(tier=tier)) for tier in TIERS}
            by_hand = stack.enter_context(EventLoop())
            self._inbox(steps, tiers, by_hand)
            counts = [count for count in (1, 10, 100, 1_000) if count <= self.largest]
            sections = {}
            for count in counts:
                each = max(min(steps, 100), steps // count)
                sections[f"{count:,}".replace(",", " ")] = measure(
                    _crowds(tiers, by_hand, count, each), self.rounds(count * each)
                )
        for count_name, samples in sections.items():
            self.found.add(f"agents, {count_name} at once", samples, BY_HAND, "step")
        title = "agents: coroutine tasks that wait for a turn at each step"
        self._print(title, sections, BY_HAND, heading="agents")

    def _inbox(self, steps: int, tiers: Mapping[Tier, Cascade], by_hand: EventLoop) -> None:
        contenders = [
            Contender(tier, _reading(cascade, steps), steps, steps)
            for tier, cascade in tiers.items()
        ]
        contenders.append(
            Contender(
                BY_HAND,
                lambda: by_hand.wait_for(lambda: read_inbox_by_hand(steps, inbox_of(1))),
                steps,
                steps,
            )
        )
        samples = measure(contenders, self.rounds(steps))
        self.found.add("inbox", samples, BY_HAND, "step")
        title = "inbox: a coroutine task that awaits a queue with a message at each step"
        self._print(title, {figure(steps): samples}, BY_HAND)

    # -- three nodes --------------------------------------------------------------------------

    def three_nodes(self) -> None:
        """A chain that was compiled, against one that is run from its graph."""
        times = min(self.largest, 1_000)
        step, plain = TASKS.step, PLAIN.step
        target = step(step(step(cs.Param("value", type=int))))
        with Cascade() as cascade:
            engine = cascade.engine
            if not hasattr(engine, "compile"):
                absent = "the engine does not compile, so left out: three nodes"
                self.console.print(absent, style="dim")
                return
            program = engine.compile(target)
            inputs = {"value": 1}

            async def compiled() -> Any:
                for _ in range(times):
                    value = await program.run(value=1)
                return value

            async def by_engine(use_vm: bool) -> Any:
                for _ in range(times):
                    value = await engine.run(target, inputs, use_vm)
                return value

            def nested() -> Any:
                for _ in range(CALLS):
                    value = plain(plain(plain(1)))
                return value

            def waiting(work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
                return lambda: cascade.wait_for(work)

            contenders = [
                Contender("compiled", waiting(compiled), times, 4),
                Contender(MACHINE, waiting(lambda: by_engine(True)), times, 4),
                Contender(GRAPH, waiting(lambda: by_engine(False)), times, 4),
                Contender(PLAIN_NAME, nested, CALLS, 4),
            ]
            samples = measure(contenders, self.rounds(times))
        self.found.add("three nodes", samples, PLAIN_NAME, "run")
        title = "three nodes: a chain, run again and again"
        self._print(title, {"": samples}, PLAIN_NAME, heading="", unit="run")
        cost = 3 * samples.ratio("compiled", PLAIN_NAME).median / PLAIN_CALLS * 1e6
        what = "three nodes: compiled, at 25 M calls/s"
        self.found.target(what, cost, most=3, unit="µs")

    # -- memory, delay ------------------------------------------------------------------------

    def memory(self) -> Figures:
        """Bytes at the peak of one long loop, by tier."""
        longest = min(10**5 if self.quick else 10**7, 10 * self.largest)
        peaks: dict[str, float] = {}
        counts: dict[str, int] = {}
        for tier in TIERS:
            # tracemalloc makes the interpreted tier's steps take a day of patience.
            steps = counts[tier] = min(longest, 10**6) if tier == INTERPRETED else longest
            with Cascade(tier=tier) as cascade:
                loop = _by_engine(tier, cascade, count_down, {"left": steps}, steps)
                # What the first run imports and caches is no step's.
                _by_engine(tier, cascade, count_down, {"left": 1_000}, 1_000).run()
                peaks[tier] = peak_bytes(loop.run)
            what = f"memory: {tier}, {figure(steps)} steps"
            self.found.target(what, peaks[tier] / 1024, most=1024, unit="KiB")
        rows = [(tier, figure(counts[tier]), figure(peak / 1024)) for tier, peak in peaks.items()]
        title = "memory: the peak of one loop over that before it"
        self.console.print(figures_table(title, ("tier", "tail calls", "KiB"), rows))
        return {"memory_bytes": peaks}

    def delay(self) -> Figures:
        """Milliseconds that other work waits for its turn while loops spin."""
        seconds = 0.05 if self.largest < 1_000 else 0.5 if self.quick else 3.0
        found: dict[str, Delays] = {}
        with Cascade(tier=FUSED) as cascade:
            endless = sys.maxsize

            def spin() -> Coroutine[Any, Any, Any]:
                return cascade.engine.run(count_down(endless), use_vm=True)

            for count in (0, 1, 10):
                name = {0: "no loop", 1: "1 fused loop"}.get(count, f"{count} fused loops")
                found[name] = cascade.wait_for(_beside(spin, count, seconds))
                if count:
                    p99 = found[name].p99 * 1e3
                    self.found.target(f"delay: p99 beside {name}", p99, most=10, unit="ms")
        in_ms = {
            name: {"p50": 1e3 * median, "p99": 1e3 * p99, "max": 1e3 * most}
            for name, (median, p99, most) in found.items()
        }
        rows = [(name, *map(figure, delays.values())) for name, delays in in_ms.items()]
        title = "delay: ms from one turn of the event loop to the next"
        self.console.print(figures_table(title, ("beside", "p50", "p99", "max"), rows))
        return {"delay_ms": in_ms}

    # -- making loops, watching ---------------------------------------------------------------

    def making(self) -> None:
        """What it takes to have the loop of a task with some ten lines."""
        times = 10 if self.quick else 30

        def fusing() -> bool:
            for _ in range(times):
                root_of.derived.pop("fused", None)
                loop = fuse(root_of)
            return isinstance(loop, Fused)

        def generating() -> bool:
            for _ in range(times):
                root_of.derived.pop("generated", None)
                loop = generate(root_of)
            return isinstance(loop, Generated)

        contenders = [
            Contender("fuse", fusing, times, True),
            Contender("generate", generating, times, True),
            _plain_calls(),
        ]
        samples = measure(contenders, self.rounds(times))
        self.found.add("making a loop", samples, PLAIN_NAME, "task")
        title = "making a loop: reading, proving, rewriting and compiling a task"
        self._print(title, {"": samples}, PLAIN_NAME, heading="", unit="task")
        for name in ("fuse", "generate"):
            cost = samples.ratio(name, PLAIN_NAME).median / PLAIN_CALLS * 1e6
            what = f"making a loop: {name} at 25 M calls/s"
            self.found.target(what, cost, most=1_000, unit="µs")

    def watching(self) -> None:
        """A fused loop, and somebody who is told how far it is."""
        steps = 10 * self.largest
        watchers = {"watched": cs.MessageBus(), "watched, every ms": cs.MessageBus()}
        for bus in watchers.values():
            bus.subscribe(StepsMade, lambda _: None)
        quiet, often = watchers.values()
        with ExitStack() as stack:
            engines = {
                "unwatched": Cascade(tier=FUSED),
                "watched": Cascade(quiet, tier=FUSED),
                "watched, every ms": Cascade(often, tier=FUSED, step_interval=0.001),
            }
            contenders = [
                _by_engine(name, stack.enter_context(one), count_down, {"left": steps}, steps)
                for name, one in engines.items()
            ]
            samples = measure(contenders, self.rounds(steps))
        self.found.add("watching", samples, "unwatched", "step")
        title = "watching: a fused loop, and somebody who is told of its steps"
        self._print(title, {figure(steps): samples}, "unwatched")
        cost = samples.ratio("watched", "unwatched").median
        self.found.target("watching: cost of a fused step", cost, most=1.1)

    # -- peers --------------------------------------------------------------------------------

    def peers(self) -> None:
        """Libraries that loop over steps, as far as they are there."""
        counters, absent = installed_counters()
        if absent:
            self.console.print(f"not installed, so left out: {', '.join(absent)}", style="dim")
        if not counters:
            return
        steps = min(self.largest, 1_000)
        with ExitStack() as stack:
            tiers = {tier: stack.enter_context(Cascade(tier=tier)) for tier in TIERS}
            contenders = [
                _by_engine(f"cascade, {tier}", cascade, count_down, {"left": steps}, steps)
                for tier, cascade in tiers.items()
            ]
            contenders += [
                Contender(peer.name, _counting(peer.count_down, steps), steps, 0)
                for peer in counters
            ]
            samples = measure(contenders, self.rounds(steps))
        baseline = f"cascade, {INTERPRETED}"
        self.found.add("peers", samples, baseline, "step")
        self._print("peers: a countdown", {figure(steps): samples}, baseline)

    def _print(
        self,
        title: str,
        sections: Mapping[str, Samples],
        baseline: str,
        heading: str = "steps",
        unit: str = "step",
    ) -> None:
        self.console.print(samples_table(title, sections, baseline, heading=heading, unit=unit))


def _by_engine(
    name: str,
    cascade: Cascade,
    task: Callable[..., Any],
    arguments: Mapping[str, Any],
    steps: int,
    value: Any = 0,
    use_vm: bool = True,
    times: int = 1,
) -> Contender:
    """A call of ``task``, on the virtual machine or on the graph path, so many times."""

    def run() -> Any:
        return cascade.run(lambda: task(**arguments), use_vm=use_vm, times=times)

    return Contender(name, run, times * steps, value)


def _plain_calls() -> Contender:
    return Contender(PLAIN_NAME, lambda: descend_by_calls(CALLS), CALLS, 0)


def _crowds(
    tiers: Mapping[Tier, Cascade], by_hand: EventLoop, count: int, steps: int
) -> list[Contender]:
    """So many agents at once."""

    def gathering(loop: EventLoop | Cascade, work: Callable[[], Any]) -> Callable[[], Any]:
        async def gather() -> Any:
            return sum(await asyncio.gather(*[work() for _ in range(count)]))

        return lambda: loop.wait_for(gather)

    def running(cascade: Cascade) -> Callable[[], Any]:
        return lambda: cascade.engine.run(take_turns(steps), use_vm=True)

    contenders = [
        Contender(tier, gathering(cascade, running(cascade)), count * steps, 0)
        for tier, cascade in tiers.items()
    ]
    crowd = gathering(by_hand, lambda: take_turns_by_hand(steps))
    return [*contenders, Contender(BY_HAND, crowd, count * steps, 0)]


def _reading(cascade: Cascade, steps: int) -> Callable[[], Any]:
    return lambda: cascade.run(lambda: read_inbox(steps, inbox_of(1)), use_vm=True)


def _counting(count: Callable[[int], int], steps: int) -> Callable[[], int]:
    return lambda: count(steps)


def _beside(
    spin: Callable[[], Coroutine[Any, Any, Any]], count: int, seconds: float
) -> Callable[[], Coroutine[Any, Any, Delays]]:
    return lambda: delays_beside([spin() for _ in range(count)], seconds)


def plot(document: Mapping[str, Any]) -> str | None:
    """The cost of a step over the length of the loop, one picture per loop, as an HTML page."""
    panels = panels_of(document)
    lead = (
        "Loops by tail calls, starting the run included. Points are medians over rounds in which "
        "all took turns, the bars behind them quartiles; both axes are logarithmic."
    )
    return page_of(document, "What a step costs", lead, panels) if panels else None


#: In the order in which they are run.
SECTIONS: Mapping[str, Callable[[Benchmark], Figures | None]] = {
    "recursion": Benchmark.recursion,
    "loops": Benchmark.loops,
    "agents": Benchmark.agents,
    "three nodes": Benchmark.three_nodes,
    "memory": Benchmark.memory,
    "delay": Benchmark.delay,
    "making": Benchmark.making,
    "watching": Benchmark.watching,
    "peers": Benchmark.peers,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the figures and the picture."""
    options = options_of(
        arguments,
        "tco_performance",
        "What a step of a loop costs.",
        sections=list(SECTIONS),
        most=10**6,
        quick=10**6,
        of="steps of a loop",
    )
    console = Console(highlight=False)
    where = surroundings(Path(__file__).parent)
    introduce(console, where)
    benchmark = Benchmark(options.max, options.rounds, options.quick, console)
    run_sections(benchmark, benchmark.found, SECTIONS, options.only)
    conclude(console, options, where, "tco_performance", benchmark.found, plot)


if __name__ == "__main__":
    start(main)
