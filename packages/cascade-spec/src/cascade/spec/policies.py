"""What a node was given besides its arguments (rules R6, R10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy
    from cascade.spec.retry import Retry

#: The type of nodes, which is defined above this module: LazyResult.
Node = TypeVar("Node")


@dataclass(frozen=True, slots=True)
class CallPolicies:
    """How the calls of one node are made; the node keeps this across tail calls (R10)."""

    #: When a failed attempt is followed by another; None for never.
    retry: Retry | None = None
    #: Seconds that one attempt may take; None for as long as it wants.
    timeout: float | None = None
    #: Where the node's value is looked for and kept; None for nowhere.
    cache: CachePolicy | None = None
    #: Whether an error of the node becomes its value, as for the items of a map that wants so.
    catches: bool = False
    #: What each attempt takes of the engine's capacities, by name; more than 0 of each.
    capacities: tuple[tuple[str, float], ...] = ()

    @property
    def needs_attempts(self) -> bool:
        """Whether each step of a loop is more than a call: it may be repeated, or take too long."""
        return self.retry is not None or self.timeout is not None

    def with_capacities(self, amounts: Mapping[str, float]) -> CallPolicies:
        """The same, with these amounts of capacities instead."""
        kept = tuple(sorted([item for item in amounts.items() if item[1]]))
        return CallPolicies(self.retry, self.timeout, self.cache, self.catches, kept)


#: No policies at all.
PLAIN_CALLS = CallPolicies()


class Policies(Generic[Node]):
    """What one node was given besides its arguments.

    Attributes:
        conditions: It runs only if all of these are truthy (R6).
        predecessors: These end first (R6).
        calls: How its calls are made (R10).
        amounts: Capacity → how much of it each attempt takes, where a node has to tell.
        keeps: Whether the value is kept until the run ends (M21).
    """

    __slots__ = ("amounts", "calls", "conditions", "keeps", "predecessors")

    def __init__(self) -> None:
        self.conditions: tuple[Node, ...] = ()
        self.predecessors: tuple[Node, ...] = ()
        self.calls = PLAIN_CALLS
        self.amounts: Mapping[str, Node] = {}
        self.keeps = False

    @property
    def state(self) -> tuple[Any, ...]:
        """All of it, to see whether any has changed since."""
        return self.conditions, self.predecessors, self.calls, dict(self.amounts)
