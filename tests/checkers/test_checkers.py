"""docs/typing.md tells what checkers accept and find; here they are asked."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.checkers.checking import WAYS, Report, program
from tests.checkers.table import (
    FILES,
    HERE,
    Answers,
    ask,
    examples,
    lines_of,
    module_of,
    tables,
    written,
)
from tests.pages import PAGES

#: Lines of examples that are refused: (page, start of the line) → the ways, and why.
REFUSED = {
    ("distribution", 'cs.run(score({"config"'): ({"mypy + plugin"}, "it fails on purpose"),
    ("distribution", "executor = cs.FuturesExecutor("): (
        {"mypy", "mypy + plugin"},
        "it was a DaskExecutor before",
    ),
    ("distribution", "print(executor.max_workers"): ({"mypy + plugin"}, "strings for list[int]"),
    ("durable", "store = open_store("): ({"mypy", "mypy + plugin"}, "it was a str before"),
    ("durable", "print(store.runs("): ({"mypy", "mypy + plugin"}, "it was a str before"),
    ("durable", "store.close()"): ({"mypy", "mypy + plugin"}, "it was a str before"),
    ("explanations_how_a_run_survives", "journal = store.load("): (
        {*map(str, WAYS)},
        "a store may not have the run",
    ),
    ("observing", "spans = sorted("): ({*map(str, WAYS)}, "a span may have no start"),
    ("semantics", "print(await engine.run(count()"): ({"mypy + plugin"}, "count is defined anew"),
    ("semantics", "return self.grow.tail("): (
        {"pyright", "pyright + stubs"},
        "the function has no annotation, and calls itself",
    ),
    ("streams", "return text, stream.handle"): (
        {*map(str, WAYS)},
        "a stream has no handle before it begins",
    ),
    ("surprises", "mixed.append(100)"): ({*map(str, WAYS)}, "a list of lazy values gets an int"),
    ("tutorial_first_graph", "warmest = max("): (
        {*map(str, WAYS)},
        "max takes no overloaded function as its key",
    ),
    ("tutorial_first_graph", 'if read("Oslo")'): (
        {*map(str, WAYS)} - {"mypy", "mypy + plugin"},
        "it fails on purpose",
    ),
    ("tutorial_policies", "return answer"): ({"mypy", "mypy + plugin"}, "items of several types"),
    ("testing", "return answer"): ({"mypy", "mypy + plugin"}, "items of several types"),
}


@pytest.fixture(scope="module")
def answers() -> Answers:
    missing = [name for name in ("mypy", "pyright", "ty") if program(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; `hatch run types:check` has them")
    return ask()


def test_the_tables_have_each_line_of_the_files():
    """As they are now; no checker is needed to see that."""
    told = re.findall(r"^\| `(.+?)` \|(.*?) \| [✓–]", written(), re.MULTILINE)
    lines = [line for file in FILES for line in lines_of(file)]

    expected = [(line.code.replace("|", "\\|"), line.what.replace("|", "\\|")) for line in lines]
    assert [(code, what.strip()) for code, what in told] == expected


def test_what_is_right_for_checkers_runs():
    done = subprocess.run(
        [sys.executable, "uses.py"], cwd=HERE, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_the_tables_have_the_answers_of_the_checkers(answers):
    assert tables(answers).splitlines() == written().splitlines(), (
        "write them anew: python -m tests.checkers.table"
    )


@pytest.mark.timeout(300)
def test_checkers_report_nothing_of_other_lines(answers):
    told = {(line.file, line.number) for file in FILES for line in lines_of(file)}
    others = {
        str(way): [r for r in found if "/" not in r.file and (r.file, r.line) not in told]
        for way, found in answers.items()
    }

    assert others == {str(way): [] for way in answers}


@pytest.mark.timeout(300)
def test_checkers_accept_the_examples_of_the_pages(answers):
    texts = {module_of(page): examples(page).splitlines() for page in PAGES}
    refused: dict[tuple[str, str], set[str]] = {}
    unknown: list[tuple[str, Report]] = []
    for way, found in answers.items():
        for report in (report for report in found if report.file in texts):
            key = _known(report, texts[report.file][report.line - 1].strip())
            if key is None:
                unknown.append((str(way), report))
            else:
                refused.setdefault(key, set()).add(str(way))

    assert unknown == []
    assert refused == {key: ways for key, (ways, _why) in REFUSED.items()}


def _known(report: Report, line: str) -> tuple[str, str] | None:
    for page, start in REFUSED:
        if report.file == f"pages/{page}.py" and line.startswith(start):
            return page, start
    return None
