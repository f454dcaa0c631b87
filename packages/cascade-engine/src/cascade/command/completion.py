"""``cascade --install-completion``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cascade.command.failures import UsageError


def install_completion(
    *,
    shell: Annotated[
        Literal["zsh", "bash", "fish", "powershell"] | None,
        Parameter(help="The shell; by default the current one."),
    ] = None,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            metavar="FILE",
            help="Only write the script, here; no start-up file of the shell is changed.",
        ),
    ] = None,
) -> None:
    """Install completion of commands, targets and options for your shell.

    Without --output this writes into the shell's completion folder, and for bash, zsh and
    PowerShell adds a line to its start-up file.
    """
    from cyclopts.completion import ShellDetectionError, detect_shell

    from cascade.command.app import make_app
    from cascade.command.output import show
    from cascade.command.shell_scripts import MORE

    try:
        meant = shell or detect_shell()
        written = make_app().install_completion(
            shell=meant, output=output, add_to_startup=output is None
        )
        with written.open("a", encoding="utf-8") as script:
            script.write(MORE.get(meant, ""))
    except ShellDetectionError:
        raise UsageError("cannot tell which shell this is; add --shell") from None
    except OSError as error:
        raise UsageError(f"cannot write the script: {error}") from None
    show(f"completion is in {written}; start a new shell to use it")
