"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

#: Most characters of a mistyped name; the search for similar ones is more than linear.
_LONGEST = 100
#: Names of so few letters are near only if they begin alike: 'cpu' is no slip for 'gpu'.
_SHORT = 4


def names_known(name: str, known: Iterable[str]) -> str:
    """``"'a', 'b' (did you mean 'a'?)"``, or ``"none"``; of a single one there is no question."""
    known = list(known)
    hint = did_you_mean(name, known) if len(known) > 1 else ""
    return (", ".join(map(repr, known)) or "none") + hint


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean …?)"`` for messages, or ``""`` where nothing known is close."""
    if len(name) > _LONGEST:
        return ""
    import difflib  # only errors need it

    if len(name) <= _SHORT:
        known = [other for other in known if other[:1] == name[:1]]
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
