"""Figures that other pages quote from docs/performance.md, written anew from its tables.

A quoted figure is a link by reference. The title of its target says which cells it is made from,
``COLUMN of ROW at SIZE``::

    A node costs [1.1 to 1.5 µs][node].

    [node]: docs/performance.md#wide "µs/node of cascade at 10 000"

The anchor is a heading of the page. The column is a heading of the tables below it; the row is a
contender, or a figure of targets, in which ``*`` stands for anything; the size, which may be left
out, is the first column. If several cells fit, the quote is their range.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

#: The words of a quote on pages in Chinese.
IN_CHINESE = {"to": "到", "times": "倍"}
#: The target of a quote: its name, anchor and title.
_TARGET = re.compile(r'^\[([\w-]+)\]: (?:docs/)?performance\.md#([\w-]+) "([^"]*)"$', re.MULTILINE)
_WHICH = re.compile(r"(.+?) of (.+?)(?: at ([\d ]+))?")
_CELL = re.compile(r"(\d[\d ]*(?:\.\d+)?)(?: (\D+))?")


def renewed(text: str, performance: str, translated: Mapping[str, str] | None = None) -> str:
    """The Markdown ``text``, with its quotes as the page ``performance`` has them.

    Args:
        text: A page.
        performance: The page with the tables.
        translated: The words of quotes in the language of ``text``, such as ``IN_CHINESE``.

    Raises:
        ValueError: A quote fits no cell, or is of cells with several units.
    """

    for name, anchor, title in _TARGET.findall(text):
        words = quote(performance, anchor, title).split(" ")
        words = [(translated or {}).get(word, word) for word in words]

        def renew(found: re.Match[str], words: list[str] = words) -> str:
            spaces = re.findall(r"\s+", found[1])  # where the line breaks, it still does
            if len(spaces) != len(words) - 1:
                spaces = [" "] * (len(words) - 1)
            quoted = "".join(map("".join, zip(words, [*spaces, ""], strict=True)))
            return f"[{quoted}]{found[2]}"

        text = re.sub(rf"\[([^][]*)\](\[{name}\])", renew, text)
    return text


def quote(performance: str, anchor: str, which: str) -> str:
    """The figure ``which`` of the section ``anchor``, such as ``1.1 to 1.5 µs``.

    Raises:
        ValueError: As of ``renewed``.
    """
    parts = _WHICH.fullmatch(which)
    if parts is None:
        raise ValueError(f"a quote's title is 'COLUMN of ROW at SIZE', but this is '{which}'")
    column, row, size = parts.groups()
    cells = [
        _value(heading, cell)
        for heading, label, of_size, cell in _cells(_section(performance, anchor))
        if heading == column and fnmatchcase(label, row) and size in (None, of_size)
    ]
    units = {unit for _, unit in cells}
    if len(units) != 1:
        problem = f"cells of several units, {sorted(units)}" if units else "no cell"
        raise ValueError(f"the quote '{which}' of #{anchor} fits {problem}")
    values = [value for value, _ in cells]
    ends = dict.fromkeys(_short(value) for value in (min(values), max(values)))
    return f"{' to '.join(ends)} {units.pop()}"


def _section(page: str, anchor: str) -> str:
    """The text below a heading, with its subsections.

    Raises:
        ValueError: There is no such heading.
    """
    headings = list(re.finditer(r"^(#+) (.+)$", page, re.MULTILINE))
    for number, heading in enumerate(headings):
        if re.sub(r"[^\w -]", "", heading[2].lower()).replace(" ", "-") == anchor:
            later = (one for one in headings[number + 1 :] if len(one[1]) <= len(heading[1]))
            end = next(later, None)
            return page[heading.end() : end.start() if end else len(page)]
    raise ValueError(f"there is no heading #{anchor}")


def _cells(section: str) -> Iterator[tuple[str, str, str, str]]:
    """(heading of the column, label of the row, its size, text) of each cell of the tables."""
    headings: list[str] = []
    size = ""
    for line in section.splitlines():
        row = [cell.strip() for cell in line[1:-1].split("|")] if line[:1] == "|" else []
        if not row or not headings:
            headings, size = row, ""
        elif not set(line) <= set("|-:"):  # the line below the headings
            texts = 2 if headings[1:2] == ["contender"] else 1
            size = (row[0] or size) if texts == 2 else ""
            for heading, cell in zip(headings[texts:], row[texts:], strict=False):
                yield heading, row[texts - 1], size, cell


def _value(heading: str, cell: str) -> tuple[float, str]:
    """The number of a cell and its unit, which stands beside it or at the head of the column."""
    found = _CELL.fullmatch(cell)
    if found is None:
        raise ValueError(f"'{cell}' below '{heading}' is no figure")
    unit = found[2] or re.split("[/ ]", heading)[0]
    return float(found[1].replace(" ", "")), unit.replace("×", "times")


def _short(value: float) -> str:
    """Two significant digits, and all those before the point.

    >>> _short(1.104), _short(0.4), _short(0.0271), _short(345.0)
    ('1.1', '0.40', '0.027', '345')
    """
    decimals = 0
    while value and round(value, decimals) * 10**decimals < 10 and decimals < 6:
        decimals += 1
    return f"{value:.{decimals}f}"
