"""Other Pythons of the machine are found, and measure fused loops in processes of their own."""

import dataclasses
import io
import json
import os
import stat
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from rich.console import Console

from cascade.observatory.benchmarks import elsewhere, pythons, steps
from cascade.observatory.benchmarks.elsewhere import CannotMeasure, fused_loops, measured_by
from cascade.observatory.benchmarks.loops import LOOPS
from cascade.observatory.benchmarks.program import Bench
from cascade.runtime.loops.fused import is_traced

pytestmark = pytest.mark.skipif(os.name == "nt", reason="stand-ins of Pythons are shell scripts")
#: A minor version that this Python does not have.
MINOR = 12 if sys.version_info.minor != 12 else 13


def script(path, text):
    """A program that stands in for a Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without Pythons: folders for PATH and for pyenv."""
    path, home = tmp_path / "bin", tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    return tmp_path


def test_the_first_of_a_version_that_starts_is_taken(machine):
    script(machine / "bin" / f"python3.{MINOR}", "exit 127")  # a shim of pyenv for no version
    good = script(
        machine / "home" / ".pyenv" / "versions" / f"3.{MINOR}.4" / "bin" / "python",
        f"echo 3.{MINOR}.4",
    )
    assert pythons.other_pythons() == {f"3.{MINOR}.4": good}

    first = script(machine / "bin" / f"python3.{MINOR}", f"echo 3.{MINOR}.9")
    assert pythons.other_pythons() == {f"3.{MINOR}.9": first}


def test_this_version_unfinished_ones_and_none_are_left_out(machine, monkeypatch):
    assert pythons.other_pythons() == {}
    script(machine / "bin" / f"python3.{sys.version_info.minor}", "echo 3.99.0")
    script(machine / "bin" / f"python3.{MINOR}", "true")  # says no version: not finished
    other = script(machine / "other" / "versions" / "3.19.0" / "bin" / "python", "echo 3.19.0")
    monkeypatch.setenv("PYENV_ROOT", str(machine / "other"))
    assert pythons.other_pythons() == {"3.19.0": other}


def test_the_version_is_asked_of_the_interpreter():
    version = pythons.version_of(Path(sys.executable))
    assert version is None or version == sys.version.split()[0].rstrip("+")


def test_the_finder_needs_no_library():
    done = subprocess.run(
        [sys.executable, "-I", "-S", pythons.__file__], capture_output=True, text=True, check=True
    )
    assert all(len(line.split(None, 1)) == 2 for line in done.stdout.splitlines())


# -- fused loops elsewhere ------------------------------------------------------------------------


@pytest.fixture
def fused():
    if is_traced():
        pytest.skip("a debugger or coverage traces lines, so nothing is fused")


def test_fused_loops_are_measured_beside_a_bare_while(fused):
    found = fused_loops(steps=100, rounds=2, seconds=1.0)
    assert list(found) == [loop.name for loop in LOOPS]
    for loop in LOOPS:
        samples = found[loop.name]
        assert list(samples.seconds) == ["fused", "bare while"]
        assert samples.operations["fused"] == loop.steps(100)
        assert len(samples.seconds["fused"]) == 2


@pytest.mark.timeout(180)
def test_a_process_of_another_python_gives_its_samples():
    """Without anything installed for it: the source trees are enough. This one stands in."""
    python = Path(getattr(sys, "_base_executable", sys.executable))
    found = measured_by(python, steps=100, rounds=2, seconds=1.0)
    assert list(found) == [loop.name for loop in LOOPS]
    assert found["countdown"].ratio("bare while", "bare while").median == 1


def test_a_python_that_cannot_measure_says_why(tmp_path):
    broken = script(
        tmp_path / "python", "echo 'x' >&2; echo 'ModuleNotFoundError: no x' >&2; exit 1"
    )
    with pytest.raises(CannotMeasure, match=r"^ModuleNotFoundError: no x$"):
        measured_by(broken, 100, 1, 1.0)
    silent = script(tmp_path / "silent", "exit 3")
    with pytest.raises(CannotMeasure, match=r"^exit status 3$"):
        measured_by(silent, 100, 1, 1.0)
    with pytest.raises(CannotMeasure, match="No such file"):
        measured_by(tmp_path / "missing", 100, 1, 1.0)


def test_the_section_shows_each_python_and_skips_with_a_reason(fused, tmp_path, monkeypatch):
    samples = fused_loops(steps=100, rounds=1, seconds=1.0)

    def measured(python, *_):
        if python.name == "broken":
            raise CannotMeasure("ImportError: it is too old")
        return samples

    monkeypatch.setattr(steps, "measured_by", measured)
    monkeypatch.setattr(
        steps,
        "pythons_of_this_machine",
        lambda: {"3.12.9": tmp_path / "good", "3.13.1": tmp_path / "broken"},
    )
    out = io.StringIO()
    options = Namespace(max=100, rounds=1, quick=True)
    bench = Bench(options, Console(file=out, width=80, highlight=False), 3)
    bench.found.run("other pythons", lambda: steps.other_pythons(bench))
    assert list(bench.found.measurements) == [f"CPython 3.12.9: {loop.name}" for loop in LOOPS]
    assert [one["figure"].split(",")[0] for one in bench.found.targets] == ["3.12"] * len(LOOPS)
    assert [one["at_most"] for one in bench.found.targets] == [1.3, 1.3, 1.3, 1.3]
    assert "CPython 3.13.1" in out.getvalue()
    assert "ImportError: it is too old" in out.getvalue()

    monkeypatch.setattr(steps, "pythons_of_this_machine", dict)
    steps.other_pythons(bench)
    assert "no other finished CPython" in out.getvalue()


def test_samples_are_the_same_after_their_way_through_json(fused):
    samples = fused_loops(steps=100, rounds=1, seconds=1.0)["countdown"]
    again = elsewhere.Samples(**json.loads(json.dumps(dataclasses.asdict(samples))))
    assert again.seconds == samples.seconds
    assert again.ratio("fused", "bare while") == samples.ratio("fused", "bare while")
