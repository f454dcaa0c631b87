"""Suggestions for misspelt names: the known name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

#: Most characters of a mistyped name: the search for similar names is more than linear.
_LONGEST = 100
#: Names of at most this many letters are similar only if they begin alike: 'cpu' is no slip for
#: 'gpu'.
_SHORT = 4


def names_known(name: str, known: Iterable[str]) -> str:
    """``"'a', 'b' (did you mean 'a'?)"``, or ``"none"``. A single known name gets no question."""
    known = list(known)
    hint = did_you_mean(name, known) if len(known) > 1 else ""
    return (", ".join(map(repr, known)) or "none") + hint


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean …?)"`` for messages, or ``""`` if no known name is similar."""
    if len(name) > _LONGEST:
        return ""
    import difflib  # only errors need it

    if len(name) <= _SHORT:
        known = [other for other in known if other[:1] == name[:1]]
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
