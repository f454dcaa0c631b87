"""``typing_checked.py`` has the expected results of type checkers; mypy runs here."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.thorough  # `hatch run types:check` looks at the file each time
@pytest.mark.skipif(find_spec("mypy") is None, reason="needs mypy: pip install mypy")
def test_mypy_sees_the_types_that_the_file_asserts():
    # This file alone: the facade makes mypy see the layers above, whose types are checked
    # elsewhere.
    options = ["--follow-imports=silent", "tests/spec/typing_checked.py"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
