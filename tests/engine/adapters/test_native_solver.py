"""NativeSolver: stages by the longest way from a leaf."""

import cascade as cs
from cascade.adapters.solvers.native import NativeSolver
from cascade.graph.build import build_graph


def named(name):
    @cs.task(name=name)
    def node(*_): ...

    return node


a, b, c, d, e = map(named, "abcde")


def stages(target):
    return [[n.name for n in stage] for stage in NativeSolver().resolve(build_graph(target))]


def test_a_node_is_one_stage_after_the_latest_of_its_inputs():
    leaf = a()
    middle = b(leaf)

    assert stages(d(leaf, middle, c(middle), e())) == [["a", "e"], ["b"], ["c"], ["d"]]


def test_order_and_conditions_count_as_inputs():
    first = a()

    assert stages(c(b().after(first)).run_if(d(first))) == [["a"], ["b", "d"], ["c"]]


def test_a_single_node():
    assert stages(a()) == [["a"]]


def test_it_is_deterministic():
    target = e(*[c(b(a()), d()) for _ in range(20)])

    assert stages(target) == stages(target)


def test_it_is_iterative():
    lazy = a()
    for _ in range(5000):
        lazy = a(lazy)

    assert len(stages(lazy)) == 5001


def test_it_tells_that_its_order_is_the_graphs_own():
    """So that the engine need not ask for a plan."""
    assert NativeSolver.in_order
