"""Kuramoto's transition to order, measured and compared with theory.

    hatch run kuramoto
    hatch run kuramoto --oscillators 4000 --draws 20

*Left*: oscillators with natural frequencies from a Lorentzian distribution of width γ = 0.5 rad/s,
each pulled towards the mean of all with a coupling K. Up to K_c = 2γ they stay incoherent; beyond
it part of them move together, and the order parameter is R = sqrt(1 - K_c / K) if they are
infinitely many. A population is one agent, which makes a step of all its oscillators per tail call;
the error bars are the standard deviation over draws of the frequencies and of the start.

*Right*: two fireflies that see each other. The number of flashes before they flash together depends
on their phases at the beginning. Mirollo and Strogatz (1990) give the map from one flash to the
next, h(p) = f⁻¹(nudge + f(1 - p)), and show that almost all starts end in synchrony. The points are
measured with two agents ``firefly``; the line is the iterated map.

Writes ``kuramoto.json``, ``kuramoto.html`` and, if asked, the picture.
"""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt
from pathlib import Path

from rich.console import Console

from cascade.observatory.agents.kuramoto import theoretical_order
from cascade.observatory.benchmarks.environment import environment
from cascade.observatory.benchmarks.tables import Table
from cascade.observatory.command_line import Parser, start
from cascade.observatory.experiments.synchrony import (
    CRITICAL,
    DT,
    NUDGE,
    WIDTH,
    Meeting,
    Point,
    meetings,
    predicted_flashes,
    transition,
)
from cascade.observatory.pictures.charts import Chart, Curve, draw, draw_side_by_side
from cascade.observatory.pictures.page import framed, panels_of
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import run_virtually
from cascade.runtime.telemetry.progress import show_progress
from cascade.runtime.telemetry.tally import RunTally

HERE = Path(__file__).parent
#: Pairs of fireflies.
STARTS = 48
TITLE = "Kuramoto's transition, and two fireflies"
LEAD = (
    "Points are measured on agents of Cascade's virtual machine, with the standard deviation over "
    "draws; lines are theory. Nothing is fitted."
)


def order_chart(points: Sequence[Point], oscillators: int) -> Chart:
    """R against K."""
    top = points[-1].coupling
    couplings = [0.0, *(CRITICAL + (top - CRITICAL) * (n / 100) ** 2 for n in range(101))]
    orders = [theoretical_order(coupling, WIDTH) for coupling in couplings]
    xs, ys = [p.coupling for p in points], [p.mean for p in points]
    spans = [(p.mean - p.deviation, p.mean + p.deviation) for p in points]
    curves = [
        Curve(f"{oscillators:,} oscillators", xs, ys, spans, colour=2, bold=True, line=False),
        Curve("theory, infinitely many", couplings, orders, dots=False),
    ]
    label = "coupling K, rad/s (K_c = 1)"
    return Chart("Order against coupling", label, "order parameter R", curves, y_range=(0.0, 1.0))


def meetings_chart(found: Sequence[Meeting]) -> Chart:
    """Flashes until synchrony against the phase at the beginning."""
    theory = {n / 1000: flashes for n in range(1001) if (flashes := predicted_flashes(n / 1000))}
    measured = {m.phase: m.measured for m in found if m.measured}
    curves = [
        Curve("two agents", [*measured], [*measured.values()], colour=2, bold=True, line=False),
        Curve("the map of Mirollo and Strogatz", [*theory], [*theory.values()], dots=False),
    ]
    return Chart(
        "Two fireflies come together",
        "phase of the second when the first flashes",
        "flashes until they are one",
        curves,
        y_range=(0.0, max(theory.values()) * 1.05),
    )


def points_table(points: Sequence[Point]) -> Table:
    """The measurements, for a terminal."""
    rows = [
        (
            f"{p.coupling / CRITICAL:.2f}",
            *(f"{value:.4f}" for value in (p.mean, p.deviation, p.theory)),
            f"{p.mean - p.theory:+.4f}",
        )
        for p in points
    ]
    return Table("R", ("K / K_c", "R measured", "±", "R in theory", "difference"), rows)


def write(points: Sequence[Point], found: Sequence[Meeting], chosen: Namespace) -> list[Path]:
    """The files of the report."""
    charts = [order_chart(points, chosen.oscillators), meetings_chart(found)]
    figures = {
        "oscillators": f"{chosen.oscillators:,}",
        "draws": str(chosen.draws),
        "simulated": f"{chosen.seconds:g} s",
        "finite-size error": f"about {1 / sqrt(chosen.oscillators):.3f}",
        "pairs as predicted": f"{agreeing(found)} of {len(found)}",
    }
    document = {
        **environment(HERE),
        **{name: getattr(chosen, name) for name in ("oscillators", "draws", "seed")},
        "width": WIDTH,
        "points": [asdict(p) for p in points],
        "pairs": {"nudge": NUDGE, "meetings": [asdict(m) for m in found]},
    }
    panels = panels_of([(chart.title, draw(chart)) for chart in charts])
    files = {
        chosen.out / "kuramoto.html": framed(TITLE, LEAD, figures, panels),
        chosen.out / "kuramoto.json": json.dumps(document, indent=1) + "\n",
    }
    if chosen.picture is not None:
        chosen.picture.parent.mkdir(parents=True, exist_ok=True)
        files[chosen.picture] = draw_side_by_side(charts)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)


def agreeing(found: Sequence[Meeting]) -> int:
    """The number of pairs that flash as often as predicted."""
    return sum(m.measured == m.predicted for m in found)


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Measure Kuramoto's transition, and compare it with theory.")
    for name, kind, default, metavar, told in (
        ("--oscillators", int, 1000, "N", "in a population (%(default)s)"),
        ("--draws", int, 8, "N", "populations per coupling (%(default)s)"),
        ("--seconds", float, 60.0, "S", "simulated time (%(default)g)"),
        ("--seed", int, 1, "N", "decides all chance (%(default)s)"),
    ):
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=told)
    parser.add_out("build", "kuramoto")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw it, as SVG")
    parser.add_argument("-q", "--quiet", action="store_true", help="only write the files")
    return parser


def check(chosen: Namespace) -> None:
    """Refuse invalid options.

    Raises:
        ValueError: The text is for the user.
    """
    for name, least in (("oscillators", 2), ("draws", 1)):
        if getattr(chosen, name) < least:
            raise ValueError(f"--{name} must be at least {least}, but is {getattr(chosen, name)}")
    if not 2 * DT <= chosen.seconds <= 1e6:
        raise ValueError(f"--seconds must be from {2 * DT:g} to a million, but is {chosen.seconds}")


def work(chosen: Namespace) -> int:
    """Measure, write the files, and print the results."""
    bus = MessageBus()
    with RunTally(bus) if chosen.quiet else show_progress(bus):
        points = asyncio.run(
            transition(bus, chosen.oscillators, chosen.draws, chosen.seconds, chosen.seed)
        )
    found = run_virtually(meetings(STARTS))
    files = write(points, found, chosen)
    if not chosen.quiet:
        console = Console(highlight=False)
        console.print(points_table(points).rich())
        console.print(
            f"\n{agreeing(found)} of {len(found)} pairs of fireflies flash as often as predicted "
            "before they do so together"
        )
        for path in files:
            console.print(str(path), markup=False, style="cyan", soft_wrap=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status."""
    return start(command_line(), check, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
