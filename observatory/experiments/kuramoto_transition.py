"""Kuramoto's transition to order, measured, against what theory says.

    hatch run kuramoto
    hatch run kuramoto --oscillators 4000 --draws 20

*Left*: oscillators with natural frequencies from a Lorentzian distribution of width γ = 0.5 rad/s,
each pulled towards the mean of all with a coupling K. Up to K_c = 2γ they stay incoherent; beyond
it part of them move together, and the order parameter is R = sqrt(1 - K_c / K) if they are
infinitely many. A population is one agent, which makes a step of all its oscillators per tail call;
the error bars are the standard deviation over draws of the frequencies and of the start.

*Right*: two fireflies that see each other. How often they flash before they do so together depends
on their phases at the beginning; Mirollo and Strogatz (1990) give the map from one flash to the
next, h(p) = f⁻¹(nudge + f(1 - p)), and show that almost all starts end in synchrony. Measured are
two agents ``firefly``; the line is the map, iterated.

Writes ``kuramoto.json``, ``kuramoto.html`` and, if asked, the picture.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from math import pi, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NoReturn

from rich.console import Console
from rich.table import Table

import cascade as cs
from cascade.observatory.agents.kuramoto import (
    Course,
    Pulse,
    firefly,
    lorentzian,
    population,
    theoretical_order,
)
from cascade.observatory.agents.medium import Medium
from cascade.observatory.agents.topology import all_to_all
from cascade.observatory.benchmarks.surroundings import surroundings
from cascade.observatory.pictures.curves import Curve, Measured, draw_curves, draw_side_by_side
from cascade.observatory.pictures.page import render_panels
from cascade.runtime.clock import run_virtually
from cascade.runtime.subscribers.progress import show_progress
from cascade.runtime.subscribers.tally import RunTally

HERE = Path(__file__).parent
#: γ, in radians a second, so that K_c is 1.
WIDTH = 0.5
CRITICAL = 2 * WIDTH
#: K / K_c at which R is measured.
COUPLINGS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
DT = 0.05
#: Two fireflies: how far a flash moves a state, and how many starts are tried.
NUDGE, STARTS = 0.02, 48
TITLE = "Kuramoto's transition, and two fireflies"
LEAD = (
    "Points are measured on agents of Cascade's virtual machine, with the standard deviation over "
    "draws; lines are theory. Nothing is fitted."
)


# -- oscillators ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """R at one coupling.

    Attributes:
        coupling: K, in radians a second.
        mean: Of R over draws, each the mean over the second half of its time.
        deviation: Its standard deviation.
        theory: R of infinitely many.
    """

    coupling: float
    mean: float
    deviation: float
    theory: float


def drawn(oscillators: int, coupling: float, steps: int, seed: int) -> cs.LazyResult[Course]:
    """A population with frequencies and angles that a seed decides."""
    rng = random.Random(seed)
    frequencies = lorentzian(oscillators, WIDTH, rng)
    angles = [2 * pi * rng.random() for _ in range(oscillators)]
    return population(angles, frequencies, coupling=coupling, dt=DT, steps=steps)


async def transition(
    oscillators: int, draws: int, seconds: float, seed: int, *, quiet: bool = False
) -> list[Point]:
    """R at each of ``COUPLINGS``: all populations in one run of the virtual machine."""
    bus = cs.MessageBus()
    listening: AbstractContextManager[RunTally] = RunTally(bus) if quiet else show_progress(bus)
    steps = round(seconds / DT)
    couplings = [CRITICAL * share for share in COUPLINGS]
    async with cs.Engine(bus=bus) as engine:
        with listening:
            courses: list[list[Course]] = await engine.run(
                [
                    [
                        drawn(oscillators, coupling, steps, seed + number * draws + draw)
                        for draw in range(draws)
                    ]
                    for number, coupling in enumerate(couplings)
                ],
                use_vm=True,
            )
    points = []
    for coupling, settled in zip(couplings, courses, strict=True):
        orders = [course.settled() for course in settled]
        deviation = stdev(orders) if draws > 1 else 0.0
        theory = theoretical_order(coupling, WIDTH)
        points.append(Point(coupling, fmean(orders), deviation, theory))
    return points


# -- two fireflies --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two fireflies that begin with phases 0 and ``phase``, and how often one of them flashed.

    ``measured`` and ``predicted`` count the instants of flashes until both flash at one; None if
    they do not within the time.
    """

    phase: float
    measured: int | None
    predicted: int | None


def predicted_flashes(phase: float, pulse: Pulse, most: int) -> int | None:
    """How many instants of flashes there are until the last, by the map of Mirollo and Strogatz.

    When one flashes, the other is at ``phase``; it is moved on, and flashes when the first is at
    1 minus that.
    """
    for flashes in range(1, most + 1):
        ahead = pulse.nudged(phase)
        if ahead >= 1:
            return flashes
        phase = 1 - ahead
    return None


async def flashes_until_together(
    engine: cs.Engine, phase: float, pulse: Pulse, most: int
) -> int | None:
    """The same, of two agents, which begin at the flash of the first."""
    medium = Medium(all_to_all(2), end=most * pulse.period)
    # One that begins at phase 1 flashes at once.
    both = [firefly(place, medium, pulse, -p) for place, p in enumerate((1.0, phase))]
    await engine.run(both, use_vm=True)
    instants: dict[float, int] = {}
    for time, _ in medium.take_log():
        instants[time] = instants.get(time, 0) + 1
    together = [number for number, time in enumerate(sorted(instants), 1) if instants[time] == 2]
    return together[0] if together and together[0] <= most else None


async def meetings(starts: int, most: int = 400) -> list[Meeting]:
    """``starts`` pairs of fireflies, with phases evenly between 0 and 1; in virtual time."""
    pulse = Pulse(1.0, NUDGE)
    found = []
    async with cs.Engine() as engine:
        for number in range(starts):
            phase = (number + 0.5) / starts
            measured = await flashes_until_together(engine, phase, pulse, most)
            found.append(Meeting(phase, measured, predicted_flashes(phase, pulse, most)))
    return found


# -- the report -----------------------------------------------------------------------------------


def order_picture(points: Sequence[Point], oscillators: int) -> str:
    """R against K, as an ``<svg>`` element."""
    top = points[-1].coupling
    rising = [CRITICAL + (top - CRITICAL) * (n / 100) ** 2 for n in range(101)]  # dense at K_c
    theory = [Measured(k, r, r, r) for k in (0.0, *rising) for r in [theoretical_order(k, WIDTH)]]
    measured = [
        Measured(p.coupling, p.mean, p.mean - p.deviation, p.mean + p.deviation) for p in points
    ]
    return draw_curves(
        [
            Curve(f"{oscillators:,} oscillators", measured, 2, bold=True, line=False),
            Curve("theory, infinitely many", theory, 1, dots=False),
        ],
        title="R against K",
        x_label="coupling K, rad/s (K_c = 1)",
        y_label="order parameter R",
        y_range=(0.0, 1.0),
        linear=True,
    )


def meetings_picture(found: Sequence[Meeting]) -> str:
    """Flashes until synchrony against the phase at the beginning, as an ``<svg>`` element."""
    pulse = Pulse(1.0, NUDGE)
    theory = [
        Measured(n / 1000, flashes, flashes, flashes)
        for n in range(1001)
        if (flashes := predicted_flashes(n / 1000, pulse, 400)) is not None
    ]
    measured = [Measured(m.phase, m.measured, m.measured, m.measured) for m in found if m.measured]
    return draw_curves(
        [
            Curve("two agents", measured, 2, bold=True, line=False),
            Curve("the map of Mirollo and Strogatz", theory, 1, dots=False),
        ],
        title="Flashes until both flash together",
        x_label="phase of the second when the first flashes",
        y_label="flashes until they are one",
        y_range=(0.0, max(m.y for m in theory) * 1.05),
        linear=True,
    )


def points_table(points: Sequence[Point]) -> Table:
    """The measurements, for a terminal."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("K / K_c", "R measured", "±", "R in theory", "difference"):
        table.add_column(heading, justify="right")
    for p in points:
        shown = [f"{value:.4f}" for value in (p.mean, p.deviation, p.theory)]
        table.add_row(f"{p.coupling / CRITICAL:.2f}", *shown, f"{p.mean - p.theory:+.4f}")
    return table


def write(
    points: Sequence[Point], found: Sequence[Meeting], chosen: argparse.Namespace
) -> list[Path]:
    """The files of the report."""
    out: Path = chosen.out
    panels = [
        ("Order against coupling", order_picture(points, chosen.oscillators)),
        ("Two fireflies come together", meetings_picture(found)),
    ]
    agree = sum(m.measured == m.predicted for m in found)
    figures = {
        "oscillators": f"{chosen.oscillators:,}",
        "draws": str(chosen.draws),
        "simulated": f"{chosen.seconds:g} s",
        "finite-size error": f"about {1 / sqrt(chosen.oscillators):.3f}",
        "pairs as predicted": f"{agree} of {len(found)}",
    }
    document = {
        **surroundings(HERE),
        "oscillators": chosen.oscillators,
        "draws": chosen.draws,
        "seed": chosen.seed,
        "width": WIDTH,
        "points": [asdict(p) for p in points],
        "pairs": {"nudge": NUDGE, "meetings": [asdict(m) for m in found]},
    }
    files = [out / "kuramoto.html", out / "kuramoto.json"]
    files[0].write_text(render_panels(TITLE, LEAD, figures, panels), encoding="utf-8")
    files[1].write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if chosen.picture is not None:
        chosen.picture.parent.mkdir(parents=True, exist_ok=True)
        chosen.picture.write_text(draw_side_by_side(panels), encoding="utf-8")
        files.append(chosen.picture)
    return files


# -- the terminal ---------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the list of options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the options\n")


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Measure Kuramoto's transition, and compare it with theory.")
    parser.add_argument(
        "--oscillators", type=int, default=1000, metavar="N", help="in a population (%(default)s)"
    )
    parser.add_argument(
        "--draws", type=int, default=8, metavar="N", help="populations per coupling (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="simulated time (%(default)g)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides all chance (1)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("build", "kuramoto"),
        help="where the files go (default: %(default)s)",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw it, as SVG")
    parser.add_argument("-q", "--quiet", action="store_true", help="only write the files")
    return parser


def check(chosen: argparse.Namespace) -> None:
    """Refuse what makes no sense.

    Raises:
        ValueError: The text is for the user.
    """
    for name, least in (("oscillators", 2), ("draws", 1)):
        if getattr(chosen, name) < least:
            raise ValueError(f"--{name} must be at least {least}, but is {getattr(chosen, name)}")
    if not 2 * DT <= chosen.seconds <= 1e6:
        raise ValueError(f"--seconds must be from {2 * DT:g} to a million, but is {chosen.seconds}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit status, or exits with 2 where options make no sense."""
    parser = command_line()
    chosen = parser.parse_args(arguments)
    try:
        check(chosen)
        chosen.out.mkdir(parents=True, exist_ok=True)
        measuring = transition(
            chosen.oscillators, chosen.draws, chosen.seconds, chosen.seed, quiet=chosen.quiet
        )
        points = asyncio.run(measuring)
        found = run_virtually(meetings(STARTS))
        files = write(points, found, chosen)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot write into --out {chosen.out}: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if not chosen.quiet:
        console = Console()
        console.print(points_table(points))
        agree = sum(m.measured == m.predicted for m in found)
        console.print(
            f"\n{agree} of {len(found)} pairs of fireflies flash as often as predicted before they "
            "do so together",
            highlight=False,
        )
        for path in files:
            console.print(str(path), markup=False, style="cyan", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
