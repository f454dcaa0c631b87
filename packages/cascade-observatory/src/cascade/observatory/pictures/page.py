"""One HTML page around pictures: figures above, and below a graph a table that can be searched.

Style and script are in the page, so that it can be sent and kept as one file; nothing is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cascade.observatory.pictures.marking import escape

_HINT = "Point at a circle to see its links, click to keep it; a line of the table does the same."


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a node, in the picture or not."""

    key: str
    #: One text per heading, after the key.
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows.

    Attributes:
        title: Heading, and the name of the window.
        lead: A sentence or two under it.
        figures: Name → value, shown in a row.
        picture: An ``<svg>`` element, as ``draw`` makes it.
        headings: Of the table: that of the keys, then one per cell.
        rows: In the order in which they are ranked.
        links: Key → the keys it links to; the page derives the other direction.
        relation: The words for a link, from its source and from its target.
        notes: (heading, lines) shown at the end.
    """

    title: str
    lead: str
    figures: Mapping[str, str]
    picture: str
    headings: Sequence[str]
    rows: Sequence[Row]
    links: Mapping[str, Sequence[str]]
    relation: tuple[str, str]
    notes: Sequence[tuple[str, Sequence[str]]] = ()


def render(page: Page) -> str:
    """The page as HTML text; write it as UTF-8."""
    notes = "".join(
        f"<section><h2>{escape(heading)}</h2><ul>"
        + "".join(f"<li>{escape(line)}</li>" for line in lines)
        + "</ul></section>"
        for heading, lines in page.notes
    )
    body = f"""<figure>
{page.picture}
<figcaption id="chosen" aria-live="polite" data-hint="{escape(_HINT)}"
 data-to="{escape(page.relation[0])}" data-from="{escape(page.relation[1])}"></figcaption>
</figure>
<section>
<h2>{escape(f"All {len(page.rows)}")} <input id="search" type="search" placeholder="search"
 aria-label="search the table"></h2>
{_table(page)}
</section>
{notes}
<script id="links" type="application/json">{as_json(page.links)}</script>
<script>
{asset("page.js")}</script>"""
    return framed(page.title, page.lead, page.figures, body, colours() + asset("page.css"))


def render_panels(
    title: str,
    lead: str,
    figures: Mapping[str, str],
    panels: Sequence[tuple[str, str]],
    *,
    style: str = "",
    script: str = "",
) -> str:
    """A page of several pictures side by side, each under its heading, as HTML text.

    Args:
        title: Heading, and the name of the window.
        lead: A sentence or two under it.
        figures: Name → value, shown in a row.
        panels: Heading and ``<svg>`` element, as ``draw_curves`` makes it.
        style: Of what is in the panels besides, as CSS.
        script: What makes them move.
    """
    body = "\n".join(
        f"<figure>\n<h2>{escape(heading)}</h2>\n{picture}\n</figure>" for heading, picture in panels
    )
    body = f'<div class="panels">\n{body}\n</div>'
    if script:
        body += f"\n<script>\n{script}</script>"
    sheets = colours() + asset("page.css") + asset("curves.css") + style
    return framed(title, lead, figures, body, sheets)


def framed(title: str, lead: str, figures: Mapping[str, str], body: str, style: str) -> str:
    """A page around ``body``, with ``style`` as its only sheet.

    Args:
        title: Heading, and the name of the window.
        lead: A sentence or two under it.
        figures: Name → value, shown in a row.
        body: HTML, which refers to nothing outside.
        style: CSS.
    """
    values = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in figures.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(lead)}</p>
<dl>{values}</dl>
</header>
{body}
</body>
</html>
"""


def _table(page: Page) -> str:
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in page.headings)
    rows = "\n".join(
        f'<tr data-key="{escape(row.key)}"><td>{number}</td><td>{escape(row.key)}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        + "</tr>"
        for number, row in enumerate(page.rows, 1)
    )
    return f"<table><thead><tr><th>#</th>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"


def as_json(value: object) -> str:
    """``value`` for a script element, which a "</script>" in a string would end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def colours() -> str:
    """The colours of pages, as CSS variables for light and for dark."""
    return asset("colours.css")


@cache
def asset(name: str) -> str:
    """A file of this package, such as a style sheet."""
    return files("cascade.observatory.pictures").joinpath(name).read_text(encoding="utf-8")
