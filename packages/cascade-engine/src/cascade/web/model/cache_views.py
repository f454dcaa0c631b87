"""What a cache keeps of each task, and why calls of a target would be made. Waits for the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import time

from cascade.adapters.cache.explaining import explain_cache
from cascade.adapters.cache.opening import open_entries
from cascade.command.caches import cache_of, size_text
from cascade.command.failures import UsageError
from cascade.command.targets import find
from cascade.graph.durations import duration_text
from cascade.spec.errors import CascadeError


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cache keeps of one task."""

    task: str
    entries: int
    size: str
    #: The mean time that a hit saves.
    saves: str
    used: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Alike nodes of a target: hits, or why they are none."""

    task: str
    count: int
    status: str
    reason: str


class CacheViews:
    """One cache.

    Args:
        url: Its URL.
        targets: The targets that can be explained, as ``MODULE:TARGET``.
    """

    def __init__(self, url: str, targets: Sequence[str] = ()) -> None:
        self._url = url
        self.targets = tuple(targets)

    def kept(self) -> list[Kept]:
        """What is kept, the largest first.

        Raises:
            CascadeError: The cache cannot be read.
        """
        entries = open_entries(self._url)
        try:
            uses = sorted(entries.stats(), key=lambda use: -use.size)
        finally:
            entries.close()
        return [
            Kept(
                use.task,
                use.entries,
                size_text(use.size),
                duration_text(use.seconds / use.entries),
                f"{duration_text(max(0.0, time() - use.used))} ago",
            )
            for use in uses
        ]

    def why(self, target: str) -> tuple[list[Reason], str]:
        """The nodes of a target, and a fault in words, if it cannot be explained."""
        if target not in self.targets:  # the browser has no say in what is imported
            return [], f"{target!r} was not named on the command line"
        try:
            found = explain_cache(find(target).lazy(), cache=cache_of(self._url))
        except (CascadeError, UsageError) as error:
            return [], str(error)
        return [Reason(node.task, node.count, node.status, node.reason) for node in found.nodes], ""
