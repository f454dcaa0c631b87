"""Pruning: nodes whose values are in a cache before a run begins are not entered (R10).

With a cache that knows nodes by their plan keys (``cs.ByCode``), the values of nodes are known from
the graph alone. If the target is one of these, its value is all that is loaded. Otherwise the run
enters the nodes that are not, and the values of those that these need are loaded.

Which entry a node has is noted when it is looked up or saved, and kept when the run ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cascade.graph.build import inputs_of
from cascade.graph.plan_keys import plan_keys
from cascade.graph.wiring import Wiring, wire
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.run import Run
from cascade.spec.caching import CachePolicy, PlannedCache
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.policies import ENGINES_CACHE
from cascade.spec.task import Task

_log = logging.getLogger("cascade.cache")
_NONE: frozenset[str] = frozenset()


class _Known(NamedTuple):
    """A node whose value is in a cache."""

    cache: PlannedCache
    plan: Any


class Pruning(Part):
    """What caches know of one run's nodes before it begins.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._journal = parts.run.journal
        self._rest_of: Callable[..., Wiring] = wire
        #: Nodes with plan keys, inputs before users.
        self._keys: Mapping[LazyResult[Any], bytes] = {}
        self._hits: dict[LazyResult[Any], _Known] = {}
        #: Node → the key of its call, which has an entry.
        self._noted: dict[LazyResult[Any], Any] = {}

    def pruned(self, target: LazyResult[Any]) -> Wiring | None:
        """The graph of a run without the nodes whose values need not be computed; None if there
        are none of these.

        Raises:
            CycleError: Nodes wait for each other.
            StoreError: A cache cannot be used.
        """
        if self._journal is not None and self._journal.has(target):
            return None
        self._keys = plan_keys(target, self._head, self._run.params, self._ignored)
        if not self._keys:
            return None
        # In a durable run, this leaves out nodes with outcomes of earlier processes.
        self._rest_of, self._parts.nodes.wire = self._parts.nodes.wire, self._wire
        self._look_up([target])  # alone, because it is often all that is needed
        if target in self._hits:
            found, value = self._load(target)
            if found:
                return self._without_inputs(target, value)
        self._look_up(node for node in self._keys if node is not target)
        return self._with_values(target) if self._hits else None

    def note(self, node: LazyResult[Any], key: Any) -> None:
        """The call of a node has an entry, by this key."""
        if node in self._keys and getattr(key, "is_kept", False):
            self._noted[node] = key

    def close(self) -> None:
        """Keep which entries the nodes have had. At the end of the run."""
        if not self._noted:
            return
        ends = self._ends()
        kept: dict[PlannedCache, list[tuple[bytes, bytes, float | None]]] = {}
        for node, key in self._noted.items():
            cache = self._planned(node)
            if node in ends and cache is not None:
                kept.setdefault(cache, []).append((self._keys[node], key.digest, ends[node]))
        self._noted.clear()
        for cache, plans in kept.items():
            try:
                cache.keep_plans(plans)
            except Exception as error:  # the run has its value; the next one looks nodes up
                _log.warning("which entries nodes have cannot be kept: %s", error)

    # -- what caches know -----------------------------------------------------------------------

    def _head(self, task: Task[..., Any], cache: CachePolicy | None) -> bytes | None:
        planned = self._plans_of(cache)
        try:
            return None if planned is None else planned.head(task)
        except ArgumentError:
            return None  # raised again when the node is looked up

    def _ignored(self, cache: CachePolicy | None) -> frozenset[str]:
        planned = self._plans_of(cache)
        return _NONE if planned is None else planned.ignored

    def _plans_of(self, cache: CachePolicy | None) -> PlannedCache | None:
        return plans_of(self._run, cache)

    def _planned(self, node: LazyResult[Any]) -> PlannedCache | None:
        """The cache that has the value of a node as an entry."""
        if node._policies is None or not isinstance(node.task, Task):
            return None
        return self._plans_of(node._policies.calls.cache)

    def _look_up(self, nodes: Iterable[LazyResult[Any]]) -> None:
        """Find the entries of nodes."""
        wanted: dict[PlannedCache, dict[bytes, list[LazyResult[Any]]]] = {}
        for node in nodes:
            cache = self._planned(node) if node in self._keys else None
            if cache is not None:
                wanted.setdefault(cache, {}).setdefault(self._keys[node], []).append(node)
        for cache, by_plan in wanted.items():
            for plan, found in cache.find_plans(by_plan).items():
                self._hits.update(dict.fromkeys(by_plan[plan], _Known(cache, found)))

    def _load(self, node: LazyResult[Any]) -> tuple[bool, Any]:
        """The value of a hit; it is none any more if that is gone."""
        known = self._hits[node]
        found, value = known.cache.load_plan(known.plan)
        if not found:
            del self._hits[node]
        return found, value

    # -- the graph that is left -----------------------------------------------------------------

    def _wire(self, target: LazyResult[Any]) -> Wiring:
        return self._rest_of(target, self._hits.__contains__)

    def _without_inputs(self, target: LazyResult[Any], value: Any) -> Wiring:
        wiring = Wiring(target)
        wiring.done = {target: value}
        self._parts.reports.found(target)
        return wiring

    def _with_values(self, target: LazyResult[Any]) -> Wiring:
        """The graph of the nodes that are no hits, with the values of the hits that they need."""
        values: dict[LazyResult[Any], Any] = {}
        journal = self._journal
        while True:
            wiring = self._wire(target)
            stored = {n for n in wiring.outside if journal is not None and journal.has(n)}
            wanted = [n for n in wiring.outside if n not in values and n not in stored]
            if self._are_loaded(wanted, values):
                break
        wiring.done = {n: values[n] for n in wiring.outside if n in values}
        wiring.outside = [node for node in wiring.outside if node in stored]
        for node in wiring.done:
            self._parts.reports.found(node)
        return wiring

    def _are_loaded(
        self, nodes: Sequence[LazyResult[Any]], values: dict[LazyResult[Any], Any]
    ) -> bool:
        """Load the values of hits; those that are gone are none any more. Whether none was."""
        by_cache: dict[PlannedCache, dict[bytes, list[LazyResult[Any]]]] = {}
        for node in nodes:
            cache, plan = self._hits[node]
            by_cache.setdefault(cache, {}).setdefault(plan.key, []).append(node)
        for cache, by_key in by_cache.items():
            plans = [self._hits[same[0]].plan for same in by_key.values()]
            for key, value in cache.load_plans(plans):
                values.update(dict.fromkeys(by_key[key], value))
        gone = [node for node in nodes if node not in values]
        for node in gone:
            del self._hits[node]
        return not gone

    # -- for the next run -----------------------------------------------------------------------

    def _ends(self) -> dict[LazyResult[Any], float | None]:
        """Node whose value is kept, or made of kept ones → when the first of these ends."""
        ends: dict[LazyResult[Any], float | None] = {}
        for node in self._keys:
            if node in self._hits:
                ends[node] = self._hits[node].plan.expires
                continue
            own = None
            if self._planned(node) is not None:
                if node not in self._noted:
                    continue
                own = self._noted[node].ends
            elif isinstance(node, MappedLazyResult) and not self._items_last(node):
                continue
            inputs = inputs_of(node)
            if all(source in ends for source in inputs):
                times = (own, *(ends[source] for source in inputs))
                ends[node] = min((time for time in times if time is not None), default=None)
        return ends

    def _items_last(self, node: LazyResult[Any]) -> bool:
        """Whether the entries of a map's items do not end."""
        policies = node._policies
        cache = None if policies is None else self._plans_of(policies.calls.cache)
        return cache is not None and cache.lasts


def plans_of(run: Run, cache: CachePolicy | None) -> PlannedCache | None:
    """The part of a cache that can find values of nodes before a run; None without such a part."""
    if cache is ENGINES_CACHE:
        cache = run.cache
    if run.overrides is not None:
        return None
    return getattr(cache, "plans", None)
