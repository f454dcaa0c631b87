"""What drawings show besides boxes and arrows: arguments, counts, loops, SVG."""

import subprocess
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from tests.graph.flows import join, load, pair
from tests.graph.programs import programs

from cascade.graph.build import build_graph
from cascade.graph.model import NodeKind
from cascade.graph.pictures import graphviz
from cascade.graph.pictures.continuations import continuations
from cascade.graph.pictures.picture import CONTINUATION, TAIL, picture_of
from cascade.graph.states import NodeState
from cascade.graph.visualize import visualize
from cascade.spec.blueprint import TailCall
from cascade.spec.checkpoints import checkpoint
from cascade.spec.errors import DrawingError
from cascade.spec.lazy_types import gather
from cascade.spec.task import task


def arrows(target, **options):
    """The arrows, with the names of the boxes at their ends."""
    graph = build_graph(target, routes=True)
    picture = picture_of(graph, options.get("states", {}), options.get("limit", 10))
    names = {box.key: box.label for box in picture.boxes}
    return [(names[a.source], a.label, names[a.target]) for a in picture.arrows]


def ways(target):
    """The arrows for tail calls and loops of calls, with their kinds."""
    picture = picture_of(build_graph(target, routes=True), {}, 10)
    names = {box.key: box.label for box in picture.boxes}
    loops = [arrow for arrow in picture.arrows if arrow.kind in ("tail", "calls")]
    return [(names[a.source], a.kind, names[a.target]) for a in loops]


def boxes(target, states=None, limit=10):
    picture = picture_of(build_graph(target, routes=True), states or {}, limit)
    return [box.label for box in picture.boxes]


# -- arguments -------------------------------------------------------------------------------------


def test_an_arrow_has_the_name_of_its_argument():
    a, b = pair(1), load()

    assert arrows(pair(a, b)) == [("pair", "a", "pair"), ("load", "b", "pair")]
    assert arrows(pair(b=b, a=1)) == [("load", "b", "pair")]
    assert arrows(join(a, x=b)) == [("pair", "*parts", "join"), ("load", "x", "join")]


def test_one_input_may_feed_several_arguments():
    a = load()

    assert arrows(pair(a, a)) == [("load", "a, b", "pair")]
    assert arrows(join(a, a, a)) == [("load", "*parts", "join")]


def test_an_argument_in_a_container_is_named_where_the_container_is_used():
    assert arrows(pair([load(), 1])) == [("load", "", "gather"), ("gather", "a", "pair")]


def test_the_lists_of_a_map_have_names():
    assert arrows(pair.map(a=load(), b=[1, 2])) == [("load", "a", "pair.map")]
    folded = pair.map(a=load(), fold=max, initial=pair(0))
    assert arrows(folded) == [("load", "a", "pair.map"), ("pair", "initial", "pair.map")]


def test_operands_have_names_where_there_are_two():
    a, b = load(), pair(1)

    assert arrows(a - b) == [("load", "left", "sub"), ("pair", "right", "sub")]
    assert [label for _, label, _ in arrows(1 - a)] == [""]


def test_the_name_of_an_argument_is_escaped():
    @task
    def odd(**named): ...

    drawing = visualize(odd(**{'a"|<b>': load()}))
    assert '-->|"a#quot;|#lt;b>"|' in drawing


# -- counts ----------------------------------------------------------------------------------------


def test_a_map_has_the_number_of_its_items_where_it_is_known():
    assert boxes(pair.map(a=range(1000))) == ["pair.map × 1,000"]
    assert boxes(pair.map(a=load())) == ["load", "pair.map"]
    assert boxes(pair.map(a=load(), b=[1, 2])) == ["load", "pair.map"]
    assert boxes(pair.map(a=iter([1]), window=2)) == ["pair.map"]


def test_many_alike_calls_are_one_box():
    target = join([pair(load(str(i))) for i in range(11)])

    assert boxes(target) == ["load × 11", "pair × 11", "gather", "join"]
    assert arrows(target) == [
        ("load × 11", "a", "pair × 11"),
        ("pair × 11", "", "gather"),
        ("gather", "*parts", "join"),
    ]
    assert len(boxes(target, limit=11)) == len(boxes(target, limit=None)) == 24


def test_calls_with_different_inputs_or_users_are_not_alike():
    """The first twelve go to one user, the others to another."""
    loads = [load(str(i)) for i in range(24)]
    target = join(join(loads[:12]), pair(loads[12:]))
    assert boxes(target).count("load × 12") == 2

    shared = load()
    mixed = [pair(shared if i % 2 else load(str(i))) for i in range(24)]
    assert boxes(join(mixed))[:4] == ["load", "load × 12", "pair × 12", "pair × 12"]


def test_a_chain_that_a_loop_writes_is_drawn_call_by_call():
    lazy = load()
    for _ in range(20):
        lazy = pair(lazy)

    assert boxes(lazy) == ["load"] + ["pair"] * 20


def test_calls_of_other_places_are_not_alike():
    first, second = [load() for _ in range(12)], [load() for _ in range(12)]

    assert boxes(gather(*first, *second)) == ["load × 12", "load × 12", "gather"]


@pytest.mark.parametrize(
    ("states", "label", "state"),
    [
        (["finished"] * 12, "load × 12\nfinished", "finished"),
        (["finished"] * 11 + ["failed"], "load × 12\nfailed\n1 failed, 11 finished", "failed"),
        (["running"] * 2, "load × 12\nrunning\n2 running", "running"),
        ([], "load × 12", None),
    ],
)
def test_alike_calls_have_the_state_that_matters_most(states, label, state):
    lazies = [load() for _ in range(12)]
    known = {lazy.number: NodeState(word, 1.0) for lazy, word in zip(lazies, states, strict=False)}

    box = picture_of(build_graph(gather(*lazies)), known, 10).boxes[0]
    assert (box.label, box.state) == (label, state)


def test_alike_calls_show_the_reason_of_the_first_that_failed():
    lazies = [load() for _ in range(12)]
    known = {lazy.number: NodeState("finished") for lazy in lazies}
    known[lazies[5].number] = NodeState("failed", 0.1, "OSError: no disk")

    box = picture_of(build_graph(gather(*lazies)), known, 10).boxes[0]
    assert box.label == "load × 12\nfailed\n1 failed, 11 finished: OSError: no disk"


@given(programs(amounts=True))
def test_groups_keep_every_node_and_stay_acyclic(program):
    graph = build_graph(program[-1], routes=True)
    picture = picture_of(graph, {}, 1)
    order = {box.key: place for place, box in enumerate(picture.boxes)}
    waits = [arrow for arrow in picture.arrows if arrow.kind != TAIL]

    assert all(arrow.source in order and arrow.target in order for arrow in picture.arrows)
    assert not any(arrow.source == arrow.target for arrow in waits)
    nodes = [box for box in picture.boxes if box.kind != CONTINUATION]
    # The number of a map is that of its items, so a map counts once.
    counts = [box.label.partition(" × ")[2] or "1" for box in nodes if ".map" not in box.label]
    maps = [node for node in graph.nodes if node.kind is NodeKind.MAP]
    assert sum(map(int, counts)) == len(graph) - len(maps)


# -- loops -----------------------------------------------------------------------------------------


@task
def ping(n):
    return checkpoint(pong.tail(n - 1)) if n else n


@task
def pong(n):
    if n > 100:
        return rest.tail(n)
    return ping.tail(n)


@task
def rest(n):
    return TailCall(kwargs={"n": n - 1}) if n else n


@task
def elsewhere(n):
    return TailCall(kwargs={"n": n}, target_blueprint_id="other")


class Walker:
    @task
    def walk(self, n):
        return self.walk.tail(n - 1) if n else n


def test_a_loop_is_an_arrow_from_a_task_to_itself():
    assert arrows(rest(3)) == [("rest", "", "rest")]
    assert arrows(Walker().walk(3)) == [("walk", "", "walk")]
    assert arrows(rest.map(n=[1, 2])) == [("rest.map × 2", "", "rest.map × 2")]
    assert arrows(elsewhere(3)) == arrows(load()) == []


def test_tasks_that_continue_as_each_other_are_a_circle():
    assert arrows(pair(ping(3))) == [
        ("ping", "a", "pair"),
        ("ping", "", "pong"),
        ("pong", "", "rest"),
        ("pong", "", "ping"),
        ("rest", "", "rest"),
    ]


@task
def fib(n):
    return pair(fib(n - 1), fib(n - 2)) if n > 1 else n


@task
def tree(node):
    return [branch(child) for child in node]


@task
def branch(node):
    return tree.map(node=node) if node else pair(1, 2)


@task
def forest(n):
    grown = rest(n)
    return pair(tree([[]]), grown)


class Walk:
    @task
    def on(self, n):
        return self.on(n - 1) if n else load()


def test_a_task_that_returns_a_call_of_itself_is_a_loop():
    assert ways(fib(3)) == [("fib", "calls", "fib")]
    assert ways(Walk().on(3)) == [("on", "calls", "on")]
    assert ways(tree([[]])) == [("tree", "calls", "branch"), ("branch", "calls", "tree")]
    assert ways(forest(3)) == [
        ("forest", "calls", "rest"),
        ("forest", "calls", "tree"),
        ("rest", "tail", "rest"),
        ("tree", "calls", "branch"),
        ("branch", "calls", "tree"),
    ]
    assert "n0 -. calls .-> n0\n    linkStyle 0 " in visualize(fib(1))
    assert 'n0 -> n0 [style=dashed color="#8250df" label="calls"]' in visualize(fib(1), "dot")


def test_a_local_variable_with_the_name_of_a_task_is_no_loop():
    @task
    def load_all(n):
        fib = [load + 1 for load in range(n)]
        return [tree + 1 for tree in fib]

    assert ways(load_all(3)) == []


def test_loops_of_closures_and_of_two_nodes_are_apart():
    @task
    def count(n):
        return count.tail(n - 1) if n else n

    drawing = visualize([count(1), count(2)])
    assert "    n0 -. tail .-> n0\n    n1 -. tail .-> n1\n    linkStyle 2,3 " in drawing
    dot = visualize(count(1), "dot")
    assert '    n0 -> n0 [style=dashed color="#8250df" label="tail"];' in dot


def test_a_long_series_of_tasks_is_followed_to_its_sixteenth():
    space = {"task": task}
    for n in range(40):
        exec(f"@task\ndef t{n}(x):\n    return t{n + 1}.tail(x)", space)

    assert len(continuations(space["t0"])) == 16
    assert len(boxes(space["t0"](1))) == 16


def test_the_code_of_a_task_is_not_run_to_find_its_loops():
    class Trap:
        @property
        def tail(self):
            raise AssertionError("looked up")

    trap = Trap()

    @task
    def work(n):
        return trap.tail(n)

    assert boxes(work(1)) == ["work"]


def test_a_built_in_function_has_no_loops():
    assert boxes(task(len)("x")) == ["len"]


# -- SVG -------------------------------------------------------------------------------------------

needs_graphviz = pytest.mark.skipif(
    not graphviz.has_graphviz(), reason="Graphviz is not installed: apt-get install graphviz"
)


@needs_graphviz
def test_svg_is_drawn_by_graphviz():
    drawing = visualize(pair(task(name='<b>"&')(load.func)()), "svg")
    root = ET.fromstring(drawing)

    assert drawing.language == "svg"
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(texts) == ['<b>"&', "a", "pair"]


@needs_graphviz
def test_a_refusal_of_graphviz_is_an_error_with_its_words():
    with pytest.raises(DrawingError, match=r"dot has failed with exit status 1: .*syntax error"):
        graphviz.svg_of("digraph {")


def test_without_graphviz_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DrawingError, match=r"needs Graphviz.* apt-get install graphviz"):
        visualize(load(), "svg")


def test_a_graphviz_that_does_not_end_is_an_error(monkeypatch):
    def run(*args, timeout, **options):
        raise subprocess.TimeoutExpired(args, timeout)

    monkeypatch.setattr(graphviz.shutil, "which", lambda name: name)
    monkeypatch.setattr(graphviz.subprocess, "run", run)
    with pytest.raises(DrawingError, match=r"^Graphviz took longer than 5 s to draw the graph$"):
        graphviz.svg_of("digraph {}", 5.0)


def test_a_graphviz_that_cannot_be_started_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(graphviz.shutil, "which", lambda _name: str(tmp_path))
    with pytest.raises(DrawingError, match=r"cannot be started: "):
        graphviz.svg_of("digraph {}")
