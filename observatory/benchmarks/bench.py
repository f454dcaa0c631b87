"""All benchmarks by one command, and one HTML report of them.

    hatch run bench
    hatch run bench memory delay
    hatch run bench --quick --out /tmp/report
    hatch run bench --list
    hatch run peers:bench graph tco

Each suite runs in a process of its own, one after the other, and prints its tables as it goes; at
the end are all targets in one table, met or missed. ``report.html`` in the folder has the machine,
the targets, drawings and tables, and loads nothing; beside it is a JSON file for each suite, which
``hatch run bench-page`` makes docs/performance.md of.

Exit status: 0 whether targets are met or not; 1 if a suite failed, which does not stop the others;
130 after Ctrl-C, with a report of the suites that were done.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from cascade.observatory.benchmarks.program import FOLDER, introduce
from cascade.observatory.benchmarks.suites import SUITES, Suite, part_of, suites_named
from cascade.observatory.benchmarks.surroundings import surroundings
from cascade.observatory.benchmarks.tables import all_targets_table
from cascade.observatory.benchmarks.whole_report import Outcome, render_report

HERE = Path(__file__).parent
FAILED, INTERRUPTED = 1, 130


def status_of(command: Sequence[str]) -> int:
    """Run a command to its end.

    Raises:
        KeyboardInterrupt: Ctrl-C; the command has been ended.
    """
    came: list[int] = []
    # An interrupt while the process is being started would leave it running, with nobody to end it.
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


def run_suite(suite: Suite, options: argparse.Namespace) -> Outcome:
    """Run a suite's program to its end; what it prints is seen.

    Raises:
        KeyboardInterrupt: As of ``status_of``.
    """
    figures: Path = options.out / f"{suite.name}.json"
    arguments = suite.command(options.quick, options.max, options.rounds)
    script = HERE / f"{suite.program}.py"
    status = status_of([sys.executable, str(script), *arguments, "--json", str(figures)])
    if status != 0:
        return Outcome(suite, None, f"{script.name} failed with exit status {status}")
    part = part_of(json.loads(figures.read_text(encoding="utf-8")), suite)
    return Outcome(suite, part, "" if part else f"{script.name} wrote no figures of this suite")


def outcomes_of(
    suites: Sequence[Suite], options: argparse.Namespace, console: Console
) -> Iterator[Outcome]:
    """Run the suites in turn, and tell which one it is."""
    for number, suite in enumerate(suites, 1):
        console.print(f"\n[bold]{number}/{len(suites)} {suite.name}[/] {suite.what}\n")
        outcome = run_suite(suite, options)
        if outcome.failure:
            console.print(f"{suite.name}: {outcome.failure}", style="bold red", soft_wrap=True)
        yield outcome


def collected(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], bool]:
    """The outcomes, and whether Ctrl-C came before the last one."""
    done: list[Outcome] = []
    try:
        for outcome in outcomes:
            done.append(outcome)
    except KeyboardInterrupt:
        return done, True
    return done, False


def conclude(console: Console, report: Path, done: Sequence[Outcome], text: str) -> None:
    """Print all targets and what failed, and write the report."""
    console.print()
    console.print(all_targets_table({one.suite.name: one.targets for one in done}))
    for one in done:
        if one.failure:
            console.print(f"failed: {one.suite.name}", style="bold red")
    report.write_text(text, encoding="utf-8")
    console.print(f"report: {report}", soft_wrap=True)


def options_of(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[Suite]]:
    """What is asked for, and the suites."""
    parser = argparse.ArgumentParser(description="Run benchmarks and report them.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")
    folder = "where the report and the figures go (%(default)s)"
    parser.add_argument("--out", type=Path, metavar="DIR", default=FOLDER, help=folder)
    parser.add_argument("--max", type=int, metavar="N", help="most nodes or steps")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of as many as size allows")
    parser.add_argument("--list", action="store_true", help="tell the suites, and run none")
    options = parser.parse_args(arguments)
    if options.max is not None and options.max < 100:
        parser.error(f"--max must be at least 100, but is {options.max}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but is {options.rounds}")
    try:
        suites = suites_named(options.suites)
        if not options.list:
            options.out.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"--out: there can be no folder {options.out}: {error.strerror}")
    return options, suites


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites, print all targets, write the report; the exit status."""
    options, suites = options_of(arguments)
    console = Console(highlight=False)
    if options.list:
        for suite in SUITES:
            console.print(f"{suite.name:<11} {suite.what}", soft_wrap=True)
        return 0
    where = surroundings(HERE)
    introduce(console, where)
    done, interrupted = collected(outcomes_of(suites, options, console))
    conclude(console, options.out / "report.html", done, render_report(where, done))
    if interrupted:
        left = ", ".join(suite.name for suite in suites[len(done) :])
        console.print(f"interrupted; not done: {left}", style="bold red", soft_wrap=True)
        return INTERRUPTED
    return FAILED if any(one.failure for one in done) else 0


if __name__ == "__main__":
    sys.exit(main())
