"""A benchmark program: sections that measure, their options, and the files of the report.

All contenders of a section are timed in the same rounds: see ``rounds``. The garbage collector
stays on. Missed targets are printed and do not change the exit status: on a busy machine ratios are
still meaningful, but less precise.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

from rich.console import Console

from cascade.observatory.benchmarks.environment import Environment, environment
from cascade.observatory.benchmarks.findings import Document, Figures, Findings, target_cells, write
from cascade.observatory.benchmarks.loops import descend_by_calls
from cascade.observatory.benchmarks.rounds import Contender, Samples, measure
from cascade.observatory.benchmarks.tables import Table, samples_table
from cascade.observatory.command_line import INTERRUPTED, Parser
from cascade.spec.nearby import did_you_mean

_CALLS = 100_000
T = TypeVar("T")

#: Called with a file, a title and the documents to show there; see ``pages.write_page``.
WritePage: TypeAlias = Callable[[Path, str, Sequence[Document]], None]
#: Default folder of reports.
FOLDER = Path("build/benchmarks")
#: The contender that measures the speed of the machine, where it is of no interest besides.
REFERENCE = "a plain call"
#: Seconds after which a measurement begins no further round, if it had three: all suites take less
#: than ten minutes.
PATIENCE_S = 5.0
#: Plain calls per second of the machine that absolute targets refer to.
PLAIN_CALLS = 25_000_000


@dataclass
class Bench:
    """One run of a program, for its sections.

    Attributes:
        options: ``max``, ``rounds``, ``quick``.
        console: Where tables are printed.
        fewest: Rounds of the slowest measurements.
        found: The measurements so far.
    """

    options: Namespace
    console: Console
    fewest: int
    found: Findings = field(default_factory=Findings)

    @property
    def largest(self) -> int:
        """Most nodes or steps."""
        return int(self.options.max)

    def sizes(self, first: int) -> list[int]:
        """The powers of ten from ``first`` to ``largest``; at least one size."""
        powers = [10**k for k in range(2, 7)]
        return [size for size in powers if first <= size <= self.largest] or [self.largest]

    def rounds(self, size: int) -> int:
        """Rounds for a measurement of ``size`` operations: fewer for large ones."""
        if self.options.rounds is not None:
            return int(self.options.rounds)
        if self.options.quick:
            return 5 if size <= 10**4 else 3
        return 15 if size <= 10**4 else 7 if size <= 10**5 else self.fewest

    def measure(
        self,
        title: str,
        contenders: Sequence[Contender],
        rounds: int,
        baseline: str,
        unit: str,
        clock: Callable[[], float] = perf_counter,
    ) -> Samples:
        """Time contenders, and add the result under a title."""
        samples = self.compare(contenders, rounds, clock)
        self.found.add(title, samples, baseline, unit)
        return samples

    def compare(
        self,
        contenders: Sequence[Contender],
        rounds: int,
        clock: Callable[[], float] = perf_counter,
    ) -> Samples:
        """Time contenders, for figures that are made from their times."""
        return measure(contenders, rounds, clock=clock, seconds_at_most=PATIENCE_S)

    def reference(self, name: str = REFERENCE) -> Contender:
        """Plain calls, for ``target_at``."""
        return Contender(name, lambda: descend_by_calls(_CALLS), _CALLS, 0)

    def show(self, title: str, sections: Mapping[str, str], heading: str = "") -> None:
        """Print measurements as one table.

        Args:
            title: Above the table.
            sections: Text of the first column → title of a measurement.
            heading: Heading of the first column.
        """
        found = self.found.measurements
        measured = {label: found[of] for label, of in sections.items()}
        self.console.print(samples_table(title, measured, heading).rich())

    def those_installed(self, found: tuple[list[T], list[str]]) -> list[T]:
        """The peers that are installed; prints which are not."""
        peers, absent = found
        if absent:
            self.console.print(f"not installed, so left out: {', '.join(absent)}", style="dim")
        return peers

    def target_at(self, what: str, samples: Samples, name: str, baseline: str, most: float) -> None:
        """Add a target in µs, for ``PLAIN_CALLS`` calls of ``baseline`` per second."""
        cost = samples.ratio(name, baseline).median / PLAIN_CALLS * 1e6
        self.found.target(what, cost, most=most, unit="µs")


@dataclass(frozen=True)
class Section:
    """A part of a program that can be run alone.

    Attributes:
        name: Its name for ``--only``.
        title: Its heading on pages.
        text: Subject and method of the measurement, in Markdown.
        work: Measures; returns the figures besides samples and targets.
        show: Key of such figures → (heading of their names, unit, factor) on pages.
    """

    name: str
    title: str
    text: str
    work: Callable[[Bench], Figures | None]
    show: Mapping[str, tuple[str, str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A benchmark program.

    Attributes:
        name: The name of its file under ``observatory/benchmarks``, without ``.py``.
        what: One sentence.
        sections: In the order of the run.
        most: The default of ``--max``; 0 if it has no sizes.
        quick: The default with ``--quick``.
        of: The unit of ``--max``.
        fewest: Rounds of the slowest measurements.
    """

    name: str
    what: str
    sections: Sequence[Section]
    most: int = 0
    quick: int = 0
    of: str = ""
    fewest: int = 3

    def parser(self) -> Parser:
        """The options."""
        parser = Parser(description=self.what)
        names = ", ".join(section.name for section in self.sections)
        if self.most:
            smaller = f"; quick: {self.quick}" if self.quick != self.most else ""
            told = f"most {self.of} ({self.most}{smaller})"
            parser.add_argument("--max", type=int, metavar="N", help=told)
        add_rounds(parser)
        told = f"one section, may be repeated: {names}"
        parser.add_argument("--only", action="append", default=[], metavar="SECTION", help=told)
        default = FOLDER / f"{self.name}.json"
        parser.add_argument("--json", type=Path, metavar="PATH", default=default, help="figures")
        told = "also a page of drawings and tables"
        parser.add_argument("--plot", type=Path, metavar="PATH", help=told)
        return parser

    def options(self, arguments: Sequence[str] | None) -> Namespace:
        """The options given, checked and completed.

        Raises:
            SystemExit: They are invalid.
        """
        parser = self.parser()
        options = parser.parse_args(arguments)
        names = [section.name for section in self.sections]
        options.max = getattr(options, "max", None)
        try:
            check_sizes(options)
            for name in options.only:
                if name not in names:
                    near = did_you_mean(name, names)
                    known = ", ".join(names)
                    raise ValueError(f"--only: unknown section '{name}'{near}; sections: {known}")
        except ValueError as error:
            parser.error(str(error))
        options.only = [name for name in names if name in (options.only or names)]
        if self.most and options.max is None:
            options.max = self.quick if options.quick else self.most
        return options

    def run(self, page: WritePage, arguments: Sequence[str] | None = None) -> Document:
        """Measure, print tables, write the figures; the document.

        Args:
            page: Writes the page that ``--plot`` asks for; the pages know all programs.
            arguments: Those of the command line by default.

        Raises:
            SystemExit: The options are invalid.
        """
        options = self.options(arguments)
        console = Console(highlight=False)
        where = environment(Path(__file__).parent)
        introduce(console, where)
        bench = Bench(options, console, self.fewest)
        for section in self.sections:
            if section.name in options.only:
                bench.found.run(section.name, partial(section.work, bench))
        if bench.found.targets:
            rows = [target_cells(target) for target in bench.found.targets]
            headings = ("targets", "measured", "target", "")
            console.print(Table("", headings, rows).rich())
        sizes = {"max": options.max} if self.most else {}
        settings = {**sizes, "rounds": options.rounds, "quick": options.quick}
        findings = bench.found.as_json()
        document = {**where, "benchmark": self.name, "options": settings, **findings}
        write(options.json, document)
        console.print(f"figures: {options.json}", soft_wrap=True)
        if options.plot is not None:
            page(options.plot, self.what, [document])
            console.print(f"page:    {options.plot}", soft_wrap=True)
        return document

    def start(self, page: WritePage) -> None:
        """Run it from the command line; Ctrl-C ends it without a traceback."""
        try:
            self.run(page)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def add_rounds(parser: Parser) -> None:
    """``--rounds`` and ``--quick``."""
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of as many as size allows")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")


def check_sizes(options: Namespace) -> None:
    """Refuse invalid sizes and rounds.

    Raises:
        ValueError: The text is for the user.
    """
    for name, least in (("max", 100), ("rounds", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, but is {value}")


def introduce(console: Console, where: Environment) -> None:
    """Print the machine."""
    machine = where["machine"]
    python = f"{machine['implementation']} {machine['python']}"
    console.print(f"{python}, {machine['cpu_count']} CPUs, {machine['platform']}", soft_wrap=True)


def repeated(once: Callable[[], Any], times: int) -> Callable[[], Any]:
    """A function that calls ``once`` ``times`` times and returns the last result."""

    def run() -> Any:
        for _ in range(times - 1):
            once()
        return once()

    return run
