"""Costs of fleets of coroutine agents: sections of ``services``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any

from cascade.observatory.benchmarks.contenders import Cascade, EventLoop
from cascade.observatory.benchmarks.findings import Figures
from cascade.observatory.benchmarks.loops import take_turns, take_turns_by_hand
from cascade.observatory.benchmarks.memory import peak_bytes
from cascade.observatory.benchmarks.program import REFERENCE, Bench, Section
from cascade.observatory.benchmarks.rounds import Contender
from cascade.observatory.benchmarks.tables import Table, figure

CASCADE, BY_HAND = "cascade", "by hand"
#: Agents at once → the most that a step may cost, times a step by hand.
MOST: Mapping[int, float] = {1: 1.2, 100: 1.3, 1_000: 1.5, 10_000: 2.2}
#: The most µs that the start of one agent of a hundred takes, at 25 M calls/s.
START_MOST, START_AGENTS = 30.0, 100
#: Steps of all agents together, and the steps of an agent that count as its start.
_STEPS, _SHORT = 200_000, 20


def fleets(bench: Bench) -> None:
    """Steps and starts of agents, one or many at once."""
    steps, starts = {}, {}
    for count in MOST:
        if count <= bench.largest:
            label = f"{count:,}".replace(",", " ")
            steps[label] = _step(bench, count, f"agents, {label} at once")
            starts[label] = _start(bench, count, f"starts, {label} at once")
    bench.show("agents: a step of each", steps, "agents")
    bench.show("starts: an agent that ends at once", starts, "agents")


def _step(bench: Bench, count: int, title: str) -> str:
    """The steps that agents make after their first ones; returns the title."""
    more = max(20, (_STEPS // (50 if bench.options.quick else 1)) // count)
    with ExitStack() as stack:
        contenders, pairs = [], {}
        for name, fleet in _fleets(stack).items():
            pairs[name] = (f"{name}, long", f"{name}, short")
            for run, each in zip(pairs[name], (_SHORT + more, _SHORT), strict=True):
                contenders.append(Contender(run, _running(fleet, count, each), count * each, 0))
        samples = bench.compare(contenders, bench.rounds(count * more)).beyond(pairs)
    bench.found.add(title, samples, BY_HAND, "step")
    what = f"{title}: a step over that by hand"
    bench.found.target(what, samples.ratio(CASCADE, BY_HAND).median, MOST[count])
    return title


def _start(bench: Bench, count: int, title: str) -> str:
    """Agents without any step; returns the title."""
    times = max(1, START_AGENTS // count)
    with ExitStack() as stack:
        contenders = [
            Contender(name, _running(fleet, count, 0, times), count * times, 0)
            for name, fleet in _fleets(stack).items()
        ]
        contenders.append(bench.reference())
        samples = bench.measure(title, contenders, bench.rounds(count), BY_HAND, "agent")
    if count == START_AGENTS:
        what = f"{title}: a start, at 25 M calls/s"
        bench.target_at(what, samples, CASCADE, REFERENCE, START_MOST)
    return title


#: Makes an agent of so many steps, and where it runs.
Fleet = tuple[EventLoop | Cascade, Callable[[int], Awaitable[Any]]]


def _fleets(stack: ExitStack) -> Mapping[str, Fleet]:
    cascade, loop = stack.enter_context(Cascade()), stack.enter_context(EventLoop())

    def agent(steps: int) -> Awaitable[Any]:
        return cascade.engine.run(take_turns(steps), use_vm=True)

    return {CASCADE: (cascade, agent), BY_HAND: (loop, take_turns_by_hand)}


def _running(fleet: Fleet, count: int, steps: int, times: int = 1) -> Callable[[], Any]:
    """``count`` agents at the same time, ``times`` times."""
    where, agent = fleet

    async def gather() -> int:
        total = 0
        for _ in range(times):
            total += sum(await asyncio.gather(*[agent(steps) for _ in range(count)]))
        return total

    return lambda: where.wait_for(gather)


def memory(bench: Bench) -> Figures:
    """KiB of an agent that is under way, by fleet."""
    count = min(bench.largest, 1_000)
    with ExitStack() as stack:
        found = {}
        for name, fleet in _fleets(stack).items():
            _running(fleet, 10, _SHORT)()  # imports and caches do not count
            found[name] = peak_bytes(_running(fleet, count, _SHORT)) / count
    rows = [(name, figure(size / 1024)) for name, size in found.items()]
    title = f"memory: the peak of {count} agents, for each"
    bench.console.print(Table(title, ("agent", "KiB"), rows).rich())
    return {"memory_bytes_per_agent": found}


SECTIONS = (
    Section(
        "fleets",
        "Fleets of agents",
        "Coroutine tasks that loop by tail calls and wait for a turn of the event loop at each "
        "step, each a run of its own on one engine, against the same loops by hand. *agents*: a "
        "step, without the start and the first steps: the difference between long and short lives "
        f"of the same fleet, whose short ones have {_SHORT} steps. *starts*: agents without "
        "any step.",
        fleets,
    ),
    Section(
        "fleet memory",
        "Memory of an agent",
        "The peak of memory of a fleet under way, for each of its agents, as tracemalloc sees it.",
        memory,
        {"memory_bytes_per_agent": ("agent", "KiB", 1 / 1024)},
    ),
)
