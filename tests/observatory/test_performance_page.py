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


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def document():
    figures = DOCS / "performance" / "graph_overhead.json"
    return json.loads(figures.read_text(encoding="utf-8"))


def test_the_page_is_made_from_the_figures(script, document):
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == script["page"](document)


def test_so_is_its_picture(script, document):
    svg = (DOCS / "performance" / "graph_overhead.svg").read_text(encoding="utf-8")
    assert svg == script["picture"](document)
    ElementTree.fromstring(svg)
    assert svg.count('class="curves"') == 3


def test_every_target_is_on_the_page(document):
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert document["targets"]
    for target in document["targets"]:
        assert f"| {target['figure']} |" in page


@pytest.mark.parametrize(
    "suite", ["wide, ", "chain, ", "tree, ", "sleep, ", "recursion", "policies", "progress"]
)
def test_no_suite_is_missing(document, suite):
    assert any(title.startswith(suite) for title in document["measurements"])


def test_figures_that_are_not_there_are_a_sentence(tmp_path):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "none.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "is not there" in result.stderr
    assert "Traceback" not in result.stderr
