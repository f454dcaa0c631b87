"""Stages: the order of ready items by the plan of the engine's solver."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.runtime.graph_path.segments import Queued, Work
from cascade.spec.lazy_types import LazyResult


class Stages:
    """The stages of nodes in the solver's plan; 0 for nodes outside the plan.

    Attributes:
        of_first: Stages of the first segment's nodes, which are queued without their segment.
    """

    def __init__(self) -> None:
        self.of_first: Mapping[LazyResult[object], int] = {}

    def of(self, item: Queued) -> int:
        """The stage of an item in the queue."""
        if not isinstance(item, tuple):
            return self.of_first.get(item, 0)
        segment, node = item
        node = node.node if isinstance(node, Work) else node
        return segment.priority.get(node, 0)
