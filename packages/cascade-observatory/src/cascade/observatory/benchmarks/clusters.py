"""Costs of calls in other processes and on clusters, beside the pools that do nothing else.

The raw pool is the ``ProcessPoolExecutor`` of the standard library, with the same start method and
number of workers. On a busy machine only the ratios to it are comparable. Parallelism is measured
with calls that hold the interpreter's lock without using the processor: they disturb other threads
as computing does, and no other program can slow them.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from cascade.adapters.executors.process import ProcessExecutor
from cascade.observatory.benchmarks import called_elsewhere as called
from cascade.observatory.benchmarks.cluster_peers import DaskPeer, RayPeer
from cascade.observatory.benchmarks.contenders import Cascade
from cascade.observatory.benchmarks.program import Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender

WORKERS = 2
#: The contenders.
RAW, CASCADE, LOOP = "raw pool", "cascade", "a plain loop"
RETRY, VM = "cascade, with a retry", "cascade, use_vm"
#: Calls that hold the lock, their seconds, and how many of them the plain loop makes.
_HELD, _SECONDS, _HELD_IN_LOOP = 64, 0.2, 4
_BURNT, _SIZE = 32, 100_000
_CALLS, _CHAIN = 1000, 100


def raw_pool() -> ProcessPoolExecutor:
    """The pool that the others are compared with."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(WORKERS, mp_context=context)


#: Makes calls of a function with these arguments, and returns their values.
Calls = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


def by_pool(pool: Any) -> Calls:
    """Calls by ``submit``, one by one."""
    return lambda func, items: [f.result() for f in [pool.submit(func, i) for i in items]]


class _Processes:
    """The raw pool, and Cascade with as many workers."""

    def __init__(self, stack: ExitStack) -> None:
        self.raw = stack.enter_context(raw_pool())
        executor = stack.enter_context(ProcessExecutor(WORKERS))
        self.cascade = stack.enter_context(Cascade(executor=executor))

    def by_pool(self, func: Any, items: Sequence[Any]) -> Contender:
        """The raw pool."""
        return _calls(RAW, by_pool(self.raw), func, items)

    def by_map(self, name: str, task: Any, items: Sequence[Any], **options: Any) -> Contender:
        """A map of Cascade."""
        (parameter,) = task.parameters.positional

        async def run() -> list[Any]:
            target = task.map(**{parameter: items})
            values: list[Any] = await self.cascade.engine.run(target, **options)
            return values

        values = [task.func(item) for item in items[:1]] * len(items)
        expected = values if len({*items}) == 1 else [task.func(item) for item in items]
        return Contender(name, lambda: self.cascade.wait_for(run), len(items), expected)


@contextmanager
def _processes() -> Iterator[_Processes]:
    with ExitStack() as stack:
        yield _Processes(stack)


def _calls(name: str, calls: Calls, func: Any, items: Sequence[Any]) -> Contender:
    same = len({*items}) == 1
    values = [func(items[0])] * len(items) if same else [func(item) for item in items]
    return Contender(name, lambda: calls(func, items), len(items), values)


def pools(bench: Bench) -> Iterator[tuple[str, Calls, Callable[[], Any]]]:
    """The pools of loky and joblib, if these are installed: name, calls, and their end."""
    if find_spec("loky") is not None:
        pool = import_module("loky").ProcessPoolExecutor(WORKERS)
        yield "loky", by_pool(pool), lambda: pool.shutdown(kill_workers=True)
    else:
        bench.console.print("not installed, so left out: loky", style="dim")
    if find_spec("joblib") is not None:
        joblib = import_module("joblib")
        parallel, delayed = joblib.Parallel(WORKERS), joblib.delayed
        yield "joblib", lambda func, items: parallel([delayed(func)(i) for i in items]), _nothing
    else:
        bench.console.print("not installed, so left out: joblib", style="dim")


def _nothing() -> None:
    """A pool that ends with the program."""


def short(bench: Bench) -> None:
    """Calls as short as can be."""
    items = range(bench.largest)
    with _processes() as made, ExitStack() as ends:

        async def retrying() -> list[Any]:
            return await made.cascade.engine.run([called.plus(i).with_retry(2) for i in items])

        expected = [i + 1 for i in items]
        contenders = [
            made.by_pool(called.plus_one, items),
            made.by_map(CASCADE, called.plus, items),
            Contender(RETRY, lambda: made.cascade.wait_for(retrying), len(items), expected),
            made.by_map(VM, called.plus, items, use_vm=True),
        ]
        for name, calls, end in pools(bench):
            ends.callback(end)
            contenders.append(_calls(name, calls, called.plus_one, items))
        samples = bench.measure("short calls", contenders, bench.rounds(len(items)), RAW, "call")
    bench.show(f"a short call, of {len(items)}", {"": "short calls"})
    for name, most in ((CASCADE, 0.35), (RETRY, 0.5)):
        ratio = samples.ratio(name, RAW).median
        bench.found.target(f"{len(items)} short calls: {name} over {RAW}", ratio, most=most)
    ratio = samples.ratio(VM, CASCADE).median
    bench.found.target(f"{len(items)} short calls: {VM} over {CASCADE}", ratio, most=1.1)


def holding(bench: Bench) -> None:
    """Calls that hold the lock: how much two workers gain."""
    held, seconds = (8, 0.05) if bench.options.quick else (_HELD, _SECONDS)
    items, few = [seconds] * held, [seconds] * _HELD_IN_LOOP
    with _processes() as made:
        contenders = [
            made.by_pool(called.hold, items),
            made.by_map(CASCADE, called.holding, items),
            made.by_map(VM, called.holding, items, use_vm=True),
            _calls(LOOP, lambda func, given: [func(i) for i in given], called.hold, few),
        ]
        for contender in contenders[:3]:  # the processes start
            contender.run()
        rounds = 1 if bench.options.quick else 2
        samples = bench.measure("calls that hold the lock", contenders, rounds, RAW, "call")
    bench.show(f"a call of {seconds:g} s, of {held}", {"": "calls that hold the lock"})
    efficiency = samples.ratio(RAW, CASCADE).median
    title = f"{held} calls that hold the lock: speed of {CASCADE} over that of {RAW}"
    bench.found.target(title, efficiency, least=0.97)
    gained = samples.ratio(LOOP, CASCADE).median
    title = f"{held} calls that hold the lock: speed of {CASCADE} over that of {LOOP}"
    bench.found.target(title, gained, least=0.95 * samples.ratio(LOOP, RAW).median)


def computing(bench: Bench) -> None:
    """Calls that compute."""
    items = [_SIZE // 10 if bench.options.quick else _SIZE] * _BURNT
    with _processes() as made:
        contenders = [
            made.by_pool(called.burn, items),
            made.by_map(CASCADE, called.burning, items),
            _calls(LOOP, lambda func, given: [func(i) for i in given], called.burn, items),
        ]
        bench.measure("calls that compute", contenders, bench.rounds(10**5), RAW, "call")
    bench.show(f"a call that computes, of {_BURNT}", {"": "calls that compute"})


def start(bench: Bench) -> None:
    """From making an executor to the end of it, with one call."""

    def by_raw_pool() -> int:
        with raw_pool() as pool:
            return int(pool.submit(called.plus_one, 1).result())

    with Cascade() as cascade:

        async def run(executor: Any) -> int:
            from cascade.runtime.engine import Engine

            async with Engine(executor=executor) as engine:
                value: int = await engine.run(called.plus(1))
                return value

        def by_cascade() -> int:
            with ProcessExecutor(WORKERS) as executor:
                return int(cascade.wait_for(lambda: run(executor)))

        contenders = [Contender(RAW, by_raw_pool, 1, 2), Contender(CASCADE, by_cascade, 1, 2)]
        rounds = 1 if bench.options.quick else 5
        samples = bench.measure("start", contenders, rounds, RAW, "start")
    bench.show("start, one call, and end", {"": "start"})
    ratio = samples.ratio(CASCADE, RAW).median
    bench.found.target(f"start, one call, and end: {CASCADE} over {RAW}", ratio, most=1.3)


class _Work(NamedTuple):
    """One comparison: a number of calls, made by the raw cluster and by Cascade."""

    title: str
    calls: int
    by_raw: Callable[[], Any]
    by_cascade: Callable[[], Any]
    expected: Any
    #: The most that Cascade may take of the time of the raw cluster.
    most: float
    #: The same by hand, with Cascade's promises and nothing else.
    by_floor: Callable[[], Any] | None = None


def _works(raw: Any, cascade: Cascade, size: int) -> list[_Work]:
    """The comparisons on a cluster."""
    chain, items = min(size, _CHAIN), range(size)
    large = (1 << 26) if size == _CALLS else 1 << 20

    def run(author: Callable[[], Any]) -> Callable[[], Any]:
        async def value() -> Any:
            return await cascade.engine.run(author())

        return lambda: cascade.wait_for(value)

    def chained() -> Any:
        value: Any = 0
        for _ in range(chain):
            value = called.plus(value)
        return value

    def shared() -> Any:
        value = called.large(large)
        return [called.measured(value), called.measured(value)]

    plus, zeros, size_of = called.plus_one, called.zeros, called.size_of
    short_calls = run(lambda: called.plus.map(x=items))
    hop = run(lambda: called.measured(called.large(large)))
    fan = run(shared)
    expected = [i + 1 for i in items]
    floor = raw.floor
    works = [
        _Work("short calls", size, lambda: raw.calls(plus, items), short_calls, expected, 0.15),
        _Work("a chain", chain, lambda: raw.chain(plus, 0, chain), run(chained), chain, 0.05),
        _Work("a large value", 1, lambda: raw.hop(zeros, size_of, large), hop, large, 1.1),
        _Work("a shared value", 2, lambda: raw.fan(zeros, size_of, large), fan, [large] * 2, 1.1),
    ]
    by_floor: dict[str, Callable[[], Any]] = {
        "a shared value": lambda: floor.fan(zeros, size_of, large)
    }
    if isinstance(raw, RayPeer):
        by_floor["short calls"] = lambda: floor.calls(plus, items)
        by_floor["a chain"] = lambda: floor.chain(plus, 0, chain)
    return [work._replace(by_floor=by_floor.get(work.title)) for work in works]


def _on(bench: Bench, kind: type[DaskPeer] | type[RayPeer]) -> None:
    """A cluster on this machine, raw and by Cascade; says so where it is not installed."""
    if find_spec(kind.distribution) is None:
        text = f"not installed, so left out: {kind.distribution}"
        bench.console.print(text, style="dim")
        return
    name, shown = kind.name, {}
    rounds = 1 if bench.options.quick else 5
    with ExitStack() as stack:
        raw: Any = stack.enter_context(kind(WORKERS))
        cascade = stack.enter_context(Cascade(executor=stack.enter_context(raw.executor())))
        for work in _works(raw, cascade, bench.largest):
            work.by_cascade()  # Cascade knows then how long its calls take
            contenders = [
                Contender(f"raw {name}", work.by_raw, work.calls, work.expected),
                Contender(CASCADE, work.by_cascade, work.calls, work.expected),
            ]
            if work.by_floor is not None:
                floor = Contender(raw.floor.name, work.by_floor, work.calls, work.expected)
                contenders.append(floor)
            title = shown[work.title] = f"{name}, {work.title}"
            samples = bench.measure(title, contenders, rounds, f"raw {name}", "call")
            ratio = samples.ratio(CASCADE, f"raw {name}").median
            bench.found.target(f"{title}: {CASCADE} over raw {name}", ratio, most=work.most)
    bench.show(f"a call on {name}", shown)


def on_dask(bench: Bench) -> None:
    """On a Dask cluster."""
    _on(bench, DaskPeer)


def on_ray(bench: Bench) -> None:
    """On a Ray cluster."""
    _on(bench, RayPeer)


_CLUSTER = (
    "Two workers on this machine. 1000 calls of one function, which Cascade sends in turns; 100 "
    "calls that each take the value of the one before, which it sends as one; and 64 MiB from one "
    "call to the next, or to two calls, which stay there. By hand is the smallest program that "
    "keeps the same promises: a call or a turn begins once, and each call has its value or its "
    "error with the traceback, and its duration."
)
SECTIONS = (
    Section(
        "short",
        "A short call in another process",
        "1000 calls of a function that adds one, with two workers: the raw pool by `submit`, and "
        "Cascade by one map, which sends them in turns of many; and by a list of calls that have a "
        "retry.",
        short,
    ),
    Section(
        "holding",
        "A call that holds the interpreter's lock",
        "64 calls of 0.2 s, with two workers. They hold the lock without using the processor, so "
        "that other programs cannot slow them. The plain loop makes four of them.",
        holding,
    ),
    Section(
        "computing",
        "A call that computes",
        "32 calls that use the processor: the gain depends on how many cores are idle meanwhile.",
        computing,
    ),
    Section(
        "start",
        "The start of worker processes",
        "An executor is made, makes one call, and is ended.",
        start,
    ),
    Section("dask", "A call on Dask", _CLUSTER, on_dask),
    Section("ray", "A call on Ray", _CLUSTER, on_ray),
)

PROGRAM = Program(
    "clusters",
    "Costs of a call in another process and on a cluster, beside pools that do nothing else.",
    SECTIONS,
    most=_CALLS,
    quick=100,
    of="calls",
)
