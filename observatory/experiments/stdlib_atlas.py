"""The atlas: the modules of Python's standard library that all others depend on.

    hatch run demo
    hatch run demo --root path/to/your/source --top 40
    hatch run demo --executor process

A real workflow over real input, in three runs of one engine:

1. *graph path*: one task per module parses it and continues, by a tail call, as the task that
   writes its imports into SQLite, on the thread of the database. After all of them, one task makes
   the import graph from the database.
2. *VM path*: a PageRank agent tail-calls itself until the ranks converge. The graph path runs the
   same agent again: the ranks are the same, bit for bit.
3. *graph path*: the report, ``atlas.json`` and ``atlas.html``, beside ``atlas.sqlite``.

A module's rank is high if many modules import it, above all modules that import few others and are
themselves imported often. A file that cannot be read or parsed is reported and left out. The tasks
are in ``cascade.observatory.experiments.atlas``.
"""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import sys
import sysconfig
import warnings
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascade.adapters.executors.process import ProcessExecutor
from cascade.observatory.command_line import Parser, at_least, start
from cascade.observatory.experiments.atlas import Atlas, make_atlas
from cascade.observatory.experiments.source_tree import TEST_FOLDERS, find_modules
from cascade.runtime.bus import MessageBus
from cascade.runtime.telemetry.progress import show_progress
from cascade.runtime.telemetry.tally import RunTally


def show(atlas: Atlas, top: int, out: Path, console: Console) -> None:
    """Print the report."""
    graph = atlas.graph
    console.print(f"\n[bold]{escape(atlas.title)}[/]")
    counts = f"{len(atlas.ranking.ranks):,} modules, {len(graph.edges):,} imports between them"
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
    console.print(runs_table(atlas))
    same = "the same ranks, bit for bit" if atlas.paths_agree else "[red]DIFFERENT ranks[/]"
    console.print(f"[dim]residual {atlas.ranking.residual:.1e}; on both paths {same}[/]\n")
    for name in ("atlas.html", "atlas.json", "atlas.sqlite"):
        console.print(str(out / name), markup=False, style="cyan", soft_wrap=True)


def ranking_table(atlas: Atlas, top: int) -> Table:
    """The highest-ranked modules."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("module", style="bold", overflow="fold")
    table.add_column("rank", justify="right")
    table.add_column("", min_width=16, no_wrap=True, style="green")
    table.add_column("imported by", justify="right")
    table.add_column("imports", justify="right")
    counts = atlas.counts()
    ranked = list(atlas.ranking.ranks.items())[:top]
    for place, (name, rank) in enumerate(ranked, 1):
        bar = "█" * max(1, round(16 * rank / ranked[0][1]))
        _, imported_by, imports, _ = counts[name]
        table.add_row(str(place), name, f"{rank:.2%}", bar, imported_by, imports)
    return table


def failures_table(failures: dict[str, str]) -> Table:
    """The files that were left out because of their content."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("module", overflow="fold")
    table.add_column("reason", overflow="fold", style="dim")
    for name, why in failures.items():
        table.add_row(name, escape(why))
    return table


def runs_table(atlas: Atlas) -> Table:
    """The runs, their paths and their speed."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("run", style="bold")
    table.add_column("path")
    for heading in ("tasks", "steps", "time", "rate"):
        table.add_column(heading, justify="right")
    for run in atlas.runs:
        steps, seconds = run["steps"], run["seconds"]
        count, unit = (run["tasks"], "tasks") if steps is None else (steps, "steps")
        rate = f"{count / seconds:,.0f} {unit}/s" if seconds else ""
        made = "" if steps is None else str(steps)
        time = f"{seconds:.3f} s"
        table.add_row(run["target"], run["path"], f"{run['tasks']:,}", made, time, rate)
    return table


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Rank the modules of a source tree by their imports, and draw it.")
    told = "source tree (default: the standard library)"
    parser.add_argument("--root", type=Path, metavar="DIR", help=told)
    parser.add_out("build", "atlas")
    told = "lines of the table (%(default)s)"
    parser.add_argument("--top", type=at_least(1), default=20, metavar="N", help=told)
    told = "only the first N modules, by name"
    parser.add_argument("--limit", type=at_least(1), metavar="N", help=told)
    told = f"also what is in folders called {', '.join(sorted(TEST_FOLDERS))}"
    parser.add_argument("--include-tests", action="store_true", help=told)
    told = "parse in worker processes, on all cores"
    parser.add_argument("--executor", choices=["process"], help=told)
    told = "only write the files, and show nothing"
    parser.add_argument("-q", "--quiet", action="store_true", help=told)
    return parser


def check(chosen: Namespace) -> None:
    """Find the modules to read, and the title: ``chosen.tree``, ``chosen.title``.

    Raises:
        ValueError: There are no modules, or no such folder; the text is for the user.
    """
    root = chosen.root or Path(sysconfig.get_path("stdlib"))
    if not root.is_dir():
        raise ValueError(f"--root {root} is not a folder")
    tree = find_modules(root, include_tests=chosen.include_tests)
    if not tree.modules:
        raise ValueError(f"--root {root} holds no Python modules")
    chosen.tree = tree._replace(modules=tree.modules[: chosen.limit])
    python = f"Python {platform.python_version()}'s standard library"
    chosen.title = f"The import graph of {python if chosen.root is None else root.resolve().name}"


def work(chosen: Namespace) -> int:
    """Run the workflow, and show the report."""
    bus = MessageBus()
    with RunTally(bus) if chosen.quiet else show_progress(bus) as tally, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the parser about other people's source
        try:
            with ProcessExecutor() if chosen.executor else nullcontext() as executor:
                made = make_atlas(chosen.title, chosen.tree, chosen.out, bus, tally, executor)
                atlas = asyncio.run(made)
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
    if not chosen.quiet:
        show(atlas, chosen.top, chosen.out, Console())
    return 0 if atlas.paths_agree else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status."""
    return start(command_line(), check, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
