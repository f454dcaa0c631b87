"""The scripts about fireflies and oscillators, called as their users call them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.in_process import call

EXPERIMENTS = Path(__file__).parents[2] / "observatory" / "experiments"
FIREFLIES, KURAMOTO = EXPERIMENTS / "run_fireflies.py", EXPERIMENTS / "kuramoto_transition.py"


def command(script, *arguments):
    return [sys.executable, script, *map(str, arguments)]


def environment():
    return {**os.environ, "PYTHONUTF8": "1", "COLUMNS": "80"}


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_loads_nothing(page):
    page = re.sub(r"<!DOCTYPE.*?>|http://www.w3.org/(2000/svg|1999/xlink)", "", page, flags=re.S)
    assert "://" not in page
    loaded = r"<(link|img|iframe)|\bsrc=|href=\"(?!#|data:image/png)|url\(|@import"
    assert not re.search(loaded, page)


@pytest.fixture(scope="module")
def fireflies(tmp_path_factory):
    """One small field in virtual time: its output, and the folder with its files."""
    here = tmp_path_factory.mktemp("here")
    options = ("--virtual", "--side", 12, "--duration", 20, "--picture", "picture.svg")
    return call(FIREFLIES, *options, cwd=here), here


def test_fireflies_come_into_step_and_the_output_reports_it(fireflies):
    done, here = fireflies

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"in step +R > 0\.95 since \d+\.\d s", done.stdout)
    assert re.search(r"fireflies +144", done.stdout)
    assert "build/fireflies/fireflies.html" in done.stdout.replace(os.sep, "/")
    page = (here / "build" / "fireflies" / "fireflies.html").read_text(encoding="utf-8")
    assert "144 fireflies" in page
    assert_loads_nothing(page)
    assert_loads_nothing((here / "picture.svg").read_text(encoding="utf-8"))


def test_there_is_a_line_for_each_look(fireflies):
    first, *looks, last = lines_of(fireflies[1] / "build" / "fireflies" / "fireflies.jsonl")

    assert first["settings"]["side"] == 12
    assert [look["t"] for look in looks] == pytest.approx([n / 20 for n in range(401)])
    assert looks[0]["R"] < 0.4 < 0.99 < looks[-1]["R"]
    assert looks[-1]["steps"] > looks[-1]["flashes"] > 144 * 15
    assert last["figures"]["time"] == "simulated"


def test_a_seed_gives_the_same_lines_in_another_process(tmp_path):
    options = ("--virtual", "--side", 5, "--duration", 10, "-q", "--out")
    here = call(FIREFLIES, *options, tmp_path / "here", cwd=tmp_path)
    there = subprocess.run(
        command(FIREFLIES, *options, tmp_path / "there"),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    first, second = (
        lines_of(tmp_path / place / "fireflies.jsonl")[1:-1] for place in ("here", "there")
    )

    assert (here.stdout, here.stderr, there.stdout, there.stderr) == ("", "", "", "")
    assert first == second
    assert len(first) == 201


def test_a_series_tells_how_many_came_into_step(tmp_path):
    options = ("--virtual", "--side", 6, "--duration", 15, "--seeds", 3, "--topology", "all-to-all")
    done = call(FIREFLIES, *options, "--out", tmp_path, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "36 fireflies, all-to-all: 3 of 3 came into step within 15 s" in done.stdout
    assert lines_of(tmp_path / "fireflies.jsonl")[-1] == {"seeds": 3, "in step": 3}


def test_oscillators_and_pairs_are_as_theory_says(tmp_path):
    options = ("--oscillators", 100, "--draws", 1, "--seconds", 20, "--picture", "k.svg")
    done = call(KURAMOTO, *options, cwd=tmp_path)
    out = tmp_path / "build" / "kuramoto"
    document = json.loads((out / "kuramoto.json").read_text(encoding="utf-8"))

    assert done.returncode == 0, done.stderr
    assert "48 of 48 pairs of fireflies flash as often as predicted" in done.stdout.replace(
        "\n", " "
    )
    assert len(document["points"]) == 12
    for point in document["points"]:
        if 0.75 <= point["coupling"] <= 1.25:
            continue  # around the transition, so few oscillators are a world of their own
        assert point["mean"] == pytest.approx(point["theory"], abs=3 / 100**0.5)
    assert all(m["measured"] == m["predicted"] for m in document["pairs"]["meetings"])
    assert_loads_nothing((out / "kuramoto.html").read_text(encoding="utf-8"))
    assert_loads_nothing((tmp_path / "k.svg").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (FIREFLIES, ["--side", "0"], "the side must be from 1 to 1000, but is 0"),
        (FIREFLIES, ["--side", "many"], "argument --side: invalid int value: 'many'"),
        (FIREFLIES, ["--topology", "cube"], "argument --topology: invalid choice: 'cube'"),
        (FIREFLIES, ["--period", "-1"], "the period must be above 0 seconds, but is -1.0"),
        (FIREFLIES, ["--nudge", "nan"], "the nudge must be a finite number"),
        (FIREFLIES, ["--seeds", "3"], "--seeds is for simulated time, so it needs --virtual"),
        (FIREFLIES, ["--rate", "10"], "--rate: a rate is a number > 0 per unit of time"),
        (FIREFLIES, ["--virtual", "--seeds", "0"], "--seeds must be at least 1, but is 0"),
        (KURAMOTO, ["--draws", "0"], "--draws must be at least 1, but is 0"),
        (KURAMOTO, ["--oscillators", "1"], "--oscillators must be at least 2, but is 1"),
        (KURAMOTO, ["--seconds", "0"], "--seconds must be from 0.1 to a million, but is 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(script, arguments, message, tmp_path):
    done = call(script, *arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("script", [FIREFLIES, KURAMOTO])
def test_an_unwritable_output_is_reported(script, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = call(script, "--out", "file", cwd=tmp_path)

    assert done.returncode == 2
    assert "cannot write into --out file" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
@pytest.mark.parametrize("virtual", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_ctrl_c_ends_the_run_and_keeps_the_recorded_flashes(virtual, tmp_path):
    options = ["--side", 4, "--duration", 100_000, *(["--virtual"] if virtual else [])]
    process = subprocess.Popen(
        command(FIREFLIES, *options),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("t ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    out = tmp_path / "build" / "fireflies"

    assert (process.returncode, errors) == (130, "interrupted\n")
    assert lines_of(out / "fireflies.jsonl")[-1]["figures"]["fireflies"] == "16"
    assert "16 fireflies" in (out / "fireflies.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_ends_the_measurement_of_oscillators(tmp_path):
    process = subprocess.Popen(
        command(KURAMOTO, "--seconds", 10_000),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    assert "started" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert errors.endswith("interrupted\n")
    assert "Traceback" not in errors
