"""docs/performance.md is what its figures say, and lacks none of them; no test looks at a time."""

import dataclasses
import json
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cascade.observatory.benchmarks.suites import SUITES, part_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCRIPT = ROOT / "observatory" / "benchmarks" / "performance_page.py"
NAMES = [suite.name for suite in SUITES]
DRAWN = {"graph": "graph_overhead", "tco": "tco_performance"}


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def documents():
    return {
        suite.name: json.loads(
            (DOCS / "performance" / f"{suite.document}.json").read_text(encoding="utf-8")
        )
        for suite in SUITES
    }


def test_the_page_is_made_from_the_figures(script, documents):
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == script["page"](documents)


@pytest.mark.parametrize("name", DRAWN)
def test_so_are_its_pictures(script, documents, name):
    svg = (DOCS / "performance" / f"{DRAWN[name]}.svg").read_text(encoding="utf-8")
    assert svg == script["PICTURES"][name](documents[name])
    ElementTree.fromstring(svg)
    assert svg.count('class="curves"') == 3


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_no_suite_is_missing(documents, suite):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert f"\n## {suite.title}\n\nMeasured on {documents[suite.name]['date'][:10]}" in page
    assert part_of(documents[suite.name], suite) == documents[suite.name]


def test_a_suite_that_the_page_does_not_know_is_an_error(script, documents):
    page = script["page"]
    new = dataclasses.replace(SUITES[0], name="new", title="What is new")
    known = page.__globals__["SUITES"]
    page.__globals__["SUITES"] = (*known, new)
    try:
        with pytest.raises(KeyError, match="new"):
            page({**documents, "new": documents["graph"]})
    finally:
        page.__globals__["SUITES"] = known


@pytest.mark.parametrize("name", NAMES)
def test_every_target_is_on_the_page(documents, name):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert documents[name]["targets"]
    for target in documents[name]["targets"]:
        assert f"| {target['figure']} |" in page


@pytest.mark.parametrize(
    "suite", ["wide, ", "chain, ", "tree, ", "sleep, ", "recursion", "policies", "progress"]
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
        "agents, ",
        "three nodes",
        "making a loop",
        "watching",
    ],
)
def test_no_suite_of_loops_is_missing(documents, suite):
    titles = documents["tco"]["measurements"]
    assert any(title.startswith(suite) for title in titles)


@pytest.mark.parametrize("suite", ["a wide graph", "a fused loop", "control plane", "capacities"])
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


def test_a_page_without_the_parts_that_may_be_missing(script, documents):
    loops = documents["tco"]
    left_out = {"three nodes", "peers"}
    measurements = {t: m for t, m in loops["measurements"].items() if t not in left_out}
    page = script["page"]({**documents, "tco": {**loops, "measurements": measurements}})
    assert "### A chain that was compiled" not in page
    assert "### Other libraries" not in page
    assert "### Making a loop" in page


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_figures_that_are_not_there_are_a_sentence(tmp_path):
    result = run(tmp_path / "none.json")
    assert result.returncode == 2
    assert "is not there" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"benchmark": "another"}', "has no figures of a whole suite"),
        ('{"benchmark": "tco_performance", "sections": {"loops": []}}', "of a whole suite"),
        ("[]", "has no figures of a whole suite"),
        ("{", "is no JSON"),
    ],
)
def test_so_are_those_that_make_no_suite(tmp_path, text, message):
    other = tmp_path / "other.json"
    other.write_text(text, encoding="utf-8")
    result = run(other)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def written(script, documents, tmp_path):
    """Makes the page in a folder of its own, and gives its text."""
    folder = tmp_path / "docs" / "performance"
    folder.mkdir(parents=True)
    for suite in SUITES:
        kept = folder / f"{suite.document}.json"
        kept.write_text(json.dumps(documents[suite.name]), encoding="utf-8")
    main = script["main"]
    main.__globals__.update(DOCS=folder.parent, ROOT=tmp_path)

    def write(*figures):
        main([str(path) for path in figures])
        return (folder.parent / "performance.md").read_text(encoding="utf-8")

    yield write
    main.__globals__.update(DOCS=DOCS, ROOT=ROOT)


def dated(document, year, **more):
    return json.dumps({**document, "date": f"{year}-01-02T00:00:00+00:00", **more})


def test_of_a_suite_that_was_not_run_the_kept_figures_are_used(written, documents, tmp_path):
    new = tmp_path / "new.json"
    new.write_text(dated(documents["graph"], 2030), encoding="utf-8")
    page = written(new)
    assert page.count("Measured on 2030-01-02") == 1
    assert f"Measured on {documents['tco']['date'][:10]}" in page
    assert (tmp_path / "docs" / "performance" / "tco_performance.svg").is_file()
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


def test_what_was_built_last_is_taken_if_it_was_no_quick_run(written, documents, tmp_path):
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
