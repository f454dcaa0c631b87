"""EngineParts: the parts of an engine that it lends to each of its runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cascade.runtime.elsewhere.executors import Elsewhere
from cascade.runtime.execution.abandoned import AbandonedCalls
from cascade.runtime.execution.early_calls import EarlyTasks
from cascade.runtime.execution.event_loop_calls import Patience
from cascade.runtime.execution.placement import Durations
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.middleware import Middlewares
from cascade.runtime.options import STEP_INTERVAL
from cascade.runtime.overriding import Overrides, overrides_now

if TYPE_CHECKING:
    from cascade.runtime.bus import MessageBus
    from cascade.runtime.diagnostics.blocking_calls import BlockingMonitor
    from cascade.runtime.execution.registry import BlueprintRegistry
    from cascade.runtime.resources.container import ResourceContainer
    from cascade.runtime.semantics.recording import Record
    from cascade.spec.caching import CachePolicy
    from cascade.spec.protocols import Executor


def _unlimited() -> ConstraintManager:
    return ConstraintManager(Capacities())


@dataclass(slots=True, kw_only=True)
class EngineParts:
    """The parts of an engine that a run uses. Without an engine, a run has parts of its own.

    Attributes:
        bus: Publishes the events.
        threads: Lends the threads for plain functions.
        container: Opens resources.
        blueprints: The targets of ``TailCall(target_blueprint_id=…)``.
        record: Called with each node and its outcome, or None.
        abandoned: Counts plain calls whose run no longer waits for them (M8).
        monitor: Looks for calls that block the event loop; None if nothing looks.
        durations: The functions that were slow in the event loop's thread (M6).
        patience: The targets for which short waits pay; None for no such waits.
        step_interval: Seconds between two StepsMade events, at least.
        constraints: The present rules, with their capacities; none by default.
        cache: That of tasks with ``pure=True``; None for no cache.
        early: The spare asyncio tasks of the event loop; None without an engine.
        elsewhere: Makes calls in other processes.
        middleware: The functions around each call; None if there are none.
        overrides: Other functions for tasks and nodes, in tests; None if there are none.
    """

    bus: MessageBus
    threads: Executor
    container: ResourceContainer
    blueprints: BlueprintRegistry
    record: Record | None = None
    abandoned: AbandonedCalls = field(default_factory=AbandonedCalls)
    monitor: BlockingMonitor | None = None
    durations: Durations = field(default_factory=Durations)
    patience: Patience | None = None
    step_interval: float = STEP_INTERVAL
    constraints: ConstraintManager = field(default_factory=_unlimited)
    cache: CachePolicy | None = None
    early: EarlyTasks | None = None
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    middleware: Middlewares | None = None
    overrides: Overrides | None = field(default_factory=overrides_now)
