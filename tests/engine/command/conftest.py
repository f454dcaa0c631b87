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
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        # Libraries stay: the others hold objects of theirs.
        if file and not (
            name.startswith("cascade.") or file.startswith((sys.prefix, sys.base_prefix))
        ):
            del sys.modules[name]
