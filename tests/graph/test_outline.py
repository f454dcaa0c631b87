"""``dry_run``: the plan as an indented tree."""

import re
from collections import Counter

import pytest
from hypothesis import given
from tests.graph.flows import join, load, pair
from tests.graph.programs import programs

from cascade.graph.build import build_graph
from cascade.graph.model import Edge, EdgeKind
from cascade.graph.outline import dry_run, outline
from cascade.spec.errors import DefinitionError
from cascade.spec.lazy_types import gather
from cascade.spec.params import Param
from cascade.spec.routing import Router
from cascade.spec.task import task


def lines_of(target, **options) -> list[str]:
    """The lines of a plan, without the places in the source."""
    plan = str(dry_run(target, **{"lines": None, **options}))
    return [re.sub(r"  \([^ ]*:\d+\)", "", line) for line in plan.splitlines()]


def test_inputs_stand_under_the_node_that_uses_them():
    deep = pair(pair(load()))

    assert lines_of(join(load(), deep, load())) == [
        "6 nodes, 6 tasks",
        "join",
        "├─ load",
        "├─ load",
        "└─ pair",
        "   └─ pair",
        "      └─ load",
    ]


def test_every_kind_of_edge_has_words_of_its_own():
    """CONSTRAINT edges are made by hand: nothing builds them yet."""
    data, ready, first = load(), pair(1), pair(2)
    router = Router(selector=Param("size"), routes={"s": load(), "l": "plain"})
    graph = build_graph(join(data, router).run_if(ready).after(first), routes=True)
    target = len(graph) - 1
    graph.edges.append(Edge(graph.index[data], target, EdgeKind.CONSTRAINT))
    lines = [re.sub(r"  \([^ ]*:\d+\)", "", line) for line in outline(graph)]

    assert lines == [
        "7 nodes, 5 tasks",
        "join",
        "├─ load  [shared by 2]",
        "├─ if pair",
        "├─ after pair",
        "├─ amount load  [shown above]",
        "└─ router",
        "   ├─ route s: load",
        "   └─ param size",
    ]


def test_a_node_with_several_users_is_drawn_once():
    shared = pair(load())

    assert lines_of(join(pair(shared), shared)) == [
        "4 nodes, 4 tasks",
        "join",
        "├─ pair  [shared by 2]",
        "│  └─ load",
        "└─ pair",
        "   └─ pair  [shown above]",
    ]


def test_a_line_says_where_the_call_was_written():
    lazy = load()

    assert str(dry_run(lazy)) == f"1 node, 1 task\nload  ({lazy.callsite})"


def test_a_container_of_lazy_values_is_a_target():
    assert lines_of([load(), load()]) == [
        "3 nodes, 2 tasks",
        "gather",
        "├─ load",
        "└─ load",
    ]


@pytest.mark.parametrize("target", [3, [1, 2], load])
def test_dry_run_refuses_targets_that_are_not_lazy(target):
    with pytest.raises(DefinitionError):
        dry_run(target)


@pytest.mark.parametrize(("limit", "shown"), [(1, 1), (2, 2), (5, 5), (6, 6), (50, 6), (0, 1)])
def test_only_so_many_inputs_of_a_node_are_shown(limit, shown):
    lines = lines_of(join(*(load() for _ in range(6))), limit=limit)

    assert sum(line.endswith("load") for line in lines) == shown
    assert [line for line in lines if "…" in line] == [f"├─ … {6 - shown} more"] * (shown < 6)
    assert lines[-1] == "└─ load"


def test_a_chain_of_many_takes_as_many_lines(many):
    """Indentation ends at some level, or the text would grow as the square."""
    lazy = load()
    for _ in range(many - 1):
        lazy = pair(lazy)
    lines = lines_of(lazy)

    assert len(lines) == many + 1
    assert lines[-1].strip() == "↳ load"
    assert max(map(len, lines)) < 200
    assert lines[24:27] == [" " * 66 + "└─ pair", " " * 69 + "└─ pair", " " * 72 + "↳ pair"]


def test_many_arguments(many):
    target = join(*(load() for _ in range(many)))

    assert len(lines_of(target)) == 53


def test_a_larger_limit_shows_all_inputs():
    target = join(*(load() for _ in range(1_000)))

    assert len(lines_of(target, limit=1_000)) == 1_002


def test_a_deep_ladder_is_drawn_in_lines_of_bounded_length():
    """A shared state, ``x = f(x, g(x))``, is reached by the shorter way first."""
    lazy = load()
    for _ in range(5_000):
        lazy = pair(lazy, gather(lazy))
    lines = lines_of(lazy)

    assert sum("shown above" in line for line in lines) == 5_000
    assert max(map(len, lines)) < 200


def test_levels_that_are_not_the_deepest_input_end_too():
    deep = load()
    for _ in range(40):
        deep = pair(deep)
    lazy = load()
    for _ in range(40):
        lazy = pair(lazy, deep)
    lines = lines_of(lazy)

    assert sum(line.endswith("pair  [shown above]") for line in lines) == 39
    assert max(map(len, lines)) < 200


@given(programs(amounts=True))
def test_every_node_is_drawn_once_and_every_edge_has_a_line(program):
    target = program[-1]
    graph = build_graph(target, routes=True)
    lines = list(outline(graph, limit=10_000))
    drawn = [line for line in lines[1:] if "[shown above]" not in line]

    assert len(drawn) == len(graph)
    assert len(lines) - 2 == len(graph.edges)
    names = Counter(re.sub(r"^[│├└─ ↳]*", "", re.sub(r"  \(.*", "", line)) for line in drawn)
    prefixes = r"(if |after |amount |route \w+: )"
    names = Counter(re.sub(f"^{prefixes}", "", name) for name in names.elements())
    assert names == Counter(node.name for node in graph.nodes)


def test_dry_run_prints_nothing_by_itself(capsys):
    assert repr(dry_run(load())) == "<plan of load: 1 node>"
    assert capsys.readouterr().out == ""


def test_a_long_plan_is_cut_and_says_so():
    lazy = load()
    for _ in range(2000):
        lazy = join(lazy, 1)
    printed = str(dry_run(lazy)).splitlines()
    assert len(printed) == 1001
    assert printed[-1] == "… 1002 more lines; lines=None shows all"
    assert len(str(dry_run(lazy, lines=None)).splitlines()) == 2002


def test_a_wide_plan_is_whole_without_a_limit():
    plan = dry_run([load() for _ in range(100)], limit=None)
    assert len(str(plan).splitlines()) == 102


def test_calls_in_other_processes_are_marked():
    there = task(name="there", mode="process")(lambda x: x)
    inside = task(name="inside", mode="inline")(lambda x: x)
    target = there(inside(load()))

    assert [line.endswith("[process]") for line in str(dry_run(target)).splitlines()] == [
        *(False, True, False, False)
    ]
    assert str(dry_run(target, executor="dask://host:1")).count("[dask]") == 2
    plan = str(dry_run(target, executor="process")).splitlines()
    assert [line.endswith("[process]") for line in plan] == [False, True, False, True]


def test_maps_in_other_processes_are_marked():
    there = task(name="there", mode="process")(lambda x: x)
    here = task(name="here")(lambda x: x)
    assert str(dry_run(there.map(x=[1, 2]))).splitlines()[1].endswith("[process]")
    assert "[" not in str(dry_run(here.map(x=[1, 2])))
    assert str(dry_run(here.map(x=[1]), executor="process")).splitlines()[1].endswith("[process]")
