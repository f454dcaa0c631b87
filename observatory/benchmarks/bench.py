"""All benchmarks by one command, and one HTML report of them.

    hatch run bench
    hatch run bench memory delay
    hatch run bench --quick --out /tmp/report
    hatch run bench --list
    hatch run peers:bench graph tco

Each suite runs in its own process, one after the other, and prints its tables as it goes. A table
of all targets, met or missed, follows at the end. ``report.html`` in the folder has the machine,
the targets, charts and tables, and loads nothing; beside it is a JSON file per suite, from which
``hatch run bench-page`` makes docs/performance.md.

Exit status: 0 whether targets are met or not; 1 if a suite failed, which does not stop the others;
130 after Ctrl-C, with a report of the completed suites.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cascade.observatory.benchmarks.environment import environment
from cascade.observatory.benchmarks.findings import Document, read, target_cells
from cascade.observatory.benchmarks.pages import write_page
from cascade.observatory.benchmarks.program import FOLDER, add_rounds, check_sizes, introduce
from cascade.observatory.benchmarks.suites import SUITES, Suite, part_of, suites_named
from cascade.observatory.benchmarks.tables import Table
from cascade.observatory.command_line import INTERRUPTED, Parser, start

HERE = Path(__file__).parent
FAILED = 1


def status_of(command: Sequence[str]) -> int:
    """Run a command to its end.

    Raises:
        KeyboardInterrupt: Ctrl-C; the command has been ended.
    """
    came: list[int] = []
    # An interrupt during the start of the process would leave it running without a parent.
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    process = subprocess.Popen(command)
    try:
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def run_suite(suite: Suite, options: Namespace) -> Document:
    """Run a suite's program to its end; its figures.

    Raises:
        KeyboardInterrupt: As of ``status_of``.
        RuntimeError: The program failed.
    """
    figures = options.out / f"{suite.name}.json"
    script = HERE / f"{suite.program.name}.py"
    status = status_of(
        [sys.executable, str(script), *suite.command(options), "--json", str(figures)]
    )
    if status != 0:
        raise RuntimeError(f"{script.name} failed with exit status {status}")
    part = part_of(read(figures), suite)
    if part is None:
        raise RuntimeError(f"{script.name} wrote no figures of this suite")
    return part


def targets_table(documents: Sequence[Document]) -> Table:
    """The targets of all completed suites."""
    every = [target for document in documents for target in document["targets"]]
    title = f"all targets: {sum(one['met'] for one in every)} of {len(every)} met"
    return Table(title, ("figure", "measured", "target", ""), [target_cells(one) for one in every])


def check(options: Namespace) -> None:
    """Make ``options.chosen``, the suites.

    Raises:
        ValueError: The options are invalid; the text is for the user.
    """
    check_sizes(options)
    options.chosen = suites_named(options.suites)


def work(options: Namespace) -> int:
    """Run the suites, print all targets, write the report; the exit status."""
    console = Console(highlight=False)
    where = environment(HERE)
    introduce(console, where)
    done: list[Document] = []
    failures: dict[str, str] = {}
    left = [suite.name for suite in options.chosen]
    try:
        for number, suite in enumerate(options.chosen, 1):
            console.print(f"\n[bold]{number}/{len(options.chosen)} {suite.name}[/] {suite.what}\n")
            try:
                done.append(run_suite(suite, options))
            except RuntimeError as error:
                failures[suite.title] = str(error)
                console.print(f"{suite.name}: {error}", style="bold red", soft_wrap=True)
            left.remove(suite.name)
    except KeyboardInterrupt:
        pass
    report = options.out / "report.html"
    console.print()
    console.print(targets_table(done).rich())
    write_page(report, "Benchmarks of Cascade", done, where, failures)
    console.print(f"report: {report}", soft_wrap=True)
    if left:
        told = f"interrupted; not done: {', '.join(left)}"
        console.print(told, style="bold red", soft_wrap=True)
        return INTERRUPTED
    return FAILED if failures else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status."""
    parser = Parser(description="Run benchmarks and report them.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all if none is named")
    parser.add_argument("--max", type=int, metavar="N", help="most nodes or steps")
    add_rounds(parser)
    parser.add_out(str(FOLDER))
    parser.add_argument("--list", action="store_true", help="tell the suites, and run none")
    if "--list" in (sys.argv[1:] if arguments is None else arguments):
        for suite in SUITES:
            print(f"{suite.name:<11} {suite.what}")
        return 0
    return start(parser, check, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
