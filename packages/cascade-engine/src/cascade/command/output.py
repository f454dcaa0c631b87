"""What commands print: for people in a terminal, plain for whoever reads a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cascade.command.failures import NoJsonError, UsageError
from cascade.command.json_forms import json_form
from cascade.runtime.console import write_line
from cascade.spec.wording import short, visible, visible_json


def show(text: str, styles: Mapping[str, str] | None = None) -> None:
    """Print ``text`` to standard output; what a terminal would obey is shown as an escape.

    Args:
        text: Any number of lines; they are never wrapped.
        styles: Regular expression → style of what it finds, in a terminal.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console()
    text = visible(text, lines=True)
    if not console.is_terminal:
        write_line(sys.stdout, text)
        return
    shown = Text(text)
    for pattern, style in (styles or {}).items():
        shown.highlight_regex(pattern, style)
    console.print(shown, soft_wrap=True)


def show_value(value: Any) -> None:
    """Print a result: None not at all, text as it is, the rest as Python writes it, in lines.

    Text is what the program wants to print, so where no terminal reads it not a character changes.
    """
    if value is None:
        return
    if isinstance(value, str):
        if sys.stdout is not None and sys.stdout.isatty():
            show(value)
        else:
            write_line(sys.stdout, value)
        return
    from pprint import pformat

    from rich.console import Console
    from rich.highlighter import ReprHighlighter

    console = Console()
    # Not rich's own way, which gives each number of a long list a line.
    text = pformat(value, width=console.width, compact=True, sort_dicts=False)
    if console.is_terminal:
        console.print(ReprHighlighter()(text), soft_wrap=True)
    else:
        write_line(sys.stdout, text)


def show_json(value: Any, what: str) -> None:
    """Print a value as one line of JSON.

    Raises:
        NoJsonError: It has no JSON form; ``what`` names it. The value, which may have cost
            much, is part of the message, in full.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=json_form)
    except (TypeError, ValueError, RecursionError) as error:
        raise NoJsonError(
            f"{what} has no JSON form: {error}; let its class have a method __json__(), or leave "
            f"out --json; it is\n{_in_full(value)}"
        ) from None
    write_line(sys.stdout, visible_json(text))


def _in_full(value: Any) -> str:
    try:
        return visible(repr(value))
    except Exception:  # a repr of the user's own
        return short(value)


def write(text: str, file: Path) -> None:
    """Write a file, with a newline at its end.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from None
