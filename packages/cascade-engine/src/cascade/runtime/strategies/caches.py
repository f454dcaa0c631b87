"""Caches on the graph path: a node's value is looked for before its first call (rule R10)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from cascade.runtime.guard import Guard
from cascade.runtime.outcomes import Missing
from cascade.runtime.strategies.nodes import Nodes
from cascade.runtime.strategies.reports import Reports
from cascade.runtime.strategies.segment import Address, Segment, Work
from cascade.runtime.strategies.tailcalls import arguments_by_name
from cascade.spec.caching import CachePolicy
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task

#: Of equal calls: a policy and its key.
_Flight = tuple[CachePolicy, Hashable]


class Caches:
    """The cached nodes of one run that are under way; equal calls are made once."""

    def __init__(self, guard: Guard, nodes: Nodes, reports: Reports) -> None:
        self._guard = guard
        self._nodes = nodes
        self._reports = reports
        #: What is being computed, and where its value goes.
        self._flights: dict[_Flight, tuple[Address, str]] = {}
        self._kept: dict[tuple[Segment, LazyResult[Any]], tuple[_Flight, Mapping[str, Any]]] = {}

    def finds(self, work: Work) -> bool:
        """Whether the value of a node that is about to be called comes from elsewhere.

        From the cache, or from an equal call that is under way. If not, the value will be kept when
        the node has one.
        """
        cache = work.policies.cache
        assert cache is not None
        assert isinstance(work.operation, Task)
        arguments = arguments_by_name(work)
        key = cache.key(work.operation, arguments)
        place = (work.segment, work.node)
        with self._guard:
            under_way = self._flights.get((cache, key))
            if under_way is not None:
                address, name = under_way
                self._nodes.take_over(address, *place, work.operation.name, name)
                return True
            address = self._nodes.address(*place)
            self._flights[cache, key] = (address, work.operation.name)
            self._kept[place] = ((cache, key), arguments)
            self._nodes.watched.add(place)
        found, value = cache.load(key, arguments)
        if found:
            self._reports.cached(work)
            with self._guard:
                del self._kept[place]
                self._flights.pop((cache, key))
                self._nodes.watched.discard(place)
                self._nodes.settle(*place, value)
        return bool(found)

    def keep(self, segment: Segment, node: LazyResult[Any], value: Any) -> None:
        """Keep the value of a node that was not found; failures and skips are not kept."""
        flight, arguments = self._kept.pop((segment, node))
        cache, key = flight
        if not isinstance(value, Missing):
            cache.save(key, arguments, value)
        del self._flights[flight]
