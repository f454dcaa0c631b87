"""Small runs of benchmark programs, for the tests of their reports; no test checks a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.in_process import call

from cascade.observatory.benchmarks import contenders, program
from cascade.observatory.benchmarks.pages import charts_in, write_page
from cascade.observatory.benchmarks.program import Program
from cascade.observatory.benchmarks.suites import SUITES, Suite, part_of


class Report(NamedTuple):
    """What a run wrote, and what it printed."""

    written: dict[str, Any]
    printed: str


def few_nodes_in(patch: pytest.MonkeyPatch) -> None:
    """A run is of few nodes: ten times the smallest graph will do where no time is looked at."""
    patch.setattr(contenders, "_NODES_OF_A_RUN", 20)
    patch.setattr(contenders, "_PLAIN_CALLS_OF_A_RUN", 200)


def report_of(measured: Program, folder: Path, *options: object) -> Report:
    """Run all sections of a program, as small as they can be, with some options more."""
    path = folder / "a" / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "_CALLS", 1_000)
        smallest = ("--max", 100, "--rounds", 1, "--json", path)
        done = call(lambda words: measured.run(write_page, words), *smallest, *options, cwd=folder)
    return Report(json.loads(path.read_text(encoding="utf-8")), done.stdout)


def check_printed(report: Report, characters: int | None = None) -> None:
    """The tables fit a terminal, and have each target; of its name, the first ``characters``."""
    written, printed = report
    assert all(one["figure"][:characters] in printed for one in written["targets"])
    assert max(map(len, printed.splitlines()[1:-2])) <= 80


def check_suite(report: Report, name: str) -> tuple[Suite, Mapping[str, Any]]:
    """The report has the suite ``name``, with targets and charts; returns both."""
    (suite,) = (suite for suite in SUITES if suite.name == name)
    part = part_of(report.written, suite)
    assert part is not None
    assert part["targets"]
    assert charts_in(part)
    return suite, part
