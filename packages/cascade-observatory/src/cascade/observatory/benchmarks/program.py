"""What the benchmark programs have in common: options, the machine's line, the report's files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from cascade.observatory.benchmarks.findings import Figures, Findings
from cascade.observatory.benchmarks.report import write_report
from cascade.observatory.benchmarks.surroundings import Surroundings
from cascade.observatory.benchmarks.tables import targets_table
from cascade.observatory.pictures.page import render_panels
from cascade.spec.nearby import did_you_mean

T = TypeVar("T")
#: Where reports go if nothing else is said.
FOLDER = Path("build/benchmarks")


def options_of(
    arguments: Sequence[str] | None,
    name: str,
    description: str,
    *,
    sections: Sequence[str],
    most: int,
    quick: int,
    of: str,
    has_plot: bool = True,
) -> argparse.Namespace:
    """``max``, ``rounds``, ``quick``, ``only``, ``json`` and, where there is a picture, ``plot``.

    Args:
        arguments: Of the command; those of the process if left out.
        name: What files are called.
        description: One sentence.
        sections: What the program is made of; ``only`` are those that are chosen, in this order.
        most: The default of ``max``.
        quick: The same, with ``quick``.
        of: What ``max`` counts.
        has_plot: Whether the program draws.
    """
    parser = argparse.ArgumentParser(description=description)
    smaller = f"; quick: {quick}" if quick != most else ""
    parser.add_argument("--max", type=int, metavar="N", help=f"most {of} ({most}{smaller})")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of as many as size allows")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")
    told = f"one section, may be repeated: {', '.join(sections)}"
    parser.add_argument("--only", action="append", default=[], metavar="SECTION", help=told)
    default = FOLDER / f"{name}.json"
    parser.add_argument("--json", type=Path, metavar="PATH", default=default, help="figures")
    if has_plot:
        told = "picture (beside the figures)"
        parser.add_argument("--plot", type=Path, metavar="PATH", help=told)
    options = parser.parse_args(arguments)
    if has_plot and options.plot is None:
        options.plot = options.json.with_suffix(".html")
    if options.max is None:
        options.max = quick if options.quick else most
    if options.max < 100:
        parser.error(f"--max must be at least 100, but is {options.max}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but is {options.rounds}")
    for section in options.only:
        if section not in sections:
            near = did_you_mean(section, sections)
            parser.error(
                f"--only: there is no section '{section}'{near}; "
                f"the sections are {', '.join(sections)}"
            )
    options.only = [section for section in sections if section in (options.only or sections)]
    return options


def start(main: Callable[[], None]) -> None:
    """Run a program from the command line; Ctrl-C ends it without a traceback."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)


def introduce(console: Console, where: Surroundings) -> None:
    """Say on what machine it is."""
    machine = where["machine"]
    console.print(
        f"{machine['implementation']} {machine['python']}, {machine['cpu_count']} CPUs, "
        f"{machine['platform']}",
        soft_wrap=True,
    )


def run_sections(
    benchmark: T,
    found: Findings,
    sections: Mapping[str, Callable[[T], Figures | None]],
    chosen: Sequence[str],
) -> None:
    """Run the chosen ones; each prints its tables as soon as it has them."""
    for name in chosen:
        found.run(name, partial(sections[name], benchmark))


def conclude(
    console: Console,
    options: argparse.Namespace,
    where: Surroundings,
    name: str,
    found: Findings,
    plot: Callable[[Mapping[str, Any]], str | None] | None = None,
) -> None:
    """Print whether targets are met, and write the files.

    Args:
        console: Where to.
        options: As ``options_of`` made them.
        where: Where it was measured.
        name: Of the program.
        found: What was.
        plot: Makes the page of the drawings from the report; None if there is nothing to draw.
    """
    if found.targets:
        console.print(targets_table(found.targets))
    settings = {"max": options.max, "rounds": options.rounds, "quick": options.quick}
    figures = {"benchmark": name, "options": settings, **found.as_json()}
    write_report(options.json, where, figures)
    told = f"figures: {options.json}"
    drawn = plot({**where, **figures}) if plot is not None else None
    if drawn is not None:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(drawn, encoding="utf-8")
        told += f"\nplot:    {options.plot}"
    console.print(told, soft_wrap=True)


def page_of(
    document: Mapping[str, Any], title: str, lead: str, panels: Sequence[tuple[str, str]]
) -> str:
    """Drawings as an HTML page that says where the figures come from."""
    return render_panels(title, lead, facts_of(document), panels)


def facts_of(document: Mapping[str, Any]) -> dict[str, str]:
    """When, on what machine and at which commit: name → value."""
    machine = document["machine"]
    return {
        "measured": document["date"],
        "commit": (document["commit"] or "none")[:12],
        "Python": f"{machine['implementation']} {machine['python']}",
        "platform": machine["platform"],
        "CPUs": str(machine["cpu_count"] or "?"),
    }
