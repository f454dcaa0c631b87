"""Pages in Markdown, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """Its path in the repository."""
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return prose_of(page.read_text(encoding="utf-8"))


def prose_of(text: str) -> str:
    """The text of a page without its fenced blocks."""
    return _FENCED.sub("", text)


def sections(page: Path) -> dict[str, str]:
    """Anchor → the prose below that heading, including its subsections."""
    text = prose(page)
    headings = list(re.finditer(r"^(#+) (.+)$", text, re.MULTILINE))
    found = {}
    for index, heading in enumerate(headings):
        following = (h for h in headings[index + 1 :] if len(h[1]) <= len(heading[1]))
        end = next(following, None)
        anchor = re.sub(r"[^\w -]", "", heading[2].lower()).replace(" ", "-")
        found[anchor] = text[heading.end() : end.start() if end else len(text)]
    return found
