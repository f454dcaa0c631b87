"""The suites of benchmarks: their definitions, their parts of a report, and their page."""

import runpy
from argparse import Namespace
from html import escape
from pathlib import Path

import pytest

from cascade.observatory.benchmarks import pages
from cascade.observatory.benchmarks.findings import Findings, read
from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.rounds import Contender, measure
from cascade.observatory.benchmarks.suites import SUITES, part_of, suites_named
from cascade.observatory.benchmarks.tables import rate

PROGRAMS = Path(__file__).parents[2] / "observatory" / "benchmarks"
DOCS = Path(__file__).parents[2] / "docs" / "performance"
WHERE = {
    "date": "2030-01-02T00:00:00+00:00",
    "commit": "0123456789abcdef",
    "machine": {"cpu_count": 2, "platform": "X", "python": "3", "implementation": "CPython"},
}
BY_NAME = {suite.name: suite for suite in SUITES}


def findings(*sections):
    """The report of a program with one measurement and one target in each section."""
    found = Findings()

    def work(name):
        samples = measure([Contender(f"as {name}", lambda: 1, 1, 1)], 2)
        found.add(f"{name}: a measurement", samples, f"as {name}", "step")
        found.target(f"{name}: a target", 1.0, most=2)
        return {f"{name}_figures": {"a": 1}}

    for name in sections:
        found.run(name, lambda name=name: work(name))
    return found.as_json()


# -- the registry ---------------------------------------------------------------------------------


def test_each_section_of_a_program_is_in_one_suite():
    for program in {suite.program.name: suite.program for suite in SUITES}.values():
        named = [name for suite in SUITES if suite.program is program for name in suite.sections]
        assert sorted(named) == sorted(section.name for section in program.sections)


def test_suites_have_names_and_files_of_their_own():
    for of in ("name", "title", "document"):
        assert len({getattr(suite, of) for suite in SUITES}) == len(SUITES)
    assert all(suite.what.endswith(".") for suite in SUITES)
    for program in {suite.program.name: suite.program for suite in SUITES}.values():
        assert runpy.run_path(str(PROGRAMS / f"{program.name}.py"))["PROGRAM"] is program


def test_suites_are_had_by_name_each_once_in_their_own_order():
    assert suites_named([]) == list(SUITES)
    assert suites_named(["delay", "graph", "delay"]) == [BY_NAME["graph"], BY_NAME["delay"]]
    with pytest.raises(
        ValueError,
        match=r"^unknown suite 'memroy' \(did you mean 'memory'\?\); the suites are graph, ",
    ):
        suites_named(["graph", "memroy"])


def test_a_suite_gives_the_arguments_of_its_program():
    options = Namespace(quick=True, max=100, rounds=1)
    assert BY_NAME["delay"].command(options) == [
        *("--quick", "--only", "delay", "--max", "100", "--rounds", "1"),
    ]
    options = Namespace(quick=False, max=100, rounds=None)
    assert BY_NAME["imports"].command(options) == ["--only", "imports"]


# -- parts of a report ----------------------------------------------------------------------------


def test_a_report_contains_a_suite_if_it_has_all_its_sections():
    report = {**WHERE, "benchmark": "tco_performance", **findings("loops", "memory", "delay")}
    part = part_of(report, BY_NAME["memory"])
    assert part is not None
    assert part["sections"] == {"memory": ["memory_figures"]}
    assert part["measurements"].keys() == {"memory: a measurement"}
    assert [target["figure"] for target in part["targets"]] == ["memory: a target"]
    assert part["memory_figures"] == {"a": 1}
    assert "delay_figures" not in part
    assert part["commit"] == WHERE["commit"]

    assert part_of(report, BY_NAME["tco"]) is None
    assert part_of({**report, "benchmark": "governance"}, BY_NAME["memory"]) is None
    assert part_of({}, BY_NAME["memory"]) is None


def test_a_part_of_a_part_is_that_part():
    report = {**WHERE, "benchmark": "tco_performance", **findings("memory", "delay")}
    part = part_of(report, BY_NAME["delay"])
    assert part is not None
    assert part_of(part, BY_NAME["delay"]) == part


# -- the report -----------------------------------------------------------------------------------


def report_of(tmp_path, *documents, **failures):
    path = tmp_path / "report.html"
    write_page(path, "Benchmarks", documents, WHERE, failures)
    return path.read_text(encoding="utf-8")


def test_a_suite_that_failed_is_on_the_page_beside_one_that_did_not(tmp_path):
    done = {**WHERE, "benchmark": "node_kinds", **findings(*BY_NAME["maps"].sections)}
    page = report_of(tmp_path, done, Importing="import_cost.py failed with <status> 3")
    assert "import_cost.py failed with &lt;status&gt; 3" in page
    assert "<code>task.map</code>" in page
    assert page.count("<td>maps: a target</td>") == 1
    assert '<td class="n">met</td>' in page
    assert "2 of 2" in page
    assert "0123456789ab" in page


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_page_has_all_that_was_measured(suite, tmp_path, monkeypatch):
    """test_pictures.py tests the looks of charts; the largest takes a second to draw."""
    drawn = []
    monkeypatch.setattr(pages, "draw", lambda chart: drawn.append(chart) or "<svg/>")
    document = read(DOCS / f"{suite.document}.json")
    page = report_of(tmp_path, document)
    assert page.count("<svg/>") == len(drawn) > 0
    assert all(f"<h3>{escape(chart.title)}</h3>" in page for chart in drawn)
    for title, measured in document["measurements"].items():
        for one in measured["contenders"]:
            assert f"<td>{escape(one['name'])}</td>" in page, title
            assert f">{rate(1 / one['median'])}</td>" in page, title
    for target in document["targets"]:
        assert f"<td>{escape(target['figure'])}</td>" in page


def test_a_page_of_nothing_says_so(tmp_path):
    page = report_of(tmp_path)
    assert "0 of 0" in page
    assert "<table" not in page
