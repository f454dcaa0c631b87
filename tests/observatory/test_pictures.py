"""Pictures: nothing overlaps, everything is drawn, nothing is loaded from elsewhere."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.observatory.pictures.drawing import Arrow, Dot, convex_hull, draw
from cascade.observatory.pictures.layout import Box, Pull, extent, place
from cascade.observatory.pictures.page import Page, Row, render

SIDES = st.floats(2, 80)
BOXES = st.lists(
    st.builds(Box, SIDES, SIDES, st.sampled_from(["", "", "a", "b"]), st.floats(0, 1)), max_size=14
)
SVG = "{http://www.w3.org/2000/svg}"


def overlap(a, p, b, q):
    return (
        abs(p.x - q.x) < (a.width + b.width) / 2 - 1e-3
        and abs(p.y - q.y) < (a.height + b.height) / 2 - 1e-3
    )


@settings(deadline=None)
@given(BOXES, st.data())
def test_no_two_boxes_overlap_and_groups_keep_to_themselves(boxes, data):
    ends = st.integers(0, max(len(boxes) - 1, 0))
    pulls = data.draw(st.lists(st.builds(Pull, ends, ends, st.floats(0, 1)), max_size=20))
    points = place(boxes, pulls if boxes else [])

    placed = list(zip(boxes, points, strict=True))
    for i, (a, p) in enumerate(placed):
        assert not any(overlap(a, p, b, q) for b, q in placed[:i])
    for group in {box.group for box in boxes} - {""}:
        own = [(box, point) for box, point in placed if box.group == group]
        left, top, right, bottom = extent(*zip(*own, strict=True))
        area = Box(right - left, bottom - top)
        middle = type(points[0])((left + right) / 2, (top + bottom) / 2)
        assert not any(overlap(area, middle, b, q) for b, q in placed if b.group != group)


def test_a_layout_is_the_same_each_time():
    boxes = [Box(10 + i, 20, "g" if i % 3 else "") for i in range(20)]
    pulls = [Pull(i, i // 2, 0.5) for i in range(20)]

    assert place(boxes, pulls) == place(boxes, pulls)


def test_linked_boxes_are_nearer_than_others():
    boxes = [Box(10, 10)] * 12
    points = place(boxes, [Pull(4, 11, 1.0)])
    distances = [
        (p.x - points[11].x) ** 2 + (p.y - points[11].y) ** 2 for p in (points[4], *points[:4])
    ]

    assert min(distances) == distances[0]


def test_a_hull_of_few_points_is_those_points():
    assert convex_hull([(1, 1), (0, 0), (1, 1)]) == [(0, 0), (1, 1)]


def drawing(dots=(), arrows=()):
    return ElementTree.fromstring(
        draw(dots, arrows, title="a & b").replace("<svg", f"<svg xmlns={SVG[1:-1]!r}", 1)
    )


def test_everything_is_in_the_drawing():
    dots = [
        Dot("re", 4.0, "most <wanted>", "re"),
        Dot("re._parser", 2.0, "", "re"),
        Dot("re._compiler", 1.0, "", "re"),
        Dot("os", 1.0, "", "os"),
    ]
    arrows = [Arrow("os", "re", 1.0), Arrow("re", "re", 0.5, always=False)]
    svg = drawing(dots, arrows)

    circles = [float(circle.get("r")) for circle in svg.iter(f"{SVG}circle")]
    assert circles[0] == pytest.approx(circles[2] * 2, abs=0.1), "the area shows the weight"
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts == ["re", "_parser", "_compiler", "os", "re"], "the last names the group"
    assert [title.text for title in svg.iter(f"{SVG}title")][:2] == ["a & b", "most <wanted>"]
    assert sorted(path.get("class") for path in svg.iter(f"{SVG}path")) == ["edge", "edge faint"]
    left, top, width, height = map(float, svg.get("viewBox").split())
    for circle in svg.iter(f"{SVG}circle"):
        assert left < float(circle.get("cx")) < left + width
        assert top < float(circle.get("cy")) < top + height


def test_an_empty_graph_can_be_drawn():
    assert list(drawing().iter(f"{SVG}circle")) == []


def test_long_names_are_shortened_from_the_front():
    svg = drawing([Dot("a.very.long.dotted.name.of.a.module", 1.0, "")])

    assert next(svg.iter(f"{SVG}text")).text == "…dotted.name.of.a.module"


class Loads(HTMLParser):
    """Collects all that a browser would load, and what is left open."""

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


def test_a_page_is_complete_in_itself_and_escapes_what_it_is_given():
    evil = "</script><b>&\"'"
    page = render(
        Page(
            title=evil,
            lead=evil,
            figures={evil: evil},
            picture=draw([Dot(evil, 1.0, evil)], [], title=evil),
            headings=[evil, evil],
            rows=[Row(evil, [evil])],
            links={evil: [evil]},
            relation=(evil, evil),
            notes=[(evil, [evil])],
        )
    )
    found = Loads()
    found.feed(page)
    found.close()

    assert found.loads == []
    assert found.open == []
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert page.count("</script>") == 2
    assert "<b>&" not in page
