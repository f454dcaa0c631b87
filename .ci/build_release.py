"""Builds what a release uploads: a wheel and an sdist of each distribution.

``hatch run release:build --repository https://…`` from the root of the repository. Everything is
built twice, from copies in different folders and with different times of files: unless both have
the same bytes, it fails. So anybody can build the same files from the same commit. Then twine
checks their metadata.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = ("cascade-spec", "cascade-graph", "cascade-engine", "cascade-observatory")
#: The links of a project's page on an index, relative to its repository.
LINKS = {
    "Source": "",
    "Documentation": "/tree/main/docs",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "dist", "build", ".*")


def main() -> int:
    """Build, compare, and leave the files in the folder; the exit code."""
    given = arguments()
    os.environ.setdefault("SOURCE_DATE_EPOCH", committed_at())
    given.out.mkdir(parents=True, exist_ok=True)
    if any(given.out.iterdir()):
        sys.exit(f"{given.out} is not empty")
    different = []
    for name in given.only or DISTRIBUTIONS:
        first, second = (built(name, given.repository, age) for age in (0, 1_000_000))
        for file, content in first.items():
            (given.out / file).write_bytes(content)
            print(f"{sha256(content).hexdigest()}  {file}")
            if second.get(file) != content:
                different.append(file)
    if different:
        print(f"a second build gives other bytes: {', '.join(different)}", file=sys.stderr)
        return 1
    if given.unchecked:
        return 0
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, given.out.iterdir())]
    return subprocess.run(check, check=False).returncode


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", metavar="URL", help="for the links on a project's page")
    parser.add_argument("--only", action="append", choices=DISTRIBUTIONS)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument("--unchecked", action="store_true", help="without `twine check`")
    return parser.parse_args()


def committed_at() -> str:
    """The time of the last commit: that of all files in the archives."""
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def built(name: str, repository: str | None, age: int) -> dict[str, bytes]:
    """Name → content of the files of one distribution, built from a copy of its folder.

    Args:
        name: The distribution.
        repository: The URL that the links of its metadata begin with.
        age: Seconds by which the copied files are older than now.
    """
    with TemporaryDirectory() as folder:
        copy, out = Path(folder) / f"from {age}" / name, Path(folder) / "out"
        shutil.copytree(ROOT / "packages" / name, copy, ignore=_LEFT_OUT)
        if repository is not None:
            links = "".join(f'{n} = "{repository.rstrip("/")}{p}"\n' for n, p in LINKS.items())
            with (copy / "pyproject.toml").open("a", encoding="utf-8") as project:
                project.write(f"\n[project.urls]\n{links}")
        for path in copy.rglob("*"):
            os.utime(path, (time.time() - age,) * 2)
        # Not by a front end: that would make an environment for each of the builds.
        command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


if __name__ == "__main__":
    sys.exit(main())
