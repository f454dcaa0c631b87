"""Programs of this project, called in the process of the tests.

A process of their own costs each call the imports, which take longer than most of what is tested.
What depends on a process (signals, exit codes, streams that are closed) is tested with one.
"""

from __future__ import annotations

import io
import os
import runpy
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock


class Done(NamedTuple):
    """The output of a call, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


@cache
def _main_of(script: Path) -> Callable[..., Any]:
    main: Callable[..., Any] = runpy.run_path(str(script))["main"]
    return main


def call(
    program: Path | Callable[..., Any], *arguments: object, cwd: Path, together: bool = False
) -> Done:
    """Call a program with arguments, as if in a terminal of 80 columns.

    Args:
        program: A script with a function ``main``, or such a function.
        arguments: Those of the command line.
        cwd: The working directory meanwhile.
        together: Collect stderr in stdout, as ``2>&1`` does.
    """
    main = _main_of(program) if isinstance(program, Path) else program
    name = program.name if isinstance(program, Path) else program.__name__
    out = io.StringIO()
    err = out if together else io.StringIO()
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if variable not in ("FORCE_COLOR", "CASCADE_FULL_TRACEBACK")
    }
    with (
        chdir(cwd),
        mock.patch.dict(os.environ, {**environment, "COLUMNS": "80"}, clear=True),
        mock.patch.object(sys, "argv", [name]),
        mock.patch.object(sys, "path", list(sys.path)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    code = status if isinstance(status, int) else 0
    return Done(code, out.getvalue(), "" if together else err.getvalue())
