"""Demand: what the permits of a queue wait for that a store of shared limits has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cascade.runtime.limits.permits import Permit, by_number, by_rank
from cascade.runtime.limits.shared_rates import SharedRateRule, shared_among

if TYPE_CHECKING:
    import asyncio

    from cascade.runtime.limits.capacities import Capacities


def demand(queue: Capacities, most: int) -> tuple[list[dict[str, Any]], set[SharedRateRule]]:
    """What waiting permits lack, those of the first ``most``. Under the lock of the queue.

    Returns:
        The needs of each permit, by capacity or bucket; and the rates of which there are no tokens.
    """
    place = by_rank if queue._ranked else by_number
    wants: list[dict[str, Any]] = []
    lacking: set[SharedRateRule] = set()
    for head, length in sorted(_heads(queue), key=lambda line: place(line[0])):
        if head.block is None or not isinstance(head.block.limit, (str, SharedRateRule)):
            continue  # it waits for something that this process has
        rules = head.constraints.rules_of(head.task) if head.constraints.any else ()
        rates = [rule for rule in shared_among(rules) if rule.room(head.now()) < 1]
        for rule in rates:
            if head.most > 1:
                rule.wish = rule.most_lent
        lacking.update(rates)
        need = dict(head.amounts) | {rule.ticket: 1 for rule in rates}
        wants += [need] * min(length, most - len(wants))
    return wants, lacking


def time_of(queue: Capacities, otherwise: float) -> float:
    """The time in the event loop of a waiting permit. Under the lock of the queue."""
    for head, _ in _heads(queue):
        return head.now()
    return otherwise


def loops_of(queue: Capacities) -> set[asyncio.AbstractEventLoop]:
    """The event loops of waiting permits. Under the lock of the queue."""
    return {permit.run.loop for line in queue._lines.values() for permit in line}


def _heads(queue: Capacities) -> Iterator[tuple[Permit, int]]:
    """The first permit of each line, and how long the line is."""
    for line in queue._lines.values():
        yield next(iter(line)), len(line)
