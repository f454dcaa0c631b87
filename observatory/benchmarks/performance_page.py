"""Writes docs/performance.md and its pictures from the figures of the benchmarks.

    hatch run bench
    hatch run bench-page

``hatch run peers:page`` does both, beside other libraries, in less than ten minutes.

Reads the files of the suites, or those of the programs behind them, keeps a copy per suite in
docs/performance/, and writes the page from these copies: no figure on the page is typed by hand.
Figures that the READMEs and other pages (``QUOTING``) quote from it are written anew, too.
For a suite without new files, the kept copy is used. Files of a quick run are ignored too, unless
they are named on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade.observatory.benchmarks.findings import Document, read, write
from cascade.observatory.benchmarks.pages import as_markdown, pictured_in
from cascade.observatory.benchmarks.program import FOLDER
from cascade.observatory.benchmarks.quotes import IN_CHINESE, renewed
from cascade.observatory.benchmarks.suites import SUITES, part_of
from cascade.observatory.command_line import Parser
from cascade.observatory.pictures.charts import draw_side_by_side

ROOT = Path(__file__).parents[2]
#: The pages that quote figures, with the words of a quote in their language.
QUOTING: dict[str, dict[str, str]] = {
    "README.md": {},
    "README.zh-CN.md": IN_CHINESE,
    "docs/limits.md": {},
    "docs/caching.md": {},
}


def given(paths: Sequence[Path]) -> dict[str, Document]:
    """Suite → its figures in these files.

    Raises:
        ValueError: A file is missing, or does not have the figures of a whole suite.
    """
    found: dict[str, Document] = {}
    for path in paths:
        parts = parts_of(read(path))
        if not parts:
            raise ValueError(
                f"{path} has no figures of a whole suite; `hatch run bench` writes them"
            )
        found |= parts
    return found


def written(folder: Path) -> dict[str, Document]:
    """Suite → the newest figures in the folder that are not from a quick run."""
    found: dict[str, Document] = {}
    documents = [read(path) for path in sorted(folder.glob("*.json"))]
    for document in sorted(documents, key=lambda one: str(one.get("date"))):
        if not document.get("options", {}).get("quick"):
            found |= parts_of(document)
    return found


def parts_of(document: Document) -> dict[str, Document]:
    """Suite → its figures, for the suites in the document."""
    parts = {suite.name: part_of(document, suite) for suite in SUITES}
    return {name: part for name, part in parts.items() if part is not None}


def picture_of(name: str, document: Document) -> str:
    """The picture of a suite, as SVG."""
    (suite,) = (suite for suite in SUITES if suite.name == name)
    return draw_side_by_side(pictured_in(document, suite.drawn))


def write_all(docs: Path, documents: Mapping[str, Document]) -> None:
    """Write the page, its pictures, and the figures that they are made from."""
    for suite in SUITES:
        document = documents[suite.name]
        write(docs / "performance" / f"{suite.document}.json", document)
        if suite.drawn:
            picture = docs / "performance" / f"{suite.document}.svg"
            picture.write_text(picture_of(suite.name, document), encoding="utf-8")
            print(picture)
    (docs / "performance.md").write_text(as_markdown(documents), encoding="utf-8")
    print(docs / "performance.md")


def quote_anew(root: Path) -> None:
    """Write the figures that other pages quote.

    Raises:
        ValueError: A page quotes what the figures do not have.
    """
    performance = (root / "docs" / "performance.md").read_text(encoding="utf-8")
    for name, words in QUOTING.items():
        page = root / name
        text = page.read_text(encoding="utf-8")
        try:
            page.write_text(renewed(text, performance, words), encoding="utf-8")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        print(page)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """The whole program, for the repository at ``root``."""
    parser = Parser(description="Write docs/performance.md from figures.")
    told = f"what the benchmarks wrote; if left out, what is in {FOLDER}"
    parser.add_argument("figures", type=Path, nargs="*", help=told)
    options = parser.parse_args(arguments)
    kept = root / "docs" / "performance"
    try:
        new = given(options.figures) if options.figures else written(root / FOLDER)
        documents = {
            suite.name: new.get(suite.name) or read(kept / f"{suite.document}.json")
            for suite in SUITES
        }
        write_all(root / "docs", documents)
        quote_anew(root)
    except (ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
