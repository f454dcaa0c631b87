"""Measurements of synchrony and their theory: Kuramoto's transition, and two fireflies."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from statistics import fmean, stdev

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
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine import Engine
from cascade.spec.lazy_types import LazyResult

#: γ, in radians a second, so that K_c is 1.
WIDTH = 0.5
CRITICAL = 2 * WIDTH
#: K / K_c at which R is measured.
COUPLINGS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
#: Seconds per step.
DT = 0.05
#: How far a flash moves the state of the other firefly, and the most flashes to wait for.
NUDGE, MOST_FLASHES = 0.02, 400


@dataclass(frozen=True, slots=True)
class Point:
    """R at one coupling.

    Attributes:
        coupling: K, in radians per second.
        mean: The mean over draws; each is the mean of R over the second half of its time.
        deviation: The standard deviation over draws.
        theory: R of infinitely many oscillators.
    """

    coupling: float
    mean: float
    deviation: float
    theory: float


def drawn(oscillators: int, coupling: float, steps: int, seed: int) -> LazyResult[Course]:
    """A population whose frequencies and angles depend on a seed."""
    rng = random.Random(seed)
    frequencies = lorentzian(oscillators, WIDTH, rng)
    angles = [2 * pi * rng.random() for _ in range(oscillators)]
    return population(angles, frequencies, coupling=coupling, dt=DT, steps=steps)


async def transition(
    bus: MessageBus, oscillators: int, draws: int, seconds: float, seed: int
) -> list[Point]:
    """R at each of ``COUPLINGS``: all populations in one run of the virtual machine.

    Args:
        bus: The engine's bus.
        oscillators: Number in a population.
        draws: Populations per coupling.
        seconds: Simulated time.
        seed: Decides all random values.
    """
    steps = round(seconds / DT)
    couplings = [CRITICAL * share for share in COUPLINGS]
    populations = [
        [drawn(oscillators, coupling, steps, seed + number * draws + draw) for draw in range(draws)]
        for number, coupling in enumerate(couplings)
    ]
    async with Engine(bus=bus) as engine:
        courses: list[list[Course]] = await engine.run(populations, use_vm=True)
    return [_point(coupling, of) for coupling, of in zip(couplings, courses, strict=True)]


def _point(coupling: float, courses: Sequence[Course]) -> Point:
    orders = [course.settled() for course in courses]
    deviation = stdev(orders) if len(orders) > 1 else 0.0
    return Point(coupling, fmean(orders), deviation, theoretical_order(coupling, WIDTH))


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two fireflies that begin with phases 0 and ``phase``.

    ``measured`` and ``predicted`` count the instants of flashes until both flash at one; None if
    they do not within ``MOST_FLASHES``.
    """

    phase: float
    measured: int | None
    predicted: int | None


def predicted_flashes(phase: float) -> int | None:
    """The number of instants of flashes until both flash, by the map of Mirollo and Strogatz.

    When one flashes, the other is at ``phase``. The flash moves it on, and it flashes when the
    first is at 1 minus that.
    """
    pulse = Pulse(1.0, NUDGE)
    for flashes in range(1, MOST_FLASHES + 1):
        ahead = pulse.nudged(phase)
        if ahead >= 1:
            return flashes
        phase = 1 - ahead
    return None


async def measured_flashes(engine: Engine, phase: float) -> int | None:
    """The same measured with two agents, which begin at the flash of the first; in virtual time."""
    pulse = Pulse(1.0, NUDGE)
    medium = Medium(all_to_all(2), end=MOST_FLASHES * pulse.period)
    # An agent that begins at phase 1 flashes at once.
    both = [firefly(place, medium, pulse, -p) for place, p in enumerate((1.0, phase))]
    await engine.run(both, use_vm=True)
    instants = Counter(time for time, _ in medium.take_log())
    together = (number for number, time in enumerate(sorted(instants), 1) if instants[time] == 2)
    flashes = next(together, None)
    return flashes if flashes is not None and flashes <= MOST_FLASHES else None


async def meetings(starts: int) -> list[Meeting]:
    """``starts`` pairs of fireflies, with phases evenly between 0 and 1; in virtual time."""
    phases = [(number + 0.5) / starts for number in range(starts)]
    async with Engine() as engine:
        return [
            Meeting(phase, await measured_flashes(engine, phase), predicted_flashes(phase))
            for phase in phases
        ]
