"""``measure``: contenders timed in paired, interleaved rounds.

A machine's speed drifts by more than the differences of interest. So all contenders take their turn
in each round, in a rotating order, and two of them are compared by the ratio *within* each round: a
disturbance that slows the machine for a while slows both, and cancels. The result is the median of
these ratios over the rounds; one disturbed round does not move it.

The garbage collector is left as it is, because users have it on. Only the garbage of an earlier
contender is collected before the next one is timed.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

#: Rounds that are made however long they take.
_FEWEST = 3
_RESOLUTION = time.get_clock_info("perf_counter").resolution


@dataclass(frozen=True, slots=True)
class Contender:
    """A contender of a comparison.

    Attributes:
        name: Its name in tables and reports.
        run: The timed function.
        operations: Number of nodes, steps or calls in one ``run()``.
        expected: The value that ``run()`` must return; checked before timing.
    """

    name: str
    run: Callable[[], object]
    operations: int
    expected: object


class Summary(NamedTuple):
    """The median of some values, and their quartiles."""

    median: float
    first_quartile: float
    third_quartile: float


@dataclass(frozen=True, slots=True)
class Samples:
    """The results of ``measure``.

    Attributes:
        seconds: Contender → seconds per operation; the i-th entries belong to the same round.
        operations: Contender → operations of one run.
        collections: Contender → garbage collections while it was timed, by generation.
        collector_enabled: Whether the garbage collector was on.
        collector_thresholds: ``gc.get_threshold()``.
    """

    seconds: Mapping[str, Sequence[float]]
    operations: Mapping[str, int]
    collections: Mapping[str, Sequence[int]]
    collector_enabled: bool
    collector_thresholds: tuple[int, ...]

    def cost(self, name: str) -> Summary:
        """Seconds per operation."""
        return summarise(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> Summary:
        """Cost of ``name`` as a multiple of the cost of ``baseline``, round by round."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return summarise([own / base for own, base in pairs])

    def beyond(self, pairs: Mapping[str, tuple[str, str]]) -> Samples:
        """The cost of an operation that a long run makes more than a short one.

        What both do once, such as to start, cancels. A disturbed round may give less than nothing;
        at least the resolution of the clock is taken.

        Args:
            pairs: Name of the result → names of the long and of the short contender.
        """
        seconds: dict[str, Sequence[float]] = {}
        operations: dict[str, int] = {}
        for name, (long, short) in pairs.items():
            many, few = self.operations[long], self.operations[short]
            operations[name] = many - few
            rounds = zip(self.seconds[long], self.seconds[short], strict=True)
            seconds[name] = [
                max(more * many - less * few, _RESOLUTION) / (many - few) for more, less in rounds
            ]
        return replace(
            self,
            seconds=seconds,
            operations=operations,
            collections={name: self.collections[long] for name, (long, _) in pairs.items()},
        )


def measure(
    contenders: Sequence[Contender],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    seconds_at_most: float = math.inf,
) -> Samples:
    """Time ``contenders`` in ``rounds`` rounds, after one that is not timed.

    Args:
        contenders: With names that differ.
        rounds: At least 1. With fewer than 5, quartiles say little.
        clock: Seconds, from any zero.
        seconds_at_most: No round begins so many seconds of the clock after the first one, except
            the first three.

    Raises:
        ValueError: Two contenders have the same name, there are no rounds, or a result is wrong: a
            wrong answer has no speed.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ValueError(f"contenders need names that differ, but these are {names}")
    if rounds < 1:
        raise ValueError(f"at least 1 round is needed, but rounds is {rounds}")
    for contender in contenders:
        _check(contender)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    collections = {name: [0] * len(gc.get_stats()) for name in names}
    began = clock()
    for number in range(rounds):
        if number >= _FEWEST and clock() - began > seconds_at_most:
            break
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            gc.collect()
            before = _collections()
            start = clock()
            contender.run()
            taken = clock() - start
            seconds[contender.name].append(taken / contender.operations)
            counts = collections[contender.name]
            for generation, (old, new) in enumerate(zip(before, _collections(), strict=True)):
                counts[generation] += new - old
    return Samples(
        seconds=seconds,
        operations={contender.name: contender.operations for contender in contenders},
        collections=collections,
        collector_enabled=gc.isenabled(),
        collector_thresholds=gc.get_threshold(),
    )


def summarise(values: Sequence[float]) -> Summary:
    """Median and quartiles; of a single value, that value three times.

    >>> summarise([4.0, 1.0, 2.0, 3.0, 5.0])
    Summary(median=3.0, first_quartile=2.0, third_quartile=4.0)
    """
    if len(values) == 1:
        return Summary(values[0], values[0], values[0])
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, first, third)


def _check(contender: Contender) -> None:
    result = contender.run()
    if result != contender.expected:
        raise ValueError(
            f"{contender.name} returned {_short(result)}, but right is {_short(contender.expected)}"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _collections() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]
