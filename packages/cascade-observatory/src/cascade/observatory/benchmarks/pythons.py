"""The other CPythons of this machine: ``python3 pythons.py`` prints their versions and paths.

It needs no library, so that a check may ask before there is an environment: see
``.ci/other-pythons``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Minor versions that are looked for; Cascade needs the first.
OLDEST, NEWEST = 11, 19
#: Prints the version of a finished CPython.
_ASK = """
import platform, sys
if platform.python_implementation() == "CPython" and sys.version_info.releaselevel == "final":
    print(platform.python_version())
"""


def other_pythons() -> dict[str, Path]:
    """Version → interpreter: the first that starts of each other minor version, oldest first.

    Looks on PATH and under pyenv, for finished releases. A shim of pyenv may be there for a version
    that does not start.
    """
    found = {}
    for minor in range(OLDEST, NEWEST + 1):
        if minor != sys.version_info.minor:
            for path in _candidates(minor):
                version = version_of(path)
                if version is not None and re.match(rf"3\.{minor}\.", version):
                    found[version] = path
                    break
    return found


def version_of(python: Path) -> str | None:
    """Its version; None if it does not start, or is no finished CPython."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _candidates(minor: int) -> Iterator[Path]:
    for folder in os.get_exec_path():
        path = shutil.which(f"python3.{minor}", path=folder)
        if path is not None:
            yield Path(path)
    for root in _pyenv_roots():
        yield from sorted(root.glob(f"versions/3.{minor}.*/bin/python"))


def _pyenv_roots() -> Iterable[Path]:
    return dict.fromkeys(
        [Path.home() / ".pyenv", Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    )


if __name__ == "__main__":
    for version, path in other_pythons().items():
        print(version, path)
