"""Graph, Node, Edge: their views of lazy values."""

import inspect

import pytest
from tests.graph.flows import join, load, pair

from cascade.graph.build import build_graph
from cascade.graph.model import Edge, EdgeKind, Node, NodeKind
from cascade.spec.lazy_types import gather
from cascade.spec.params import Env, Param
from cascade.spec.protocols import GraphNode, GraphView
from cascade.spec.routing import Router


def fits(node: GraphNode, graph: GraphView) -> bool:
    """For the checker: a graph is a GraphView."""
    return graph.nodes[node.index].name == node.name


def test_a_node_tells_about_its_lazy_value():
    source = load()
    target = pair(source, b=3)
    graph = build_graph(target)
    first, last = graph.nodes

    assert (first.index, last.index) == (0, 1)
    assert last.lazy is target
    assert last.id == target.id
    assert last.name == "pair"
    assert last.task is pair
    assert last.callable_obj is pair.func
    assert last.signature == inspect.signature(pair.func)
    assert last.callsite == target.callsite
    assert last.literal_inputs == {"b": 3}
    assert fits(last, graph)


def test_arguments_known_before_the_run_go_by_position_or_name():
    assert build_graph(join(1, load(), 3, k=4)).nodes[-1].literal_inputs == {"0": 1, "2": 3, "k": 4}


def test_the_nodes_that_cascade_adds_have_no_signature():
    assert build_graph(gather(1)).nodes[0].signature is None


@pytest.mark.parametrize(
    ("lazy", "kind"),
    [
        (load(), NodeKind.TASK),
        (gather(load()), NodeKind.CONTAINER),
        (load.map(path=[1]), NodeKind.MAP),
        (load() > 3, NodeKind.OPERATOR),
        (load()["key"], NodeKind.OPERATOR),
        (Router(selector=1, routes={1: 2}), NodeKind.ROUTER),
        (load().or_else(1), NodeKind.FALLBACK),
        (Param("p"), NodeKind.SOURCE),
        (Env("HOME"), NodeKind.SOURCE),
    ],
)
def test_a_node_is_of_a_kind(lazy, kind):
    assert build_graph(lazy).nodes[-1].kind is kind


def test_a_task_called_gather_is_a_task():
    from cascade.spec.task import task

    named = task(name="gather")(len)

    assert build_graph(named([])).nodes[0].kind is NodeKind.TASK


def test_every_edge_says_why_and_stands_with_the_node_it_leads_into():
    data, ready, first = load(), load(), load()
    target = join(data, [data]).run_if(ready).after(first)
    graph = build_graph(target)
    at = graph.index
    container = target._dependencies[1]

    assert graph.edges == [
        Edge(at[data], at[container], EdgeKind.DATA),
        Edge(at[data], at[target], EdgeKind.DATA, "*parts"),
        Edge(at[container], at[target], EdgeKind.DATA, "*parts"),
        Edge(at[ready], at[target], EdgeKind.CONDITION),
        Edge(at[first], at[target], EdgeKind.ORDER),
    ]


def test_two_uses_for_one_reason_are_one_edge_and_two_waits():
    """The run counts uses, drawings count reasons."""
    data = load()
    graph = build_graph(pair(data, data).run_if(data))

    assert [edge.kind for edge in graph.edges] == [EdgeKind.DATA, EdgeKind.CONDITION]
    assert graph.waits == [0, 3]
    assert graph.successors == [[1, 1, 1], []]


def test_routes_are_edges_where_they_are_part_of_the_graph():
    """R7."""
    small = load()
    router = Router(selector=load(), routes={"s": small, 2: "plain", (1, 2): small})
    graph = build_graph(router, routes=True)

    assert [(e.kind, e.label) for e in graph.edges] == [
        (EdgeKind.DATA, "selector"),
        (EdgeKind.ROUTER, "s"),
        (EdgeKind.ROUTER, "(1, 2)"),
    ]
    assert [edge.kind for edge in build_graph(router).edges] == [EdgeKind.DATA]


def test_lazy_fallbacks_are_edges_where_routes_are():
    """M26: a run does not wait for them."""
    lazy = load().or_else(pair(load()))
    mapped = load.map(path=[1], skipped=load())

    edges = build_graph(gather(lazy, mapped), routes=True).edges
    found = [(e.kind, e.label) for e in edges if e.kind is EdgeKind.FALLBACK]
    assert found == [(EdgeKind.FALLBACK, "skipped")] * 2
    kinds = {edge.kind for edge in build_graph(gather(lazy, mapped)).edges}
    assert kinds == {EdgeKind.DATA}
    assert not [e for e in build_graph(load().or_else(1), routes=True).edges if e.label]


def test_a_route_with_other_users_is_not_an_edge_of_the_router():
    """R7: the router does not wait for it, and it may even wait for the router."""
    small = load()
    router = Router(selector=load(), routes={"s": small})
    small.after(router)
    graph = build_graph(join(router, small))

    assert [e.kind for e in graph.edges if e.target == graph.index[router]] == [EdgeKind.DATA]
    assert all(edge.source < edge.target for edge in graph.edges)


def test_nodes_and_edges_are_made_once():
    graph = build_graph(pair(load()))

    assert graph.nodes is graph.nodes
    assert graph.edges is graph.edges
    assert graph.nodes[0] == Node(0, graph.lazies[0])


def test_a_graph_knows_its_size_and_its_target():
    target = pair(load())
    graph = build_graph(target)

    assert len(graph) == 2
    assert graph.target is target
    assert [graph.index[lazy] for lazy in graph.lazies] == [0, 1]


def test_every_kind_of_edge_has_a_name():
    assert {kind.value for kind in EdgeKind} == {
        "data",
        "condition",
        "order",
        "router",
        "fallback",
        "constraint",
    }
