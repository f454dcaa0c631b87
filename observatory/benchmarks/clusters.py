"""Costs of calls in other processes, beside those of the pools that do nothing else.

    hatch run python observatory/benchmarks/clusters.py
    hatch run python observatory/benchmarks/clusters.py --quick

All contenders of a table take turns in one process, and each figure is the least of its rounds, as
a ratio to the raw pool: on a busy machine only such ratios mean anything.

- *trivial*: 1000 calls of a function that adds one.
- *holding*: calls that hold the interpreter's lock for 0.2 s without using the processor, which
  disturbs other threads as computing does, and can be measured on a busy machine.
- *computing*: calls that use the processor.
- *start*: from making the executor to the first value.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Any

import cascade as cs

WORKERS = 2


def trivial(x: int) -> int:
    """As short as a call can be."""
    return x + 1


def hold(seconds: float) -> int:
    """Hold the interpreter's lock, without using the processor."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return 1


def burn(n: int) -> int:
    """Use the processor."""
    total = 0
    for i in range(n):
        total += i * i
    return total


def raw_pool() -> ProcessPoolExecutor:
    """What the others are compared with."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(WORKERS, mp_context=context)


#: A contender: makes calls of a function with these arguments, and gives their values.
Contender = Callable[[Callable[[Any], Any], list[Any]], list[Any]]


def by_pool(pool: Any) -> Contender:
    """Calls by ``submit``, one by one."""
    return lambda func, items: [f.result() for f in [pool.submit(func, i) for i in items]]


def by_cascade(runner: asyncio.Runner, engine: cs.Engine, **options: Any) -> Contender:
    """A map."""

    def make(func: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        task = TASKS[func]
        (name,) = task.parameters.positional
        return runner.run(engine.run(task.map(**{name: items}), **options))

    return make


def with_policies(runner: asyncio.Runner, engine: cs.Engine) -> Contender:
    """Nodes with a retry."""

    def make(func: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        return runner.run(engine.run([TASKS[func](i).with_retry(2) for i in items]))

    return make


TASKS: dict[Any, Any] = {func: cs.task(func) for func in (trivial, hold, burn)}


def loky_pools() -> dict[str, Contender]:
    """Those that are installed."""
    found: dict[str, Contender] = {}
    try:
        from loky import ProcessPoolExecutor as LokyPool

        found["loky"] = by_pool(LokyPool(WORKERS))
        import joblib

        parallel = joblib.Parallel(WORKERS)
        found["joblib"] = lambda func, items: parallel(joblib.delayed(func)(i) for i in items)
    except ImportError:
        pass
    return found


def measured(
    contenders: dict[str, Contender], func: Callable[[Any], Any], items: list[Any], rounds: int
) -> dict[str, float]:
    """The least seconds of each contender, in turns."""
    expected = [func(item) for item in items[:1]]
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, make in contenders.items():
            began = perf_counter()
            values = make(func, items)
            best[name] = min(best.get(name, 1e9), perf_counter() - began)
            assert values[:1] == expected
            assert len(values) == len(items)
    return best


def show(title: str, best: dict[str, float], count: int, ideal: float | None = None) -> None:
    """A table of one measurement."""
    print(f"\n{title}")
    raw = best["raw pool"]
    for name, seconds in best.items():
        efficiency = "" if ideal is None else f"  efficiency {ideal / seconds:.2f}"
        each = f"{seconds / count * 1e6:12.1f} µs a call"
        print(f"  {name:32}{each}  {seconds / raw:6.2f} x raw{efficiency}")


def started(make: Callable[[], Any], rounds: int) -> float:
    """The least seconds from making an executor to its first value, and its end not included."""
    best = 1e9
    for _ in range(rounds):
        began = perf_counter()
        end = make()
        best = min(best, perf_counter() - began)
        end()
    return best


def start_raw() -> Callable[[], Any]:
    """The raw pool."""
    pool = raw_pool()
    assert pool.submit(trivial, 1).result() == 2
    return pool.shutdown


def start_cascade() -> Callable[[], Any]:
    """A ProcessExecutor."""
    executor = cs.ProcessExecutor(WORKERS)
    assert cs.run(TASKS[trivial](1), executor=executor) == 2
    return executor.shutdown


def main() -> None:
    """The whole program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer calls and rounds")
    quick = parser.parse_args().quick
    calls, rounds, holding = (200, 2, 8) if quick else (1000, 8, 64)
    pool = raw_pool()
    with cs.ProcessExecutor(WORKERS) as executor, asyncio.Runner() as runner:
        engine = cs.Engine(executor=executor)
        contenders = {
            "raw pool": by_pool(pool),
            "cascade": by_cascade(runner, engine),
            "cascade, with a retry": with_policies(runner, engine),
            "cascade, use_vm": by_cascade(runner, engine, use_vm=True),
            **loky_pools(),
        }
        for make in contenders.values():
            make(trivial, [*range(50)])
        show(
            f"{calls} trivial calls",
            measured(contenders, trivial, [*range(calls)], rounds),
            calls,
        )
        seconds = 0.05 if quick else 0.2
        few = {name: contenders[name] for name in ("raw pool", "cascade", "cascade, use_vm")}
        show(
            f"{holding} calls that hold the interpreter's lock for {seconds} s, {WORKERS} workers",
            measured(few, hold, [seconds] * holding, 1 if quick else 2),
            holding,
            ideal=holding * seconds / WORKERS,
        )
        size = 100_000 if quick else 1_000_000
        show(
            f"{holding} calls that compute",
            measured(few, burn, [size] * holding, 1 if quick else 3),
            holding,
        )
        runner.run(engine.close())
    pool.shutdown()
    show("start", {"raw pool": started(start_raw, 3), "cascade": started(start_cascade, 3)}, 1)


if __name__ == "__main__":
    main()
