"""Time from the return of a permit until the waiting call begins."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from cascade.spec.task import task

#: Times at which calls began and ended. They do so one at a time, so entries come in pairs.
_marks: list[float] = []


@task(mode="blocking")
def hold_on_a_thread(number: int) -> int:
    """Occupy the limit for a moment, on a worker."""
    _marks.append(perf_counter())
    total = sum(range(2_000))
    _marks.append(perf_counter())
    return number + total - total


@task
async def hold_in_the_loop(number: int) -> int:
    """Occupy the limit for a moment, in the event loop."""
    _marks.append(perf_counter())
    total = sum(range(2_000))
    _marks.append(perf_counter())
    return number + total - total


def forget() -> None:
    """Start again with no marks."""
    _marks.clear()


def gaps() -> Sequence[float]:
    """Seconds from the end of each call to the beginning of the next one.

    Raises:
        ValueError: Calls overlapped, or there were fewer than two.
    """
    if len(_marks) < 4 or _marks != sorted(_marks):
        raise ValueError("the calls were not made one after the other")
    return [after - before for before, after in zip(_marks[1::2], _marks[2::2], strict=False)]
