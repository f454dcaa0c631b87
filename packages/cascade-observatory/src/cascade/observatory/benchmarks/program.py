"""What the benchmark programs have in common: options, the machine's line, the report's files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cascade.observatory.benchmarks.report import write_report
from cascade.observatory.benchmarks.surroundings import Surroundings
from cascade.observatory.benchmarks.tables import targets_table
from cascade.observatory.benchmarks.targets import Target
from cascade.observatory.pictures.page import render_panels

_FOLDER = Path("build/benchmarks")


def options_of(
    arguments: Sequence[str] | None,
    name: str,
    description: str,
    *,
    most: int,
    quick: int,
    of: str,
    has_plot: bool = True,
) -> argparse.Namespace:
    """``max``, ``rounds``, ``quick``, ``json`` and, where there is a picture, ``plot``.

    Args:
        arguments: Of the command; those of the process if left out.
        name: What files are called.
        description: One sentence.
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
    files = [("json", "figures"), ("html", "picture")] if has_plot else [("json", "figures")]
    for kind, what in files:
        option = "--json" if kind == "json" else "--plot"
        default = _FOLDER / f"{name}.{kind}"
        parser.add_argument(option, type=Path, metavar="PATH", default=default, help=what)
    options = parser.parse_args(arguments)
    if options.max is None:
        options.max = quick if options.quick else most
    if options.max < 100:
        parser.error(f"--max must be at least 100, but is {options.max}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but is {options.rounds}")
    return options


def introduce(console: Console, where: Surroundings) -> None:
    """Say on what machine it is."""
    machine = where["machine"]
    console.print(
        f"{machine['implementation']} {machine['python']}, {machine['cpu_count']} CPUs, "
        f"{machine['platform']}",
        soft_wrap=True,
    )


def conclude(
    console: Console,
    options: argparse.Namespace,
    where: Surroundings,
    targets: Sequence[Target],
    figures: Mapping[str, Any],
    plot: Callable[[Mapping[str, Any]], str] | None = None,
) -> None:
    """Print whether targets are met, and write the files."""
    console.print(targets_table(targets))
    write_report(options.json, where, figures)
    told = f"figures: {options.json}"
    if plot is not None:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(plot({**where, **figures}), encoding="utf-8")
        told += f"\nplot:    {options.plot}"
    console.print(told, soft_wrap=True)


def page_of(
    document: Mapping[str, Any], title: str, lead: str, panels: Sequence[tuple[str, str]]
) -> str:
    """Drawings as an HTML page that says where the figures come from."""
    machine = document["machine"]
    figures = {
        "measured": document["date"],
        "commit": (document["commit"] or "none")[:12],
        "Python": f"{machine['implementation']} {machine['python']}",
        "platform": machine["platform"],
        "CPUs": str(machine["cpu_count"] or "?"),
    }
    return render_panels(title, lead, figures, panels)
