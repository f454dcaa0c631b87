"""README and docs: examples print the output that is shown, links lead to a heading.

A block ``python from=examples/crawl.py`` shows a part of that program, which has tests of its own:
it has to stand there word for word, and is not executed on the page. Blocks ``py`` are programs for
other libraries, and sketches that no program could contain.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.pages import PAGES, ROOT, name_of, prose, sections

_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXCERPT = re.compile(r"^```python from=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")


def _blocks(page: Path) -> list[tuple[str, str, int]]:
    """(language, text, line of its first line) of each example and its output, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        (match[1], match[2], text.count("\n", 0, match.start(2)) + 1)
        for match in _BLOCK.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_print_the_output_on_the_page(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One namespace a page, from top to bottom, as a reader would type it.

    A block that imports Cascade begins a program of its own, whose lines are counted from there.
    """
    monkeypatch.chdir(tmp_path)  # call sites are shown relative to it; examples write files there
    module = ModuleType("example")  # whose tasks a store can name
    monkeypatch.setitem(sys.modules, "example", module)
    namespace = module.__dict__
    printed, typed, file = "", "", str(tmp_path / "example.py")
    for language, text, line in _blocks(page):
        if language == "text":
            assert text == printed, f"{name_of(page)}:{line}"
            continue
        out = io.StringIO()
        if re.search("^import cascade", text, re.MULTILINE):
            typed = ""
        # Blank lines in front, as if the program stood in one file.
        run = text.replace('if __name__ == "__main__":', "if True:")  # here it is a module
        code = compile("\n" * typed.count("\n") + run, file, "exec")
        typed += text
        lines = typed.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, file, (len(typed), None, lines, file))
        with contextlib.redirect_stdout(out):
            exec(code, namespace)
        printed = out.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_parts_of_programs_stand_in_these_programs(page: Path) -> None:
    for path, part in _EXCERPT.findall(page.read_text(encoding="utf-8")):
        program = (ROOT / path).read_text(encoding="utf-8")
        assert part in program, f"{name_of(page)} shows other lines than {path} has:\n{part}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_example_of_cascade_is_left_unexecuted(page: Path) -> None:
    """A misspelt option of a block, or another language, would hide it from the tests."""
    text = page.read_text(encoding="utf-8")
    for options, code in re.findall(r"^```(py.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        if options == "py":
            assert "import cascade" not in code
        else:
            assert re.fullmatch(r"python( (raises( \S+)?|setup|from=\S+|\w+\.py))?", options)


def test_the_readme_has_an_example_of_each_path_with_its_output() -> None:
    languages = [language for language, _, _ in _blocks(ROOT / "README.md")]
    assert languages.count("python") >= 2
    assert all(
        after == "text" for first, after in zip(languages[::2], languages[1::2], strict=True)
    )
    assert any("use_vm=True" in text for _, text, _ in _blocks(ROOT / "README.md"))


def test_the_readme_in_chinese_has_the_same_examples_commands_links_and_figures() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
    )
    fenced = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    assert fenced.findall(chinese) == fenced.findall(english)
    quotes = re.compile(r"^\[[\w-]+\]: .*$", re.MULTILINE)
    assert quotes.findall(chinese) == quotes.findall(english)
    names = re.compile(r"\[(\d[^][]*)\]\[([\w-]+)\]")
    figures = [
        [(re.findall(r"[\d.]+", figure), name) for figure, name in names.findall(text)]
        for text in (english, chinese)
    ]
    assert figures[0] == figures[1] != []
    others = {"README.md", "README.zh-CN.md"}
    assert {*_LINK.findall(chinese)} - others == {*_LINK.findall(english)} - others
    assert re.findall(r"^#+ ", chinese, re.MULTILINE) == re.findall(r"^#+ ", english, re.MULTILINE)
    assert len(english.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in sections(target), f"{name_of(page)} links to {link}"
