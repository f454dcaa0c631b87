"""What a node was given besides its arguments (rules R6, R10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.retry import Retry


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

    def of_steps(self) -> CallPolicies | None:
        """Those that hold for each step of a loop, and not for the node as a whole."""
        if self.retry is None and self.timeout is None:
            return None
        return CallPolicies(self.retry, self.timeout)


#: No policies at all.
PLAIN_CALLS = CallPolicies()


class Policies:
    """What one node was given besides its arguments.

    Attributes:
        conditions: It runs only if all of these are truthy (R6).
        predecessors: These end first (R6).
        calls: How its calls are made (R10).
    """

    __slots__ = ("calls", "conditions", "predecessors")

    def __init__(self) -> None:
        self.conditions: tuple[LazyResult[Any], ...] = ()
        self.predecessors: tuple[LazyResult[Any], ...] = ()
        self.calls = PLAIN_CALLS

    @property
    def state(self) -> tuple[Any, ...]:
        """All of it, to see whether any has changed since."""
        return self.conditions, self.predecessors, self.calls
