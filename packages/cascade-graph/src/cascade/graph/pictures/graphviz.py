"""Calls of Graphviz' ``dot``, which arranges the boxes of a picture."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

from cascade.spec.errors import DrawingError

#: Most characters of Graphviz' complaint in an error.
_SHOWN: Final = 500


def has_graphviz() -> bool:
    """Whether there is a ``dot`` on the PATH."""
    return shutil.which("dot") is not None


def svg_of(text: str, timeout: float | None = None) -> str:
    """The drawing ``text``, in Graphviz' language, as an ``<svg>`` element.

    Args:
        text: The digraph.
        timeout: Most seconds for it; None for no limit.

    Raises:
        DrawingError: ``dot`` is missing, has failed, or needs longer than ``timeout``.
    """
    program = shutil.which("dot")
    if program is None:
        raise DrawingError(
            "format='svg' needs Graphviz, and there is no program 'dot' on the PATH: "
            "apt-get install graphviz, brew install graphviz or winget install graphviz; "
            "format='mermaid' needs none"
        )
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=text.encode(errors="backslashreplace"),
            capture_output=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise DrawingError(f"Graphviz took longer than {timeout:g} s to draw the graph") from None
    except OSError as error:
        raise DrawingError(f"{program} cannot be started: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[:_SHOWN]
        raise DrawingError(f"{program} has failed with exit status {done.returncode}: {said}")
    drawn = done.stdout.decode()
    return drawn[drawn.index("<svg") :].rstrip()  # without the declaration of a file
