"""Names of the standard library that a system lacks are used only behind a question for them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkers.checking import ROOT, program

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        program("ty") is None, reason="ty not installed; `hatch run types:platforms` has it"
    ),
]

#: Module → names that are guarded in a way that ty does not see: by a variable, an import that may
#: fail, or the refusal of the system before.
_ON_BOTH = {
    "runtime/graph_path/workers/load.py": {"pthread_getcpuclockid", "sched_getaffinity"},
}
_ON_WINDOWS = {
    "adapters/cache/lock_file.py": {"LOCK_EX", "LOCK_NB", "LOCK_UN", "lockf"},
    "adapters/connectors/local.py": {"open_unix_connection"},
    "adapters/connectors/local_folder.py": {"LOCK_EX", "LOCK_NB", "O_CLOEXEC", "flock", "getuid"},
    "observatory/benchmarks/postgres.py": {"geteuid"},  # which starts a server, where it is found
    "runtime/diagnostics/blocking_calls.py": {"clock_gettime"},
    "runtime/durable/desk.py": {"clock_gettime"},
    "runtime/graph_path/workers/load.py": {"clock_gettime"},
    "runtime/limits/clerk.py": {"clock_gettime"},
}
_FOUND = re.compile(r"^site/cascade/(.+?):\d+:\d+: .*(?:member|attribute) `(\w+)`$", re.MULTILINE)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A folder with the sources of all layers."""
    folder = tmp_path_factory.mktemp("sources")
    for source in ROOT.glob("packages/*/src/cascade"):
        shutil.copytree(source, folder / "site" / "cascade", dirs_exist_ok=True)
    return folder


def lacking(platform: str, folder: Path) -> set[tuple[str, str]]:
    """Module and name of each attribute that ty does not find on a system."""
    rules = ["--ignore", "all", "--error", "unresolved-attribute", "--error", "unresolved-import"]
    options = ["--output-format", "concise", "--python", sys.prefix, *rules]
    done = subprocess.run(
        [program("ty") or "ty", "check", "--python-platform", platform, *options, "site"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return {(match[1], match[2]) for match in _FOUND.finditer(done.stdout)}


@pytest.mark.parametrize(
    ("platform", "expected"), [("darwin", [_ON_BOTH]), ("win32", [_ON_BOTH, _ON_WINDOWS])]
)
def test_names_that_a_system_lacks_are_known(platform, expected, sources):
    known = {(file, n) for table in expected for file, names in table.items() for n in names}

    assert lacking(platform, sources) - lacking("linux", sources) == known
