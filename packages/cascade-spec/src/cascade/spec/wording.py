"""How values are shown in messages."""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxother = _SHORT.maxstring = 60


def short(value: object) -> str:
    """``repr(value)``, cut to about a line, whatever its size and depth."""
    try:
        return _SHORT.repr(value)
    except Exception:  # a broken __repr__ must not hide the message that it is for
        return f"<{type(value).__name__} whose repr fails>"
