"""Text inside of SVG and HTML."""

from __future__ import annotations

import html

from cascade.spec.wording import visible


def escape(text: str) -> str:
    """``text`` as the content of an element or attribute, with invisible characters as escapes.

    XML cannot have most control characters, not even as entities: one in a name would make a
    browser refuse the whole drawing.
    """
    return html.escape(visible(text, lines=True))
