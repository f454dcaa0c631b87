"""README and docs: examples print the output that is shown, links lead to a heading."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.pages import PAGES, ROOT, prose, sections

_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")


def _blocks(page: Path) -> list[tuple[str, str, int]]:
    """(language, text, line of its first line) of each example and its output, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        (match[1], match[2], text.count("\n", 0, match.start(2)) + 1)
        for match in _BLOCK.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_the_output_on_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One namespace a page, from top to bottom, as a reader would type it."""
    monkeypatch.chdir(ROOT)  # call sites are shown relative to it
    module = ModuleType("example")  # whose tasks a store can name
    monkeypatch.setitem(sys.modules, "example", module)
    namespace = module.__dict__
    printed, typed, file = "", "", str(ROOT / "example.py")
    for language, text, line in _blocks(page):
        if language == "text":
            assert text == printed, f"{page.name}:{line}"
            continue
        out = io.StringIO()
        # Blank lines in front, as if the page's examples stood in one file.
        code = compile("\n" * typed.count("\n") + text, file, "exec")
        typed += text
        lines = typed.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, file, (len(typed), None, lines, file))
        with contextlib.redirect_stdout(out):
            exec(code, namespace)
        printed = out.getvalue()


def test_the_readme_has_an_example_of_each_path_with_its_output() -> None:
    languages = [language for language, _, _ in _blocks(ROOT / "README.md")]
    assert languages.count("python") >= 2
    assert all(
        after == "text" for first, after in zip(languages[::2], languages[1::2], strict=True)
    )
    assert any("use_vm=True" in text for _, text, _ in _blocks(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in sections(target), f"{page.name} links to {link}"
