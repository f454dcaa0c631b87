"""docs/performance.md is what its figures say, and lacks none of them; no test looks at a time."""

import json
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCRIPT = ROOT / "observatory" / "benchmarks" / "performance_page.py"
NAMES = ("graph_overhead", "tco_performance", "governance")
DRAWN = ("graph_overhead", "tco_performance")


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def documents():
    return {
        name: json.loads((DOCS / "performance" / f"{name}.json").read_text(encoding="utf-8"))
        for name in NAMES
    }


def test_the_page_is_made_from_the_figures(script, documents):
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == script["page"](documents)


@pytest.mark.parametrize("name", DRAWN)
def test_so_are_its_pictures(script, documents, name):
    svg = (DOCS / "performance" / f"{name}.svg").read_text(encoding="utf-8")
    assert svg == script["PICTURES"][name](documents[name])
    ElementTree.fromstring(svg)
    assert svg.count('class="curves"') == 3


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
    titles = documents["graph_overhead"]["measurements"]
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
    titles = documents["tco_performance"]["measurements"]
    assert any(title.startswith(suite) for title in titles)


@pytest.mark.parametrize("suite", ["a wide graph", "a fused loop", "control plane", "capacities"])
def test_no_suite_of_limits_is_missing(documents, suite):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    measured = documents["governance"]["measurements"][f"limits, {suite}"]
    assert all(f"| {contender['name']} |" in page for contender in measured["contenders"])
    assert documents["governance"]["wake_up_ms"].keys() == {"in the event loop", "on workers"}


def test_every_measurement_of_loops_is_of_a_suite_that_the_page_shows(documents):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    for title, measured in documents["tco_performance"]["measurements"].items():
        if "," in title:
            continue  # of these the page shows some, the picture all
        for contender in measured["contenders"]:
            assert f"| {contender['name']} |" in page, title
    for name in documents["tco_performance"]["delay_ms"]:
        assert f"| {name} |" in page
    assert documents["tco_performance"]["memory_bytes"].keys() == {
        "fused",
        "generated",
        "interpreted",
    }


def test_a_page_without_the_parts_that_may_be_missing(script, documents):
    loops = documents["tco_performance"]
    left_out = {"three nodes", "peers"}
    measurements = {t: m for t, m in loops["measurements"].items() if t not in left_out}
    page = script["page"]({**documents, "tco_performance": {**loops, "measurements": measurements}})
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


def test_so_are_those_of_another_program(tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"benchmark": "import_cost"}', encoding="utf-8")
    result = run(other)
    assert result.returncode == 2
    assert "has figures of another program" in result.stderr
    assert "Traceback" not in result.stderr


def test_of_a_benchmark_that_was_not_run_the_kept_figures_are_used(script, documents, tmp_path):
    folder = tmp_path / "performance"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.json").write_text(json.dumps(documents[name]), encoding="utf-8")
    graph = {**documents["graph_overhead"], "date": "2030-01-02T00:00:00+00:00"}
    new = tmp_path / "new.json"
    new.write_text(json.dumps(graph), encoding="utf-8")
    main = script["main"]
    main.__globals__["DOCS"] = tmp_path
    try:
        main([str(new)])
    finally:
        main.__globals__["DOCS"] = DOCS
    page = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "Measured on 2030-01-02" in page
    assert f"Measured on {documents['tco_performance']['date'][:10]}" in page
    assert (folder / "tco_performance.svg").is_file()
