"""RunParts: the parts of one graph run, each made when it is first used.

A run of a few nodes needs few of them, and making all of them takes longer than its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cascade.runtime.graph_path.biased_lock import BiasedLock
from cascade.runtime.graph_path.run_end import RunEnd
from cascade.runtime.graph_path.task_events import Reports
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.run import Run

if TYPE_CHECKING:
    from cascade.runtime.graph_path.compiled_loops.loop_driver import LoopDriver
    from cascade.runtime.graph_path.compiled_loops.loop_entries import LoopEntries
    from cascade.runtime.graph_path.dispatch import Dispatch
    from cascade.runtime.graph_path.lanes.after_call import AfterCall
    from cascade.runtime.graph_path.lanes.before_call import BeforeCall
    from cascade.runtime.graph_path.lanes.event_loop_lane import EventLoopLane
    from cascade.runtime.graph_path.lanes.fast_lane import FastLane
    from cascade.runtime.graph_path.lanes.held_calls import HeldCalls
    from cascade.runtime.graph_path.lanes.held_jobs import HeldJobs
    from cascade.runtime.graph_path.lanes.pump import Pump
    from cascade.runtime.graph_path.lanes.remote_lane import RemoteLane
    from cascade.runtime.graph_path.lanes.slow_lane import SlowLane
    from cascade.runtime.graph_path.lanes.staying import Staying
    from cascade.runtime.graph_path.lanes.timed_calls import TimedCalls
    from cascade.runtime.graph_path.lanes.wrapping import Wrapping
    from cascade.runtime.graph_path.node_rules.cache_waits import CacheWaits
    from cascade.runtime.graph_path.node_rules.caching import Caches
    from cascade.runtime.graph_path.node_rules.chains import Chains
    from cascade.runtime.graph_path.node_rules.commits import Commits
    from cascade.runtime.graph_path.node_rules.continuations import Continuations
    from cascade.runtime.graph_path.node_rules.failures import Failures
    from cascade.runtime.graph_path.node_rules.map_over_map import MapOverMap
    from cascade.runtime.graph_path.node_rules.missing_inputs import MissingInputs
    from cascade.runtime.graph_path.node_rules.pruning import Pruning
    from cascade.runtime.graph_path.node_rules.waits import Waits
    from cascade.runtime.graph_path.node_table import Nodes

#: The parts that other parts ask for only if they were used.
Rare: TypeAlias = Literal[
    "cache_waits",
    "caches",
    "commits",
    "dispatch",
    "driver",
    "event_loop_lane",
    "held_calls",
    "nodes",
    "pruning",
    "pump",
    "remote_lane",
    "staying",
    "waits",
]
#: Name of a part → its class, or another function that makes it from all parts.
Makers = Mapping[str, Callable[["RunParts"], Any]]


class RunParts:
    """The parts of one graph run, for each other.

    A part takes the parts that it always uses when it is made, and asks here for a rarer part
    whenever it needs that.

    Args:
        run: The run.
        makers: Makes the parts.
        tier: The tier for nodes that have proven to be loops.
        reports: Publishes the events of nodes; by default for the present subscribers.

    Attributes:
        run: The run.
        tier: As above.
        lock: Guards the nodes, their segments, and the bookkeeping of the lanes.
        reports: Publishes the events of nodes.
        end: The result or error of the run, and whether it is ending.
    """

    before_call: BeforeCall
    cache_waits: CacheWaits
    caches: Caches
    chains: Chains
    commits: Commits
    continuations: Continuations
    dispatch: Dispatch
    driver: LoopDriver
    entries: LoopEntries
    failures: Failures
    fast_lane: FastLane
    after_call: AfterCall
    missing_inputs: MissingInputs
    map_over_map: MapOverMap
    event_loop_lane: EventLoopLane
    held_calls: HeldCalls
    held_jobs: HeldJobs
    nodes: Nodes
    pruning: Pruning
    pump: Pump
    remote_lane: RemoteLane
    slow_lane: SlowLane
    staying: Staying
    timed_calls: TimedCalls
    waits: Waits
    wrapping: Wrapping

    _makers: Makers = MappingProxyType({})

    def __init__(
        self, run: Run, makers: Makers, tier: Tier = "auto", reports: Reports | None = None
    ) -> None:
        self.run = run
        self.tier: Tier = tier
        self.lock = BiasedLock()
        self.reports = reports or Reports(run)
        self.end = RunEnd(run)
        self._makers = makers

    if not TYPE_CHECKING:  # for type checkers the annotations above are all names that there are

        def __getattr__(self, name: str) -> Any:
            """The part ``name``, which was not used before. From any thread."""
            maker = self._makers.get(name)
            if maker is None:
                raise AttributeError(name)
            with self.lock:  # threads may need it at the same time
                parts = self.__dict__
                if name not in parts:
                    parts[name] = maker(self)
                return parts[name]

    def made(self, name: Rare) -> Any:
        """The part ``name``, or None if it was not used."""
        return self.__dict__.get(name)

    def let_go(self) -> None:
        """Drop all parts, many of which refer to this, so that no cycle needs the collector."""
        self.__dict__.clear()


class Part:
    """A part of a graph run, such as a lane or a rule; has the parts that most of them use.

    Args:
        parts: The parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._run, self._lock = parts.run, parts.lock
        self._reports, self._end = parts.reports, parts.end
        self._nodes, self._dispatch = parts.nodes, parts.dispatch
