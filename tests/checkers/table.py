"""The tables of docs/typing.md: for each line of the files here, the answer of each checker.

``python -m tests.checkers.table`` asks the checkers, and writes the tables into the page.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.checkers.checking import ROOT, WAYS, Report, Way, reports
from tests.pages import PAGES, name_of

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "typing.md"
FILES = ("definitions.py", "uses.py", "mistakes.py")
_EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"  # (?P<text>.+)$")


class Line(NamedTuple):
    """A line of which the tables tell."""

    file: str
    number: int
    code: str
    what: str


def lines_of(file: str) -> list[Line]:
    """The lines with a comment that says what they are, and all statements but definitions."""
    source = (HERE / file).read_text(encoding="utf-8")
    plain = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    statements = {s.lineno for s in ast.parse(source).body[1:] if not isinstance(s, plain)}
    found = []
    for number, text in enumerate(source.splitlines(), 1):
        comment = _COMMENT.search(text)
        if comment or (number in statements and file != "definitions.py"):
            code = text[: comment.start()] if comment else text
            found.append(Line(file, number, code.strip(), comment["text"] if comment else ""))
    return found


#: Way → its reports.
Answers = Mapping[Way, list[Report]]


def ask(ways: Iterable[Way] = WAYS) -> Answers:
    """What the checkers say of the files here, and of the examples on the pages."""
    chosen = list(ways)
    with ThreadPoolExecutor(2) as pool:  # mypy needs seconds, and the others have two cores as well
        return dict(zip(chosen, pool.map(_asked, chosen), strict=True))


def _asked(way: Way) -> list[Report]:
    with TemporaryDirectory() as folder:
        for file in FILES:
            shutil.copy(HERE / file, folder)
        (Path(folder) / "pages").mkdir()
        for page in PAGES:
            if source := examples(page):
                (Path(folder) / module_of(page)).write_text(source, encoding="utf-8")
        return reports(way, Path(folder).resolve(), ["definitions"])


def module_of(page: Path) -> str:
    """The file for the examples of a page; pages of several folders may have the same name."""
    name = name_of(page).removeprefix("docs/").removesuffix(".md")
    return f"pages/{re.sub(r'[^A-Za-z0-9]', '_', name)}.py"


def examples(page: Path) -> str:
    """The examples of a page as one module, whose lines have the numbers of the page's."""
    text = page.read_text(encoding="utf-8")
    kept = [""] * text.count("\n")
    for match in _EXAMPLE.finditer(text):
        first = text.count("\n", 0, match.start(1))
        found = match[1].splitlines()
        kept[first : first + len(found)] = found
    return "\n".join(kept) + "\n" if any(kept) else ""


def tables(answers: Answers) -> str:
    """The two tables of the page, in Markdown."""
    refused = {way: {(r.file, r.line) for r in found} for way, found in answers.items()}
    right = [line for file in FILES[:2] for line in lines_of(file)]
    head = "".join(f" {way} |" for way in answers)
    bars = "---|" * len(answers)

    def row(line: Line, good: bool) -> str:
        code, what = line.code.replace("|", "\\|"), line.what.replace("|", "\\|")
        found = [((line.file, line.number) in refused[way]) == good for way in answers]
        cells = "".join(f" {'✓' if ok else '–'} |" for ok in found)
        return f"| `{code}` | {what} |{cells}"

    return "\n".join(
        [
            f"| right | accepted by |{head}",
            f"|---|---|{bars}",
            *(row(line, False) for line in right),
            "",
            f"| wrong | found by |{head}",
            f"|---|---|{bars}",
            *(row(line, True) for line in lines_of("mistakes.py")),
        ]
    )


BEGIN, END = "<!-- written by python -m tests.checkers.table -->\n", "\n<!-- end -->"


def written() -> str:
    """The tables that the page has."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{tables(ask())}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
