"""Demand: the shared amounts and tokens that the permits of a queue wait for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

from cascade.runtime.limits.permits import Permit, by_number, by_rank
from cascade.runtime.limits.shared_rates import SharedRateRule, shared_among

if TYPE_CHECKING:
    import asyncio

    from cascade.runtime.limits.permit_queue import PermitQueue


def demand(queue: PermitQueue, most: int) -> tuple[list[dict[str, Any]], set[SharedRateRule]]:
    """What waiting permits lack, in the order of the queue. Under its lock.

    Args:
        queue: The queue.
        most: Of how many permits.

    Returns:
        The needs of each permit, by capacity or bucket; and the rates of which there are no tokens.
    """
    place = by_rank if queue._ranked else by_number
    lacking: set[SharedRateRule] = set()
    lines = []
    for number, (line, head) in enumerate(_lines(queue)):
        if head.block is None or not isinstance(head.block.limit, (str, SharedRateRule)):
            continue  # it waits for something that this process has
        rules = head.constraints.rules_of(head.task) if head.constraints.any else ()
        closed = [rule for rule in rules if rule.room(head.now()) < 1]
        rates = shared_among(closed)
        if len(rates) < len(closed):
            continue  # a token would be lost before the others open
        for rule in rates:
            if head.most > 1:
                rule.wish = rule.most_lent
        lacking.update(rates)
        need = dict(head.amounts) | {rule.ticket: 1 for rule in rates}
        lines.append([(place(permit), number, need) for permit in islice(line, most)])
    return [need for _, _, need in islice(merge(*lines), most)], lacking


def time_of(queue: PermitQueue, otherwise: float) -> float:
    """The time in the event loop of a waiting permit. Under the lock of the queue."""
    for _, head in _lines(queue):
        return head.now()
    return otherwise


def loops_of(queue: PermitQueue) -> set[asyncio.AbstractEventLoop]:
    """The event loops of the first waiting permits. Under the lock of the queue."""
    return {head.run.loop for _, head in _lines(queue)}


def _lines(queue: PermitQueue) -> Iterator[tuple[OrderedDict[Permit, None], Permit]]:
    """Each line and its first permit."""
    for line in queue._lines.values():
        yield line, next(iter(line))
