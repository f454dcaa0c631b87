"""What a node was given besides its arguments (rules R6, R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult


class Policies:
    """What one node was given besides its arguments.

    Attributes:
        conditions: It runs only if all of these are truthy (R6).
        predecessors: These end first (R6).
    """

    __slots__ = ("conditions", "predecessors")

    def __init__(self) -> None:
        self.conditions: tuple[LazyResult[Any], ...] = ()
        self.predecessors: tuple[LazyResult[Any], ...] = ()
