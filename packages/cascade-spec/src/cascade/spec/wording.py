"""Values and texts in messages: short, in one line, and safe to print."""

from __future__ import annotations

import re
import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxother = _SHORT.maxstring = 60
#: Most characters of a value that ``short`` shows; a container of containers may have more.
_MOST_SHOWN = 400
#: Ints below this are shown as they are.
_SMALL = 10**12
#: Most characters of a type's name; programs can make longer ones.
_MOST_OF_A_NAME = 100

#: Characters that a terminal obeys or does not show: controls (C0, DEL, C1), line and paragraph
#: separators, marks that reorder text, characters without a width, surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_UNSEEN_IN_LINES = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def visible(text: str, *, lines: bool = False) -> str:
    r"""``text`` for a terminal or a picture, with escapes for control and invisible characters.

    Names and messages may come from other programs. An escape sequence in them could rewrite the
    screen, and a mark for writing from right to left could make a name look like another one.

    Args:
        text: Any text, also text that UTF-8 cannot encode.
        lines: Keep line breaks (``\n``) and tabs.

    >>> print(visible("a\x1b[2J\u202eb\n"))
    a\x1b[2J\u202eb\n
    """
    if text.isprintable() and text.isascii():
        return text
    return (_UNSEEN_IN_LINES if lines else _UNSEEN).sub(_escape, text)


def visible_json(text: str) -> str:
    """JSON text with the same meaning, in which each invisible character is an escape."""
    return _UNSEEN.sub(_escape_json, text)


def short(value: object) -> str:
    """``repr(value)`` cut to about a line; never raises."""
    if type(value) is int and -_SMALL < value < _SMALL:
        return repr(value)  # reprlib takes ten times as long
    if type(value) is str and len(value) < _SHORT.maxstring // 2 and value.isprintable():
        return visible(repr(value))
    try:
        shown = _SHORT.repr(value)
        if len(shown) > _MOST_SHOWN:
            shown = f"{shown[: _MOST_SHOWN - 1]}…"
        return visible(shown)
    except Exception:  # a broken __repr__ must not hide the message that contains it
        return f"<{type_name(value)} whose repr fails>"


def type_name(value: object) -> str:
    """The name of a value's type, even if its metaclass reports another."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return visible(name if len(name) <= _MOST_OF_A_NAME else f"{name[: _MOST_OF_A_NAME - 1]}…")


def error_text(error: BaseException) -> str:
    """``"ValueError: its message"``, as a traceback ends; the type alone if ``__str__`` fails."""
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
    """``module:name`` of a class, a function or a task, whether or not it can be found there."""
    return f"{thing.__module__}:{thing.__qualname__}"
