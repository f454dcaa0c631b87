"""docs/performance.md has exactly the figures of its documents; no test checks a time."""

import json
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cascade.observatory.benchmarks.pages import as_markdown, charts_in
from cascade.observatory.benchmarks.suites import SUITES, part_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCRIPT = ROOT / "observatory" / "benchmarks" / "performance_page.py"
SVG = "{http://www.w3.org/2000/svg}"
NAMES = [suite.name for suite in SUITES]
DRAWN = {suite.name: suite.document for suite in SUITES if suite.drawn}


@pytest.fixture(scope="module")
def script():
    """The names of the program."""
    return runpy.run_path(str(SCRIPT))["main"].__globals__


@pytest.fixture(scope="module")
def documents():
    return {
        suite.name: json.loads(
            (DOCS / "performance" / f"{suite.document}.json").read_text(encoding="utf-8")
        )
        for suite in SUITES
    }


def test_the_page_is_made_from_the_figures(documents):
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == as_markdown(documents)


def drawn_in(svg):
    """Its texts, and the points of its curves."""
    texts = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    curves = re.findall(r'<g id="curve-\d+">\s*<path d="([^"]+)"', svg)
    numbers = [[float(n) for n in re.findall(r"[\d.]+", path)] for path in curves]
    return texts, numbers


@pytest.mark.parametrize("name", DRAWN)
def test_its_pictures_are_made_from_the_figures(script, documents, name):
    """By their content, for another matplotlib may write it in other words."""
    svg = (DOCS / "performance" / f"{DRAWN[name]}.svg").read_text(encoding="utf-8")
    (texts, points), (kept_texts, kept_points) = map(
        drawn_in, (script["picture_of"](name, documents[name]), svg)
    )
    assert texts == kept_texts
    assert len(texts) > 6
    for curve, kept in zip(points, kept_points, strict=True):
        assert curve == pytest.approx(kept, abs=2)


def test_bars_stand_out_if_they_are_cascades_own(documents):
    bars = [bar for document in documents.values() for c in charts_in(document) for bar in c.bars]
    others = {"by hand", "on a thread", "a thread and back", "a plain loop", "turns by hand"}
    ours = {"SQLite", "SQLite, normal", "ByCode, a run", "with_cache", "cascade, fused"}
    ours |= {"in the event loop, p99", "fused", "engine.run", "virtual machine", "control plane"}
    kinds = {bar.name: bar.bold for bar in bars}
    assert {name for name in others | ours if kinds[name]} == ours
    libraries = {name for name in kinds if re.search(r" \d+\.\d", name)}
    assert len(libraries) > 6
    assert not any(kinds[name] for name in libraries)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_no_suite_is_missing(documents, suite):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    part = page[page.index(f"\n## {suite.title}\n") :]
    assert f"Measured on {documents[suite.name]['date'][:10]}" in part.split("\n## ")[1]
    assert part_of(documents[suite.name], suite) == documents[suite.name]


@pytest.mark.parametrize("name", NAMES)
def test_every_target_is_on_the_page(documents, name):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert documents[name]["targets"]
    for target in documents[name]["targets"]:
        assert f"| {target['figure']} |" in page


@pytest.mark.parametrize(
    "suite", ["wide, ", "chain, ", "tree, ", "sleep, ", "recursion", "progress"]
)
def test_no_suite_of_the_graph_path_is_missing(documents, suite):
    titles = documents["graph"]["measurements"]
    assert any(title.startswith(suite) for title in titles)


@pytest.mark.parametrize(
    "suite",
    [
        "recursion, ",
        "countdown, ",
        "logistic map, ",
        "Collatz length, ",
        "even and odd, ",
        "inbox",
        "three nodes",
        "making a loop",
        "watching",
    ],
)
def test_no_suite_of_loops_is_missing(documents, suite):
    titles = documents["tco"]["measurements"]
    assert any(title.startswith(suite) for title in titles)


@pytest.mark.parametrize("suite", ["a wide graph", "a fused loop", "control plane"])
def test_no_suite_of_limits_is_missing(documents, suite):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    measured = documents["governance"]["measurements"][f"limits, {suite}"]
    assert all(f"| {contender['name']} |" in page for contender in measured["contenders"])
    assert documents["governance"]["wake_up_ms"].keys() == {"in the event loop", "on workers"}


def test_every_measurement_of_loops_is_of_a_suite_that_the_page_shows(documents):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    for title, measured in documents["tco"]["measurements"].items():
        if "," in title:
            continue  # of these the page shows some, the picture all
        for contender in measured["contenders"]:
            assert f"| {contender['name']} |" in page, title
    for name in documents["delay"]["delay_ms"]:
        assert f"| {name} |" in page
    for row in documents["imports"]["programs"]:
        assert f"| `{row['program']}` |" in page
    assert documents["memory"]["memory_bytes"].keys() == {
        "fused",
        "generated",
        "interpreted",
    }


def test_a_section_that_measured_nothing_is_left_out(documents):
    loops = documents["tco"]
    left_out = {"three nodes", "peers"}
    measurements = {t: m for t, m in loops["measurements"].items() if t not in left_out}
    page = as_markdown({**documents, "tco": {**loops, "measurements": measurements}})
    assert "### A chain that was compiled" not in page
    assert "### Other libraries" not in page
    assert "### Making a loop" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not there"),
        ('{"benchmark": "another"}', "has no figures of a whole suite"),
        ('{"benchmark": "tco_performance", "sections": {"loops": []}}', "of a whole suite"),
        ("[]", "has no figures of a whole suite"),
        ("{", "is not JSON"),
    ],
)
def test_files_without_the_figures_of_a_suite_are_refused(script, tmp_path, capsys, text, message):
    other = tmp_path / "other.json"
    if text is not None:
        other.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        script["main"]([str(other)], ROOT)
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.fixture
def written(script, documents, tmp_path, monkeypatch):
    """Makes the page in a folder of its own, and gives its text; the pictures are not drawn."""
    monkeypatch.setitem(script, "picture_of", lambda name, document: f"{name} {document['date']}")
    folder = tmp_path / "docs" / "performance"
    folder.mkdir(parents=True)
    for suite in SUITES:
        kept = folder / f"{suite.document}.json"
        kept.write_text(json.dumps(documents[suite.name]), encoding="utf-8")
    for page in script["QUOTING"]:
        (tmp_path / page).write_text((ROOT / page).read_text("utf-8"), encoding="utf-8")

    def write(*figures):
        script["main"]([str(path) for path in figures], tmp_path)
        return (folder.parent / "performance.md").read_text(encoding="utf-8")

    return write


def dated(document, year, **more):
    return json.dumps({**document, "date": f"{year}-01-02T00:00:00+00:00", **more})


def test_of_a_suite_that_was_not_run_the_kept_figures_are_used(written, documents, tmp_path):
    new = tmp_path / "new.json"
    new.write_text(dated(documents["graph"], 2030), encoding="utf-8")
    page = written(new)
    assert page.count("Measured on 2030-01-02") == 1
    assert f"Measured on {documents['tco']['date'][:10]}" in page
    folder = tmp_path / "docs" / "performance"
    kept = folder / "tco_performance.svg"
    assert kept.read_text(encoding="utf-8") == f"tco {documents['tco']['date']}"
    renewed = folder / "graph_overhead.svg"
    assert renewed.read_text(encoding="utf-8").startswith("graph 2030")
    kept = json.loads((tmp_path / "docs/performance/graph_overhead.json").read_text("utf-8"))
    assert kept["date"].startswith("2030")


def test_the_figures_of_one_program_are_those_of_several_suites(written, documents, tmp_path):
    whole = {
        **documents["tco"],
        "memory_bytes": documents["memory"]["memory_bytes"],
        "delay_ms": documents["delay"]["delay_ms"],
    }
    for name in ("memory", "delay"):
        for key in ("sections", "measurements"):
            whole[key] = {**whole[key], **documents[name][key]}
        whole["targets"] = [*whole["targets"], *documents[name]["targets"]]
    new = tmp_path / "new.json"
    new.write_text(dated(whole, 2030), encoding="utf-8")
    assert written(new).count("Measured on 2030-01-02") == 3


def test_the_latest_report_is_used_unless_it_was_a_quick_run(written, documents, tmp_path):
    built = tmp_path / "build" / "benchmarks"
    built.mkdir(parents=True)
    graph = documents["graph"]
    (built / "a.json").write_text(dated(graph, 2031, options={"quick": False}), encoding="utf-8")
    (built / "b.json").write_text(dated(graph, 2030, options={"quick": False}), encoding="utf-8")
    (built / "c.json").write_text(dated(graph, 2032, options={"quick": True}), encoding="utf-8")
    page = written()
    assert page.count("Measured on 2031-01-02") == 1
    assert "2030" not in page
    assert "2032" not in page
    assert "Measured on 2032" in written(built / "c.json")


def test_quoted_figures_of_other_pages_are_renewed(written, documents, tmp_path):
    graph = json.loads(dated(documents["graph"], 2030))
    for measured in graph["measurements"].values():
        for one in measured["contenders"]:
            one["median"] = 123.4e-6
    new = tmp_path / "new.json"
    new.write_text(json.dumps(graph), encoding="utf-8")
    assert "[123 µs][node]" not in (tmp_path / "README.md").read_text("utf-8")
    written(new)
    assert "[123 µs][node]" in (tmp_path / "README.md").read_text("utf-8")


def test_a_page_that_quotes_what_there_is_not_is_named(script, written, tmp_path, capsys):
    limits = tmp_path / "docs" / "limits.md"
    limits.write_text('[1 µs][a]\n\n[a]: performance.md#nowhere "a of b"', encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        script["main"]([], tmp_path)
    assert "docs/limits.md: there is no heading #nowhere" in capsys.readouterr().err
