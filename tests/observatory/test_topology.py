"""``cascade.observatory.agents.topology``: which places see each other."""

from __future__ import annotations

import networkx
import pytest

from cascade.observatory.agents.topology import (
    NAMES,
    Topology,
    all_to_all,
    ring,
    small_world,
    topology_named,
    torus,
)


def graph_of(topology):
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(topology)))
    graph.add_edges_from((p, q) for p, seen in enumerate(topology.neighbours) for q in seen)
    return graph


def test_a_torus_is_the_periodic_grid():
    grid = networkx.grid_2d_graph(5, 5, periodic=True)
    expected = networkx.relabel_nodes(grid, {(r, c): 5 * r + c for r, c in grid})

    assert networkx.utils.graphs_equal(graph_of(torus(5)), expected)


def test_a_ring_is_the_lattice_of_watts_and_strogatz():
    expected = networkx.watts_strogatz_graph(12, 4, 0)

    assert networkx.utils.graphs_equal(graph_of(ring(12)), expected)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "all-to-all"])
@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_seeing_is_mutual_and_no_place_sees_itself(name, side):
    topology = topology_named(name, side, seed=3)

    for place, seen in enumerate(topology.neighbours):
        assert place not in seen
        assert len(set(seen)) == len(seen)
        assert all(place in topology.neighbours[other] for other in seen)


def test_a_small_world_has_as_many_links_as_the_torus_and_shorter_ways():
    lattice, world = graph_of(torus(20)), graph_of(small_world(20, seed=1))
    shared = len(set(lattice.edges) & set(world.edges))

    assert world.number_of_edges() == lattice.number_of_edges() == 800
    assert 0.85 < shared / 800 < 0.95  # a tenth of them lead elsewhere
    length = networkx.average_shortest_path_length
    assert length(world) < 0.75 * length(lattice)


def test_a_small_world_depends_on_its_seed_alone():
    assert small_world(8, seed=5).neighbours == small_world(8, seed=5).neighbours
    assert small_world(8, seed=5).neighbours != small_world(8, seed=6).neighbours


def test_degrees():
    assert all_to_all(10).degree == 9
    assert torus(5).degree == ring(9).degree == small_world(9, seed=2).degree == 4
    assert torus(1).degree == all_to_all(1).degree == 0


@pytest.mark.parametrize("topology", [all_to_all(5), Topology(5, [[*range(5)]] * 5)])
def test_a_listener_hears_each_flash_once(topology):
    listening = bytearray([1, 0, 0, 1, 1])

    assert sorted(topology.hearing([1], listening)) == [(0, 1), (3, 1), (4, 1)]
    assert sorted(topology.hearing([1, 2], listening)) == [(0, 2), (3, 2), (4, 2)]


def test_on_a_ring_only_neighbours_hear():
    assert sorted(ring(8).hearing([0, 3], bytearray(b"\1" * 8))) == [
        (1, 2), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1),
    ]  # fmt: skip


def test_invalid_topologies_are_refused():
    with pytest.raises(ValueError, match="no topology 'cube'; there are torus, ring, all-to-all"):
        topology_named("cube", 3, 1)
    with pytest.raises(ValueError, match="at least one place, but is to have 0"):
        Topology(0)
    with pytest.raises(ValueError, match="3 places, but neighbours of 1"):
        Topology(3, [[]])
