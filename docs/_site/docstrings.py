"""Prepares docstrings for the reference: their examples and blocks of code, as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: Lines of an example, until a blank one.
_EXAMPLE = re.compile(r"(?:^|(?<=\n\n))(?P<indent> *)>>> .*(?:\n(?P=indent).+)*")
#: What announces an indented block in reStructuredText.
_ANNOUNCED = re.compile(r"::(?=\n\n +)")


class Docstrings(griffe.Extension):
    """Fences examples, so that Markdown does not take ``>>>`` for a quotation."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The text of a docstring, for Markdown."""
    fenced = _EXAMPLE.sub(
        lambda found: f"{found['indent']}```pycon\n{found[0]}\n{found['indent']}```", docstring
    )
    return _ANNOUNCED.sub(":", fenced)
