"""The contract of Solver: each node is in exactly one stage, after its inputs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.graph.build import build_graph
from cascade.spec.protocols import Solver


class OneByOne:
    """The protocol in as few lines as it takes: of the nodes that could start, the last one."""

    def resolve(self, graph):
        waits = [0] * len(graph.nodes)
        for users in graph.successors:
            for user in users:
                waits[user] += 1
        plan = []
        ready = [index for index, count in enumerate(waits) if not count]
        while ready:
            index = ready.pop(ready.index(max(ready)))
            plan.append([graph.nodes[index]])
            for user in graph.successors[index]:
                waits[user] -= 1
                if not waits[user]:
                    ready.append(user)
        return plan


SOLVERS = [NativeSolver, OneByOne]

pytestmark = pytest.mark.parametrize("make", SOLVERS)


class View:
    """The least that a GraphView has to be."""

    class Node:
        def __init__(self, index):
            self.index = index
            self.name = f"task {index}"

    def __init__(self, successors):
        self.nodes = [self.Node(i) for i in range(len(successors))]
        self.successors = successors


@st.composite
def views(draw):
    size = draw(st.integers(0, 12))
    return View(
        [
            draw(st.lists(st.integers(i + 1, size - 1), max_size=4)) if i + 1 < size else []
            for i in range(size)
        ]
    )


def test_it_is_a_solver(make):
    assert isinstance(make(), Solver)


@settings(deadline=None)
@given(view=views())
def test_every_node_is_in_one_stage_after_its_inputs(make, view):
    plan = make().resolve(view)

    stage = {node.index: i for i, nodes in enumerate(plan) for node in nodes}
    assert sum(map(len, plan)) == len(stage) == len(view.nodes)
    for index, users in enumerate(view.successors):
        assert all(stage[index] < stage[user] for user in users)


@settings(max_examples=20, deadline=None)
@given(view=views())
def test_the_same_graph_gives_the_same_plan(make, view):
    def indices():
        return [[node.index for node in stage] for stage in make().resolve(view)]

    assert indices() == indices()


def test_the_nodes_of_the_plan_are_the_graphs_own(make):
    @cs.task
    def add(*parts): ...

    graph = build_graph(add(add(), add(add())))

    assert {id(n) for stage in make().resolve(graph) for n in stage} == set(map(id, graph.nodes))


def test_a_graph_is_not_changed(make):
    view = View([[1, 2], [2], []])
    make().resolve(view)

    assert view.successors == [[1, 2], [2], []]


async def test_an_engine_starts_nodes_of_earlier_stages_first(make):
    """Among nodes that could start; a stage is no barrier. Also in a returned graph (R4)."""
    done = []

    @cs.task
    def leaf(name):
        done.append(name)

    @cs.task
    def join(*parts):
        return len(parts)

    @cs.task
    def returns():
        return join(*[leaf(f"returned {n}") for n in range(4)])

    target = join(*[leaf(n) for n in range(8)])
    stages = make().resolve(build_graph(target))
    order = [build_graph(target).lazies[node.index] for stage in stages for node in stage]
    async with cs.Engine(solver=make(), threads=InlineExecutor()) as engine:
        assert await engine.run(target) == 8
        assert done == [lazy.args[0] for lazy in order if lazy.name == "leaf"]
        assert await engine.run(returns()) == 4


async def test_an_engine_refuses_a_plan_that_leaves_a_node_out(make):
    class Forgetful(make):
        def resolve(self, graph):
            return list(super().resolve(graph))[:-1]

        in_order = False  # otherwise it would not be called

    @cs.task
    def add(a, b=0):
        return a + b

    async with cs.Engine(solver=Forgetful()) as engine:
        with pytest.raises(ValueError, match="the solver's plan leaves out the node 'add'"):
            await engine.run(add(add(1)))


async def test_an_engine_runs_with_it(make):
    @cs.task
    def add(a, b):
        return a + b

    async with cs.Engine(solver=make()) as engine:
        assert await engine.run(add(add(1, 2), add(3, 4))) == 10
