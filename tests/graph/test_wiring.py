"""``wire`` finds the same as ``build_graph``, in the form for a run."""

import pytest
from hypothesis import given
from tests.graph.flows import join, load, pair
from tests.graph.programs import programs

from cascade.graph.build import build_graph, inputs_of
from cascade.graph.wiring import Several, users_of, wire
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import gather
from cascade.spec.params import Param


def check(target, known=None):
    """Compare with the graph; the wiring."""
    wiring, graph = wire(target, known), build_graph(target, known=known)
    outside = {lazy for _, lazy in graph.outside}
    assert set(wiring.nodes()) == set(graph.lazies)
    assert wiring.target is target
    assert set(wiring.outside) == outside
    assert wiring.ready == [lazy for lazy in graph.lazies if not inputs_of(lazy)]
    for lazy in graph.lazies:
        sources = inputs_of(lazy)
        assert wiring.waits.get(lazy, min(len(sources), 1)) == len(sources)
    for lazy in {*graph.lazies, *outside}:
        waiting = [user for user in graph.lazies for source in inputs_of(user) if source is lazy]
        assert sorted(map(id, users_of(wiring.users.get(lazy)))) == sorted(map(id, waiting))
    assert set(wiring.special) == {lazy for lazy in graph.lazies if lazy._special}
    return wiring


@given(programs(amounts=True))
def test_it_agrees_with_the_graph(program):
    check(program[-1])


@given(programs(amounts=True))
def test_it_agrees_on_the_nodes_outside_the_graph(program):
    others = inputs_of(program[-1])
    check(program[-1], set(others).__contains__)


def test_a_single_user_is_stored_without_a_list():
    """Most nodes have one, and a list for each would be half of all memory."""
    source = load("a")
    wiring = wire(join(source))
    assert wiring.users == {source: wiring.target}


def test_a_node_used_twice_by_one_waits_twice():
    source = load("a")
    wiring = wire(pair(source, source))
    assert isinstance(wiring.users[source], Several)
    assert wiring.waits == {wiring.target: 2}


def test_ready_nodes_are_in_the_order_of_creation():
    leaves = [load(str(n)) for n in range(50)]
    assert wire(gather(*reversed(leaves))).ready == leaves


def test_parameters_are_special():
    region = Param("region")
    assert wire(load(region)).special == [region]


def test_an_edge_to_a_younger_node_is_honoured():
    first = load("a")
    second = load("b")
    check(pair(first.after(second), second))


def test_a_cycle_is_refused_and_named():
    first = load("a")
    second = load("b").after(first)
    first.after(second)
    with pytest.raises(CycleError, match="wait for each other") as caught:
        wire(pair(first, second))
    assert set(caught.value.cycle) == {"load"}


def test_a_cycle_forced_into_the_arguments_is_found():
    first = load("a")
    second = join(first)
    first._dependencies = first.args = (second,)
    with pytest.raises(CycleError):
        wire(second)


def test_a_chain_of_a_hundred_thousand():
    """Without recursion, and without a count for nodes of one input."""
    target = load("a")
    for _ in range(99_999):
        target = join(target)
    wiring = wire(target)
    assert len(wiring.users) == 99_999
    assert wiring.waits == {}
