"""The benchmark of import time runs and reports; times are not checked."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "observatory" / "benchmarks" / "import_cost.py"


def test_one_round_prints_a_table_and_writes_json(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "--rounds", "1", "--json", report]
    printed = subprocess.check_output(command, text=True)
    written = json.loads(report.read_text(encoding="utf-8"))

    assert written["options"]["rounds"] == 1
    assert [row["program"] for row in written["programs"]] == [
        "pass",
        "import cascade",
        "import cascade; cascade.run",
    ]
    assert [row["target_ms"] for row in written["programs"]] == [None, 10, 60]
    assert written["programs"][0]["over_bare_ms"] == 0
    assert all(row["program"] in printed for row in written["programs"])


def test_its_report_has_the_format_of_the_other_benchmarks(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "--rounds", "1", "--quick", "--json", report]
    subprocess.run(command, capture_output=True, check=True)
    written = json.loads(report.read_text(encoding="utf-8"))

    assert written["benchmark"] == "import_cost"
    assert written["options"] == {"rounds": 1, "quick": True}
    assert written["machine"].keys() == {"cpu_count", "platform", "python", "implementation"}
    assert {"date", "commit", "measurements"} <= written.keys()
    assert written["sections"] == {"imports": ["programs"]}
    assert [
        (target["figure"], target["at_most"], target["unit"]) for target in written["targets"]
    ] == [("import cascade", 10, "ms"), ("import cascade; cascade.run", 60, "ms")]


def test_no_round_is_refused_in_a_sentence():
    command = [sys.executable, SCRIPT, "--rounds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("import_cost.py: --rounds must be at least 1, but is 0;")
