"""Costs of a cache by code: of a hit, of a miss, and of a run in which nothing has changed.

Misses have a new argument each, so nothing is found; hits have an argument that was called before
the measurement. The files lie in a folder of their own, and are deleted with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cascade.adapters.cache.by_code import ByCode
from cascade.adapters.cache.lru import LRUCache
from cascade.observatory.benchmarks.caching_peers import Keeper, installed_keepers, row
from cascade.observatory.benchmarks.contenders import Cascade
from cascade.observatory.benchmarks.program import Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender
from cascade.spec.task import task

#: The contenders of Cascade: a call as a run of its own, the cache alone, and calls of one run.
RUN, CACHE, GRAPH = "ByCode, a run", "ByCode, the cache alone", "ByCode, a node of a run"
#: The contender without a cache.
PLAIN = "no cache"
#: The most ms for a run of 10,000 nodes in which nothing has changed.
UNCHANGED_MOST = 50.0
_JOBLIB = "joblib"
_CALLS, _NODES = 200, 10_000
_numbers = count(1_000_000)

rows = task(pure=True)(row)


@task(pure=True)
def double(number: int) -> int:
    """A node of the large graph."""
    return number * 2


@task
def plain_double(number: int) -> int:
    """The same without a cache."""
    return number * 2


@task(pure=True)
def total(numbers: list[int]) -> int:
    """The target of the large graph."""
    return sum(numbers)


class _Keepers:
    """Cascade with a cache in a file, and the peers."""

    def __init__(self, folder: Path, stack: ExitStack, peers: Sequence[Keeper]) -> None:
        self.cache = ByCode(f"sqlite:///{folder}/cache.db")
        stack.callback(self.cache.close)
        self.cascade = stack.enter_context(Cascade(cache=self.cache))
        self.peers = peers
        for peer in peers:
            peer.open(folder)
            stack.callback(peer.close)

    def contenders(self, numbers: Callable[[], Sequence[int]], calls: int) -> list[Contender]:
        """Calls with ``numbers()``, by each of them."""
        found = [
            Contender(RUN, lambda: self._runs(numbers()), calls, calls),
            Contender(CACHE, lambda: self._alone(numbers()), calls, calls),
            Contender(GRAPH, lambda: self._graph(numbers()), calls, calls),
        ]
        found += [
            Contender(peer.name, partial(_called_with, peer.call, numbers), calls, calls)
            for peer in self.peers
        ]
        return found

    def _runs(self, numbers: Sequence[int]) -> int:
        async def runs() -> int:
            engine = self.cascade.engine
            return sum([(await engine.run(rows(n)))["number"] == n for n in numbers])

        made: int = self.cascade.wait_for(runs)
        return made

    def _graph(self, numbers: Sequence[int]) -> int:
        async def run() -> list[Any]:
            values: list[Any] = await self.cascade.engine.run([rows(n) for n in numbers])
            return values

        values = self.cascade.wait_for(run)
        return sum(value["number"] == n for value, n in zip(values, numbers, strict=True))

    def _alone(self, numbers: Sequence[int]) -> int:
        cache = self.cache

        def call(number: int) -> Any:
            arguments = {"number": number}
            key = cache.key(rows, arguments)
            found, value = cache.load(key, arguments)
            if not found:
                value = row(number)
                cache.save(key, arguments, value)
            return value

        return _called(call, numbers)


def _called_with(call: Callable[[int], Any], numbers: Callable[[], Sequence[int]]) -> int:
    return _called(call, numbers())


def _called(call: Callable[[int], Any], numbers: Sequence[int]) -> int:
    """How many of the calls gave what they should."""
    return sum(call(number)["number"] == number for number in numbers)


@contextmanager
def _keepers(bench: Bench) -> Iterator[_Keepers]:
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="cascade-caching-"))
        peers = bench.those_installed(installed_keepers())
        yield _Keepers(Path(folder), stack, peers)


def hits(bench: Bench) -> None:
    """Calls whose values are there."""
    calls = min(bench.largest, _CALLS)
    with _keepers(bench) as keepers:
        contenders = keepers.contenders(lambda: range(calls), calls)
        for contender in contenders:  # the first call of each is a miss
            contender.run()
        samples = bench.measure("hit", contenders, bench.rounds(calls), RUN, "call")
        bench.show(f"a hit, of {calls} calls", {"": "hit"})
        for peer in keepers.peers:
            ratio = samples.ratio(RUN, peer.name).median
            most = 1.0 if peer.name.startswith(_JOBLIB) else None
            if most is not None:
                bench.found.target(f"a hit: a run of one call over {peer.name}", ratio, most=most)


def misses(bench: Bench) -> None:
    """Calls whose values are computed and kept."""
    calls = min(bench.largest, _CALLS)
    with _keepers(bench) as keepers:
        contenders = keepers.contenders(lambda: [next(_numbers) for _ in range(calls)], calls)
        bench.measure("miss", contenders, bench.rounds(calls), RUN, "call")
    bench.show(f"a miss, of {calls} calls", {"": "miss"})


def unchanged(bench: Bench) -> None:
    """A large graph in which nothing has changed."""
    size = min(bench.largest * 50, _NODES)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="cascade-caching-"))
        cached = stack.enter_context(Cascade(cache=f"sqlite:///{folder}/cache.db"))
        plain = stack.enter_context(Cascade())

        def by(cascade: Cascade) -> Callable[[], Any]:
            target = total([double(number) for number in range(size - 2)])

            async def run() -> Any:
                return await cascade.engine.run(target)

            return lambda: cascade.wait_for(run)

        expected = (size - 2) * (size - 3)
        contenders = [
            Contender("ByCode, unchanged", by(cached), size, expected),
            Contender("no cache", by(plain), size, expected),
        ]
        contenders[0].run()
        samples = bench.measure(
            "unchanged", contenders, bench.rounds(size), "ByCode, unchanged", "node"
        )
    bench.show(f"a node of {size}", {"": "unchanged"})
    if size == _NODES:
        seconds = samples.cost("ByCode, unchanged").median * size
        bench.found.target(
            f"a run of {size:,} nodes, unchanged", seconds * 1e3, most=UNCHANGED_MOST, unit="ms"
        )


def nodes(bench: Bench) -> None:
    """A node of a wide graph, by the cache that it has."""
    size = min(bench.largest * 50, _NODES)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="cascade-caching-"))
        cached = stack.enter_context(Cascade(cache=f"sqlite:///{folder}/cache.db"))
        plain, memory = stack.enter_context(Cascade()), LRUCache(2 * size)

        def by(cascade: Cascade, author: Callable[[int], Any], first: int | None = 0) -> Any:
            """Runs one node for each of some numbers, new ones if ``first`` is None."""

            async def run() -> Any:
                begin = next(_numbers) * size if first is None else first
                values = await cascade.engine.run([author(n) for n in range(begin, begin + size)])
                return [value - 2 * begin for value in (values[0], values[-1])]

            return lambda: cascade.wait_for(run)

        expected = [0, 2 * (size - 1)]
        contenders = [
            Contender(name, work, size, expected)
            for name, work in (
                (PLAIN, by(plain, plain_double)),
                ("pure, no cache", by(plain, double)),
                ("cache switched off", by(cached, lambda n: double(n).with_cache(None))),
                ("LRUCache, hit", by(plain, lambda n: double(n).with_cache(memory))),
                ("ByCode, unchanged", by(cached, double)),
                ("ByCode, computed", by(cached, double, None)),
            )
        ]
        for contender in contenders[:-1]:  # the first run of each keeps the values
            contender.run()
        bench.measure("nodes", contenders, bench.rounds(size), PLAIN, "node")
    bench.show(f"a node of {size}", {"": "nodes"})


SECTIONS = (
    Section(
        "hit",
        "A call whose value is kept",
        "A small record by an int. Cascade: as a run of its own, as a node of a run, and the cache "
        "alone. joblib, redun and Hamilton with their caches on disk, as they set them up.",
        hits,
    ),
    Section("miss", "A call whose value is computed and kept", "The same with new ints.", misses),
    Section(
        "nodes",
        "A node of a large graph",
        "A list of calls of one plain function: without a cache, with one that is not used, with "
        "values that are there, and with new numbers, whose values are computed and kept.",
        nodes,
    ),
    Section(
        "unchanged",
        "A run in which nothing has changed",
        "A wide graph of pure tasks below one target, run again.",
        unchanged,
    ),
)

PROGRAM = Program(
    "caching",
    "Costs of a cache by code: of a hit, of a miss, of a node, and of a run without a change.",
    SECTIONS,
    most=_CALLS,
    quick=50,
    of="calls",
)
