"""The policies of a node: conditions, order, retries, timeouts, caches, capacities (R6, R10)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cascade.spec.errors import InternalError

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy
    from cascade.spec.retry import Retry

#: The type of nodes. LazyResult is defined above this module.
Node = TypeVar("Node")
_NOT_REPLACED: Final = "a run asked the stand-in for its engine's cache"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CallPolicies:
    """How the calls of one node are made; the node keeps this across tail calls (R10)."""

    #: Decides whether another attempt follows a failed one; None for never.
    retry: Retry | None = None
    #: Seconds that one attempt may take; None for no limit.
    timeout: float | None = None
    #: The cache of the node's value; None for none.
    cache: CachePolicy | None = None
    #: Whether an error of the node becomes its value, as for items of a map with
    #: ``return_exceptions=True``.
    catches: bool = False
    #: Name and amount of each capacity that an attempt takes; amounts are > 0.
    capacities: tuple[tuple[str, float], ...] = ()
    #: Nodes with a higher one get threads and capacities first (M24).
    priority: int = 0
    #: Seconds between two snapshots of its loop in a durable run; inf if nothing of the node is
    #: kept. None leaves it to the run (D4).
    checkpoint: float | None = None

    @property
    def needs_attempts(self) -> bool:
        """Whether a step of a loop may be repeated or time out, and so is more than a call."""
        return self.retry is not None or self.timeout is not None

    @property
    def repeats(self) -> bool:
        """Whether a failed attempt may be followed by another."""
        return self.retry is not None and self.retry.max_attempts > 1

    def changed(self, **changes: Any) -> CallPolicies:
        """A copy with other values of some fields; ``dataclasses.replace`` takes twice as long."""
        return CallPolicies(
            **{
                "retry": self.retry,
                "timeout": self.timeout,
                "cache": self.cache,
                "catches": self.catches,
                "capacities": self.capacities,
                "priority": self.priority,
                "checkpoint": self.checkpoint,
                **changes,
            }
        )

    def with_capacities(self, amounts: Mapping[str, float]) -> CallPolicies:
        """A copy with these amounts of capacities instead."""
        return self.changed(capacities=tuple(sorted([a for a in amounts.items() if a[1]])))


class EnginesCache:
    """Stands for the cache of the engine that runs a node, as for tasks with ``pure=True``.

    A run asks that cache instead, or none if the engine has none.
    """

    def key(self, task: Any, arguments: Mapping[str, Any]) -> Hashable:
        raise InternalError(_NOT_REPLACED)

    def load(self, key: Any, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        raise InternalError(_NOT_REPLACED)

    def save(self, key: Any, arguments: Mapping[str, Any], value: Any) -> None:
        raise InternalError(_NOT_REPLACED)

    def __repr__(self) -> str:
        return "<the engine's cache>"


ENGINES_CACHE: Final = EnginesCache()
#: No policies at all.
PLAIN_CALLS = CallPolicies()
#: The amounts of all nodes without lazy amounts; one shared object that never changes.
_NO_AMOUNTS: Final[Mapping[str, Any]] = {}


class Policies(Generic[Node]):
    """The policies of one node.

    Attributes:
        conditions: The node runs only if all of these are truthy (R6).
        predecessors: Nodes that end before it starts (R6).
        calls: How its calls are made (R10).
        amounts: Capacity → lazy amount that each attempt takes.
        keeps: Whether the value is kept until the run ends (M21).
        name: Part of the node's key; None for none.
    """

    __slots__ = ("amounts", "calls", "conditions", "keeps", "name", "predecessors")

    def __init__(self) -> None:
        self.conditions: tuple[Node, ...] = ()
        self.predecessors: tuple[Node, ...] = ()
        self.calls = PLAIN_CALLS
        self.amounts: Mapping[str, Node] = _NO_AMOUNTS
        self.keeps = False
        self.name: str | None = None

    @property
    def state(self) -> tuple[Any, ...]:
        """All fields, to detect a later change of any."""
        return self.conditions, self.predecessors, self.calls, dict(self.amounts)
