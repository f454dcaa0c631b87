"""Texts that an engine publishes, or writes as JSON lines: bounded and, on request, redacted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cascade.spec.errors import ArgumentError
from cascade.spec.wording import short

_log = logging.getLogger("cascade.control")

#: Most bytes of a published text, in UTF-8.
MOST_OF_A_TEXT = 2048
#: Most characters for the user's function, which may be a slow regular expression.
_MOST_REDACTED = 65_536
#: Characters near the cut of a longer text that are not published: the function may not recognise a
#: secret that the cut has split.
_UNSURE = _MOST_REDACTED // 2
#: Most items of a published list; the rest is counted.
_MOST_ITEMS = 50
#: Replaces a text that ``redact`` failed on.
WITHHELD = "(withheld: redact failed)"
#: Replaces a text whose redacted part lies too close to the cut to be published.
TOO_LONG = "(withheld: too long to redact)"
#: Fields whose last lines matter most: tracebacks. They are cut at the beginning.
_TOLD_AT_THE_END = frozenset({"stack"})


class Texts:
    """Redacts and cuts each text before it is published.

    Args:
        redact: Returns the text in a form for others; None for no change. If it raises, the text is
            withheld.

    Raises:
        ArgumentError: ``redact`` is not callable.
    """

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        if redact is not None and not callable(redact):
            raise ArgumentError(
                f"redact takes a function from a text to a text, but got {short(redact)}"
            )
        self._redact = redact
        self._failures = 0
        self._next_report = 1

    def clean(self, text: str, most: int = MOST_OF_A_TEXT, *, keep_end: bool = False) -> str:
        """The published form of a text: without secrets, then cut to ``most`` bytes.

        The user's function gets at most 64 KiB of a text. A secret of up to 32 KiB is published
        neither in whole nor in part, wherever it stands.

        Args:
            text: The text.
            most: Most bytes of the result.
            keep_end: Cut it at its beginning.
        """
        if self._redact is not None and text:
            text = self._without_secrets(text, keep_end)
        return cut(text, most, keep_end=keep_end)

    def data(self, value: Any) -> Any:
        """The same for all texts in plain data; its lists are cut as well."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, list):
            found = [self.data(item) for item in value[:_MOST_ITEMS]]
            more = len(value) - len(found)
            return [*found, f"… {more} more"] if more else found
        if isinstance(value, dict):
            return {name: self._field(name, item) for name, item in value.items()}
        return value

    def _field(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and name in _TOLD_AT_THE_END:
            return self.clean(value, keep_end=True)
        return self.data(value)

    def _without_secrets(self, text: str, keep_end: bool) -> str:
        if len(text) <= _MOST_REDACTED:
            return self._redacted(text)
        found = self._redacted(text[-_MOST_REDACTED:] if keep_end else text[:_MOST_REDACTED])
        if found is WITHHELD:
            return found
        if len(found) <= _UNSURE:
            return TOO_LONG
        return f"…{found[_UNSURE:]}" if keep_end else f"{found[:-_UNSURE]}…"

    def _redacted(self, text: str) -> str:
        assert self._redact is not None
        try:
            found = self._redact(text)
        except Exception as error:
            self._report(type(error).__name__)
            return WITHHELD
        if not isinstance(found, str):
            self._report(f"it gave {type(found).__name__}")
            return WITHHELD
        return found

    def _report(self, why: str) -> None:
        """Log a failure without the text and the error's message, which may contain the secret."""
        self._failures += 1
        if self._failures >= self._next_report:
            self._next_report *= 10
            _log.error(
                "redact failed (%s), so the text is withheld; failure no. %d, no. %d is the next "
                "to be reported",
                why,
                self._failures,
                self._next_report,
            )


def cut(text: str, most: int = MOST_OF_A_TEXT, *, keep_end: bool = False) -> str:
    """``text`` cut to at most ``most`` bytes of UTF-8; escapes replace invalid characters.

    Args:
        text: The text.
        most: Most bytes of the result.
        keep_end: Cut it at its beginning.

    >>> cut("a" * 100, 10)
    'aaaaaaa…'
    >>> cut("a" * 100 + "b", 10, keep_end=True)
    '…aaaaaab'
    """
    if len(text) <= most and text.isascii():
        return text
    part = text[-most - 1 :] if keep_end else text[: most + 1]
    encoded = part.encode("utf-8", "backslashreplace")
    if len(encoded) > most:
        if keep_end:
            return "…" + encoded[3 - most :].decode("utf-8", "ignore")
        return encoded[: most - 3].decode("utf-8", "ignore") + "…"
    return encoded.decode()
