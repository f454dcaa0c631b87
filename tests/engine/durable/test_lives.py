"""Runs go on whenever their processes are killed, stopped, or cut off from their store (D2–D6)."""

import re
import subprocess
import sys

import pytest
from tests.engine.durable.lives.broken import BREAKS
from tests.engine.durable.notes import ROOT
from tests.engine.durable.trials import MANY
from tests.services import Postgres

_THOROUGH = [pytest.mark.thorough, pytest.mark.timeout(0)]
pytestmark = pytest.mark.posix


def _done(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.engine.durable.lives.series", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _series(*options: str) -> str:
    """The output of a series of trials; the test fails if a trial has a fault."""
    done = _done(*options)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ +0 trials with faults$", done.stdout, re.MULTILINE)
    return done.stdout


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=_THOROUGH) for kind in ("sqlite", "postgres")]
)
def test_thousands_of_trials_have_no_fault(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    trials = 30 * MANY if kind == "sqlite" else 10 * MANY
    if kind == "postgres":
        Postgres.binary("initdb")
    told = _series(f"--{kind}", str(trials))
    with capsys.disabled():
        print(f"\n{told}")


def test_some_trials_have_no_fault() -> None:
    assert "killed at any time" in _series("--sqlite", "16", "--jobs", "2")


@pytest.mark.parametrize("broken", [pytest.param(name, marks=_THOROUGH) for name in BREAKS])
def test_an_engine_that_is_broken_on_purpose_is_found_out(broken: str) -> None:
    """Without this, a series without faults would prove nothing."""
    for seed in range(0, 1000, 50):
        done = _done("--sqlite", "50", "--seed", str(seed), "--broken", broken)
        if BREAKS[broken][1] in done.stdout:
            assert done.returncode == 1
            return
    raise AssertionError(done.stdout)
