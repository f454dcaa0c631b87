"""NativeSolver: topological stages, by the longest path from a leaf."""

from __future__ import annotations

from cascade.spec.protocols import ExecutionPlan, GraphNode, GraphView


class NativeSolver:
    """Puts each node one stage after the latest of its inputs.

    A stage has the nodes that could run at the same time with unlimited threads. The engine uses
    stages as priorities: when two nodes are ready, the one of the earlier stage goes first.
    O(nodes + edges), deterministic.

    Attributes:
        in_order: Tells the engine that the plan adds nothing to the graph's own order, so that a
            run need not ask for one.
    """

    in_order = True

    def resolve(self, graph: GraphView) -> ExecutionPlan:
        level = [0] * len(graph.nodes)
        for index, users in enumerate(graph.successors):
            following = level[index] + 1
            for user in users:
                level[user] = max(level[user], following)
        stages: list[list[GraphNode]] = [[] for _ in range(max(level, default=-1) + 1)]
        for node in graph.nodes:
            stages[level[node.index]].append(node)
        return stages
