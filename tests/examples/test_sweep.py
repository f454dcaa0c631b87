"""examples/sweep.py: a map whose calls are made in worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from examples import sweep

SCRIPT = Path(sweep.__file__)


def test_the_script_prints_a_line_for_each_number_of_contacts() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True, text=True, encoding="utf-8", check=True, timeout=60,
    )  # fmt: skip
    *chart, days, took = done.stdout.splitlines()

    assert [float(line[:5]) for line in chart] == pytest.approx(sweep.CONTACTS)
    assert chart[0].endswith(f"|{'  ' * 12}|")  # too few contacts for an epidemic
    assert chart[-1].endswith(f"{'@@' * 11}|")
    assert days.strip() == "2 to 13 days"
    assert took.startswith("288 epidemics in ")


def test_more_contacts_and_a_longer_illness_infect_more_people() -> None:
    share = sweep.epidemic.func

    assert sweep.epidemic.mode == "process"
    assert share(0.1, 5, 0.1) < 0.01 < 0.5 < share(0.4, 5, 0.1) < share(0.4, 10, 0.1) < 1
