"""The benchmark of import time runs and reports what it promises; the times are not looked at."""

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

    assert written["rounds"] == 1
    assert [row["program"] for row in written["programs"]] == [
        "pass",
        "import cascade",
        "import cascade; cascade.run",
    ]
    assert [row["target_ms"] for row in written["programs"]] == [None, 10, 60]
    assert written["programs"][0]["over_bare_ms"] == 0
    assert all(row["program"] in printed for row in written["programs"])
