"""What a node was given besides its arguments (rules R6, R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.retry import Retry


class Policies:
    """What one node was given besides its arguments.

    Attributes:
        conditions: It runs only if all of these are truthy (R6).
        predecessors: These end first (R6).
        retry: When a failed attempt is followed by another; None for never.
    """

    __slots__ = ("conditions", "predecessors", "retry")

    def __init__(self) -> None:
        self.conditions: tuple[LazyResult[Any], ...] = ()
        self.predecessors: tuple[LazyResult[Any], ...] = ()
        self.retry: Retry | None = None
