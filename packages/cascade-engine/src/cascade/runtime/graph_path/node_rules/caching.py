"""Caches on the graph path: a node's value is looked up before its first call (rule R10)."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Final, TypeAlias

from cascade.runtime.execution.carried_errors import REPLACED, carried
from cascade.runtime.graph_path.node_rules.cache_waits import CacheWaiter
from cascade.runtime.graph_path.node_rules.pruning import Pruning
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Address, Segment, Work
from cascade.runtime.semantics.outcomes import Missing
from cascade.spec.caching import CachePolicy, SharedCache
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS
from cascade.spec.policies import ENGINES_CACHE
from cascade.spec.task import Task

#: The calls of one cache that are under way, by their keys.
_Flights: TypeAlias = "dict[Hashable, Flight]"
#: A cache, as other runs share it, and its calls.
_Known: TypeAlias = "tuple[CachePolicy | None, SharedCache | None, _Flights]"


class Flight:
    """A cached call under way. Equal ones of the run take over its value.

    Attributes:
        cache, key, arguments: The cache, and the key and arguments of the call in it.
        flights: The calls of its cache.
        segment, node: The node that is called.
        address: The address of the node's value, once that is watched.
        keep: Keeps the value that comes there.
    """

    __slots__ = ("address", "arguments", "cache", "flights", "keep", "key", "node", "segment")

    keep: Callable[[Any], Any]

    def __init__(
        self,
        cache: CachePolicy,
        key: Hashable,
        arguments: Mapping[str, Any],
        segment: Segment,
        node: LazyResult[Any],
        flights: _Flights,
    ) -> None:
        self.cache = cache
        self.key = key
        self.arguments = arguments
        self.segment = segment
        self.node = node
        self.flights = flights
        self.address: Address | None = None


#: For a node that is not called: its value comes from a cache or another node.
FOUND: Final = object()


class Caches(Part):
    """The active cached nodes of one run; equal calls are made once.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        #: Notes which entries nodes have; None if no cache of the graph asks for it.
        self._pruning: Pruning | None = parts.made("pruning")
        self._flights: dict[CachePolicy, _Flights] = {}
        #: The cache that was asked last: hashing a policy takes a Python call.
        self._last: _Known = (None, None, {})
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
        segment, node, cache = work.segment, work.node, work.policies.cache
        assert cache is not None
        found = self.begin(segment, node, cache, work.args, work.kwargs, work, amounts)
        if type(found) is Flight:
            self.watch(found)
        return found is FOUND

    def begin(
        self,
        segment: Segment,
        node: LazyResult[Any],
        cache: CachePolicy,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        work: Work | None = None,
        amounts: Mapping[str, Any] = NO_KWARGS,
    ) -> object:
        """Ask the cache of a node that is about to be called.

        Returns:
            FOUND if the node is not called. Otherwise the call has to be made: after a Flight,
            ``settle`` must be called with its value, or ``watch`` before the node fails or goes on;
            after None, neither.

        Args:
            segment, node: The node.
            cache: Its cache.
            args, kwargs: Its arguments, with markers in place of resources.
            work: The work of the node, if its outcome is reported.
            amounts: Those of the call.

        Raises:
            Exception: The policy raised it.
        """
        run, task = self._run, node.task
        assert isinstance(task, Task)
        if run.overrides is not None:
            return None
        if cache is ENGINES_CACHE:
            if run.cache is None:
                return None
            cache = run.cache
        arguments = task.parameters.named(args, kwargs)
        try:
            key = cache.key(task, arguments)
        except REPLACED as error:
            raise carried(cache.key, error) from error
        last, shared, flights = self._last
        if cache is not last:
            _, shared, flights = self._last = self._known(cache)
        flight = Flight(cache, key, arguments, segment, node, flights)
        # Most calls have no equal, so only one that has takes the lock: ``setdefault`` is atomic.
        while (under_way := flights.setdefault(key, flight)) is not flight:
            if self._takes_over(under_way, segment, node, work):
                return FOUND
        try:
            if shared is None:
                return FOUND if self._loads(flight, work) else flight
            later = work or Work.called(segment, node, args, kwargs)
            return FOUND if self._finds_shared(flight, shared, work, later, amounts) else None
        except BaseException as error:
            self._land(flight)
            if isinstance(error, REPLACED):
                raise carried(cache.load, error) from error
            raise

    def _known(self, cache: CachePolicy) -> _Known:
        """A cache that was not asked last."""
        shared: SharedCache | None = getattr(cache, "shared", None) if self._shares else None
        return cache, shared, self._flights.setdefault(cache, {})

    def _takes_over(
        self, under_way: Flight, segment: Segment, node: LazyResult[Any], work: Work | None
    ) -> bool:
        """Whether a node gets the value of an equal call, which has not ended meanwhile."""
        with self._lock:
            if under_way.flights.get(under_way.key) is not under_way:
                return False
            if work is not None:
                report = partial(self._reports.taken_over, work)
                self._nodes.watched.setdefault((segment, node), []).append(report)
            source = under_way.address
            if source is None:
                source = self._nodes.address(under_way.segment, under_way.node)
            self._nodes.take_over(source, segment, node)
            return True

    def _finds_shared(
        self,
        flight: Flight,
        shared: SharedCache,
        work: Work | None,
        later: Work,
        amounts: Mapping[str, Any],
    ) -> bool:
        """Whether a node gets its value from a cache that other runs use, perhaps later."""
        if not self._missed and self._loads(flight, work):
            return True
        self.watch(flight)
        self._shared[flight.cache] = shared
        take = partial(self._loads, flight, work)
        waits = self._parts.cache_waits
        return waits.finds(CacheWaiter(waits, shared, flight.key, take, later, amounts))

    def _loads(self, flight: Flight, work: Work | None) -> bool:
        """Whether the cache has the value of a node, which then is settled."""
        found, value = flight.cache.load(flight.key, flight.arguments)
        self._missed = not found
        if not found:
            return False
        with self._lock:
            self._land(flight)
            if self._pruning is not None:
                self._pruning.note(flight.node, flight.key)
            if work is not None:
                self._reports.taken_over(work, value)
            self._nodes.settle(flight.segment, flight.node, value)
        return True

    def _land(self, flight: Flight) -> None:
        """Remove the notes about a call that is not made."""
        with self._lock:
            if flight.flights.get(flight.key) is not flight:
                return
            del flight.flights[flight.key]
            if flight.address is not None:
                place = flight.address.place
                watchers = self._nodes.watched[place]
                watchers.remove(flight.keep)
                if not watchers:
                    del self._nodes.watched[place]

    def watch(self, flight: Flight) -> None:
        """Keep the value that the node of a call will have: it goes on, or may fail."""
        with self._lock:
            flight.address = address = self._nodes.address(flight.segment, flight.node)
            flight.keep = partial(self._keep, flight)
            self._nodes.watched.setdefault(address.place, []).append(flight.keep)

    def _keep(self, flight: Flight, outcome: Any) -> Any:
        """Keep the value of a node that was watched, if it has one. Under the lock."""
        flight.flights.pop(flight.key, None)
        if not isinstance(outcome, Missing):
            return self._saved(flight, outcome)
        self._leave(flight)
        return outcome

    def settle(self, flight: Flight, value: Any) -> None:
        """Keep the value of a call that has it at once, and settle its node."""
        value = self._saved(flight, value)
        lock = self._lock
        if not lock.shared and lock.owner == (me := get_ident()):  # as in the fast lane
            lock.inside = me
            try:
                if not lock.shared:
                    flight.flights.pop(flight.key, None)
                    self._nodes.settle(flight.segment, flight.node, value)
                    return
            finally:
                lock.inside = 0
        with lock:
            flight.flights.pop(flight.key, None)
            self._nodes.settle(flight.segment, flight.node, value)

    def _saved(self, flight: Flight, value: Any) -> Any:
        """Save the value of a node; returns its outcome, which is a failure if that fails."""
        try:
            flight.cache.save(flight.key, flight.arguments, value)
            if self._pruning is not None:
                self._pruning.note(flight.node, flight.key)
        except (Exception, CancelledError) as error:
            told: Any = carried(flight.cache.save, error)
            with self._lock:
                return self._parts.failures.not_kept(told, flight.segment, flight.node)
        finally:
            if self._shared:
                self._leave(flight)
        return value

    def _leave(self, flight: Flight) -> None:
        """Let other runs make the call."""
        shared = self._shared.get(flight.cache)
        if shared is not None:
            shared.leave(flight.key)

    def close(self) -> None:
        """Let others make the calls that have not ended. At the end of the run."""
        for cache, flights in self._flights.items():
            if cache in self._shared:
                for key in flights:
                    self._shared[cache].leave(key)
            flights.clear()
        self._flights.clear()
        self._last = None, None, {}
