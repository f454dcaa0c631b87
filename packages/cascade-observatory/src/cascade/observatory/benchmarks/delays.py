"""Delays of the event loop's other work while something runs."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import Coroutine, Sequence
from itertools import islice
from math import inf
from time import perf_counter
from typing import Any, NamedTuple, Self


class Delays(NamedTuple):
    """Seconds between two turns of a coroutine that asks for the next turn at once."""

    median: float
    p99: float
    most: float

    def in_ms(self) -> dict[str, float]:
        """The values in ms, for reports."""
        return {"p50": 1e3 * self.median, "p99": 1e3 * self.p99, "max": 1e3 * self.most}


async def delays_beside(works: Sequence[Coroutine[Any, Any, Any]], seconds: float) -> Delays:
    """The delays beside ``works``, which do not end by themselves, over ``seconds``.

    Raises:
        Exception: The error of one of ``works``.
        ValueError: One of them has ended.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.sleep(0)  # skip the turn that starts them
    delays: list[float] = []
    started = before = perf_counter()
    while before - started < seconds or len(delays) < 2:
        await asyncio.sleep(0)
        now = perf_counter()
        delays.append(now - before)
        before = now
    for one in tasks:
        one.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(ended, BaseException):
            raise ValueError("the works must run until they are cancelled, but one has ended")
        if not isinstance(ended, asyncio.CancelledError):
            raise ended
    return summarised(delays)


def summarised(delays: Sequence[float]) -> Delays:
    """Median, 99th percentile and maximum of at least two delays.

    >>> summarised([1.0, 2.0, 3.0])
    Delays(median=2.0, p99=2.98, most=3.0)
    """
    percentiles = statistics.quantiles(delays, n=100, method="inclusive")
    return Delays(percentiles[49], percentiles[98], max(delays))


class LoopDelays:
    """Measures again and again how late a timer is, in real time: the delay of other work.

    Delays are weighted by time. Work that arrives at a random moment waits until the event loop is
    free, and meets a long delay more probably than a short one. A quantile is therefore over the
    time that delays cover, not over their number. Use it inside an event loop.

    Args:
        every: Seconds between two timers.
        kept: Number of measurements that are kept, the latest ones.
    """

    def __init__(self, every: float = 0.002, kept: int = 500_000) -> None:
        self._every = every
        #: (when it was measured, how late the timer was), in seconds since the start.
        self._seen: deque[tuple[float, float]] = deque(maxlen=kept)
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._began = self._due = self._loop.time()
        self._handle = self._loop.call_soon(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.cancel()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._loop.time() - self._began

    def _look(self) -> None:
        now = self._loop.time()
        self._seen.append((now - self._began, max(now - self._due, 0.0)))
        self._due = now + self._every
        self._handle = self._loop.call_at(self._due, self._look)

    def lately(self, count: int = 50) -> float | None:
        """The longest of the last ``count`` delays; None if there is none yet."""
        last = list(islice(reversed(self._seen), count))
        return max(delay for _, delay in last) if last else None

    def quantile(self, share: float, start: float = 0.0, end: float = inf) -> float | None:
        """The delay that is not exceeded in ``share`` of the time; None without a measurement.

        Args:
            share: 0.99 for the 99th percentile.
            start: First second that counts, since the beginning.
            end: Last second that counts.
        """
        covering = [(late, late + self._every) for at, late in self._seen if start <= at < end]
        return weighted_quantile(covering, share) if covering else None


def weighted_quantile(pairs: Sequence[tuple[float, float]], share: float) -> float:
    """The least value such that the values up to it have ``share`` of the total weight.

    >>> weighted_quantile([(1.0, 98.0), (5.0, 1.0), (7.0, 1.0)], 0.99)
    5.0
    """
    ordered = sorted(pairs)
    wanted = share * sum(weight for _, weight in ordered)
    for value, weight in ordered:
        wanted -= weight
        if wanted <= 0:
            return value
    return ordered[-1][0]
