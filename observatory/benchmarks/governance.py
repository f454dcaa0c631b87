"""What limits cost: idle ones, those that hold, and how soon who waits is woken.

    hatch run bench-limits
    hatch run bench-limits --quick
    hatch run bench-limits --only wake-ups

- *idle*: a wide graph of trivial tasks and a fused loop, on an engine without any limit and on one
  that has limits for other tasks;
- *holding*: the same under limits that let everything through, and nodes that take a capacity,
  beside nodes with a retry that never comes, which take the same lane;
- *control plane*: a fused loop on an engine that can be watched and steered from outside, while
  nobody does;
- *wake-ups*: the time from the end of a call to the beginning of the next one that waited for the
  capacity that the first one had, in the event loop and on workers.

All that is compared is timed in the same rounds (see ``cascade.observatory.benchmarks.rounds``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.observatory.benchmarks import wakeups
from cascade.observatory.benchmarks.contenders import Cascade
from cascade.observatory.benchmarks.delays import Delays, summarised
from cascade.observatory.benchmarks.findings import Figures, Findings
from cascade.observatory.benchmarks.governed import FREE, NODES, OTHERS, SCOPES, limit
from cascade.observatory.benchmarks.loops import count_down
from cascade.observatory.benchmarks.program import (
    conclude,
    introduce,
    options_of,
    run_sections,
    start,
)
from cascade.observatory.benchmarks.rounds import Contender, Samples, measure
from cascade.observatory.benchmarks.shapes import WIDE
from cascade.observatory.benchmarks.surroundings import surroundings
from cascade.observatory.benchmarks.tables import figure, figures_table, samples_table
from cascade.runtime.control.plane import ControlPlane

ALONE, PLANE = "alone", "control plane"
#: What a limit may cost that holds for nobody.
IDLE_MOST = 1.05
#: Seconds until who waits is woken.
WAKE_MOST = 1e-3


class Benchmark:
    """One run of this program."""

    def __init__(self, largest: int, rounds: int | None, quick: bool, console: Console) -> None:
        self.largest = largest
        self.console = console
        self.found = Findings()
        self._rounds = rounds or (7 if quick else 21)

    def idle(self) -> None:
        """Limits beside the work, and around it."""
        nodes = min(self.largest, 10_000)
        steps = self.largest
        with ExitStack() as stack:
            engines = {name: stack.enter_context(Cascade(tier="auto")) for name in SCOPES}
            for name, one in engines.items():
                limit(one.engine, name)
            wide = [one.contender(WIDE, nodes, name) for name, one in engines.items()]
            self._add("a wide graph", wide, figure(nodes), "node")
            loops = [_looping(name, one, steps) for name, one in engines.items()]
            self._add("a fused loop", loops, figure(steps), "step")

    def _add(self, what: str, contenders: Sequence[Contender], size: str, unit: str) -> None:
        samples = measure(contenders, self._rounds)
        self.found.add(f"limits, {what}", samples, FREE, unit)
        self._print(f"limits around {what}", {size: samples}, FREE, f"{unit}s", unit)
        cost = samples.ratio(OTHERS, FREE).median
        self.found.target(f"limits for others: {what}", cost, most=IDLE_MOST)

    def control_plane(self) -> None:
        """An engine that tells of itself, beside one that does not."""
        steps = 10 * self.largest
        with ExitStack() as stack:
            alone, watched = (stack.enter_context(Cascade(tier="auto")) for _ in range(2))
            plane = ControlPlane(watched.engine, MemoryConnector(MemoryBroker()))
            watched.wait_for(plane.__aenter__)
            stack.callback(lambda: watched.wait_for(lambda: plane.__aexit__(None, None, None)))
            contenders = [_looping(ALONE, alone, steps), _looping(PLANE, watched, steps)]
            samples = measure(contenders, self._rounds)
        self.found.add("limits, control plane", samples, ALONE, "step")
        title = "a control plane, in memory, that nobody uses, around a fused loop"
        self._print(title, {figure(steps): samples}, ALONE, "steps", "step")
        cost = samples.ratio(PLANE, ALONE).median
        self.found.target("idle control plane: a fused loop", cost, most=IDLE_MOST)

    def capacities(self) -> None:
        """Nodes that take something, beside others that the workers' slow lane has."""
        nodes = min(self.largest, 2_000)
        with Cascade(system_resources={"slots": nodes}) as cascade:
            contenders = [
                Contender(name, _running(cascade, make, nodes), nodes, list(range(nodes)))
                for name, make in NODES.items()
            ]
            samples = measure(contenders, self._rounds)
        self.found.add("limits, capacities", samples, "plain", "node")
        title = "capacities: nodes that take one of many"
        self._print(title, {figure(nodes): samples}, "plain", "nodes", "node")

    def wake_ups(self) -> Figures:
        """Milliseconds until who waits begins."""
        count = min(self.largest, 1_000)
        found = {
            "in the event loop": self._woken(wakeups.hold_in_the_loop, count),
            "on workers": self._woken(wakeups.hold_on_a_thread, count),
        }
        for where, delays in found.items():
            what = f"wake-up {where}: p99"
            self.found.target(what, delays.p99 * 1e3, most=WAKE_MOST * 1e3, unit="ms")
        in_ms = {
            name: {"p50": 1e3 * median, "p99": 1e3 * p99, "max": 1e3 * most}
            for name, (median, p99, most) in found.items()
        }
        rows = [(name, *map(figure, delays.values())) for name, delays in in_ms.items()]
        title = f"wake-ups: ms from a call's end to the next one's beginning, {count} calls"
        self.console.print(figures_table(title, ("where", "p50", "p99", "max"), rows))
        return {"wake_up_ms": in_ms}

    def _woken(self, hold: Callable[[int], Any], count: int) -> Delays:
        with Cascade(system_resources={"slots": 1}) as cascade:
            for _ in range(2):  # what the first run imports and starts is no wake-up's
                wakeups.forget()
                cascade.run(lambda: [hold(i).with_constraints(slots=1) for i in range(count)])
        return summarised(wakeups.gaps())

    def _print(
        self, title: str, sections: Mapping[str, Samples], baseline: str, heading: str, unit: str
    ) -> None:
        self.console.print(samples_table(title, sections, baseline, heading=heading, unit=unit))


def _looping(name: str, cascade: Cascade, steps: int) -> Contender:
    return Contender(name, lambda: cascade.run(lambda: count_down(steps), use_vm=True), steps, 0)


def _running(cascade: Cascade, make: Callable[[int], Any], count: int) -> Callable[[], Any]:
    return lambda: cascade.run(lambda: [make(number) for number in range(count)])


#: In the order in which they are run.
SECTIONS: Mapping[str, Callable[[Benchmark], Figures | None]] = {
    "idle": Benchmark.idle,
    "control plane": Benchmark.control_plane,
    "capacities": Benchmark.capacities,
    "wake-ups": Benchmark.wake_ups,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the figures."""
    options = options_of(
        arguments,
        "governance",
        "What limits cost.",
        sections=list(SECTIONS),
        most=10**6,
        quick=10**5,
        of="steps of a loop",
        has_plot=False,
    )
    console = Console(highlight=False)
    where = surroundings(Path(__file__).parent)
    introduce(console, where)
    benchmark = Benchmark(options.max, options.rounds, options.quick, console)
    run_sections(benchmark, benchmark.found, SECTIONS, options.only)
    conclude(console, options, where, "governance", benchmark.found)


if __name__ == "__main__":
    start(main)
