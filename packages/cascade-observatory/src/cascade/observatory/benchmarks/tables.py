"""Tables for a terminal of 80 columns, for Markdown and for HTML; formats of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.table import Table as RichTable

from cascade.observatory.pictures.marking import escape


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows and columns.

    Attributes:
        title: Above it; not in Markdown, where a heading says it.
        headings: One for each column.
        rows: As many texts each.
        texts: Number of leading columns that are aligned to the left.
        caption: Below it.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    caption: str = ""

    def rich(self) -> RichTable:
        """For a terminal, or a pipe."""
        table = RichTable(
            title=self.title,
            title_justify="left",
            title_style="bold",
            caption=self.caption or None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,  # the box has a space between columns, and 80 are not many
            show_edge=False,
        )
        for number, heading in enumerate(self.headings):
            side: Literal["left", "right"] = "left" if number < self.texts else "right"
            table.add_column(heading, justify=side, no_wrap=bool(heading))
        for number, row in enumerate(self.rows):
            if number and row[0] and not all(r[0] for r in self.rows):
                table.add_section()
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page of documentation."""
        rules = ["---" if number < self.texts else "--:" for number in range(len(self.headings))]
        lines = [f"| {' | '.join(row)} |" for row in (self.headings, *self.rows)]
        lines.insert(1, f"|{'|'.join(rules)}|")
        return "\n".join([*lines, *([f"\n{self.caption}"] if self.caption else [])])

    def html(self) -> str:
        """For a page in a browser."""
        head = self._html_row("th", self.headings)
        rows = "\n".join(self._html_row("td", row) for row in self.rows)
        caption = f"<p>{escape(self.caption)}</p>" if self.caption else ""
        return (
            f'<div class="card"><h3>{escape(self.title)}</h3>\n<table><thead>{head}</thead>\n'
            f"<tbody>\n{rows}\n</tbody></table>{caption}</div>"
        )

    def _html_row(self, element: str, cells: Sequence[str]) -> str:
        parts = []
        for number, cell in enumerate(cells):
            style = "" if number < self.texts else ' class="n"'
            parts.append(f"<{element}{style}>{escape(cell.strip('`'))}</{element}>")
        return f"<tr>{''.join(parts)}</tr>"


def samples_table(title: str, measured: Mapping[str, Mapping[str, Any]], heading: str) -> Table:
    """The costs of contenders, a row each.

    Args:
        title: Above the table.
        measured: Text of the first column → a measurement of a document.
        heading: Heading of the first column.
    """
    first = next(iter(measured.values()))
    rows = []
    for label, one in measured.items():
        for number, contender in enumerate(one["contenders"]):
            cost, ratio = contender["median"], contender["ratio"]
            cells = [
                label if number == 0 else "",
                contender["name"],
                figure(cost * 1e6),
                spread([value * 1e6 for value in contender["quartiles"]]),
                rate(1 / cost),
                *((figure(ratio["median"]), spread(ratio["quartiles"])) if ratio else ("", "")),
            ]
            rows.append(cells)
    unit = first["unit"]
    headings = [
        heading,
        "contender",
        f"µs/{unit}",
        "quartiles",
        f"{unit}s/s",
        "× cost",
        "quartiles",
    ]
    caption = f"× cost: relative to {first['baseline']}; medians within rounds"
    if not any(measured):  # the first column is empty
        headings, rows = headings[1:], [row[1:] for row in rows]
    return Table(title, headings, rows, 2 if any(measured) else 1, caption)


def figure(value: float) -> str:
    """Three significant digits, and spaces between thousands.

    >>> figure(0.01234), figure(2.345), figure(271828.18), figure(0)
    ('0.0123', '2.35', '272 000', '0')
    """
    if not value:
        return "0"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100:
        return f"{rounded:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(rounded) < 0.1 else f"{value:.{2 if abs(rounded) < 10 else 1}f}"


def rate(value: float) -> str:
    """Three digits, and thousands or millions as a letter.

    >>> rate(271828.18), rate(31e6), rate(99.5)
    ('272 k', '31.0 M', '99.5')
    """
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{figure(value / factor)} {letter}"
    return figure(value)


def spread(quartiles: Sequence[float]) -> str:
    """Lower and upper quartile; at most three decimals, because the table has to fit."""
    return "–".join(figure(value) if value >= 0.1 else f"{value:.3f}" for value in quartiles)
