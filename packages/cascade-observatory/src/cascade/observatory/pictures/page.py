"""One HTML page around pictures: figures above, and below a graph a table that can be searched.

Style and script are in the page, so that it can be sent and kept as one file; nothing is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cascade.observatory.pictures.assets import asset
from cascade.observatory.pictures.marking import escape

_HINT = "Point at a circle to see its links, click to keep it; a line of the table does the same."


@dataclass(frozen=True, slots=True)
class GraphPage:
    """A page about a graph.

    Attributes:
        title: Heading, and the title of the window.
        lead: A sentence or two under it.
        figures: Name → value, shown in a row.
        picture: An ``<svg>`` element, as ``draw_graph`` makes it.
        headings: Of the table: that of the keys, then one per cell.
        rows: Key → cells, in the order of the table; not all need be in the picture.
        links: Key → the keys it links to; the page derives the other direction.
        relation: The words for a link, from its source and from its target.
        notes: Heading → lines shown at the end.
    """

    title: str
    lead: str
    figures: Mapping[str, str]
    picture: str
    headings: Sequence[str]
    rows: Mapping[str, Sequence[str]]
    links: Mapping[str, Sequence[str]]
    relation: tuple[str, str]
    notes: Mapping[str, Sequence[str]]

    def render(self) -> str:
        """The page as HTML text; write it as UTF-8."""
        to, back = map(escape, self.relation)
        notes = "".join(
            f"<section><h2>{escape(heading)}</h2><ul>{_elements('li', lines)}</ul></section>"
            for heading, lines in self.notes.items()
        )
        body = f"""<figure>
{self.picture}
<figcaption id="chosen" aria-live="polite" data-hint="{escape(_HINT)}"
 data-to="{to}" data-from="{back}"></figcaption>
</figure>
<section>
<h2>{escape(f"All {len(self.rows)}")} <input id="search" type="search" placeholder="search"
 aria-label="search the table"></h2>
{self._table()}
</section>
{notes}
<script id="links" type="application/json">{as_json(self.links)}</script>
<script>
{asset("page.js")}</script>"""
        return framed(self.title, self.lead, self.figures, body)

    def _table(self) -> str:
        rows = "\n".join(
            f'<tr data-key="{escape(key)}">{_elements("td", (str(number), key, *cells))}</tr>'
            for number, (key, cells) in enumerate(self.rows.items(), 1)
        )
        head = _elements("th", ("#", *self.headings))
        return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"


def panels_of(panels: Iterable[tuple[str, str]]) -> str:
    """HTML of pictures side by side, each under its heading."""
    body = "\n".join(
        f"<figure>\n<h2>{escape(heading)}</h2>\n{picture}\n</figure>" for heading, picture in panels
    )
    return f'<div class="panels">\n{body}\n</div>'


def framed(
    title: str,
    lead: str,
    figures: Mapping[str, str],
    body: str,
    *,
    style: str = "",
    script: str = "",
) -> str:
    """A page around ``body``, which refers to nothing outside.

    Args:
        title: Heading, and the title of the window.
        lead: A sentence or two under it.
        figures: Name → value, shown in a row.
        body: HTML.
        style: CSS besides that of all pages.
        script: JavaScript, run at the end.
    """
    values = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in figures.items()
    )
    sheets = "".join(map(asset, ("colours.css", "page.css", "panels.css"))) + style
    script = f"<script>\n{script}</script>\n" if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{sheets}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(lead)}</p>
<dl>{values}</dl>
</header>
{body}
{script}</body>
</html>
"""


def as_json(value: object) -> str:
    """``value`` for a script element, which a "</script>" in a string would end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _elements(name: str, texts: Iterable[str]) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for text in texts)
