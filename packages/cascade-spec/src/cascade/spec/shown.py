"""Shown: a base class whose ``str`` is shown by terminals, rich and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Shown:
    """A base for results made for reading: an explanation, a plan, the faults of a blueprint.

    ``print(answer)`` shows the text; so do IPython and notebooks, without ``print``, and rich. Only
    ``repr`` is short.
    """

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str | None:
        from html import escape  # only notebooks need it

        return f"<pre>{escape(str(self))}</pre>"

    def __rich__(self) -> _Plain:
        return _Plain(str(self))


class _Plain:
    """Text for rich, without markup."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield console.render_str(self._text, emoji=False, markup=False, highlight=False)
