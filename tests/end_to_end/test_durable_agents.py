"""The second demo: three agents that are killed half-way, and end right."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "observatory" / "experiments" / "durable_agents.py"
TOPICS = ("tides", "lakes", "rivers")


def paused(seconds):
    return {**os.environ, "AGENTS_PAUSE": str(seconds), "PYTHONUTF8": "1"}


def command(folder, *options):
    return [sys.executable, str(SCRIPT), "--file", str(folder / "agents.db"), *options]


def test_agents_that_were_killed_end_right_when_they_are_started_again(tmp_path):
    agents = subprocess.Popen(
        command(tmp_path), stdout=subprocess.PIPE, text=True, encoding="utf-8", env=paused(0.05)
    )
    printed = []
    with agents:
        for line in agents.stdout:
            printed.append(line)
            if "part 3" in line:  # half-way
                agents.kill()
                break
        printed += agents.stdout
    approved = subprocess.run(
        command(tmp_path, "--approve", "lakes", "--by", "ada"),
        capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert approved.stdout == "lakes: approved\n"
    again = subprocess.run(
        command(tmp_path, "--yes"), env=paused(0),
        capture_output=True, text=True, encoding="utf-8", check=True, timeout=60,
    )  # fmt: skip
    reports = again.stdout.splitlines()[-3:]
    assert reports == [
        "tides: 5 notes, approved by --yes",
        "lakes: 5 notes, approved by ada",
        "rivers: 5 notes, approved by --yes",
    ]
    told = Counter(line.strip() for line in (*printed, *again.stdout.splitlines()))
    for topic in TOPICS:
        parts = [told[f"{topic}: looked up part {part}"] for part in range(1, 6)]
        assert min(parts) == 1
        # At most the call that was under way at the kill, and one whose commit was.
        assert sum(parts) <= 6
    assert sum(" published, as " in line for line in told.elements()) == 3


def test_a_third_start_only_tells_the_reports(tmp_path):
    first = command(tmp_path, "--yes")
    subprocess.run(first, capture_output=True, check=True, timeout=60, env=paused(0))
    third = subprocess.run(
        command(tmp_path), capture_output=True, text=True, encoding="utf-8", check=True, timeout=60
    )
    assert third.stdout.splitlines() == [f"{t}: 5 notes, approved by --yes" for t in TOPICS]
