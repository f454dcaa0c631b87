"""Stages: the order of ready items by the plan of the engine's solver."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.graph.model import Graph
from cascade.runtime.graph_path.segments import Queued, Work
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import ExecutionPlan


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


def stages_of(plan: ExecutionPlan, graph: Graph) -> dict[LazyResult[object], int]:
    """The stages of the nodes of a graph, by the plan of the solver.

    Raises:
        ValueError: The plan leaves a node out.
    """
    stages = {graph.lazies[node.index]: stage for stage, nodes in enumerate(plan) for node in nodes}
    for lazy in graph.lazies:
        if lazy not in stages:
            raise ValueError(f"the solver's plan leaves out the node '{lazy.name}'")
    return stages
