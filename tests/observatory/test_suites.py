"""The suites of benchmarks: what they are, what a report has of them, and drawings of bars."""

import json
import re
import runpy
import xml.etree.ElementTree as ElementTree
from html import escape
from pathlib import Path

import pytest

from cascade.observatory.benchmarks.findings import Findings
from cascade.observatory.benchmarks.report import targets_from_json
from cascade.observatory.benchmarks.rounds import Contender, measure
from cascade.observatory.benchmarks.suites import SUITES, part_of, suites_named
from cascade.observatory.benchmarks.tables import rate
from cascade.observatory.benchmarks.targets import Target
from cascade.observatory.benchmarks.whole_report import Outcome, render_report
from cascade.observatory.pictures.bars import Bar, draw_bars

PROGRAMS = Path(__file__).parents[2] / "observatory" / "benchmarks"
DOCS = Path(__file__).parents[2] / "docs" / "performance"
WHERE = {
    "date": "2030-01-02T00:00:00+00:00",
    "commit": "0123456789abcdef",
    "machine": {"cpu_count": 2, "platform": "X", "python": "3", "implementation": "CPython"},
}
BY_NAME = {suite.name: suite for suite in SUITES}


def findings(*sections):
    """What a program found that makes one measurement and one target in each section."""
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


@pytest.mark.parametrize("program", ["graph_overhead", "tco_performance", "governance"])
def test_each_section_of_a_program_is_in_one_suite(program):
    sections = runpy.run_path(str(PROGRAMS / f"{program}.py"))["SECTIONS"]
    named = [name for suite in SUITES if suite.program == program for name in suite.sections]
    assert sorted(named) == sorted(sections)


def test_suites_have_names_and_files_of_their_own():
    for of in ("name", "title", "document"):
        assert len({getattr(suite, of) for suite in SUITES}) == len(SUITES)
    assert all((PROGRAMS / f"{suite.program}.py").is_file() for suite in SUITES)
    assert all(suite.what.endswith(".") for suite in SUITES)


def test_suites_are_had_by_name_each_once_in_their_own_order():
    assert suites_named([]) == list(SUITES)
    assert suites_named(["delay", "graph", "delay"]) == [BY_NAME["graph"], BY_NAME["delay"]]
    with pytest.raises(
        ValueError,
        match=r"^there is no suite 'memroy' \(did you mean 'memory'\?\); the suites are graph, ",
    ):
        suites_named(["graph", "memroy"])


def test_a_suite_says_what_its_program_is_called_with():
    assert BY_NAME["delay"].command(True, 100, 1) == [
        *("--quick", "--only", "delay", "--max", "100", "--rounds", "1"),
    ]
    assert BY_NAME["imports"].command(False, 100, None) == []


# -- parts of a report ----------------------------------------------------------------------------


def test_a_report_has_the_suites_whose_sections_it_has_all_of():
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


def test_targets_are_read_back_as_they_were_written():
    (target,) = targets_from_json(findings("memory")["targets"])
    assert target == Target("memory: a target", 1.0, at_most=2, unit="×")


# -- the page -------------------------------------------------------------------------------------


def test_a_suite_that_failed_is_on_the_page_beside_one_that_did_not():
    done = {**WHERE, "benchmark": "governance", **findings(*BY_NAME["governance"].sections)}
    outcomes = [
        Outcome(BY_NAME["governance"], done),
        Outcome(BY_NAME["imports"], None, "import_cost.py failed with <status> 3"),
    ]
    page = render_report(WHERE, outcomes)
    assert "import_cost.py failed with &lt;status&gt; 3" in page
    assert "<code>import cascade</code>" in page
    assert page.count("<td>idle: a target</td>") == 1
    assert '<td class="met">met</td>' in page
    assert "4 of 4" in page
    assert "0123456789ab" in page


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_page_has_all_that_was_measured(suite):
    kept = DOCS / f"{suite.document}.json"
    document = json.loads(kept.read_text(encoding="utf-8"))
    page = render_report(WHERE, [Outcome(suite, document)])
    assert '<svg class="curves' in page
    for title, measured in document["measurements"].items():
        for one in measured["contenders"]:
            assert f"<td>{one['name']}</td>" in page, title
            assert f"<td>{rate(1 / one['median'])}</td>" in page, title
    for target in document["targets"]:
        assert f"<td>{escape(target['figure'])}</td>" in page


def test_a_page_of_nothing_says_so():
    page = render_report(WHERE, [])
    assert "0 of 0" in page
    assert "<table" not in page


# -- bars -----------------------------------------------------------------------------------------


def test_bars_begin_at_zero_and_are_as_long_as_they_say():
    bars = [Bar("one", 10.0, "10 ms", (8.0, 12.0), bold=True), Bar("two & <three>", 5.0, "5 ms")]
    picture = draw_bars(bars, title="<t>", label="ms", bound=20)
    long, short = (float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', picture))
    assert long == pytest.approx(2 * short, abs=0.2)

    texts = {element.text for element in ElementTree.fromstring(picture).iter("text")}
    assert {"one", "two & <three>", "10 ms", "5 ms", "ms", "0", "20"} <= texts
    assert picture.count('class="range"') == 1
    assert picture.count('class="bound"') == 1


def test_of_bars_that_are_all_zero_a_trace_is_seen():
    picture = draw_bars([Bar("none", 0.0, "0")], title="t", label="ms")
    assert "<rect" in picture
    ElementTree.fromstring(picture)


def test_what_is_no_bar_is_refused():
    with pytest.raises(ValueError, match=r"^a bar begins at zero, but 'less' is -1"):
        draw_bars([Bar("less", -1.0, "")], title="t", label="ms")
    with pytest.raises(ValueError, match=r"^there is no bar to draw$"):
        draw_bars([], title="t", label="ms")
