"""The PageRank agent: right, whatever the graph, and the same on both paths."""

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascade as cs
from cascade.observatory.agents.pagerank import Links, Ranking, pagerank

NODES = st.integers(0, 11)
# Dangling nodes, self loops, repeated edges and unconnected parts are all ordinary here.
GRAPHS = st.tuples(st.integers(1, 12), st.lists(st.tuples(NODES, NODES), max_size=60)).map(
    lambda drawn: (range(drawn[0]), [(a % drawn[0], b % drawn[0]) for a, b in drawn[1]])
)


def ranked_by_networkx(nodes, edges, damping=0.85):
    graph = networkx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    return networkx.pagerank(graph, alpha=damping, tol=1e-12, max_iter=500)


@settings(deadline=None)
@given(GRAPHS, st.sampled_from([0.0, 0.5, 0.85]))
def test_ranks_agree_with_networkx(graph, damping):
    nodes, edges = graph
    ranking = cs.run(pagerank(Links(nodes, edges), damping=damping), use_vm=True)

    assert ranking.ranks == pytest.approx(ranked_by_networkx(nodes, edges, damping), abs=1e-8)
    assert sum(ranking.ranks.values()) == pytest.approx(1)
    assert ranking.residual < 1e-10


@settings(deadline=None)
@given(GRAPHS)
def test_both_paths_give_the_same_floats(graph):
    """R5: a tail call means the same on the graph path and on the VM path."""
    agent = pagerank(Links(*graph))

    assert cs.run(agent) == cs.run(agent, use_vm=True)


def test_highest_rank_comes_first():
    ranking = cs.run(pagerank(Links("abc", [("a", "c"), ("b", "c"), ("c", "b")])), use_vm=True)

    assert list(ranking.ranks) == ["c", "b", "a"]


@pytest.mark.parametrize("use_vm", [False, True])
def test_an_empty_graph_has_an_empty_ranking(use_vm):
    assert cs.run(pagerank(Links("", [])), use_vm=use_vm) == Ranking({}, 1, 0)


@pytest.mark.parametrize("use_vm", [False, True])
def test_gives_up_after_max_steps(use_vm):
    links = Links("abc", [("a", "b"), ("b", "c")])

    with pytest.raises(ArithmeticError, match=r"^after 7 steps the ranks still change by "):
        cs.run(pagerank(links, tolerance=1e-300, max_steps=7), use_vm=use_vm)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"damping": 1.0}, r"^damping must be at least 0 and below 1, but is 1\.0"),
        ({"damping": -0.1}, r"^damping must be"),
        ({"tolerance": 0.0}, r"^tolerance must be above 0, but is 0\.0"),
        ({"tolerance": float("nan")}, r"^tolerance must be above 0"),
    ],
)
def test_parameters_that_cannot_converge_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        cs.run(pagerank(Links("a", []), **wrong), use_vm=True)


def test_an_edge_to_nowhere_is_refused():
    with pytest.raises(
        ValueError, match=r"^the edge \('a', 'z'\) leads outside: 'z' is not a node"
    ):
        Links("ab", [("a", "z")])
