"""The entry point of the command: checks that its dependencies are installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

_NEEDED = ("cyclopts", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after ``cascade``; those of this process by default.

    Returns:
        The exit code: 0 for success, 1 if the program failed, 2 if the command line is invalid or
        the extra is not installed, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["--complete"]:  # a shell asks at each press of its key, so without cyclopts
        from cascade.command.completing import complete

        return complete(words[1:])
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"cascade: the command needs {' and '.join(missing)}: "
            'pip install "cascade-engine[cli]"',
            file=sys.stderr,
        )
        return 2
    from cascade.command.app import call

    return call(words)
