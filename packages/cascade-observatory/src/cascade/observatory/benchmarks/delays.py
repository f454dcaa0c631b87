"""How long the event loop's other work waits for its turn while something runs."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Coroutine, Sequence
from time import perf_counter
from typing import Any, NamedTuple


class Delays(NamedTuple):
    """Seconds between two turns of a coroutine that always asks for the next one."""

    median: float
    p99: float
    most: float


async def delays_beside(works: Sequence[Coroutine[Any, Any, Any]], seconds: float) -> Delays:
    """The delays beside ``works``, which do not end by themselves, over so many seconds.

    Raises:
        Exception: That of one of ``works``.
        ValueError: One of them has come to an end.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.sleep(0)  # what starts them is not meant
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
            raise ValueError("what is measured beside is to go on, but it has ended")
        if not isinstance(ended, asyncio.CancelledError):
            raise ended
    return summarised(delays)


def summarised(delays: Sequence[float]) -> Delays:
    """Median, 99th percentile and maximum of at least two.

    >>> summarised([1.0, 2.0, 3.0])
    Delays(median=2.0, p99=2.98, most=3.0)
    """
    percentiles = statistics.quantiles(delays, n=100, method="inclusive")
    return Delays(percentiles[49], percentiles[98], max(delays))
