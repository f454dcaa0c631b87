"""``measure``: contenders timed in paired, interleaved rounds.

A machine's speed drifts by more than the differences looked for. So all contenders take their turn
in each round, in an order that rotates, and two of them are compared by the ratio *within* each
round: what slows the whole machine for a while slows both, and cancels. Reported is the median of
these ratios over the rounds, which one disturbed round does not move.

The garbage collector is left as it is found, for users have it on. Only what an earlier contender
left behind is collected before the next one is timed.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the things to compare.

    Attributes:
        name: What tables and reports call it.
        run: What is timed.
        operations: How many nodes, steps or calls one ``run()`` is.
        expected: What ``run()`` has to return. Checked before anything is timed.
    """

    name: str
    run: Callable[[], object]
    operations: int
    expected: object


class Summary(NamedTuple):
    """The middle of some values, and between what their middle half lies."""

    median: float
    first_quartile: float
    third_quartile: float


@dataclass(frozen=True, slots=True)
class Samples:
    """What ``measure`` found.

    Attributes:
        seconds: Contender → seconds per operation; the i-th of each are of one round.
        operations: Contender → operations of one run.
        collections: Contender → collections of garbage while it was timed, by generation.
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
        """How many times the cost of ``baseline`` the cost of ``name`` is, round by round."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return summarise([own / base for own, base in pairs])


def measure(
    contenders: Sequence[Contender],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Samples:
    """Time ``contenders`` in ``rounds`` rounds, after one that is not timed.

    Args:
        contenders: With names that differ.
        rounds: At least 1. With fewer than 5, quartiles say little.
        clock: Seconds, from any zero.

    Raises:
        ValueError: Two contenders of one name, no rounds, or a result that is not as expected: a
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
    for number in range(rounds):
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
