"""One command runs the suites and reports them; no test looks at a time."""

import dataclasses
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.in_process import call

from cascade.observatory.benchmarks import steps
from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.suites import SUITES, part_of

SCRIPT = Path(__file__).parents[2] / "observatory" / "benchmarks" / "bench.py"
SMALL = ("--max=100", "--rounds=1", "--quick")


class Balanced(HTMLParser):
    """Fails on a tag that is closed and was not the last one opened; ``open`` are those left."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# Those that are soon done; all of them with `-m thorough`, and each program in a test of its own.
@pytest.fixture(
    scope="module",
    params=[
        ("imports", "memory"),
        pytest.param([suite.name for suite in SUITES], marks=pytest.mark.thorough),
    ],
    ids=["some", "all"],
)
def reported(request, tmp_path_factory):
    """The suites that were run together, what was printed, and the folder that was written."""
    suites = [suite for suite in SUITES if suite.name in request.param]
    folder = tmp_path_factory.mktemp("bench") / "new" / "folder"
    done = call(SCRIPT, *SMALL, f"--out={folder}", *request.param, cwd=folder.parents[1])
    return suites, done, folder


@pytest.mark.timeout(180)  # where the machine is busy; else it takes some seconds
def test_suites_run_and_are_reported(reported):
    suites, done, folder = reported
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        *(f"{suite.name}.json" for suite in suites),
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    targets = done.stdout[done.stdout.index("all targets:") :]
    for number, suite in enumerate(suites, 1):
        assert f"{number}/{len(suites)} {suite.name} " in done.stdout
        written = json.loads((folder / f"{suite.name}.json").read_text(encoding="utf-8"))
        assert list(written["sections"]) == list(suite.sections)
        assert part_of(written, suite) == written
        assert written["targets"]
        for target in written["targets"]:
            assert f"\n{target['figure']} " in targets
            assert f"<td>{target['figure']}</td>" in page
        section = page[page.index(f'<section class="suite"><h2>{suite.title}<') :]
        section = section[: section.index("</section>")]
        assert "<svg viewBox" in section
        assert "<table>" in section
        assert written["measurements"] or suite.name in ("memory", "delay", "imports")
        for title, measured in written["measurements"].items():
            for one in measured["contenders"]:
                assert f"<td>{escape(one['name'])}</td>" in section, title
    assert max(map(len, targets.splitlines()[:-1])) <= 80
    assert f"report: {folder / 'report.html'}" in done.stdout


@pytest.mark.timeout(180)
def test_the_page_loads_nothing_and_says_where_it_was_measured(reported):
    _, _, folder = reported
    page = (folder / "report.html").read_text(encoding="utf-8")
    written = json.loads((folder / "imports.json").read_text(encoding="utf-8"))
    assert not re.search(r"://|<(link|img|iframe|script)|\bsrc=|href=\"(?!#)|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    for fact in (written["machine"]["platform"], written["date"][:10]):
        assert fact in page
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_the_suites_are_listed(tmp_path):
    done = call(SCRIPT, "--list", cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split(None, 1) for line in done.stdout.splitlines()] == [
        [suite.name, suite.what] for suite in SUITES
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memroy"], "unknown suite 'memroy' (did you mean 'memory'?); the suites are graph, "),
        (["--max=99"], "--max must be at least 100, but is 99"),
        (["--rounds=0"], "--rounds must be at least 1, but is 0"),
        ([f"--out={SCRIPT}"], f"cannot write into --out {SCRIPT}: "),
    ],
)
def test_invalid_arguments_are_refused_in_a_sentence(arguments, message, tmp_path):
    done = call(SCRIPT, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"bench.py: {message}")
    assert "Traceback" not in done.stderr


def test_a_suite_that_fails_does_not_stop_the_others(tmp_path, capfd):
    (imports,) = (suite for suite in SUITES if suite.name == "imports")
    missing = dataclasses.replace(imports.program, name="missing")
    broken = dataclasses.replace(imports, name="broken", title="Broken", program=missing)
    main = runpy.run_path(str(SCRIPT))["main"]
    main.__globals__["suites_named"] = lambda names: [broken, imports]
    status = main([f"--out={tmp_path}", "--quick", "--rounds=1"])
    printed = capfd.readouterr().out
    assert status == 1
    assert "broken: missing.py failed with exit status 2" in printed
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Broken</h2>" in page
    assert "missing.py failed with exit status 2" in page
    assert "from spawn to exit" in page


@pytest.mark.skipif(os.name == "nt", reason="there, Ctrl-C cannot be sent to one process")
def test_ctrl_c_ends_the_run_and_reports_completed_suites(tmp_path):
    # The first has no rounds; the second one would take half a minute.
    command = [sys.executable, SCRIPT, "memory", "imports", "--rounds=300", "--max=100"]
    command += [f"--out={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2/2 imports"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "interrupted; not done: imports" in rest
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Memory of a loop</h2>" in page
    assert "from spawn to exit" not in page


def test_a_program_runs_some_of_its_sections_in_its_own_order(tmp_path):
    figures = tmp_path / "some.json"
    steps.PROGRAM.run(write_page, [*SMALL, f"--json={figures}", "--only=watching", "--only=memory"])
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert written["sections"] == {"memory": ["memory_bytes"], "watching": []}
    assert written["measurements"].keys() == {"watching"}
    assert {target["section"] for target in written["targets"]} == {"memory", "watching"}
