"""How values and texts are shown to people: short, whatever they are, and without surprises."""

from __future__ import annotations

import re
import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxother = _SHORT.maxstring = 60
#: Characters of a value that ``short`` shows at most; a container of containers may have more.
_MOST_SHOWN = 400
#: Characters of a type's name; names that are longer are made by programs.
_MOST_OF_A_NAME = 100

#: Characters that a terminal obeys or that are not seen where they stand: controls (C0, DEL, C1),
#: line and paragraph separators, marks that reorder text, characters without a width, surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_UNSEEN_IN_LINES = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def visible(text: str, *, lines: bool = False) -> str:
    r"""``text`` for a terminal or a picture: what would act, or would not be seen, as escapes.

    Names and messages may come from other programs. An escape sequence in them could rewrite the
    screen, and a mark for writing from right to left could make a name look like another one.

    Args:
        text: Any text, also one that UTF-8 cannot encode.
        lines: Keep line breaks (``\n``) and tabs.

    >>> print(visible("a\x1b[2J\u202eb\n"))
    a\x1b[2J\u202eb\n
    """
    if text.isprintable() and text.isascii():
        return text
    return (_UNSEEN_IN_LINES if lines else _UNSEEN).sub(_escape, text)


def visible_json(text: str) -> str:
    """JSON text that means the same, where each character that is not seen is an escape."""
    return _UNSEEN.sub(_escape_json, text)


def short(value: object) -> str:
    """``repr(value)`` in about a line, whatever it is: cut, in one line, never an error."""
    try:
        shown = _SHORT.repr(value)
        if len(shown) > _MOST_SHOWN:
            shown = f"{shown[: _MOST_SHOWN - 1]}…"
        return visible(shown)
    except Exception:  # a broken __repr__ must not hide the message that it is for
        return f"<{type_name(value)} whose repr fails>"


def type_name(value: object) -> str:
    """The name of a value's type, also where its metaclass would say something else."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return visible(name if len(name) <= _MOST_OF_A_NAME else f"{name[: _MOST_OF_A_NAME - 1]}…")


def error_text(error: BaseException) -> str:
    """``"ValueError: what it says"``, as a traceback ends; the type alone if ``__str__`` fails."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # a broken __str__ must not hide the error
        return name
    return f"{name}: {text}" if text else name


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _escape_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def name_of(thing: Any) -> str:
    """``module:name`` of a class, a function or a task, whether it can be found by it or not."""
    return f"{thing.__module__}:{thing.__qualname__}"
