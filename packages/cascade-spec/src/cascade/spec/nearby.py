"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

#: Characters of a name that somebody mistyped; looking for what is near takes longer than linear.
_LONGEST = 100


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean …?)"`` for messages, or ``""`` where nothing known is close."""
    if len(name) > _LONGEST:
        return ""
    import difflib  # only errors need it

    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
