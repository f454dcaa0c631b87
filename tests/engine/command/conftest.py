"""``cascade("run", "flows.py:report")``, in this process."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cascade.command.main import main

HERE = Path(__file__).parent


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cascade(capsys, monkeypatch):
    """The command, in the folder of the example modules; modules that it imports are forgotten."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("COLUMNS", "80")
    for variable in ("FORCE_COLOR", "CASCADE_FULL_TRACEBACK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def call(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(words)
        return Outcome(code, *capsys.readouterr())

    yield call
    kept = {"cascade", "cyclopts", "rich", *sys.stdlib_module_names}
    for name in set(sys.modules) - before:
        if name.partition(".")[0] not in kept:
            del sys.modules[name]
