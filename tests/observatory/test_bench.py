"""One command runs the suites and reports them; no test looks at a time."""

import dataclasses
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cascade.observatory.benchmarks.suites import SUITES, part_of

PROGRAMS = Path(__file__).parents[2] / "observatory" / "benchmarks"
SCRIPT = PROGRAMS / "bench.py"
SMALL = ("--max=100", "--rounds=1", "--quick")


def bench(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1", "COLUMNS": "80"},
        check=False,
    )


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


@pytest.mark.timeout(180)  # where the machine is busy; else it takes some seconds
def test_suites_run_and_are_reported(tmp_path):
    # That of graphs has sleeping tasks, and is run whole in test_benchmarks.py.
    suites = [suite for suite in SUITES if suite.name != "graph"]
    done = bench(*SMALL, f"--out={tmp_path}", *(suite.name for suite in suites))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    targets = done.stdout[done.stdout.index("all targets:") :]
    for number, suite in enumerate(suites, 1):
        assert f"{number}/{len(suites)} {suite.name} " in done.stdout
        written = json.loads((tmp_path / f"{suite.name}.json").read_text(encoding="utf-8"))
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
                assert f"<td>{one['name']}</td>" in section, title
    assert max(map(len, targets.splitlines()[:-1])) <= 80
    assert f"report: {tmp_path / 'report.html'}" in done.stdout


@pytest.fixture(scope="module")
def of_imports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "new" / "folder"
    return bench("imports", "--rounds=1", f"--out={folder}"), folder


def test_one_suite_runs_alone_into_a_new_folder(of_imports):
    done, folder = of_imports
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"imports.json", "report.html"}


def test_the_page_loads_nothing_and_says_where_it_was_measured(of_imports):
    _, folder = of_imports
    page = (folder / "report.html").read_text(encoding="utf-8")
    written = json.loads((folder / "imports.json").read_text(encoding="utf-8"))
    assert not re.search(r"://|<(link|img|iframe|script)|\bsrc=|href=\"(?!#)|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    for fact in (written["machine"]["platform"], written["date"][:10]):
        assert fact in page
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_the_suites_are_listed():
    done = bench("--list")
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
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments, message):
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"bench.py: {message}")
    assert "Traceback" not in done.stderr


def test_a_suite_that_fails_does_not_stop_the_others(tmp_path, capfd):
    (imports,) = (suite for suite in SUITES if suite.name == "imports")
    missing = dataclasses.replace(imports.program, name="missing")
    broken = dataclasses.replace(imports, name="broken", title="Broken", program=missing)
    main = runpy.run_path(str(SCRIPT))["main"]
    main.__globals__["suites_named"] = lambda names: [broken, imports]
    status = main([f"--out={tmp_path}", "--quick"])
    printed = capfd.readouterr().out
    assert status == 1
    assert "broken: missing.py failed with exit status 2" in printed
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Broken</h2>" in page
    assert "missing.py failed with exit status 2" in page
    assert "from spawn to exit" in page


@pytest.mark.skipif(os.name == "nt", reason="there, Ctrl-C cannot be sent to one process")
def test_ctrl_c_ends_the_run_and_reports_what_was_done(tmp_path):
    # The second one would take half a minute.
    command = [sys.executable, SCRIPT, "governance", "memory", "--rounds=1", "--max=100000"]
    command += [f"--out={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2/2 memory"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "interrupted; not done: memory" in rest
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>A limit</h2>" in page
    assert "<h2>Memory of a loop</h2>" not in page


def test_a_program_runs_some_of_its_sections_in_its_own_order(tmp_path):
    figures = tmp_path / "some.json"
    command = [sys.executable, PROGRAMS / "tco_performance.py", *SMALL, f"--json={figures}"]
    command += ["--only=watching", "--only=memory"]
    subprocess.run(command, capture_output=True, check=True)
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert written["sections"] == {"memory": ["memory_bytes"], "watching": []}
    assert written["measurements"].keys() == {"watching"}
    assert {target["section"] for target in written["targets"]} == {"memory", "watching"}
