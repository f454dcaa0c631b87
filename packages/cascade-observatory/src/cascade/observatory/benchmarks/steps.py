"""Costs of a step of a loop: the sections of ``tco_performance``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from cascade.observatory.benchmarks.contenders import TASKS, Cascade, EventLoop
from cascade.observatory.benchmarks.delays import delays_beside
from cascade.observatory.benchmarks.elsewhere import FUSED, WHILE, CannotMeasure, measured_by
from cascade.observatory.benchmarks.findings import Figures
from cascade.observatory.benchmarks.loops import (
    EVEN_ODD,
    LOOPS,
    Loop,
    count_down,
    descend,
    descend_by_chains,
    inbox_of,
    read_inbox,
    read_inbox_by_hand,
    root_of,
)
from cascade.observatory.benchmarks.memory import peak_bytes
from cascade.observatory.benchmarks.peers import installed_counters
from cascade.observatory.benchmarks.program import (
    PATIENCE_S,
    PLAIN_CALLS,
    Bench,
    Program,
    Section,
    repeated,
)
from cascade.observatory.benchmarks.pythons import other_pythons as pythons_of_this_machine
from cascade.observatory.benchmarks.rounds import Contender, Samples
from cascade.observatory.benchmarks.shapes import PLAIN
from cascade.observatory.benchmarks.tables import Table, figure
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import StepsMade
from cascade.runtime.loops.fused import Fused, fuse
from cascade.runtime.loops.generated import Generated, generate
from cascade.runtime.loops.tiers import Tier
from cascade.spec.params import Param

GENERATED: Tier = "generated"
INTERPRETED: Tier = "interpreted"
TIERS = (FUSED, GENERATED, INTERPRETED)
GRAPH, MACHINE = "graph path", "virtual machine"
TRAMPOLINE, TURNS, BY_HAND = "trampoline", "asyncio loop", "by hand"
CHECKED, COUNTED = "checked trampoline", "counted steps"
SIMPLE, HEAVY, PLAIN_NAME = "simple", "heavy", "plain calls"
#: Number of timed chains of plain calls.
CALLS = 100_000
#: Least number of steps timed together; shorter loops are repeated.
_STEPS_OF_A_RUN = 10_000


def _fused_most(loop: Loop, minor: int) -> float:
    """Target of a fused loop, times a bare while, at which newer Pythons are faster."""
    return 1.2 if minor < 12 and loop is not EVEN_ODD else 1.3


def _sizes(bench: Bench) -> list[int]:
    return bench.sizes(1_000)


def _patience(bench: Bench) -> int:
    """Most steps for contenders that take microseconds per step."""
    return 10**4 if bench.options.quick else 10**5


def _times(bench: Bench, size: int) -> int:
    """How many times a loop of ``size`` steps is run in one timing."""
    return max(1, min(_STEPS_OF_A_RUN, _sizes(bench)[-1]) // size)


def _on_tiers(stack: ExitStack) -> dict[Tier, Cascade]:
    return {tier: stack.enter_context(Cascade(tier=tier)) for tier in TIERS}


def _calling(
    name: str,
    cascade: Cascade,
    author: Callable[[], Any],
    steps: int,
    value: Any = 0,
    use_vm: bool = True,
    times: int = 1,
) -> Contender:
    """The target that ``author`` makes, computed ``times`` times on one of the paths."""
    run = partial(cascade.run, author, use_vm=use_vm, times=times)
    return Contender(name, run, times * steps, value)


def recursion(bench: Bench) -> None:
    """Tasks that return lazy calls of themselves."""
    titles = {}
    with Cascade() as cascade:
        for size in _sizes(bench):
            if size > _patience(bench):
                break
            contenders = [
                _calling(name, cascade, partial(task, size), size, 0, False, _times(bench, size))
                for name, task in ((SIMPLE, descend), (HEAVY, descend_by_chains))
            ]
            contenders.append(bench.reference(PLAIN_NAME))
            title = titles[figure(size)] = f"recursion, {figure(size)} steps"
            samples = bench.measure(title, contenders, bench.rounds(size), PLAIN_NAME, "step")
    bench.show("recursion: a task that returns a lazy call of itself", titles, "steps")
    per_second = PLAIN_CALLS / samples.ratio(HEAVY, PLAIN_NAME).median
    bench.found.target("heavy recursion: steps/s at 25 M calls/s", per_second, least=40_000)


def loops(bench: Bench) -> None:
    """Every loop at every size."""
    with ExitStack() as stack:
        tiers, graph = _on_tiers(stack), stack.enter_context(Cascade())
        by_hand = stack.enter_context(EventLoop())
        for loop in LOOPS:
            titles = {}
            for size in _sizes(bench):
                title = titles[figure(size)] = f"{loop.name}, {figure(size)} steps"
                contenders = _looping(bench, loop, size, tiers, graph, by_hand)
                samples = bench.measure(title, contenders, bench.rounds(size), WHILE, "step")
            bench.show(f"{loop.name}: a loop by tail calls", titles, "steps")
            _loop_targets(bench, loop, samples)


def _looping(
    bench: Bench,
    loop: Loop,
    size: int,
    tiers: Mapping[Tier, Cascade],
    graph: Cascade,
    by_hand: EventLoop,
) -> list[Contender]:
    arguments, steps, times = loop.arguments(size), loop.steps(size), _times(bench, size)
    author, value = partial(loop.task, **arguments), loop.plain(**arguments)

    def of(name: str, once: Callable[[], Any]) -> Contender:
        return Contender(name, repeated(once, times), times * steps, value)

    def on(name: str, cascade: Cascade, use_vm: bool = True) -> Contender:
        return _calling(name, cascade, author, steps, value, use_vm, times)

    is_short = size <= _patience(bench)
    contenders = [on(FUSED, tiers[FUSED])]
    if is_short or loop is not EVEN_ODD:  # EVEN_ODD leaves its loop at each step
        contenders.append(on(GENERATED, tiers[GENERATED]))
    if is_short:
        contenders += [on(INTERPRETED, tiers[INTERPRETED]), on(GRAPH, graph, use_vm=False)]
    contenders.append(of(WHILE, lambda: loop.plain(**arguments)))
    if (counted := loop.counted) is not None:
        contenders.append(of(COUNTED, lambda: counted(**arguments)))
    contenders.append(of(TRAMPOLINE, lambda: loop.bounce(size)))
    if loop is not EVEN_ODD:
        contenders.append(of(CHECKED, lambda: loop.bounce_checked(size)))
    if is_short:
        contenders.append(of(TURNS, lambda: by_hand.wait_for(lambda: loop.turns(**arguments))))
    return contenders


def _loop_targets(bench: Bench, loop: Loop, samples: Samples) -> None:
    most = _fused_most(loop, sys.version_info.minor)
    fused = samples.ratio(FUSED, WHILE).median
    bench.found.target(f"{loop.name}: fused over bare while", fused, most)
    if loop is not EVEN_ODD:
        generated = samples.ratio(GENERATED, TRAMPOLINE).median
        bench.found.target(f"{loop.name}: generated over trampoline", generated, most=1)
        generated = samples.ratio(GENERATED, CHECKED).median
        bench.found.target(f"{loop.name}: generated over checked trampoline", generated, most=1.05)


def other_pythons(bench: Bench) -> None:
    """Fused loops on the other Pythons of this machine, each in its own process."""
    steps = _sizes(bench)[-1]
    pythons = pythons_of_this_machine()
    if not pythons:
        bench.console.print("no other finished CPython is on PATH or under pyenv")
    for version, path in pythons.items():
        try:
            found = measured_by(path, steps, bench.rounds(steps), PATIENCE_S)
        except CannotMeasure as error:
            bench.console.print(f"CPython {version} ({path}) is left out: {error}", soft_wrap=True)
            continue
        titles = {}
        for loop in LOOPS:
            samples = found[loop.name]
            title = titles[loop.name] = f"CPython {version}: {loop.name}"
            bench.found.add(title, samples, WHILE, "step")
            minor = int(version.split(".")[1])
            fused, most = samples.ratio(FUSED, WHILE).median, _fused_most(loop, minor)
            bench.found.target(f"3.{minor}, {loop.name}: fused over while", fused, most)
        bench.show(f"fused loops on CPython {version}", titles, "loop")


def agents(bench: Bench) -> None:
    """A coroutine task whose steps never wait."""
    steps = min(_sizes(bench)[-1], 10**4)
    with ExitStack() as stack:
        _inbox(bench, steps, _on_tiers(stack), stack.enter_context(EventLoop()))


def _inbox(bench: Bench, steps: int, tiers: Mapping[Tier, Cascade], by_hand: EventLoop) -> None:
    contenders = [
        _calling(tier, cascade, lambda: read_inbox(steps, inbox_of(1)), steps, steps)
        for tier, cascade in tiers.items()
    ]
    alone = partial(by_hand.wait_for, lambda: read_inbox_by_hand(steps, inbox_of(1)))
    contenders.append(Contender(BY_HAND, alone, steps, steps))
    bench.measure("inbox", contenders, bench.rounds(steps), BY_HAND, "step")
    title = "inbox: a coroutine task that awaits a queue with a message at each step"
    bench.show(title, {figure(steps): "inbox"}, "steps")


def three_nodes(bench: Bench) -> None:
    """A compiled chain, compared with one that is run from its graph."""
    times = min(_sizes(bench)[-1], 1_000)
    step, plain = TASKS.step, PLAIN.step
    target = step(step(step(Param("value", type=int))))
    with Cascade() as cascade:
        engine = cascade.engine
        program = engine.compile(target)
        inputs = {"value": 1}

        def awaiting(once: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
            async def work() -> Any:
                for _ in range(times):
                    value = await once()
                return value

            return lambda: cascade.wait_for(work)

        nested = repeated(lambda: plain(plain(plain(1))), CALLS)
        contenders = [
            Contender("compiled", awaiting(lambda: program.run(value=1)), times, 4),
            Contender(MACHINE, awaiting(lambda: engine.run(target, inputs, use_vm=True)), times, 4),
            Contender(GRAPH, awaiting(lambda: engine.run(target, inputs, use_vm=False)), times, 4),
            Contender(PLAIN_NAME, nested, CALLS, 4),
        ]
        rounds = bench.rounds(times)
        samples = bench.measure("three nodes", contenders, rounds, PLAIN_NAME, "run")
    bench.show("three nodes: a chain, run again and again", {"": "three nodes"})
    cost = 3 * samples.ratio("compiled", PLAIN_NAME).median / PLAIN_CALLS * 1e6
    bench.found.target("three nodes: compiled, at 25 M calls/s", cost, most=3, unit="µs")


def memory(bench: Bench) -> Figures:
    """Bytes at the peak of one long loop, by tier."""
    longest = min(10**5 if bench.options.quick else 10**7, 10 * _sizes(bench)[-1])
    peaks: dict[str, float] = {}
    rows = []
    for tier in TIERS:
        # With tracemalloc the interpreted tier's steps take very long.
        steps = min(longest, 10**6) if tier == INTERPRETED else longest
        with Cascade(tier=tier) as cascade:
            cascade.run(lambda: count_down(1_000), use_vm=True)  # imports and caches must not count
            loop = partial(count_down, steps)
            peaks[tier] = peak_bytes(partial(cascade.run, loop, use_vm=True))
        what = f"memory: {tier}, {figure(steps)} steps"
        bench.found.target(what, peaks[tier] / 1024, most=1024, unit="KiB")
        rows.append((tier, figure(steps), figure(peaks[tier] / 1024)))
    title = "memory: the peak of one loop over that before it"
    bench.console.print(Table(title, ("tier", "tail calls", "KiB"), rows).rich())
    return {"memory_bytes": peaks}


def delay(bench: Bench) -> Figures:
    """Milliseconds that other work waits for its turn while loops spin."""
    seconds = 0.05 if bench.largest < 1_000 else 0.5 if bench.options.quick else 3.0
    found: dict[str, dict[str, float]] = {}
    with Cascade(tier=FUSED) as cascade:
        for count in (0, 1, 10):

            def beside(count: int = count) -> Coroutine[Any, Any, Any]:
                spin = [
                    cascade.engine.run(count_down(sys.maxsize), use_vm=True) for _ in range(count)
                ]
                return delays_beside(spin, seconds)

            name = {0: "no loop", 1: "1 fused loop"}.get(count, f"{count} fused loops")
            delays = cascade.wait_for(beside)
            found[name] = delays.in_ms()
            if count:
                p99 = delays.p99 * 1e3
                bench.found.target(f"delay: p99 beside {name}", p99, most=10, unit="ms")
    rows = [(name, *map(figure, delays.values())) for name, delays in found.items()]
    title = "delay: ms from one turn of the event loop to the next"
    bench.console.print(Table(title, ("beside", "p50", "p99", "max"), rows).rich())
    return {"delay_ms": found}


def making(bench: Bench) -> None:
    """The cost of making the loop of a task with some ten lines."""
    times = 10 if bench.options.quick else 30

    def anew(key: str, make: Callable[[Any], object], kind: type) -> Callable[[], bool]:
        def once() -> bool:
            root_of.derived.pop(key, None)
            return isinstance(make(root_of), kind)

        return repeated(once, times)

    contenders = [
        Contender("fuse", anew("fused", fuse, Fused), times, True),
        Contender("generate", anew("generated", generate, Generated), times, True),
        bench.reference(PLAIN_NAME),
    ]
    rounds = bench.rounds(times)
    samples = bench.measure("making a loop", contenders, rounds, PLAIN_NAME, "task")
    title = "making a loop: reading, proving, rewriting and compiling a task"
    bench.show(title, {"": "making a loop"})
    for name in ("fuse", "generate"):
        what = f"making a loop: {name} at 25 M calls/s"
        bench.target_at(what, samples, name, PLAIN_NAME, 1_000)


def watching(bench: Bench) -> None:
    """A fused loop, with and without a subscriber to its steps."""
    steps = 10 * _sizes(bench)[-1]
    quiet, often = MessageBus(), MessageBus()
    for bus in (quiet, often):
        bus.subscribe(StepsMade, lambda _: None)
    with ExitStack() as stack:
        engines = {
            "unwatched": Cascade(tier=FUSED),
            "watched": Cascade(quiet, tier=FUSED),
            "watched, every ms": Cascade(often, tier=FUSED, step_interval=0.001),
        }
        author = partial(count_down, steps)
        contenders = [
            _calling(name, stack.enter_context(one), author, steps) for name, one in engines.items()
        ]
        samples = bench.measure("watching", contenders, bench.rounds(steps), "unwatched", "step")
    title = "watching: a fused loop, with and without a subscriber to its steps"
    bench.show(title, {figure(steps): "watching"}, "steps")
    cost = samples.ratio("watched", "unwatched").median
    bench.found.target("watching: cost of a fused step", cost, most=1.1)


def peers(bench: Bench) -> None:
    """Libraries that loop over steps, if installed."""
    counters = bench.those_installed(installed_counters())
    if not counters:
        return
    steps, baseline = min(_sizes(bench)[-1], 1_000), f"cascade, {INTERPRETED}"
    with ExitStack() as stack:
        contenders = [
            _calling(f"cascade, {tier}", cascade, partial(count_down, steps), steps)
            for tier, cascade in _on_tiers(stack).items()
        ]
        contenders += [
            Contender(peer.name, partial(peer.count_down, steps), steps, 0) for peer in counters
        ]
        bench.measure("peers", contenders, bench.rounds(steps), baseline, "step")
    bench.show("peers: a countdown", {figure(steps): "peers"}, "steps")


PROGRAM = Program(
    "tco_performance",
    "Costs of a step of a loop, on all paths and tiers.",
    (
        Section(
            "recursion",
            "Recursion on the graph path",
            "*simple* is a task that returns a lazy call of itself; with *heavy* that call depends "
            "on a chain of 11 small tasks, made anew at each step.",
            recursion,
        ),
        Section(
            "loops",
            "Loops by tail calls",
            "On the virtual machine's tiers (`cs.explain(task)` names that of a task) and on "
            "the graph path, against a bare `while`, the trampoline that one would write by "
            "hand around the same function, and an asyncio loop that yields at each step. "
            "Starting the run and the event loop's turns are included. *counted steps* is the "
            "`while` as a `for` over the steps that it may make; a long fused loop counts up to "
            "four steps at once, so that it may cost less. *checked trampoline* makes the looks "
            "that the generated tier makes at each step as well: whether it may make the step, "
            "whether the tail call is one of the task, and that no argument is lazy (M2). These "
            "looks are what the generated tier costs beyond the *trampoline*, which trusts the "
            "function instead. *countdown* has one "
            "argument, by position; *logistic map* has arguments by keyword, of which one "
            "keeps its value; *Collatz length* continues in two places; *even and odd* are "
            "two tasks that continue as each other, against a `while` that alternates.",
            loops,
        ),
        Section(
            "other pythons",
            "Loops on other Pythons",
            "Fused loops beside a bare `while` on the other finished CPythons that are on PATH or "
            "under pyenv, each in a process of its own: read the ratios, for each Python is "
            "measured alone.",
            other_pythons,
        ),
        Section(
            "agents",
            "An agent whose message is there",
            "A coroutine task that does not need the event loop: each step awaits a queue that has "
            "a message, against a coroutine written by hand.",
            agents,
        ),
        Section(
            "three nodes",
            "A chain that was compiled",
            "Three nodes, run again and again: by `await program.run(…)` of the program that "
            "`engine.compile` returns, by `await engine.run(…)` on both paths, and as plain calls, "
            "of which three count as one run.",
            three_nodes,
        ),
        Section(
            "memory",
            "Memory of one long loop",
            "The peak of memory during one long loop, minus the memory in use before it.",
            memory,
            {"memory_bytes": ("tier", "KiB", 1 / 1024)},
        ),
        Section(
            "delay",
            "Turns of the event loop",
            "Waiting time of a coroutine that asks for every turn of the event loop, while loops "
            "without any `await` run beside it.",
            delay,
            {"delay_ms": ("beside", "ms", 1.0)},
        ),
        Section(
            "making",
            "Making a loop",
            "Once for each task, at its first run: reading, proving, rewriting and compiling a "
            "function of some ten lines (*fuse*), and writing a loop around it (*generate*).",
            making,
        ),
        Section(
            "watching",
            "A loop with a subscriber",
            "A fused loop with a subscriber to its `StepsMade` events, which come at most ten "
            "times a second (the default), or every millisecond.",
            watching,
        ),
        Section(
            "peers",
            "Other libraries that loop over steps",
            "A countdown in each of those that are installed, as their documentation shows it.",
            peers,
        ),
    ),
    most=10**6,
    quick=10**6,
    of="steps of a loop",
    fewest=5,
)
