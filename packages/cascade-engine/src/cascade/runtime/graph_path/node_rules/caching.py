"""Caches on the graph path: a node's value is looked up before its first call (rule R10)."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

from cascade.runtime.execution.carried_errors import REPLACED, carried
from cascade.runtime.graph_path.node_rules.cache_waits import CacheWaiter
from cascade.runtime.graph_path.node_rules.pruning import Pruning
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Address, Segment, Work, arguments_by_name
from cascade.runtime.semantics.outcomes import Missing
from cascade.spec.caching import CachePolicy, SharedCache
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.policies import ENGINES_CACHE
from cascade.spec.task import Task

#: Identifies equal calls: a policy and its key.
_Flight = tuple[CachePolicy, Hashable]
_Place = tuple[Segment, LazyResult[Any]]


class Caches(Part):
    """The active cached nodes of one run; equal calls are made once.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        #: Notes which entries nodes have; None if no cache of the graph asks for it.
        self._pruning: Pruning | None = parts.made("pruning")
        #: Cached call that is under way → the address of its value.
        self._flights: dict[_Flight, Address] = {}
        # A call that waits for such a run may hold what the other run needs; and no other process
        # takes part in virtual time.
        self._shares = not (parts.run.is_inner or parts.run.is_virtual)
        #: Whether the last value was not there. Then the next one is looked for when its call is
        #: claimed; otherwise before and after that.
        self._missed = False
        #: The caches with calls that other runs may wait for.
        self._shared: dict[CachePolicy, SharedCache] = {}

    def finds(self, work: Work, amounts: Mapping[str, Any]) -> bool:
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

        def later() -> Work:
            return work

        arguments = arguments_by_name(work)
        return self.finds_call(work.segment, work.node, cache, arguments, report, later, amounts)

    def finds_call(
        self,
        segment: Segment,
        node: LazyResult[Any],
        cache: CachePolicy,
        arguments: Mapping[str, Any],
        report: Callable[[Any], Any] | None,
        later: Callable[[], Work],
        amounts: Mapping[str, Any] = NO_KWARGS,
    ) -> bool:
        """The same.

        Args:
            report: Told the outcome of a node that gets it from elsewhere.
            later: Gives the work of a node that waits for another run.
            amounts: Those of the call.
        """
        flight = self._flight_of(node, cache, arguments)
        if flight is None:
            return False
        cache, _ = flight
        keep = partial(self._keep, flight, arguments, segment, node)
        address = self._own_address(flight, segment, node, report, keep)
        if address is None:
            return True
        place = address.place

        def take() -> bool:
            found, value = cache.load(flight[1], arguments)
            self._missed = not found
            if found:
                self._settle(flight, place, keep, (segment, node), value, report)
            return found

        try:
            shared: SharedCache | None = getattr(cache, "shared", None) if self._shares else None
            if (shared is None or not self._missed) and take():
                return True
            if shared is None:
                return False
            self._shared[cache] = shared
            waits = self._parts.cache_waits
            return waits.finds(CacheWaiter(waits, shared, flight[1], take, later(), amounts))
        except BaseException as error:
            with self._lock:
                if self._flights.get(flight) is address:
                    self._land(flight, place, keep)
            if isinstance(error, REPLACED):
                raise carried(cache.load, error) from error
            raise

    def _flight_of(
        self, node: LazyResult[Any], cache: CachePolicy, arguments: Mapping[str, Any]
    ) -> _Flight | None:
        """What identifies a call; None if the engine has no cache for it."""
        assert isinstance(node.task, Task)
        if self._parts.run.overrides is not None:
            return None
        if cache is ENGINES_CACHE:
            if self._parts.run.cache is None:
                return None
            cache = self._parts.run.cache
        try:
            return cache, cache.key(node.task, arguments)
        except REPLACED as error:
            raise carried(cache.key, error) from error

    def _own_address(
        self,
        flight: _Flight,
        segment: Segment,
        node: LazyResult[Any],
        report: Callable[[Any], Any] | None,
        keep: Callable[[Any], Any],
    ) -> Address | None:
        """The address of a node's value; None if it gets that of an equal active call."""
        with self._lock:
            address, count = self._nodes.address(segment, node), len(self._flights)
            under_way = self._flights.setdefault(flight, address)
            if len(self._flights) == count:
                if report is not None:
                    self._watch((segment, node), report)
                self._nodes.take_over(under_way, segment, node)
                return None
            self._watch(address.place, keep)
            return address

    def _settle(
        self,
        flight: _Flight,
        place: _Place,
        keep: Callable[[Any], Any],
        node: _Place,
        value: Any,
        report: Callable[[Any], Any] | None,
    ) -> None:
        """Give a node the value that the cache has."""
        with self._lock:
            self._land(flight, place, keep)
            if self._pruning is not None:
                self._pruning.note(node[1], flight[1])
            if report is not None:
                report(value)
            self._nodes.settle(*node, value)

    def _land(self, flight: _Flight, place: _Place, keep: Callable[[Any], Any]) -> None:
        """Remove the notes about a call that is not made."""
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
        try:
            if isinstance(outcome, Missing):
                return outcome
            cache.save(key, arguments, outcome)
            if self._pruning is not None:
                self._pruning.note(node, key)
        except (Exception, CancelledError) as error:
            told: Any = carried(cache.save, error)
            return self._parts.failures.not_kept(told, segment, node)
        finally:
            if cache in self._shared:
                self._shared[cache].leave(key)
        return outcome

    def close(self) -> None:
        """Let others make the calls that have not ended. At the end of the run."""
        for cache, key in self._flights:
            if cache in self._shared:
                self._shared[cache].leave(key)
        self._flights.clear()
