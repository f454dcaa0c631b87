"""EngineBase: the members that the parts of an engine use of each other.

Several modules have the methods of an engine, by purpose. Each has a class that inherits from this
one; ``Engine`` inherits from all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cascade.runtime.bus import MessageBus
from cascade.runtime.durable.runs import Begin, DurableRuns
from cascade.runtime.engine_runs import EngineRuns
from cascade.runtime.execution.placement import Durations
from cascade.runtime.execution.registry import BlueprintRegistry
from cascade.runtime.handle import RunHandle
from cascade.runtime.lending import Lending
from cascade.runtime.limits.capacities import Capacities
from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.options import RunOptions, RunSettings
from cascade.runtime.resources.container import ResourceContainer
from cascade.runtime.run import Run
from cascade.runtime.semantics.recording import Record
from cascade.spec.blueprint import Blueprint
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import StateBackend


class EngineBase(ABC):
    """The members that each part of an engine can use; ``Engine`` sets and defines them."""

    blueprints: BlueprintRegistry
    capacities: Capacities
    constraints: ConstraintManager
    durations: Durations
    record: Record | None
    resource_container: ResourceContainer
    state_backend: StateBackend | None
    tier: Tier
    _bus: MessageBus
    _closed: bool
    _durable: DurableRuns | None
    _lending: Lending
    _runs: EngineRuns

    @abstractmethod
    def _check_open(self) -> None: ...

    @abstractmethod
    def _how(self, call: str, options: RunOptions) -> RunSettings: ...

    @abstractmethod
    def _beginning(self, how: RunSettings) -> Begin: ...

    @abstractmethod
    def _new_run(self, params: Mapping[str, Any] | None, how: RunSettings) -> Run: ...

    @abstractmethod
    def _start_stream(self, target: Any, params: Any, options: RunOptions) -> RunHandle[Any]: ...

    @abstractmethod
    def _compile(self, target: LazyResult[Any]) -> Blueprint: ...

    @abstractmethod
    def _machine(self, run: Run) -> Any: ...
