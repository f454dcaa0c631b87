"""Pictures: nothing overlaps, everything is drawn, nothing is loaded from elsewhere."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.observatory.pictures import charts, graphs
from cascade.observatory.pictures.assets import needs_plots
from cascade.observatory.pictures.charts import Bar, Chart, Curve, draw, draw_side_by_side
from cascade.observatory.pictures.graphs import Arrow, Dot, draw_graph
from cascade.observatory.pictures.page import GraphPage, framed, panels_of

SVG = "{http://www.w3.org/2000/svg}"
LINE = Chart("t", "x", "µs", [Curve("a", [100, 1_000, 10_000], [1, 10, 100])], log=True)


def parsed(element):
    """An element of a page as XML."""
    element = element.replace("xlink:href", "href").replace("<svg", f"<svg xmlns={SVG[1:-1]!r}", 1)
    return ElementTree.fromstring(element)


def texts_in(picture):
    return [text.text for text in parsed(picture).iter(f"{SVG}text")]


def points_of(picture, number=0):
    """The points of a curve, in units of the drawing."""
    path = re.search(rf'<g id="curve-{number}">\s*<path d="([^"]+)"', picture)
    return [tuple(map(float, p.split())) for p in re.split("[ML]", path[1]) if p.strip()]


# -- charts ---------------------------------------------------------------------------------------


def test_a_factor_of_ten_is_as_long_everywhere_on_a_logarithmic_axis():
    (x0, y0), (x1, y1), (x2, y2) = points_of(draw(LINE))

    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert x0 < x1
    assert y0 > y1  # up is more


def test_every_curve_is_in_the_legend_and_axes_have_grouped_numbers():
    names = ("a", "b & <c>", "d" * 40, "e")
    curves = [Curve(name, [100, 10**6], [0.03, 300], [(0.02, 0.04), (200, 400)]) for name in names]
    found = set(texts_in(draw(Chart("<t>", "x", "µs", curves, log=True))))

    assert {*names, "0.1", "1\u202f000", "µs", "x"} <= found


def test_linear_axes_may_start_at_zero():
    line = Curve("theory", [0, 1], [0, 0.5], dots=False)
    dots = Curve("measured", [0, 1], [0, 0.5], [(0, 0), (0.4, 0.6)], line=False)
    drawing = draw(Chart("t", "x", "y", [line, dots], y_range=(0, 1)))

    assert len(points_of(drawing)) == 2
    assert {"0", "0.5", "1"} <= set(texts_in(drawing)) | {"0.5"}
    with pytest.raises(ValueError, match=r"^a logarithmic axis cannot show 0$"):
        draw(Chart("t", "x", "y", [line], log=True))


def test_bars_begin_at_zero_and_are_as_long_as_they_say():
    bars = [Bar("one", 10.0, "10 ms", (8.0, 12.0), bold=True), Bar("two & <three>", 5.0, "5 ms")]
    picture = draw(Chart("t", "ms", bars=bars))
    paths = [
        [tuple(map(float, p.split())) for p in re.split("[MLz]", path) if p.strip()]
        for path in re.findall(r'<path d="([^"]+)" style="fill: var\(--group', picture)
    ]
    (long, short) = (max(x for x, _ in path) - min(x for x, _ in path) for path in paths)

    assert long == pytest.approx(2 * short, abs=0.2)
    assert {"one", "two & <three>", "10 ms", "5 ms", "ms", "0"} <= set(texts_in(picture))


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        (Chart("t", "x"), "the chart 't' has neither curves nor bars"),
        (Chart("t", "x", curves=[Curve("a", [], [])]), "there is no point to draw"),
        (Chart("t", "x", bars=[Bar("less", -1.0, "")]), "a bar begins at zero, but 'less' is -1.0"),
    ],
)
def test_charts_that_cannot_be_drawn_are_refused(chart, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        draw(chart)


def test_colours_follow_light_and_dark_and_text_stays_text():
    picture = draw_side_by_side([LINE, LINE])

    ElementTree.fromstring(picture)
    assert "@media (prefers-color-scheme: dark)" in picture
    assert "stroke: var(--group-1)" in picture
    after_the_style = picture[picture.index("</style>") :]
    assert not re.search(r": #[0-9a-f]{6}", after_the_style)
    assert ">µs</text>" in picture
    assert not re.search(r"url\(|<metadata|<dc:date", picture)


def test_equal_charts_are_equal_bytes_in_every_process():
    program = (
        "from cascade.observatory.pictures.charts import *\n"
        "print(draw(Chart('t', 'x', 'y', [Curve('a', [1, 2], [3, 4])])), end='')"
    )
    other = subprocess.check_output([sys.executable, "-c", program], text=True)  # of another seed
    assert other == draw(Chart("t", "x", "y", [Curve("a", [1, 2], [3, 4])]))


def test_without_the_libraries_the_extra_is_named():
    message = 'pictures need matplotlib: pip install "cascade-observatory[plots]"'
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)), needs_plots():
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")


def test_the_libraries_are_not_imported_before_something_is_drawn():
    program = (
        "import sys, cascade, cascade.observatory\n"
        "import cascade.observatory.experiments.atlas, cascade.observatory.benchmarks.pages\n"
        "print(sorted({'matplotlib', 'networkx', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


# -- graphs ---------------------------------------------------------------------------------------

SIZES = st.tuples(st.floats(2, 80), st.floats(2, 80))
PLACES = st.tuples(st.floats(-90, 90), st.floats(-90, 90))


@settings(deadline=None)
@given(st.lists(st.tuples(SIZES, PLACES), max_size=14))
def test_boxes_are_moved_apart(drawn):
    boxes = [size for size, _ in drawn]
    moved = graphs._separated(boxes, [place for _, place in drawn])

    for ((w, h), (x, y)), ((v, g), (p, q)) in combinations(zip(boxes, moved, strict=True), 2):
        assert abs(x - p) > (w + v) / 2 - 1e-3 or abs(y - q) > (h + g) / 2 - 1e-3


def test_linked_dots_are_nearer_than_others():
    dots = [Dot(str(number), 1.0, "") for number in range(12)]
    svg = parsed(draw_graph(dots, [Arrow("4", "11", 1.0)], title="t"))
    places = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter(f"{SVG}circle")]
    x, y = places[11]
    distances = [(p - x) ** 2 + (q - y) ** 2 for p, q in places[:11]]

    assert min(distances) == distances[4]


def test_a_graph_is_drawn_the_same_each_time():
    dots = [Dot(str(i), 1 + i, "", "g" if i % 3 else "") for i in range(20)]
    arrows = [Arrow(str(i), str(i // 2), 0.5) for i in range(20)]

    assert draw_graph(dots, arrows, title="t") == draw_graph(dots, arrows, title="t")


def test_everything_is_in_the_drawing():
    dots = [
        Dot("re", 4.0, "most <wanted>", "re"),
        Dot("re._parser", 2.0, "", "re"),
        Dot("re._compiler", 1.0, "", "re"),
        Dot("os", 1.0, "", "os"),
    ]
    arrows = [Arrow("os", "re", 1.0), Arrow("re", "re", 0.5, always=False)]
    svg = parsed(draw_graph(dots, arrows, title="a & b"))

    circles = [float(circle.get("r")) for circle in svg.iter(f"{SVG}circle")]
    assert circles[0] == pytest.approx(circles[2] * 2, abs=0.1), "the area shows the weight"
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts == ["re", "re._parser", "re._compiler", "os"]
    assert [title.text for title in svg.iter(f"{SVG}title")][:2] == ["a & b", "most <wanted>"]
    assert sorted(path.get("class") for path in svg.iter(f"{SVG}path")) == ["edge", "edge faint"]
    colours = [group.get("style") for group in svg.iter(f"{SVG}g")]
    assert colours == [*["--c:var(--group-1)"] * 3, "--c:var(--group-0)"]
    left, top, width, height = map(float, svg.get("viewBox").split())
    for circle in svg.iter(f"{SVG}circle"):
        assert left < float(circle.get("cx")) < left + width
        assert top < float(circle.get("cy")) < top + height


def test_an_empty_graph_can_be_drawn():
    assert list(parsed(draw_graph([], [], title="t")).iter(f"{SVG}circle")) == []


def test_long_names_are_shortened_from_the_front():
    picture = draw_graph([Dot("a.very.long.dotted.name.of.a.module", 1.0, "")], [], title="t")

    assert texts_in(picture) == ["…dotted.name.of.a.module"]


# -- pages ----------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """Collects all that a browser would load, and elements that are not closed."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self):
        super().__init__()
        self.loads = []
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.loads += [v for name, v in attrs if name in ("src", "href", "data", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_self_contained_and_escapes_its_texts():
    evil = "</script><b>&\"'"
    page = GraphPage(
        title=evil,
        lead=evil,
        figures={evil: evil},
        picture=draw_graph([Dot(evil, 1.0, evil)], [], title=evil),
        headings=[evil, evil],
        rows={evil: [evil]},
        links={evil: [evil]},
        relation=(evil, evil),
        notes={evil: [evil]},
    ).render()
    found = Loads()
    found.feed(page)
    found.close()

    assert found.loads == []
    assert found.open == []
    assert not re.search(r"://|url\(|@import", page)
    assert page.count("</script>") == 2
    assert "<b>&" not in page


def test_a_page_of_charts_loads_nothing_and_follows_the_dark_mode():
    page = framed("Costs & more", "lead", {"Python": "3"}, panels_of([("wide", draw(LINE))]))
    found = Loads()
    found.feed(page)

    assert "<h1>Costs &amp; more</h1>" in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"://|<(link|img|iframe|script)|\bsrc=|href=\"(?!#)|url\(|@import", page)
    assert found.open == []


def test_the_colours_of_charts_are_those_of_pages():
    assert charts._colours()["ink"] == "#22252b"
    assert charts._colours()["card"] == "#ffffff"
