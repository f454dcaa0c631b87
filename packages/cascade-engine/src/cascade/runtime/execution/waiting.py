"""Waiting: why a node does not run now, for ``engine.waiting()``."""

from __future__ import annotations

from typing import NamedTuple

from cascade.spec.map_items import Item


class Waiting(NamedTuple):
    """The reason why a node does not run now."""

    #: Name of the task, or ``"resource db"`` if the provider of a resource waits for a thread.
    task: str
    #: ``LazyResult.number`` of the node; 0 if there is none.
    node: int
    #: ``"inputs"``, ``"retry delay"``, ``"worker thread"``, ``"thread of the resources"``,
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
