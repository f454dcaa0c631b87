"""PageRank as an agent: a task that makes one step and tail-calls itself until the ranks converge.

A node's rank is the share of its time that a random reader spends there. The reader follows a
random link, or with probability ``1 - damping`` goes to any node. From a node without links (a
dangling one) the reader always goes to any node. One step, for every node i of n::

    rank[i] ← (1 - damping) / n
            + damping * (sum of rank[j] / links[j] over the j that link to i
                         + sum of rank[j] over the dangling j / n)

The start is ``1 / n`` everywhere. The residual, Σ |new rank - old rank|, shrinks by at least the
factor ``damping`` a step, so that 1e-10 takes at most 146 steps at the usual 0.85.

Source: Page, Brin, Motwani, Winograd 1999; dangling nodes as networkx treats them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cascade.spec.task import task
from cascade.spec.wording import short

N = TypeVar("N", bound=Hashable)


class Links(Generic[N]):
    """A directed graph, laid out for taking steps on it.

    Args:
        nodes: All nodes; duplicates count once.
        edges: (from, to). Duplicates count once; a link from a node to itself counts.

    Raises:
        ValueError: An edge has an end that is not among ``nodes``.

    >>> links = Links("abc", [("a", "b"), ("b", "c"), ("a", "b")])
    >>> links.out_degree
    [1, 1, 0]
    """

    # Not a container for the search for lazy values (R2), however large it is.
    __slots__ = ("dangling", "incoming", "nodes", "out_degree")

    def __init__(self, nodes: Iterable[N], edges: Iterable[tuple[N, N]]) -> None:
        self.nodes: tuple[N, ...] = tuple(dict.fromkeys(nodes))
        place = {node: i for i, node in enumerate(self.nodes)}
        #: For each node the places of the nodes that link to it.
        self.incoming: list[list[int]] = [[] for _ in self.nodes]
        #: For each node the number of its links.
        self.out_degree: list[int] = [0] * len(self.nodes)
        for edge in dict.fromkeys(edges):
            for end in edge:
                if end not in place:
                    raise ValueError(
                        f"the edge {short(edge)} leads outside: {short(end)} is not a node"
                    )
            source, target = place[edge[0]], place[edge[1]]
            self.incoming[target].append(source)
            self.out_degree[source] += 1
        #: The places of the nodes without links.
        self.dangling: list[int] = [i for i, count in enumerate(self.out_degree) if not count]

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<links among {len(self)} nodes>"


@dataclass(frozen=True, slots=True)
class Ranking(Generic[N]):
    """The result of ``pagerank``."""

    #: Node → rank, highest first; they add up to 1.
    ranks: dict[N, float]
    steps: int
    #: Σ |last change| over all nodes.
    residual: float


@task
def pagerank(
    links: Links[N],
    ranks: list[float] | None = None,
    *,
    damping: float = 0.85,
    tolerance: float = 1e-10,
    max_steps: int = 1000,
    steps: int = 0,
) -> Ranking[N]:
    """Rank the nodes of a graph, one step per tail call.

    Args:
        links: The graph, n nodes and m edges.
        ranks: The start, in the order of ``links.nodes``; uniform by default.
        damping: Probability of following a link, 0 ≤ damping < 1.
        tolerance: The run ends when the residual is below this.
        max_steps: Give up after this many; floats cannot meet a tolerance below about 1e-16.
        steps: Steps made so far.

    Raises:
        ValueError: ``damping`` or ``tolerance`` out of range.
        ArithmeticError: No residual below ``tolerance`` within ``max_steps``.

    Cost: O(n + m) a step.
    Guarantees: the same floats on the graph path and on the VM path.

    >>> from cascade.runtime.runners import run
    >>> ranking = run(pagerank(Links("abc", [("a", "c"), ("b", "c")])), use_vm=True)
    >>> {node: round(rank, 4) for node, rank in ranking.ranks.items()}
    {'c': 0.5745, 'a': 0.2128, 'b': 0.2128}
    """
    if ranks is None:
        _check(damping, tolerance)
        ranks = [1 / len(links) for _ in links.nodes]
    following = step(links, ranks, damping)
    residual = sum([abs(new - old) for new, old in zip(following, ranks, strict=True)])
    steps += 1
    if residual < tolerance:
        ordered = sorted(zip(links.nodes, following, strict=True), key=lambda pair: -pair[1])
        return Ranking(dict(ordered), steps, residual)
    if steps >= max_steps:
        raise ArithmeticError(
            f"after {steps} steps the ranks still change by {residual:.3g}, which is not below "
            f"the tolerance {tolerance:g}"
        )
    return pagerank.tail(ranks=following, steps=steps)


def step(links: Links[N], ranks: list[float], damping: float) -> list[float]:
    """The ranks after one step; see the module for the formula."""
    shares = [
        rank / degree if degree else 0.0
        for rank, degree in zip(ranks, links.out_degree, strict=True)
    ]
    lost = sum([ranks[i] for i in links.dangling])
    everywhere = ((1 - damping) + damping * lost) / len(links) if ranks else 0.0
    return [everywhere + damping * sum([shares[i] for i in sources]) for sources in links.incoming]


def _check(damping: float, tolerance: float) -> None:
    if not 0 <= damping < 1:
        raise ValueError(f"damping must be at least 0 and below 1, but is {short(damping)}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, but is {short(tolerance)}")
