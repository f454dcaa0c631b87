"""Tables for notebooks: HTML in which every text is escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cascade.spec.wording import visible


def html_text(text: str) -> str:
    """``text`` as HTML, with escapes for invisible characters."""
    from html import escape  # only notebooks need it

    return escape(visible(text, lines=True))


def html_lines(lines: Iterable[str]) -> str:
    """One paragraph, a line for each; empty for none."""
    text = "<br>".join(map(html_text, lines))
    return f"<p>{text}</p>" if text else ""


def html_table(
    names: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[int] = (0,)
) -> str:
    """A table; empty without rows.

    Args:
        names: The heads of the columns.
        rows: A text for each column.
        texts: The places of columns of text; the others are numbers.
    """
    shown = [_row("td", row, texts) for row in rows]
    if not shown:
        return ""
    head = _row("th", names, texts)
    return f"<table><thead>{head}</thead><tbody>{''.join(shown)}</tbody></table>"


def _row(tag: str, cells: Sequence[str], texts: Collection[int]) -> str:
    sides = ("left" if place in texts else "right" for place in range(len(cells)))
    return "".join(
        [
            "<tr>",
            *(
                f'<{tag} style="text-align:{side}">{html_text(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            ),
            "</tr>",
        ]
    )
