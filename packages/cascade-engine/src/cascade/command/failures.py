"""The error output of the command."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

# Modules between the command and a user's first line.
_OURS = ("cascade.command", "cascade.runtime", "cascade.adapters", "cascade.graph", "cascade.spec")
_CARRIERS = ("cyclopts", "asyncio", "contextlib", "concurrent", "importlib", "_frozen_importlib")


class UsageError(Exception):
    """The command line cannot be carried out; the message is one sentence for its author."""


class NoJsonError(Exception):
    """The requested value exists, but has no JSON form."""


class RefusedError(Exception):
    """The command line is right, but cannot be carried out now; the message is one sentence."""


def complain(message: str, code: int) -> int:
    """Print one line to standard error; returns ``code``, the exit code."""
    from rich.console import Console
    from rich.text import Text

    from cascade.runtime.console import write_line
    from cascade.spec.wording import visible

    message = visible(message, lines=True)
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(Text.assemble(("cascade: ", "bold red"), message), soft_wrap=True)
    else:
        write_line(None, f"cascade: {message}")
    return code


def show_failure(error: BaseException) -> None:
    """Print the traceback of a user's program, from the user's first line.

    An error that Cascade raises about a program is printed without a traceback if none of the
    user's lines led there. An error in Cascade's own code keeps its traceback, and so do all errors
    if ``CASCADE_FULL_TRACEBACK`` is set.
    """
    from cascade.runtime.console import write_line
    from cascade.runtime.diagnostics.tracebacks import VARIABLE, leave_out_machinery
    from cascade.spec.errors import CascadeError
    from cascade.spec.wording import visible

    leave_out_machinery(error)
    users = _from_the_users(error.__traceback__)
    full = os.environ.get(VARIABLE, "0") not in ("", "0")
    if not full and (users is not None or isinstance(error, CascadeError)):
        error.with_traceback(users)
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    write_line(sys.stderr, visible(text, lines=True))


def _from_the_users(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        root = module.partition(".")[0]
        if not module.startswith(_OURS) and root not in _CARRIERS:
            return trace
        trace = trace.tb_next
    return None
