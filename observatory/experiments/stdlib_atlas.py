"""The atlas: which modules of Python's standard library all the others stand on.

    hatch run demo
    hatch run demo --root path/to/your/source --top 40

A real workflow over real input, in three runs of one engine:

1. *graph path*: one task per module parses it and goes on, by a tail call, as the task that writes
   what it imports into SQLite, on the thread that the database is bound to; when all have, one
   task makes the import graph from the database.
2. *VM path*: a PageRank agent tail-calls itself until the ranks stand. The graph path runs the same
   agent again: the ranks are the same, bit for bit.
3. *graph path*: the report, ``atlas.json`` and ``atlas.html``, beside ``atlas.sqlite``.

A module's rank is high when many import it, above all modules that import little else and are
themselves imported a lot. A file that cannot be read or parsed is reported and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sqlite3
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import cascade as cs
from cascade.observatory.agents.pagerank import Links, Ranking, pagerank
from cascade.observatory.pictures.drawing import Arrow, Dot, draw
from cascade.observatory.pictures.page import Page, Row, render
from cascade.observatory.sources.imports import Import, absolute_name, imports_in, resolve
from cascade.observatory.sources.tree import TEST_FOLDERS, Module, SourceTree, find_modules
from cascade.runtime.subscribers.progress import show_progress
from cascade.runtime.subscribers.tally import RunFigures, RunTally
from cascade.spec.resource import ResourceDefinition

TOLERANCE = 1e-10
#: Modules in the picture, and how many of each one's imports it shows without being asked.
SHOWN, ARROWS_EACH = 120, 3

SCHEMA = """
create table module (name text primary key, path text, is_package int, lines int, failure text);
create table import (module text, level int, base text, name text, line int);
create table edge (module text, imported text, statements int, primary key (module, imported));
create table outside (module text, imported text, primary key (module, imported));
"""


# -- the graph of imports -------------------------------------------------------------------------


def database_at(path: Path) -> ResourceDefinition[sqlite3.Connection]:
    """The resource ``database``: a new SQLite file at ``path``, used from one thread only.

    Only the last task commits, so a run that fails leaves no half-filled tables.
    """

    @cs.resource(name="database", thread_bound=True)
    def database() -> Iterator[sqlite3.Connection]:
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        try:
            connection.executescript(SCHEMA)
            yield connection
        finally:
            connection.close()

    return database


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was found in a module, or why nothing was."""

    module: Module
    lines: int = 0
    imports: Sequence[Import] = ()
    failure: str | None = None


@cs.task
def parse(module: Module) -> str:
    """Read and parse one module; continues as ``store``."""
    try:
        source = module.path.read_bytes()
        found = imports_in(source, str(module.path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return store.tail(Parsed(module, failure=reason(error)))
    return store.tail(Parsed(module, len(source.splitlines()), found))


def reason(error: Exception) -> str:
    """Why a file could not be used, in one line."""
    if isinstance(error, SyntaxError):
        place = f"line {error.lineno}: " if error.lineno else ""
        return f"{place}{error.msg}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__


@cs.task
def store(parsed: Parsed, database: sqlite3.Connection = cs.inject("database")) -> str:
    """Write one module and its imports; returns its name."""
    module = parsed.module
    database.execute(
        "insert into module values (?, ?, ?, ?, ?)",
        (module.name, str(module.path), module.is_package, parsed.lines, parsed.failure),
    )
    database.executemany(
        "insert into import values (?, ?, ?, ?, ?)",
        [(module.name, i.level, i.base, i.name, i.line) for i in parsed.imports],
    )
    return module.name


@dataclass(frozen=True, slots=True)
class ImportGraph:
    """Who imports whom."""

    #: Name → lines, of the modules that parsed.
    lines: dict[str, int]
    #: Name → reason, of those that did not.
    failures: dict[str, str]
    #: (importer, imported) → number of names that the importer asks for.
    edges: dict[tuple[str, str], int]
    #: Top-level name → number of modules that import it, though it is not in the tree.
    outside: dict[str, int]


@cs.task
def import_graph(
    names: list[str], database: sqlite3.Connection = cs.inject("database")
) -> ImportGraph:
    """Make the import graph from the database, once all of ``names`` are in it; commits."""
    found = [
        (Module(name, Path(path), bool(is_package)), lines, failure)
        for name, path, is_package, lines, failure in database.execute(
            "select * from module order by name"
        )
    ]
    modules = {module.name: module for module, _, failure in found if failure is None}
    edges: Counter[tuple[str, str]] = Counter()
    outside: set[tuple[str, str]] = set()
    for importer, *statement in database.execute("select * from import order by module, line"):
        wanted = Import(*statement)
        target = resolve(wanted, modules[importer], modules)
        if target is None:
            top = absolute_name(wanted, modules[importer]).partition(".")[0]
            outside.add((importer, top or "." * wanted.level + wanted.base))
        elif target != importer:
            edges[importer, target] += 1
    database.executemany("insert into edge values (?, ?, ?)", [(*e, n) for e, n in edges.items()])
    database.executemany("insert into outside values (?, ?)", sorted(outside))
    database.commit()
    return ImportGraph(
        lines={module.name: lines for module, lines, failure in found if failure is None},
        failures={module.name: failure for module, _, failure in found if failure is not None},
        edges=dict(sorted(edges.items())),
        outside=dict(Counter(name for _, name in sorted(outside)).most_common()),
    )


# -- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run did, and how fast."""

    #: Name of the task that it was for.
    target: str
    #: ``"graph"`` or ``"vm"``.
    path: str
    tasks: int
    #: Of the agent: one step is one tail call. None for the others.
    steps: int | None
    seconds: float

    @property
    def rate(self) -> str:
        count, what = (self.tasks, "tasks") if self.steps is None else (self.steps, "steps")
        return f"{count / self.seconds:,.0f} {what}/s" if self.seconds else ""


@dataclass(frozen=True, slots=True)
class Atlas:
    """Everything that the report is made from."""

    title: str
    tree: SourceTree
    graph: ImportGraph
    ranking: Ranking[str]
    #: The agent gave equal floats on both paths.
    paths_agree: bool
    figures: Sequence[Figures]

    def imports(self) -> dict[str, list[str]]:
        """Module → what it imports, highest rank first."""
        found: dict[str, list[str]] = {name: [] for name in self.ranking.ranks}
        for importer, imported in self.graph.edges:
            found[importer].append(imported)
        for names in found.values():
            names.sort(key=self.ranking.ranks.__getitem__, reverse=True)
        return found

    def imported_by(self) -> Counter[str]:
        """Module → number of modules that import it."""
        return Counter(imported for _, imported in self.graph.edges)


@cs.task
def write_json(atlas: Atlas, path: Path) -> Path:
    """``atlas.json``: all of it, for other programs."""
    imports = atlas.imports()
    document = {
        "title": atlas.title,
        "root": str(atlas.tree.root),
        "left_out": atlas.tree.left_out,
        "modules": [
            {"name": name, "rank": rank, "lines": atlas.graph.lines[name], "imports": imports[name]}
            for name, rank in atlas.ranking.ranks.items()
        ],
        "failures": atlas.graph.failures,
        "outside": atlas.graph.outside,
        "pagerank": {
            "steps": atlas.ranking.steps,
            "residual": atlas.ranking.residual,
            "paths_agree": atlas.paths_agree,
        },
        "runs": [asdict(figures) for figures in atlas.figures],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


@cs.task
def write_page(atlas: Atlas, path: Path) -> Path:
    """``atlas.html``: a picture of the highest-ranked modules, and a table of all."""
    imports, imported_by = atlas.imports(), atlas.imported_by()
    ranks, lines = atlas.ranking.ranks, atlas.graph.lines
    rows = [
        Row(
            name,
            (f"{rank:.3%}", str(imported_by[name]), str(len(imports[name])), f"{lines[name]:,}"),
        )
        for name, rank in ranks.items()
    ]
    failures = [f"{name}: {why}" for name, why in atlas.graph.failures.items()]
    page = Page(
        title=atlas.title,
        lead=(
            "A circle is a module, its area the module's PageRank: how often one arrives there "
            "by following imports at random. A line runs from its thick end, "
            "a module, to what that imports."
        ),
        figures={
            "modules": f"{len(ranks):,}",
            "imports": f"{len(atlas.graph.edges):,}",
            "lines of source": f"{sum(lines.values()):,}",
            "PageRank steps": str(atlas.ranking.steps),
            "did not parse": str(len(failures)),
        },
        picture=picture(atlas),
        headings=("module", "rank", "imported by", "imports", "lines"),
        rows=rows,
        links=imports,
        relation=("imports", "is imported by"),
        notes=[("Files that do not parse", failures)] if failures else [],
    )
    path.write_text(render(page), encoding="utf-8")
    return path


@cs.task
def report(*files: Path) -> Sequence[Path]:
    """The files of the report, all written."""
    return files


def picture(atlas: Atlas) -> str:
    """The highest-ranked modules; of each one's imports the highest-ranked are always drawn."""
    imports, imported_by = atlas.imports(), atlas.imported_by()
    shown = dict(list(atlas.ranking.ranks.items())[:SHOWN])
    dots = [
        Dot(
            key=name,
            weight=rank,
            title=f"{name}: {rank:.2%}, imported by {imported_by[name]}",
            group=name.partition(".")[0],
        )
        for name, rank in shown.items()
    ]
    arrows = [
        Arrow(name, target, strength=1 / (1 + place), always=place < ARROWS_EACH)
        for name in shown
        for place, target in enumerate([t for t in imports[name] if t in shown])
    ]
    return draw(dots, arrows, title=f"{atlas.title}: the {len(shown)} highest-ranked modules")


# -- the runs -------------------------------------------------------------------------------------


async def make_atlas(title: str, tree: SourceTree, out: Path, *, quiet: bool) -> Atlas:
    """Run the workflow over ``tree`` and write its three files into ``out``."""
    bus = cs.MessageBus()
    listening: AbstractContextManager[RunTally] = RunTally(bus) if quiet else show_progress(bus)
    engine = cs.Engine(bus=bus, resources=[database_at(out / "atlas.sqlite")])
    async with engine:
        with listening as tally:
            graph = await engine.run(import_graph(parse.map(module=tree.modules)))

            agent = pagerank(Links(graph.lines, graph.edges), tolerance=TOLERANCE)
            ranking = await engine.run(agent, use_vm=True)
            again = await engine.run(agent)

            steps = (None, ranking.steps, again.steps)
            figures = [figures_of(r, s) for r, s in zip(tally.runs, steps, strict=True)]
            atlas = Atlas(title, tree, graph, ranking, ranking == again, figures)
            json_file = write_json(atlas, out / "atlas.json")
            await engine.run(report(json_file, write_page(atlas, out / "atlas.html")))
            return replace(atlas, figures=[*figures, figures_of(tally.runs[-1])])


def figures_of(run: RunFigures, steps: int | None = None) -> Figures:
    """The figures of a finished run."""
    return Figures(run.target, run.strategy, run.done, steps, run.seconds)


# -- the terminal ---------------------------------------------------------------------------------


def show(atlas: Atlas, top: int, out: Path, console: Console) -> None:
    """Print the report."""
    graph, ranks = atlas.graph, atlas.ranking.ranks
    console.print(f"\n[bold]{escape(atlas.title)}[/]")
    counts = f"{len(ranks):,} modules, {len(graph.edges):,} imports between them"
    console.print(f"{counts}, {sum(graph.lines.values()):,} lines")
    for why, count in sorted(atlas.tree.left_out.items()):
        console.print(f"[dim]left out: {count:,} {'file' if count == 1 else 'files'} {why}[/]")
    console.print()
    console.print(ranking_table(atlas, top))
    console.print()
    if graph.outside:
        common = ", ".join(f"{name} {count}" for name, count in list(graph.outside.items())[:6])
        console.print(f"[dim]imported from outside of the tree:[/] {common}")
    if graph.failures:
        console.print(f"\n[bold red]{len(graph.failures)} of the files did not parse:[/]")
        console.print(failures_table(graph.failures))
    else:
        console.print("[dim]files that did not parse:[/] none")
    console.print()
    console.print(figures_table(atlas.figures))
    same = "the same ranks, bit for bit" if atlas.paths_agree else "[red]DIFFERENT ranks[/]"
    console.print(f"[dim]residual {atlas.ranking.residual:.1e}; on both paths {same}[/]\n")
    for name in ("atlas.html", "atlas.json", "atlas.sqlite"):
        console.print(str(out / name), markup=False, style="cyan", soft_wrap=True)


def ranking_table(atlas: Atlas, top: int) -> Table:
    """The highest-ranked modules."""
    imports, imported_by = atlas.imports(), atlas.imported_by()
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("module", style="bold", overflow="fold")
    table.add_column("rank", justify="right")
    table.add_column("", min_width=16, no_wrap=True, style="green")
    table.add_column("imported by", justify="right")
    table.add_column("imports", justify="right")
    ranked = list(atlas.ranking.ranks.items())[:top]
    for place, (name, rank) in enumerate(ranked, 1):
        bar = "█" * max(1, round(16 * rank / ranked[0][1]))
        counts = (str(imported_by[name]), str(len(imports[name])))
        table.add_row(str(place), name, f"{rank:.2%}", bar, *counts)
    return table


def failures_table(failures: dict[str, str]) -> Table:
    """The files that were left out because of what is in them."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("module", overflow="fold")
    table.add_column("reason", overflow="fold", style="dim")
    for name, why in failures.items():
        table.add_row(name, escape(why))
    return table


def figures_table(figures: Sequence[Figures]) -> Table:
    """What ran on which path, and how fast."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("run", style="bold")
    table.add_column("path")
    for heading in ("tasks", "steps", "time", "rate"):
        table.add_column(heading, justify="right")
    for row in figures:
        steps = "" if row.steps is None else str(row.steps)
        time = f"{row.seconds:.3f} s"
        table.add_row(row.target, row.path, f"{row.tasks:,}", steps, time, row.rate)
    return table


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the list of options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the options\n")


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Rank the modules of a source tree by their imports, and draw it.")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="source tree (default: the standard library)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("build", "atlas"),
        help="where the files go (default: %(default)s)",
    )
    parser.add_argument(
        "--top", type=at_least_one, default=20, metavar="N", help="lines of the table (%(default)s)"
    )
    parser.add_argument(
        "--limit", type=at_least_one, metavar="N", help="only the first N modules, by name"
    )
    parser.add_argument(
        "--include-tests",
        action="store_true",
        help=f"also what is in folders called {', '.join(sorted(TEST_FOLDERS))}",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="only write the files, and show nothing"
    )
    return parser


def at_least_one(text: str) -> int:
    """A count, for argparse."""
    try:
        count = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def tree_at(root: Path, *, include_tests: bool, limit: int | None) -> SourceTree:
    """The modules to read.

    Raises:
        ValueError: There are none, or no such folder; the text is for the user.
    """
    if not root.is_dir():
        raise ValueError(f"--root {root} is not a folder")
    tree = find_modules(root, include_tests=include_tests)
    if not tree.modules:
        raise ValueError(f"--root {root} holds no Python modules")
    return replace(tree, modules=tree.modules[:limit])


def title_of(root: Path | None) -> str:
    """What the report is about."""
    if root is None:
        return f"The import graph of Python {platform.python_version()}'s standard library"
    return f"The import graph of {root.resolve().name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status, or exits with 2 where options make no sense."""
    parser = command_line()
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out
    try:
        tree = tree_at(
            chosen.root or Path(sysconfig.get_path("stdlib")),
            include_tests=chosen.include_tests,
            limit=chosen.limit,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the parser thinks of other people's source
            atlas = asyncio.run(make_atlas(title_of(chosen.root), tree, out, quiet=chosen.quiet))
    except (OSError, sqlite3.Error) as error:
        parser.error(f"cannot write into --out {out}: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if not chosen.quiet:
        show(atlas, chosen.top, out, Console())
    return 0 if atlas.paths_agree else 1


if __name__ == "__main__":
    sys.exit(main())
