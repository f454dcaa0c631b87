"""Code, tests and docs cite rules by number; docs/semantics.md defines each number, once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
RULES = ROOT / "docs" / "semantics.md"
_DEFINITION = re.compile(r"^### ([RMD]\d+)\b", re.MULTILINE)
_CITATION = re.compile(r"\b[RMD][1-9]\d?\b")


def defined() -> Counter[str]:
    return Counter(_DEFINITION.findall(RULES.read_text(encoding="utf-8")))


def test_each_number_is_defined_once() -> None:
    assert [rule for rule, count in defined().items() if count > 1] == []


def test_each_number_that_is_cited_is_defined() -> None:
    known = defined()
    files = [
        file
        for folder in ("packages/*/src", "tests", "observatory", "docs")
        for kind in ("py", "md")
        for file in ROOT.glob(f"{folder}/**/*.{kind}")
    ]
    files += [*ROOT.glob("*.md"), *ROOT.glob("packages/*/*.md")]
    unknown = {
        f"{file.relative_to(ROOT)}: {rule}"
        for file in files
        for rule in _CITATION.findall(file.read_text(encoding="utf-8"))
        if rule not in known
    }
    assert unknown == set()
    assert len(files) > 100  # the patterns have found the files
