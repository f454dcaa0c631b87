"""Caches on the graph path: a node's value is looked up before its first call (rule R10)."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

from cascade.runtime.execution.carried_errors import REPLACED, carried
from cascade.runtime.graph_path.node_rules.pruning import Pruning
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Address, Segment, Work, arguments_by_name
from cascade.runtime.semantics.outcomes import Missing
from cascade.spec.caching import CachePolicy
from cascade.spec.lazy_types import LazyResult
from cascade.spec.policies import ENGINES_CACHE
from cascade.spec.task import Task

#: Identifies equal calls: a policy and its key.
_Flight = tuple[CachePolicy, Hashable]
_Place = tuple[Segment, LazyResult[Any]]


class Caches:
    """The active cached nodes of one run; equal calls are made once.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._lock = parts.lock
        self._reports = parts.reports
        self._nodes = parts.nodes
        #: Notes which entries nodes have; None if no cache of the graph asks for it.
        self._pruning: Pruning | None = parts.made("pruning")
        #: Cached call that is under way → the address of its value.
        self._flights: dict[_Flight, Address] = {}

    def finds(self, work: Work) -> bool:
        """Whether the value of a node that is about to be called comes from elsewhere.

        That is the cache, or an equal active call. Otherwise the value will be kept when the node
        has one.

        Raises:
            Exception: The policy raised it.
        """
        cache = work.policies.cache
        assert cache is not None

        def report(outcome: Any) -> Any:
            return self._reports.taken_over(work, outcome)

        return self.finds_call(work.segment, work.node, cache, arguments_by_name(work), report)

    def finds_call(
        self,
        segment: Segment,
        node: LazyResult[Any],
        cache: CachePolicy,
        arguments: Mapping[str, Any],
        report: Callable[[Any], Any] | None,
    ) -> bool:
        """The same; ``report`` is told the outcome of a node that gets it from elsewhere."""
        assert isinstance(node.task, Task)
        if cache is ENGINES_CACHE:
            if self._parts.run.cache is None:
                return False
            cache = self._parts.run.cache
        try:
            flight = cache, cache.key(node.task, arguments)
        except REPLACED as error:
            raise carried(cache.key, error) from error
        keep = partial(self._keep, flight, arguments, segment, node)
        with self._lock:
            address, count = self._nodes.address(segment, node), len(self._flights)
            under_way = self._flights.setdefault(flight, address)
            if len(self._flights) == count:
                if report is not None:
                    self._watch((segment, node), report)
                self._nodes.take_over(under_way, segment, node)
                return True
            place = address.place
            self._watch(place, keep)
        try:
            found, value = cache.load(flight[1], arguments)
        except BaseException as error:
            with self._lock:
                self._land(flight, place, keep)
            if isinstance(error, REPLACED):
                raise carried(cache.load, error) from error
            raise
        if not found:
            return False
        with self._lock:
            self._land(flight, place, keep)
            if self._pruning is not None:
                self._pruning.note(node, flight[1])
            if report is not None:
                report(value)
            self._nodes.settle(segment, node, value)
            return True

    def _land(self, flight: _Flight, place: _Place, keep: Callable[[Any], Any]) -> None:
        """Undo what was noted for a call that is not made."""
        del self._flights[flight]
        watchers = self._nodes.watched[place]
        watchers.remove(keep)
        if not watchers:
            del self._nodes.watched[place]

    def _watch(self, place: _Place, then: Callable[[Any], Any]) -> None:
        self._nodes.watched.setdefault(place, []).append(then)

    def _keep(
        self,
        flight: _Flight,
        arguments: Mapping[str, Any],
        segment: Segment,
        node: LazyResult[Any],
        outcome: Any,
    ) -> Any:
        """Keep the value of a node, if it has one: failures and skips are not kept."""
        cache, key = flight
        del self._flights[flight]
        if isinstance(outcome, Missing):
            return outcome
        try:
            cache.save(key, arguments, outcome)
            if self._pruning is not None:
                self._pruning.note(node, key)
        except (Exception, CancelledError) as error:
            told: Any = carried(cache.save, error)
            return self._parts.failures.not_kept(told, segment, node)
        return outcome
