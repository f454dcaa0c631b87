"""What notebooks show of lazy values, graphs and blueprints, without a notebook."""

import subprocess

import pytest
from tests.graph.flows import join, load, pair

from cascade.graph import notebooks
from cascade.graph.build import build_graph
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.notebooks import view_of
from cascade.spec.routing import Router
from cascade.spec.shown import notebook_view
from cascade.spec.task import task


@pytest.fixture(autouse=True)
def no_graphviz(monkeypatch):
    monkeypatch.setattr("cascade.graph.visualize.has_graphviz", lambda: False)


def test_a_lazy_value_is_a_picture():
    lazy = pair(load())
    view = lazy._repr_mimebundle_()

    assert view["text/plain"] == repr(lazy)
    assert view["text/vnd.mermaid"] == (
        'flowchart TD\n    n0["load"]\n    n1["pair"]\n    n0 -->|"a"| n1'
    )
    assert view["text/markdown"].startswith("```mermaid\n")


@pytest.mark.parametrize(
    "lazy",
    [
        pair.map(a=[1]),
        Router(selector=load(), routes={1: pair(1)}),
        load().or_else(1),
        load() + 1,
        pair(1).run_if(load() > 1),
    ],
    ids=lambda lazy: type(lazy).__name__,
)
def test_every_kind_of_lazy_value_is_a_picture(lazy):
    view = lazy._repr_mimebundle_()
    assert view["text/plain"] == repr(lazy)
    assert view["text/vnd.mermaid"].startswith("flowchart TD\n")


@pytest.mark.parametrize(
    "name",
    [
        "_ipython_display_",
        "_ipython_canary_method_should_not_exist_",
        "_repr_html_",
        "_repr_javascript_",
    ],
)
def test_names_that_notebooks_look_up_make_no_nodes(name):
    """IPython takes any object that has its canary for one that has every method."""
    assert not hasattr(load(), name)
    assert not hasattr(pair.map(a=[1]), name)


def test_a_graph_is_a_picture():
    graph = build_graph(pair(load()))

    assert repr(graph) == "<graph of 'pair': 2 nodes>"
    assert graph._repr_mimebundle_()["text/vnd.mermaid"].startswith("flowchart TD\n")


def test_a_blueprint_is_a_listing_with_escaped_names():
    odd = task(name="<b>")(load.func)
    lazy = odd("1")
    for _ in range(300):
        lazy = pair(lazy)
    view = BlueprintBuilder().build(lazy, template=False)._repr_mimebundle_()

    assert view["text/plain"].splitlines()[0].startswith("blueprint pair: ")
    assert "= &lt;b&gt;(" in view["text/html"]
    assert view["text/html"].endswith("  … 101 more instructions</pre>")


def test_a_cycle_is_told_and_not_drawn():
    a, b = load(), load()
    a.after(b)
    b.after(a)
    view = view_of(a)

    assert list(view) == ["text/plain"]
    assert "these nodes wait for each other" in view["text/plain"]


def test_a_large_graph_is_drawn_near_its_target(many):
    lazy = load()
    for _ in range(many):
        lazy = pair(lazy)
    for target in (lazy, build_graph(lazy)):
        text = view_of(target)["text/vnd.mermaid"]
        assert text.count("pair") == 30
        assert 'm0>"… 1 more"]' in text
        assert "load" not in text


def test_only_the_nodes_that_may_be_shown_are_visited(many, monkeypatch):
    lazy = load()
    for _ in range(many):
        lazy = pair(lazy)
    visited = []
    inputs = notebooks.inputs_and_routes
    monkeypatch.setattr(
        notebooks, "inputs_and_routes", lambda node: visited.append(node) or inputs(node)
    )
    view_of(lazy)

    assert len(visited) <= 2001


def test_a_wide_graph_is_counted(many):
    text = view_of(join([load() for _ in range(many)]))["text/vnd.mermaid"]

    assert f"… {many - 28:,} more" in text
    assert len(text) < 1000


def test_alike_calls_are_one_box():
    text = view_of(join([pair(load()) for _ in range(500)]))["text/vnd.mermaid"]
    assert '[["pair × 500"]]' in text


def test_without_cascade_graph_there_is_the_repr(monkeypatch):
    monkeypatch.setattr("cascade.spec.shown._VIEWS", "cascade.graph.missing")
    lazy = load()

    assert notebook_view(lazy) == {"text/plain": repr(lazy)}


def test_a_fault_within_the_views_is_not_hidden(monkeypatch, tmp_path):
    (tmp_path / "views_that_miss_a_library.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cascade.spec.shown._VIEWS", "views_that_miss_a_library")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        notebook_view(load())


def test_a_display_calls_no_program_where_graphviz_is_missing(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: pytest.fail("called"))
    view_of(load())
