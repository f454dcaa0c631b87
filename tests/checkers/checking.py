"""Runs the checkers over files, and tells in which lines they report errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import NamedTuple

from cascade.spec.typing.stubs import stub_of

ROOT = Path(__file__).parents[2]


class Way(NamedTuple):
    """A checker, and its help: none, Cascade's plugin, or stubs."""

    checker: str
    help: str = ""

    def __str__(self) -> str:
        return f"{self.checker} + {self.help}" if self.help else self.checker


WAYS = (
    Way("mypy"),
    Way("mypy", "plugin"),
    Way("pyright"),
    Way("pyright", "stubs"),
    Way("ty"),
    Way("ty", "stubs"),
)


class Report(NamedTuple):
    """An error that a checker reports, in a file by its path in the checked folder."""

    file: str
    line: int
    message: str


def program(checker: str) -> str | None:
    """The path of a checker: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name(checker)
    return str(beside) if beside.exists() else which(checker)


def reports(way: Way, folder: Path, stubbed: Sequence[str] = ()) -> list[Report]:
    """The errors in the modules in ``folder``.

    Those in its folder ``pages`` are examples: without annotations, with functions defined anew.

    Args:
        way: The checker and its help; its settings are written into the folder.
        folder: Has nothing else.
        stubbed: The modules that get a stub, where stubs are the help.
    """
    if way.help == "stubs":
        (folder / "typings").mkdir()
        for name in stubbed:
            source = (folder / f"{name}.py").read_text(encoding="utf-8")
            (folder / "typings" / f"{name}.pyi").write_text(stub_of(source), encoding="utf-8")
    check = {"mypy": _mypy, "pyright": _pyright, "ty": _ty}[way.checker]
    found = check(way, folder, _layers_together(folder))
    return [report for report in found if report.file in _sources(folder)]


def _sources(folder: Path) -> list[str]:
    found = [*folder.glob("*.py"), *folder.glob("pages/*.py")]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _layers_together(folder: Path) -> Path:
    """A folder with the sources of all layers, as an installation has them.

    Editable installs leave them in four folders, of which pyright and ty see only the first.
    """
    site = folder / "site"
    (site / "cascade").mkdir(parents=True)
    for source in sorted(ROOT.glob("packages/*/src/cascade/*")):
        if source.name != "__pycache__":
            (site / "cascade" / source.name).symlink_to(source)
    return site


def _run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


_FOR_MYPY = """\
[mypy]
strict = true
namespace_packages = true
explicit_package_bases = true
[mypy-pages.*]
check_untyped_defs = true
disallow_any_generics = false
disallow_incomplete_defs = false
disallow_untyped_calls = false
disallow_untyped_decorators = false
disallow_untyped_defs = false
warn_return_any = false
disable_error_code = no-redef, var-annotated
"""


def _mypy(way: Way, folder: Path, site: Path) -> Iterator[Report]:
    settings = folder / "mypy.ini"
    plugin = "strict = true\nplugins = cascade.spec.typing.mypy"
    settings.write_text(
        _FOR_MYPY.replace("strict = true", plugin) if way.help == "plugin" else _FOR_MYPY
    )
    options: list[str | Path] = [
        "--config-file",
        settings,
        "--cache-dir",
        folder / "cache",
        "--show-traceback",
    ]
    command = [program("mypy") or "mypy", *options, "--python-executable", sys.executable]
    output = _run([*command, *_sources(folder)], folder, MYPYPATH=str(site))
    for line in output.splitlines():
        if match := re.match(r"(.+?):(\d+): error: (.*)", line):
            yield Report(match[1], int(match[2]), match[3])


def _pyright(way: Way, folder: Path, site: Path) -> Iterator[Report]:
    paths = [str(site)]
    lenient = {"reportFunctionMemberAccess": False, "reportRedeclaration": False}
    settings = {
        "typeCheckingMode": "standard",
        "include": _sources(folder),
        "executionEnvironments": [
            {"root": "pages", "extraPaths": paths, **lenient},
            {"root": ".", "extraPaths": paths},
        ],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    options: list[str | Path] = [
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "--project",
        folder,
    ]
    output = _run([program("pyright") or "pyright", *options], folder)
    for found in json.loads(output)["generalDiagnostics"]:
        if found["severity"] == "error":
            path = Path(found["file"]).relative_to(folder)
            yield Report(path.as_posix(), found["range"]["start"]["line"] + 1, found["message"])


def _ty(way: Way, folder: Path, site: Path) -> Iterator[Report]:
    options: list[str | Path] = ["--output-format", "concise", "--python", sys.prefix]
    for path in ["typings"] * (way.help == "stubs") + [str(site)]:
        options += ["--extra-search-path", path]
    output = _run([program("ty") or "ty", "check", *options, *_sources(folder)], folder)
    for line in output.splitlines():
        if match := re.match(r"(.+?):(\d+):\d+: error(.*)", line):
            yield Report(match[1], int(match[2]), match[3])
