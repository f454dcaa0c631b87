"""Waiting: why a node does not run now, for ``engine.waiting()``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from cascade.spec.map_items import Item

#: Most names of holders in a line.
_NAMED: Final = 5


class Waiting(NamedTuple):
    """The reason why a node does not run now."""

    #: Name of the task, or ``"resource db"`` if the provider of a resource waits for a thread.
    task: str
    #: ``LazyResult.number`` of the node; 0 if there is none.
    node: int
    #: ``"inputs"``, ``"retry delay"``, ``"worker thread"``, ``"worker process"`` (or the name of
    #: a cluster: ``"worker dask"``), ``"thread of the resources"``,
    #: ``"signal approval"``, ``"sleep until 2026-11-30 12:30:00 UTC"``, ``"equal call of another
    #: run"`` (of a cached task), or the limit: ``"capacity gpu"``, ``"pause global"``,
    #: ``"concurrency task:fetch 4"``, ``"rate_limit global 10/s"``.
    reason: str
    #: Names of the inputs, or of the tasks that hold the limit or the threads.
    holders: tuple[str, ...] = ()
    #: Expected duration, if known.
    seconds: float | None = None
    #: Start of the wait, by ``time.monotonic``; None for inputs. Of nodes that wait for a thread
    #: together, the time since which none has become free.
    since: float | None = None
    #: Its place in a map, if it is an item of one.
    item: Item | None = None


def held_by(holders: Iterable[str]) -> str:
    """The holders of the limit or thread of a wait, each name once; empty if there are none.

    >>> held_by(["fetch", "fetch", "train"])
    ', held by fetch × 2, train'
    """
    counts = Counter(holders)
    if not counts:
        return ""
    named = [
        f"{name} × {count:,}" if count > 1 else name
        for name, count in islice(counts.items(), _NAMED)
    ]
    more = f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else ""
    return f", held by {', '.join(named)}{more}"
