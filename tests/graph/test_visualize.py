"""Drawings as Mermaid and DOT: exact text, because other tools read it."""

import re

import pytest
from hypothesis import given
from tests.graph.flows import join, load, pair
from tests.graph.programs import programs

from cascade.graph.build import build_graph
from cascade.graph.model import Edge, EdgeKind
from cascade.graph.pictures.colours import COLOURS
from cascade.graph.states import NodeState
from cascade.graph.visualize import visualize
from cascade.spec.errors import ArgumentError, CycleError, DefinitionError
from cascade.spec.params import Param
from cascade.spec.routing import Router
from cascade.spec.task import task


def one_of_everything():
    """A graph with every kind of node and, by hand, every kind of edge."""
    data = load()
    router = Router(selector=Param("size"), routes={"s": data, 2: "plain"})
    mapped = pair.map(a=[1, 2])
    target = join([data, 1], router).run_if(mapped > 0).after(data)
    graph = build_graph(target, routes=True)
    graph.edges.append(Edge(graph.index[data], graph.index[mapped], EdgeKind.CONSTRAINT))
    return graph


def test_mermaid_draws_every_kind_of_node_and_edge():
    assert visualize(one_of_everything()) == (
        "flowchart TD\n"
        '    n0["load"]\n'
        '    n1[/"param size"/]\n'
        '    n2{"router"}\n'
        '    n3[["pair.map × 2"]]\n'
        '    n4(["gather"])\n'
        '    n5(("gt"))\n'
        '    n6["join"]\n'
        '    n1 -->|"selector"| n2\n'
        '    n0 ==>|"s"| n2\n'
        "    n0 --> n4\n"
        "    n3 --> n5\n"
        '    n4 -->|"*parts"| n6\n'
        '    n2 -->|"*parts"| n6\n'
        "    n5 -. if .-> n6\n"
        "    n0 --o|after| n6\n"
        "    n0 --x|amount| n3"
    )


def test_dot_draws_every_kind_of_node_and_edge():
    drawing = re.sub(r' tooltip="[^"]*"', "", visualize(one_of_everything(), "dot"))

    assert drawing == (
        "digraph cascade {\n"
        '    node [fontname="sans-serif"]; edge [fontname="sans-serif" fontsize=11];\n'
        '    n0 [label="load" shape=box];\n'
        '    n1 [label="param size" shape=parallelogram];\n'
        '    n2 [label="router" shape=diamond];\n'
        '    n3 [label="pair.map × 2" shape=box3d];\n'
        '    n4 [label="gather" shape=oval];\n'
        '    n5 [label="gt" shape=circle];\n'
        '    n6 [label="join" shape=box];\n'
        '    n1 -> n2 [label="selector"];\n'
        '    n0 -> n2 [style=bold label="s"];\n'
        "    n0 -> n4;\n"
        "    n3 -> n5;\n"
        '    n4 -> n6 [label="*parts"];\n'
        '    n2 -> n6 [label="*parts"];\n'
        '    n5 -> n6 [style=dashed label="if"];\n'
        '    n0 -> n6 [style=dotted arrowhead=odot label="after"];\n'
        '    n0 -> n3 [color=firebrick arrowhead=tee label="amount"];\n'
        "}"
    )


def test_an_amount_that_a_node_gives_is_an_edge():
    graph = build_graph(pair(1).with_capacity(gpu=load(), disk=0.5))

    assert [(e.source, e.target, e.kind) for e in graph.edges] == [(0, 1, EdgeKind.CONSTRAINT)]
    assert '    n0 -> n1 [color=firebrick arrowhead=tee label="amount"];' in visualize(graph, "dot")


def test_dot_says_where_a_call_was_written():
    lazy = load()

    assert f'tooltip="{lazy.callsite}"' in visualize(lazy, "dot")


def test_no_two_kinds_of_edge_look_the_same():
    graph = build_graph(pair(load()))
    looks = set()
    for kind in EdgeKind:
        graph.edges[:] = [Edge(0, 1, kind)]
        looks.add((visualize(graph).splitlines()[-1], visualize(graph, "dot").splitlines()[-2]))

    assert len(looks) == len(EdgeKind)
    assert len({mermaid for mermaid, _ in looks}) == len({dot for _, dot in looks}) == len(EdgeKind)


@pytest.mark.parametrize(
    ("name", "mermaid", "dot"),
    [
        ('say "hi"', "say #quot;hi#quot;", r"say \"hi\""),
        ("a<b>&c", "a#lt;b>#amp;c", "a<b>&c"),
        ("C:\\dir", "C:#92;dir", r"C:\\dir"),
        ("two\nlines", "two<br/>lines", r"two\nlines"),
        ("a#b;", "a#35;b;", "a#b;"),
        ("näme → ✓", "näme → ✓", "näme → ✓"),
        ("{curly}", "{curly}", "{curly}"),
    ],
)
def test_a_name_or_route_cannot_break_the_drawing(name, mermaid, dot):
    odd = task(name=name)(load.func)()
    router = Router(selector=1, routes={name: odd})

    assert f'["{mermaid}"]\n' in visualize(odd) + "\n"
    assert f'==>|"{mermaid}"|' in visualize(router)
    assert f'[label="{dot}" shape=box' in visualize(odd, "dot")
    assert f'[style=bold label="{dot}"]' in visualize(router, "dot")
    assert all(len(visualize(router, f).splitlines()) == n for f, n in (("mermaid", 4), ("dot", 6)))


def test_states_are_drawn_as_colours_and_in_words():
    data, size = load(), pair(1)
    target = join(data, size, pair(2))
    states = {
        data.number: NodeState("finished", 1.23),
        size.number: NodeState("failed", 0.003, "OSError: no disk"),
    }

    assert visualize(target, states=states) == (
        "flowchart TD\n"
        '    n0["load<br/>1.2 s"]\n'
        '    n1["pair<br/>failed, 3 ms<br/>OSError: no disk"]\n'
        '    n2["pair"]\n'
        '    n3["join"]\n'
        '    n0 -->|"*parts"| n3\n'
        '    n1 -->|"*parts"| n3\n'
        '    n2 -->|"*parts"| n3\n'
        "    classDef finished fill:#2d7d46,stroke:#2d7d46,color:#ffffff\n"
        "    class n0 finished\n"
        "    classDef failed fill:#cf222e,stroke:#cf222e,color:#ffffff\n"
        "    class n1 failed"
    )
    drawing = re.sub(r' tooltip="[^"]*"', "", visualize(target, "dot", states=states))
    assert drawing.splitlines()[2:6] == [
        r'    n0 [label="load\n1.2 s" shape=box'
        ' style="filled" fillcolor="#2d7d46" color="#2d7d46" fontcolor="#ffffff"];',
        r'    n1 [label="pair\nfailed, 3 ms\nOSError: no disk" shape=box'
        ' style="filled" fillcolor="#cf222e" color="#cf222e" fontcolor="#ffffff"];',
        '    n2 [label="pair" shape=box];',
        '    n3 [label="join" shape=box];',
    ]


def test_nodes_of_one_state_share_its_colour():
    lazies = [load() for _ in range(3)]
    drawing = visualize(lazies, states={lazy.number: NodeState("cached") for lazy in lazies})

    assert '    n0["load<br/>cached"]' in drawing
    assert drawing.count("classDef") == 1
    assert drawing.endswith("\n    class n0,n1,n2 cached")


@pytest.mark.parametrize("state", ["skipped", "cancelled"])
def test_skipped_and_cancelled_nodes_are_dashed(state):
    lazy = load()
    states = {lazy.number: NodeState(state)}

    assert "stroke-dasharray" in visualize(lazy, states=states)
    assert 'style="filled,dashed"' in visualize(lazy, "dot", states=states)


def test_a_state_of_another_kind_is_drawn_in_words_alone():
    lazy = load()
    states = {lazy.number: NodeState("on hold", note="x\n y" * 100)}

    (line,) = visualize(lazy, states=states).splitlines()[1:]
    assert line.startswith('    n0["load<br/>on hold<br/>x yx yx')
    assert line.endswith('…"]')
    assert len(line) < 100
    assert "fillcolor" not in visualize(lazy, "dot", states=states)


def test_a_note_cannot_break_the_drawing():
    lazy = load()
    states = {lazy.number: NodeState("failed", 0.0, 'say "<hi>" \\ # &')}

    assert "say #quot;#lt;hi>#quot; #92; #35; #amp;" in visualize(lazy, states=states)
    assert r"say \"<hi>\" \\ # &" in visualize(lazy, "dot", states=states)


@pytest.mark.parametrize("state", COLOURS)
def test_states_can_be_read_on_light_and_dark_pages(state):
    """WCAG AA: 4.5 for text, 3 for shapes."""
    colour = COLOURS[state]

    assert contrast(colour.text, colour.fill) >= 4.5
    assert contrast(colour.fill, "#ffffff") >= 3
    assert contrast(colour.fill, "#0d1117") >= 3


def contrast(one, other):
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_routes_are_drawn_though_they_may_not_run():
    """R7."""
    assert len(build_graph(Router(selector=1, routes={1: load()}))) == 1
    assert '"load"' in visualize(Router(selector=1, routes={1: load()}))


def test_a_container_of_lazy_values_is_drawn_with_its_node():
    assert visualize((load(), 1)).splitlines()[1:3] == ['    n0["load"]', '    n1(["gather"])']


def test_invalid_targets_and_formats_are_refused():
    with pytest.raises(DefinitionError, match=r"^task 'load' is not a lazy value; call it: load"):
        visualize(load)
    with pytest.raises(DefinitionError, match=r"^expected a lazy value"):
        visualize([1])
    with pytest.raises(
        ValueError, match=r"^format must be 'mermaid', 'dot' or 'svg', but is 'png'$"
    ):
        visualize(load(), "png")
    with pytest.raises(
        ArgumentError, match=r"^limit of visualize\(\) must be an int ≥ 1, but is 0$"
    ):
        visualize(load(), limit=0)


def test_a_cycle_is_named_and_not_drawn():
    a, b = load(), load()
    a.after(b)
    b.after(a)
    with pytest.raises(CycleError):
        visualize(a)


def test_a_chain_of_many_is_drawn(many):
    lazy = load()
    for _ in range(many - 1):
        lazy = pair(lazy)

    assert len(visualize(lazy).splitlines()) == 1 + many + (many - 1)


def test_many_arguments_are_drawn(many):
    drawing = visualize(join(*(load() for _ in range(many))), "dot", limit=None)

    assert len(drawing.splitlines()) == 2 + (many + 1) + many + 1


@given(programs(amounts=True))
def test_a_drawing_has_a_line_for_each_node_and_edge(program):
    graph = build_graph(program[-1], routes=True)
    size = len(graph) + len(graph.edges)

    assert len(visualize(graph, limit=None).splitlines()) == 1 + size
    assert len(visualize(graph, "dot", limit=None).splitlines()) == 3 + size


@pytest.mark.parametrize(
    ("name", "mermaid", "dot"),
    [
        ("%%{init: {'theme': 'dark'}}%%", "#37;#37;{init: {'theme': 'dark'}}#37;#37;", None),
        ("`**bold**`", "#96;**bold**#96;", None),
        ("$$x$$", "#36;#36;x#36;#36;", None),
        ("a\rb\u2028c", r"a#92;rb#92;u2028c", r"a\\rb\\u2028c"),
        ("\x1b[2J\u202e", r"#92;x1b[2J#92;u202e", r"\\x1b[2J\\u202e"),
        ("\ud800", r"#92;ud800", r"\\ud800"),
    ],
)
def test_names_are_escaped_in_drawings(name, mermaid, dot):
    lazy = task(name=name)(load.func)()
    states = {lazy.number: NodeState("failed", 0.0, name)}
    router = Router(selector=1, routes={name: lazy})

    assert f'["{mermaid}"]' in visualize(lazy)
    for drawn in (visualize(lazy, states=states), visualize(router)):
        assert not {"%%", "\r", "\u2028"} & {"%%" * ("%%" in drawn), *drawn}
        drawn.encode()
    if dot is not None:
        assert f'label="{dot}"' in visualize(lazy, "dot")
