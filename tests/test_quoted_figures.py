"""Figures that README and docs quote are on docs/performance.md.

A quoted figure is a link by reference to the section that has it, whose title says which cells it
is made from: ``[1.1 to 1.5 µs][node]``. The tables of that section have each number, as exactly as
it is quoted, with the same unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pages import ROOT, prose_of, sections

from cascade.observatory.benchmarks.quotes import IN_CHINESE, renewed

PERFORMANCE = ROOT / "docs" / "performance.md"
CHINESE = ROOT / "README.zh-CN.md"
#: The pages that quote figures.
QUOTING = [ROOT / "README.md", CHINESE, ROOT / "docs" / "limits.md", ROOT / "docs" / "caching.md"]
_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"(?:µs|ms|ns|times|×|%|KiB|MiB)"
_QUOTED = re.compile(rf"\[({_NUMBER}(?:\sto\s{_NUMBER})?\s{_UNIT})\]\[([\w-]+)\]")
_TARGET = re.compile(r'^\[([\w-]+)\]: (?:docs/)?performance\.md#([\w-]+) "[^"]+"$', re.MULTILINE)


def text_of(page: Path) -> str:
    """The page, with its quotes in English."""
    text = page.read_text(encoding="utf-8")
    if page != CHINESE:
        return text
    english = {there: here for here, there in IN_CHINESE.items()}
    return re.sub(
        r"\[[^][]*\](?=\[[\w-]+\])",
        lambda found: re.sub("|".join(english), lambda word: english[word[0]], found[0]),
        text,
    )


def measured(section: str) -> Iterator[tuple[str, str]]:
    """(number, unit) of each cell of the tables; the unit may stand at the head of its column."""
    header: list[str] = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line[1:-1].split("|")] if line[:1] == "|" else []
        header = header if cells and header else cells
        for title, cell in zip(header, cells, strict=False):
            if found := re.fullmatch(r"(\d[\d ]*(?:\.\d+)?)(?: ([^\d ]+))?", cell):
                unit = found[2] or re.split("[/ ]", title)[0]
                yield found[1].replace(" ", ""), unit.replace("×", "times")


def rounds_to(exact: str, quoted: str) -> bool:
    decimals = len(quoted.partition(".")[2])
    return abs(float(exact) - float(quoted)) <= 0.5 * 10**-decimals + 1e-9


@pytest.mark.parametrize("page", QUOTING, ids=lambda page: page.name)
def test_a_quoted_figure_is_in_the_section_that_it_links_to(page: Path) -> None:
    text = text_of(page)
    quotes, anchors = _QUOTED.findall(text), dict(_TARGET.findall(text))
    assert {name for _, name in quotes} == anchors.keys() != set()
    for figure, name in quotes:
        anchor = anchors[name]
        *numbers, unit = re.findall(rf"{_NUMBER}|{_UNIT}", figure)
        known = [number for number, of in measured(sections(PERFORMANCE)[anchor]) if of == unit]
        for quoted in numbers:
            assert any(rounds_to(number, quoted) for number in known), (
                f"{page.name} quotes {quoted} {unit}; {PERFORMANCE.name}#{anchor} has {known}"
            )


@pytest.mark.parametrize("page", QUOTING[:3], ids=lambda page: page.name)
def test_every_figure_with_a_unit_is_such_a_quote(page: Path) -> None:
    text = _TARGET.sub("", _QUOTED.sub("", prose_of(text_of(page))))
    assert re.findall(rf"{_NUMBER}\s(?:{_UNIT}|倍|微秒|毫秒)", text) == []


@pytest.mark.parametrize("page", QUOTING, ids=lambda page: page.name)
def test_quotes_are_as_the_command_writes_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    words = IN_CHINESE if page == CHINESE else {}
    assert renewed(text, PERFORMANCE.read_text(encoding="utf-8"), words) == text


def test_units_stand_in_the_cell_or_at_the_head_of_the_column() -> None:
    table = "|  | contender | µs/node | times plain |\n|--:|---|--:|--:|\n|  | one | 1.10 | 0.30 |"

    assert list(measured(table)) == [("1.10", "µs"), ("0.30", "times")]
    assert list(measured("| figure | measured |\n|---|--:|\n| wide | 3.35 × |")) == [
        ("3.35", "times")
    ]
    assert list(measured("| contender | µs/step |\n|---|--:|\n| one | 2 670 |")) == [("2670", "µs")]


@pytest.mark.parametrize(
    ("exact", "quoted", "same"),
    [
        ("1.10", "1.1", True),
        ("1.55", "1.5", True),
        ("1.55", "1.6", True),
        ("2.67", "2.6", False),
        ("0.30", "0.3", True),
        ("6.26", "6", True),
    ],
)
def test_numbers_are_compared_as_exactly_as_they_are_quoted(
    exact: str, quoted: str, same: bool
) -> None:
    assert rounds_to(exact, quoted) is same
