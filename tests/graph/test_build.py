"""``build_graph``: the contents of a graph, their order, and refusals."""

import sys
from collections import Counter
from graphlib import CycleError as StdlibCycleError
from graphlib import TopologicalSorter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.graph.flows import join, load, pair
from tests.graph.programs import programs

from cascade.graph.build import build_graph, inputs_of
from cascade.spec.errors import CycleError, DefinitionError
from cascade.spec.lazy_types import LazyResult, gather
from cascade.spec.params import Param
from cascade.spec.routing import Router
from cascade.spec.task import task


def named(name: str) -> LazyResult:
    """A node of this name."""
    return task(name=name)(join.func)()


def chain(length: int) -> LazyResult:
    lazy = load()
    for _ in range(length - 1):
        lazy = load(lazy)
    return lazy


def inputs_and_routes(lazy):
    routes = lazy.routes.values() if isinstance(lazy, Router) else ()
    return [*inputs_of(lazy), *(route for route in routes if isinstance(route, LazyResult))]


def reachable(target, inputs):
    found, waiting = {target}, [target]
    while waiting:
        fresh = set(inputs(waiting.pop())) - found
        found |= fresh
        waiting += fresh
    return found


def check(graph, target, inputs=inputs_of):
    """Everything that a run relies on."""
    assert graph.target is target
    assert set(graph.lazies) == reachable(target, inputs)
    assert len(graph.lazies) == len(set(graph.lazies))
    assert all(graph.index[lazy] == i for i, lazy in enumerate(graph.lazies))
    uses = Counter(
        (graph.index[source], i) for i, lazy in enumerate(graph.lazies) for source in inputs(lazy)
    )
    assert all(source < user for source, user in uses)
    assert uses == Counter((i, user) for i, users in enumerate(graph.successors) for user in users)
    assert graph.waits == [len(inputs(lazy)) for lazy in graph.lazies]
    assert {(e.source, e.target) for e in graph.edges} <= set(uses)


# -- contents -------------------------------------------------------------------------------------


def test_a_single_node():
    lazy = load()
    graph = build_graph(lazy)

    assert list(graph.lazies) == [lazy]
    assert (graph.waits, graph.successors) == ([0], [[]])


def test_a_shared_node_is_there_once():
    """R3."""
    shared = load()
    target = join(pair(shared), pair(shared), [shared])
    graph = build_graph(target)

    assert len(graph) == 5
    assert len(graph.successors[graph.index[shared]]) == 3


def test_a_diamond_of_a_hundred_levels():
    lazy = load()
    for _ in range(100):
        lazy = pair(lazy, pair(lazy))

    assert len(build_graph(lazy)) == 201


def test_nodes_that_the_target_does_not_need_are_left_out():
    source = load()
    pair(source)

    assert len(build_graph(join(source))) == 2


def test_conditions_and_predecessors_are_needed():
    """R6, M16: a skipped node's inputs run, and so do its condition and its predecessors."""
    a, b, c = load(), load(), load()
    graph = build_graph(join(a).run_if(b).after(c, c))

    check(graph, graph.target)
    assert len(graph) == 4
    assert graph.waits[-1] == 4


def test_unchosen_routes_are_not_there_unless_asked_for():
    """R7, M16."""
    small, large = pair(load()), pair(load())
    router = Router(selector=load(), routes={"s": small, "l": large, "n": 3})
    target = join(router)

    check(build_graph(target), target)
    assert len(build_graph(target)) == 3
    check(build_graph(target, routes=True), target, inputs_and_routes)
    assert len(build_graph(target, routes=True)) == 7


def test_a_route_with_other_users_is_part_of_the_graph():
    small = load()
    target = join(Router(selector="s", routes={"s": small}), small)

    assert len(build_graph(target)) == 3


def test_sources_and_maps_are_nodes():
    target = join(Param("p"), pair.map(a=gather(load())))

    check(build_graph(target), target)
    assert len(build_graph(target)) == 5


@given(programs(amounts=True), st.booleans())
def test_the_order_is_topological_and_the_counts_agree(program, routes):
    target = program[-1]

    check(build_graph(target, routes=routes), target, inputs_and_routes if routes else inputs_of)


@given(programs(policies=False))
def test_without_younger_edges_the_order_is_that_of_creation(program):
    graph = build_graph(program[-1])
    numbers = [lazy.number for lazy in graph.lazies]

    assert numbers == sorted(numbers)


def test_building_changes_nothing():
    target = join(load(), [load()])
    first, second = build_graph(target), build_graph(target)

    assert first.lazies == second.lazies
    assert first.successors == second.successors


# -- younger edges --------------------------------------------------------------------------------


def test_an_edge_to_a_younger_node_is_honoured():
    """R6: ``after`` and ``run_if`` may name younger nodes."""
    first = named("first")
    second, third = named("second"), named("third")
    target = join(first, second)
    first.after(second)
    second.run_if(third)
    graph = build_graph(target)

    check(graph, target)
    assert [lazy.name for lazy in graph.lazies] == ["third", "second", "first", "join"]


def test_the_general_order_stays_near_that_of_creation():
    lazies = [named(f"n{i}") for i in range(6)]
    target = join(*lazies)
    lazies[1].after(lazies[4])
    graph = build_graph(target)

    assert [lazy.name for lazy in graph.lazies] == ["n0", "n2", "n3", "n4", "n1", "n5", "join"]


def test_a_target_may_wait_for_a_node_created_later():
    target = join()
    later = load()
    graph = build_graph(target.after(later))

    assert list(graph.lazies) == [later, target]


def test_a_cycle_among_unneeded_nodes_is_not_an_error():
    stray, late = load(), load()
    stray.after(late)
    late.after(stray)

    assert len(build_graph(join(load()))) == 2


_edges = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from(["data", "after", "run_if"])),
    max_size=14,
)


@given(_edges)
def test_either_an_order_or_a_cycle_is_found(edges):
    """Against graphlib: a cycle is reported if and only if there is one, and it is one."""
    data: dict[int, list[int]] = {i: [] for i in range(8)}
    for source, user, kind in edges:
        if kind == "data" and source < user:
            data[user].append(source)
    lazies: list[LazyResult] = []
    for i in range(8):
        lazies.append(task(name=f"n{i}")(join.func)(*(lazies[s] for s in data[i])))
    for source, user, kind in edges:
        if kind != "data" and source != user:
            getattr(lazies[user], kind)(lazies[source])
    target = join(*lazies)
    inputs = {lazy: set(inputs_of(lazy)) for lazy in lazies}
    try:
        TopologicalSorter(inputs).prepare()
    except StdlibCycleError:
        with pytest.raises(CycleError) as caught:
            build_graph(target)
        cycle = [lazies[int(name[1:])] for name in caught.value.cycle]
        assert cycle[0] is cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(b in inputs[a] for a, b in pairwise(cycle))
    else:
        check(build_graph(target), target)


# -- cycles ---------------------------------------------------------------------------------------


def test_a_cycle_made_by_force_is_refused_and_named():
    a, b, c = named("alpha"), named("beta"), named("gamma")
    a.after(b)
    b.run_if(c)
    c.after(a)
    with pytest.raises(ValueError, match=r"^these nodes wait for each other, so none") as caught:
        build_graph(join(a))

    assert type(caught.value) is CycleError
    assert caught.value.cycle == ("alpha", "beta", "gamma", "alpha")
    places = [f"{lazy.name} ({lazy.callsite})" for lazy in (a, b, c, a)]
    assert str(caught.value).endswith(" can start: " + " ← ".join(places))


def test_a_cycle_through_data_is_found():
    source = named("source")
    user = task(name="user")(join.func)(source)
    source.after(user)
    with pytest.raises(CycleError) as caught:
        build_graph(user)

    assert caught.value.cycle in [("source", "user", "source"), ("user", "source", "user")]


def test_a_cycle_forced_into_the_arguments_is_found():
    """Lazy values do not change, but nothing prevents writing into them."""
    a, b = named("a"), named("b")
    a._dependencies, b._dependencies = (b,), (a,)
    with pytest.raises(CycleError, match=r"a .* ← b .* ← a "):
        build_graph(a)
    a._dependencies = (a,)
    with pytest.raises(CycleError) as caught:
        build_graph(a)
    assert caught.value.cycle == ("a", "a")


def test_a_cycle_among_the_routes_is_found_where_they_are_drawn():
    router = Router(selector="s", routes={"s": load()})
    route = router.routes["s"]
    route.after(router)
    with pytest.raises(CycleError):
        build_graph(join(router), routes=True)


def test_a_long_cycle_is_cut_in_the_message_and_whole_in_the_error(many):
    lazies = [load() for _ in range(many)]
    for waiting, other in zip(lazies, [*lazies[1:], lazies[0]], strict=True):
        waiting.after(other)
    with pytest.raises(CycleError, match=rf"← … {many - 11} more … ←") as caught:
        build_graph(join(lazies[500]))

    assert len(caught.value.cycle) == many + 1
    assert len(str(caught.value)) < 2_000


def test_the_error_names_the_nodes_of_the_cycle_only():
    a, b = named("a"), named("b")
    a.after(b)
    b.after(a)
    with pytest.raises(CycleError) as caught:
        build_graph(join(pair(join(b))))

    assert set(caught.value.cycle) == {"a", "b"}


# -- size -----------------------------------------------------------------------------------------


def test_a_chain_of_many(many):
    graph = build_graph(chain(many))

    assert len(graph) == many
    assert graph.waits == [0] + [1] * (many - 1)
    assert graph.successors[:2] == [[1], [2]]


def test_a_chain_of_many_backwards(many):
    """The general order is iterative too."""
    lazies = [load() for _ in range(many)]
    for waiting, other in pairwise(lazies):
        waiting.after(other)
    graph = build_graph(lazies[0])

    assert list(graph.lazies) == lazies[::-1]


def test_a_task_of_many_arguments(many):
    lazies = [load() for _ in range(many)]
    graph = build_graph(join(*lazies))

    assert graph.waits[-1] == many
    assert list(graph.lazies[:-1]) == lazies


def test_the_work_grows_with_the_graph_and_not_faster():
    """Counted in calls of Python functions, not in seconds."""

    def calls_for(size: int) -> int:
        lazy = load()
        for _ in range(size):
            lazy = join(lazy, load(), lazy)
        count = 0

        def profile(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            build_graph(lazy)
        finally:
            sys.setprofile(before)
        return count

    assert calls_for(4_000) < 4.2 * calls_for(1_000) < 4.2 * 30_000


# -- known ----------------------------------------------------------------------------------------


def test_known_nodes_are_listed_outside_the_graph():
    below = load()
    known = pair(below)
    target = join(known, known, load())
    graph = build_graph(target, known={known}.__contains__)

    assert set(graph.lazies) == {target, target._dependencies[2]}
    assert list(graph.outside) == [(1, known), (1, known)]
    assert graph.waits == [0, 3]
    assert graph.successors == [[1], []]


def test_the_target_itself_is_entered_even_if_known():
    target = join(load())

    assert build_graph(target, known=lambda _: True).lazies == [target]


# -- misuse ---------------------------------------------------------------------------------------


def test_a_task_is_not_a_target():
    message = r"^task 'load' is not a lazy value; call it: load\(…\)$"
    with pytest.raises(DefinitionError, match=message):
        build_graph(load)


@pytest.mark.parametrize("target", [3, None, [load()], "load"])
def test_a_plain_value_is_not_a_target(target):
    with pytest.raises(
        TypeError, match=r"^expected a lazy value, as calling a task gives, but got "
    ):
        build_graph(target)
