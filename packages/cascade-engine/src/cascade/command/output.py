"""The output of commands: for people in a terminal, plain in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cascade.command.failures import NoJsonError, UsageError
from cascade.command.json_forms import HasNoFormError, json_form, plain_data
from cascade.runtime.console import write_line
from cascade.spec.wording import short, visible, visible_json

if TYPE_CHECKING:
    from rich.table import Table

_PLAIN: Final[Mapping[int, str]] = {}
#: Columns of a table in a pipe.
_WIDEST: Final = 10_000


def show(text: str, styles: Mapping[str, str] | None = None) -> None:
    """Print ``text`` to standard output, with escapes for characters that a terminal obeys.

    Args:
        text: Any number of lines; they are never wrapped.
        styles: Regular expression → style of its matches, in a terminal.
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


def table(*headings: str, right: Sequence[int] = ()) -> Table:
    """An empty table for people.

    Args:
        right: The places of columns of numbers.
    """
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="right" if place in right else "left", overflow="fold")
    return made


def add_row(table: Table, *cells: str, styles: Mapping[int, str] = _PLAIN) -> None:
    """Add a row literally: brackets in a pattern would be read as markup.

    Args:
        styles: Place of a cell → its style.
    """
    from rich.text import Text

    shown = [Text(visible(cell), styles.get(place, "")) for place, cell in enumerate(cells)]
    table.add_row(*shown)


def show_table(table: Table) -> None:
    """Print a table to standard output; in a pipe, no cell is wrapped."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    console = Console(width=_WIDEST)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    write_line(sys.stdout, "\n".join(lines))


def show_value(value: Any) -> None:
    """Print a result: None not at all, a string as it is, any other value as Python writes it.

    A string is the program's output, so outside a terminal no character of it changes.
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
    # Not rich's own format, which puts each number of a long list on a line.
    text = pformat(value, width=console.width, compact=True, sort_dicts=False)
    if console.is_terminal:
        console.print(ReprHighlighter()(text), soft_wrap=True)
    else:
        write_line(sys.stdout, text)


def show_json(value: Any, what: str) -> None:
    """Print a value as one line of JSON.

    Raises:
        NoJsonError: It has no JSON form; ``what`` names it. The message contains the value in full,
            because it may have been expensive.
    """
    try:
        text = _as_json(value)
    except HasNoFormError as error:
        raise NoJsonError(
            f"{what} has no JSON form: {error}; let its class have a method __json__(), or leave "
            f"out --json; it is\n{_in_full(value)}"
        ) from None
    write_line(sys.stdout, visible_json(text))


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, default=json_form)
    except (TypeError, ValueError, RecursionError):
        pass  # perhaps only a key; else this finds the place of the fault
    try:
        return json.dumps(plain_data(value), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:  # of an object that says other things
        raise HasNoFormError("", str(error)) from None


def _in_full(value: Any) -> str:
    try:
        return visible(repr(value))
    except Exception:  # a broken __repr__ of the user's
        return short(value)


def write(text: str, file: Path) -> None:
    """Write a text file that ends with a newline.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from None
