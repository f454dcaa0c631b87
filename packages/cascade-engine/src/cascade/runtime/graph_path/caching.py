"""Caches on the graph path: a node's value is looked up before its first call (rule R10)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from cascade.runtime.graph_path.segments import Address, Segment, Work, arguments_by_name
from cascade.runtime.graph_path.surroundings import Surroundings
from cascade.runtime.semantics.outcomes import Missing
from cascade.spec.caching import CachePolicy
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task

#: Identifies equal calls: a policy and its key.
_Flight = tuple[CachePolicy, Hashable]
_Place = tuple[Segment, LazyResult[Any]]


class Caches:
    """The active cached nodes of one run; equal calls are made once.

    Args:
        around: The other parts of the run.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._lock = around.lock
        self._reports = around.reports
        self._nodes = around.nodes
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
        assert isinstance(work.operation, Task)
        arguments = arguments_by_name(work)
        flight = cache, cache.key(work.operation, arguments)
        place = work.segment, work.node
        with self._lock:
            under_way = self._flights.get(flight)
            if under_way is not None:
                self._watch(place, lambda outcome: self._reports.taken_over(work, outcome))
                self._nodes.take_over(under_way, *place)
                return True
            address = self._nodes.address(*place)
            self._flights[flight] = address
        try:
            found, value = cache.load(flight[1], arguments)
        except BaseException:
            with self._lock:
                del self._flights[flight]
            raise
        with self._lock:
            if not found:
                self._watch(
                    address.place, lambda outcome: self._keep(flight, arguments, work, outcome)
                )
                return False
            del self._flights[flight]
            self._reports.taken_over(work, value)
            self._nodes.settle(*place, value)
            return True

    def _watch(self, place: _Place, then: Callable[[Any], Any]) -> None:
        self._nodes.watched.setdefault(place, []).append(then)

    def _keep(self, flight: _Flight, arguments: Mapping[str, Any], work: Work, outcome: Any) -> Any:
        """Keep the value of a node, if it has one: failures and skips are not kept."""
        cache, key = flight
        del self._flights[flight]
        if isinstance(outcome, Missing):
            return outcome
        try:
            cache.save(key, arguments, outcome)
        except Exception as error:
            return self._around.failures.not_kept(error, work.segment, work.node)
        return outcome
