"""``cascade --complete SHELL …``: the candidates at the cursor, for the scripts of shells.

Targets and their options are read from the source. Only the options of a target that the source
does not tell, such as a lazy value, need its module: it is imported without a sound, for at most
two seconds, and if that fails the parameters that the source names are offered.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

#: The commands whose first word is a target; ``run`` has options of the target as well.
WITH_TARGETS: Final = ("run", "plan", "graph", "explain", "disassemble")


def complete(words: Sequence[str]) -> int:
    """Print one candidate a line.

    Args:
        words: ``bash`` and the line up to the cursor; or ``words`` and its words after ``cascade``,
            the last of which is being written.
    """
    kind, *rest = words or [""]
    try:
        found = _for_bash(*rest) if kind == "bash" else candidates(rest)
    except Exception:  # a shell shows no candidates rather than a traceback
        return 1
    sys.stdout.write("".join(f"{one}\n" for one in found))
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """The candidates for the last of ``words``, which stand after ``cascade``."""
    if len(words) < 2 or words[0] not in WITH_TARGETS:
        return []
    *before, current = words[1:]
    target = next((word for word in before if is_target(word)), None)
    if target is None:
        return [] if current.startswith("-") else _matching(_targets(current), current)
    if words[0] != "run" or not current.startswith("-"):
        return []
    from cascade.command.target_source import options_in

    return _matching(options_in(target), current)


def is_target(word: str) -> bool:
    """Whether a word looks like ``MODULE:TARGET``."""
    place, colon, name = word.rpartition(":")
    is_name = all(part.isidentifier() for part in name.split("."))
    return bool(colon and place and is_name and not word.startswith("-") and "/" not in name)


def _targets(current: str) -> Iterable[str]:
    """Files that may hold targets, or the targets of the file before the colon."""
    place, colon, _ = current.rpartition(":")
    if not colon:
        return _files(current)
    from cascade.command.target_source import targets_in

    return (f"{place}:{name}" for name in targets_in(place))


def _files(current: str) -> Iterable[str]:
    """Python files, with the colon that comes next, and folders."""
    start, slash, _ = current.rpartition("/")
    folder = Path(start or "/") if slash else Path()
    for found in sorted(folder.iterdir()):
        name = f"{start}{slash}{found.name}"
        if found.name.startswith((".", "__")):
            continue
        if found.is_dir():
            yield f"{name}/"
        elif found.suffix == ".py":
            yield f"{name}:"


def _matching(found: Iterable[str], current: str) -> list[str]:
    return [one for one in found if one.startswith(current)]


def _for_bash(line: str = "") -> list[str]:
    """The candidates for a line, without the part of the last word before its last colon.

    For bash a colon ends a word, so bash puts a candidate behind the colon.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        return []
    if not line or line[-1].isspace():
        words.append("")
    current = words[-1]
    said = current.rpartition(":")[0]
    return [one[len(said) + 1 if said else 0 :] for one in candidates(words[1:])]
