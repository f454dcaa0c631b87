"""The list of commands, and the handling of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import (
    App,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)

from cascade.command.failures import (
    NoJsonError,
    RefusedError,
    UsageError,
    complain,
    show_failure,
)
from cascade.spec.errors import ExecutorError

SUCCEEDED, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

#: Name → place of its function, and its line in `cascade --help`. Imported when it is called.
COMMANDS = {
    "init": ("cascade.command.init:init", "Make a small project, with tests."),
    "run": ("cascade.command.running:run", "Run a target and print its value."),
    "plan": ("cascade.command.views:plan", "Show the plan of a run, as a tree."),
    "graph": ("cascade.command.views:graph", "Draw a target, for Mermaid or Graphviz."),
    "explain": (
        "cascade.command.views:explain",
        "Show the VM tier of each task, or what a cache has.",
    ),
    "disassemble": (
        "cascade.command.views:disassemble",
        "List the compiled instructions of a target.",
    ),
    "stubs": (
        "cascade.command.stubs:stubs",
        "Write stubs with the types of tasks, for checkers.",
    ),
    "cache": ("cascade.command.caches:cache", "Inspect and clear the cache of pure tasks."),
    "work": ("cascade.command.working:work", "Execute the durable runs of a store."),
    "runs": ("cascade.command.runs:runs", "List, inspect and steer durable runs."),
    "status": ("cascade.command.watching:status", "Show the connected engines."),
    "watch": ("cascade.command.watching:watch", "Show them continuously."),
    "web": ("cascade.web.starting:web", "Show engines, runs and stores in a browser."),
    "pause": ("cascade.command.steering:pause", "Pause tasks in running engines."),
    "resume": ("cascade.command.steering:resume", "Remove a pause."),
    "limit": ("cascade.command.steering:limit", "Limit how many tasks run at once, or how often."),
}
_EPILOGUE = "Exit codes: 0 done, 1 the program failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."


def call(arguments: list[str]) -> int:
    """Run the command in ``arguments``, and report errors to people; the exit code."""
    try:
        app = make_app(arguments)
        done = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except UsageError as error:
        return complain(str(error), MISUSED)
    except CycloptsError as error:
        return complain(_said(error), MISUSED)
    except (NoJsonError, RefusedError) as error:
        return complain(str(error), FAILED)
    except ExecutorError as error:
        if hasattr(error, "__notes__"):  # with the call of a task, which failed by it
            show_failure(error)
            return FAILED
        return complain(str(error), FAILED)  # such as a cluster that cannot be reached
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED)
    except SystemExit as end:
        stopped = getattr(end, "signal", None)  # of a Terminated; the engine has its module
        if stopped is None:
            raise
        return complain(f"stopped by {stopped.name}", 128 + stopped)
    except BrokenPipeError:  # `cascade plan … | head`: the reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        show_failure(error)
        return FAILED
    return done if isinstance(done, int) else SUCCEEDED


def make_app(arguments: Sequence[str] = ()) -> App:
    """All commands; ``run`` has the options of the target in ``arguments``."""
    app = App(
        name="cascade",
        help="Run, draw and inspect task graphs.",
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=_version,
        default_parameter=Parameter(negative=()),
        group_parameters=Group("Options"),
        suppress_keyboard_interrupt=False,
    )
    for position, (name, (place, summary)) in enumerate(COMMANDS.items()):
        if name == "run" and list(arguments[:1]) == ["run"]:
            from cascade.command.running import run_of

            app.command(run_of(arguments[1:]))
        else:
            app.command(place, name=name, help=summary, sort_key=position)
    app["--help"].help = "Show this page, or that of a command."
    app["--version"].help = "Show the version."
    app.command(
        "cascade.command.completion:install_completion",
        name="--install-completion",
        help="Install completion for your shell.",
    )
    return app


def _said(error: CycloptsError) -> str:
    """The fault of the command line; in cyclopts' words if these name the remedy."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{error.unused_tokens[0]!r} is an unexpected argument; see --help"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        text = str(error)
        if not error.argument.tokens and error.keyword is None and "Did you mean" not in text:
            return f"{error.argument.name} is required; see --help"
    return str(error)


def _version() -> str:
    from importlib.metadata import version

    python = ".".join(map(str, sys.version_info[:3]))
    return f"cascade {version('cascade-engine')}, Python {python}"
