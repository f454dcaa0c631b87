"""The common part of the programs under ``observatory/``: options, files and Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cascade.observatory.pictures.assets import needs_plots

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Reports an error in one sentence, without the list of options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the options\n")

    def add_out(self, *folders: str) -> None:
        """``--out``: the folder that the program writes into; it is made by ``start``."""
        default = Path(*folders)
        told = "where the files go (%(default)s)"
        self.add_argument("--out", type=Path, metavar="DIR", default=default, help=told)


def start(
    parser: Parser,
    check: Callable[[argparse.Namespace], object],
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the options, make ``--out``, and run the program.

    Args:
        parser: With an option ``--out``.
        check: Raises ValueError, with a text for the user, if options are invalid.
        work: The program; returns its exit status.
        arguments: The arguments; those of the process by default.

    Returns:
        The exit status; 130 after Ctrl-C.

    Raises:
        SystemExit: With status 2 and a sentence on stderr: options are invalid, the libraries for
            pictures are not installed, or ``--out`` is not writable.
    """
    chosen = parser.parse_args(arguments)
    try:
        check(chosen)
        with needs_plots():
            import matplotlib  # noqa: F401  (now, and not after minutes of work)
            import networkx  # noqa: F401
    except (ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
        return work(chosen)
    except OSError as error:
        parser.error(f"cannot write into --out {chosen.out}: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number ≥ ``least``."""

    def whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is not at least {least}")
        return number

    return whole
