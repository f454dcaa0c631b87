"""Tables for notebooks: HTML in which every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from cascade.spec.wording import visible


def html_text(text: str) -> str:
    """``text`` as HTML, with escapes for what is not visible."""
    return escape(visible(text, lines=True))


def html_lines(lines: Iterable[str]) -> str:
    """One paragraph, a line for each; empty for none."""
    text = "<br>".join(map(html_text, lines))
    return f"<p>{text}</p>" if text else ""


def html_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text, and whose others are numbers; empty without rows."""
    shown = [_row("td", row) for row in rows]
    if not shown:
        return ""
    return f"<table><thead>{_row('th', names)}</thead><tbody>{''.join(shown)}</tbody></table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    left, right = (f'<{tag} style="text-align:{side}">' for side in ("left", "right"))
    texts = (
        f"{right if place else left}{html_text(cell)}</{tag}>" for place, cell in enumerate(cells)
    )
    return f"<tr>{''.join(texts)}</tr>"
