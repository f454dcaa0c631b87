"""Output streams of subscribers for people: with limited encodings, terminals, or missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def write_line(stream: TextIO | None, line: str) -> None:
    """Write ``line`` to ``stream``; None stands for the present standard error.

    Characters outside the stream's encoding become escapes.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return  # a process without a console, where print() is silent too
    try:
        stream.write(f"{line}\n")
    except UnicodeEncodeError:
        encoding = stream.encoding
        stream.write(f"{line}\n".encode(encoding, "backslashreplace").decode(encoding))


def flush(stream: TextIO | None) -> None:
    """Flush ``stream``; None stands for the present standard error."""
    stream = sys.stderr if stream is None else stream
    if stream is not None:
        stream.flush()


def terminal(to: TextIO | Console | None) -> Console | None:
    """A console that can show bars; None if ``to`` cannot, or rich is not installed.

    rich is imported only for terminals.
    """
    if "rich.console" in sys.modules:  # otherwise no object can be a Console
        from rich.console import Console

        if isinstance(to, Console):
            return to if to.is_terminal and not to.is_dumb_terminal else None
    stream = stream_of(to) or sys.stderr
    if stream is None or not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=True) if to is None else Console(file=stream)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def stream_of(to: TextIO | Console | None) -> TextIO | None:
    """The stream for plain lines; None stands for standard error."""
    if "rich.console" in sys.modules:
        from rich.console import Console

        if isinstance(to, Console):
            return to.file  # type: ignore[return-value]  # an IO[str]
    return to  # type: ignore[return-value]
