"""What mkdocs has to be told about these pages, which are written to be read on GitHub as well."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError

#: A link from a page in docs/ to a file outside of it, such as a module.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:packages|observatory|examples|tests)/[^)#]+)\)")
#: A sentence of the reference that only its source files need.
_HINT = re.compile(r" ?The text of this page is in the docstrings; the docs site shows it,[^\n]*")
#: What a browser loads by itself. Links that a reader follows may lead anywhere, and the canonical
#: address of a page, which ``docs:serve`` writes, is not loaded.
_LOADED = re.compile(
    r'<(?:script|img|iframe|link(?! rel="canonical"))\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*"'
)
#: An example of a docstring that Markdown has taken for a quotation.
_QUOTED = re.compile(r"<blockquote>\s*<blockquote>")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files that the site does not have, in place of links; leave out ``_HINT``."""
    return _OUTSIDE.sub(r"\1 (`\2`)", _HINT.sub("", markdown))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Check that the page works without a network.

    Raises:
        PluginError: It loads something from another server, or shows an example as a quotation.
    """
    if found := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another server: {found[0]}")
    if _QUOTED.search(output):
        raise PluginError(f"{page.file.src_uri} shows a docstring's example as a quotation")
    return output
