"""Runs the checkers over files, and tells in which lines they report errors."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from shutil import which
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Way(NamedTuple):
    """A checker, and what it is helped by: nothing, Cascade's plugin, or stubs."""

    checker: str
    help: str = ""

    def __str__(self) -> str:
        return f"{self.checker} + {self.help}" if self.help else self.checker


WAYS = (
    Way("mypy"),
    Way("mypy", "plugin"),
    Way("mypy", "stubs"),
    Way("pyright"),
    Way("pyright", "stubs"),
    Way("ty"),
    Way("ty", "stubs"),
)
#: File and line → the messages.
Errors = Mapping[tuple[str, int], list[str]]


def program(checker: str) -> str | None:
    """The path of a checker: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name(checker)
    return str(beside) if beside.exists() else which(checker)


def lay_out(folder: Path) -> Path:
    """One folder with the sources of all layers, as an installation has them.

    Editable installs leave them in four, of which pyright and ty see only the first.
    """
    site = folder / "site"
    (site / "cascade").mkdir(parents=True)
    for source in sorted(ROOT.glob("packages/*/src/cascade/*")):
        if source.name != "__pycache__":
            (site / "cascade" / source.name).symlink_to(source)
    return site


def check(way: Way, folder: Path, site: Path, files: Iterable[str]) -> Errors:
    """The errors that the checker reports in ``files`` of ``folder``."""
    runs = {"mypy": _mypy, "pyright": _pyright, "ty": _ty}
    found: dict[tuple[str, int], list[str]] = {}
    for file, line, message in runs[way.checker](way, folder, site, [*files]):
        found.setdefault((Path(file).name, line), []).append(message)
    return found


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or "INTERNAL ERROR" in done.stderr:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def _mypy(way: Way, folder: Path, site: Path, files: list[str]) -> Iterable[tuple[str, int, str]]:
    settings = ["[mypy]", "strict = true", "namespace_packages = true"]
    if way.help == "plugin":
        settings.append("plugins = cascade.spec.typing.mypy")
    config = folder / f"mypy-{way.help}.ini"
    config.write_text("\n".join(settings))
    options = ["--config-file", str(config), "--cache-dir", str(site.parent / f"cache-{way.help}")]
    output = _run(
        [
            program("mypy") or "mypy",
            "--show-traceback",
            *options,
            "--python-executable",
            sys.executable,
            *files,
        ],
        folder,
        MYPYPATH=f"typings:{site}" if way.help == "stubs" else str(site),
    )
    for line in output.splitlines():
        if match := re.match(r"(.+?):(\d+): error: (.*)", line):
            yield match[1], int(match[2]), match[3]


def _pyright(
    way: Way, folder: Path, site: Path, files: list[str]
) -> Iterable[tuple[str, int, str]]:
    config = folder / "pyrightconfig.json"
    settings = {"extraPaths": [str(site)], "typeCheckingMode": "standard", "include": files}
    config.write_text(json.dumps(settings))
    command = [program("pyright") or "pyright", "--outputjson", "--pythonpath", sys.executable]
    output = _run([*command, "--project", str(config)], folder)
    for report in json.loads(output)["generalDiagnostics"]:
        if report["severity"] == "error":
            yield report["file"], report["range"]["start"]["line"] + 1, report["message"]


def _ty(way: Way, folder: Path, site: Path, files: list[str]) -> Iterable[tuple[str, int, str]]:
    options = [
        "--output-format",
        "concise",
        "--python",
        sys.prefix,
        "--extra-search-path",
        str(site),
    ]
    if way.help == "stubs":
        options += ["--extra-search-path", "typings"]
    output = _run([program("ty") or "ty", "check", *options, *files], folder)
    for line in output.splitlines():
        if match := re.match(r"(.+?):(\d+):\d+: error(.*)", line):
            yield match[1], int(match[2]), match[3]
