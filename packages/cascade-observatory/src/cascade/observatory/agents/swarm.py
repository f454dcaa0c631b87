"""A field of fireflies in one run: its settings and its recording."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter

from cascade.observatory.agents.kuramoto import Pulse, firefly, order_of_phases
from cascade.observatory.agents.medium import Medium
from cascade.observatory.agents.topology import NAMES, Topology, topology_named
from cascade.runtime.engine import Engine
from cascade.spec.task import task
from cascade.spec.wording import short

#: R from which on fireflies count as synchronous.
SYNCHRONOUS = 0.95
#: Most flashes that a recording keeps for replay; some megabytes.
_FLASHES_KEPT = 200_000
#: Side of the largest field: a million agents.
_LARGEST = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """A field of ``side`` x ``side`` fireflies, and the time for which it is watched.

    Attributes:
        side: Fireflies in a row.
        topology: Which places see each other; one of ``topology.NAMES``.
        period: Seconds from flash to flash of a lone firefly.
        nudge: How far the flashes of all neighbours together move a state, which flashes at 1. One
            flash moves it by this divided by the average number of neighbours.
        refractory: Share of the period in which a firefly sees nothing after its flash.
        bend: See ``kuramoto.Pulse``.
        duration: Seconds of the fireflies' time.
        seed: Decides the initial phases and the shortcuts of a small world.
        looks: Measurements of R per period.

    Raises:
        ValueError: A setting is out of range.
    """

    side: int = 30
    topology: str = "torus"
    period: float = 1.0
    nudge: float = 0.3
    refractory: float = 0.1
    bend: float = 3.0
    duration: float = 30.0
    seed: int = 1
    looks: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.side <= _LARGEST:
            raise ValueError(f"the side must be from 1 to {_LARGEST}, but is {self.side}")
        if self.topology not in NAMES:
            raise ValueError(f"there is no topology {short(self.topology)}; {', '.join(NAMES)} are")
        for name in ("period", "nudge", "refractory", "bend", "duration"):
            if not isfinite(getattr(self, name)):
                raise ValueError(f"the {name} must be a finite number")
        if not self.duration > 0:
            raise ValueError(f"the duration must be above 0 seconds, but is {self.duration}")
        if self.looks < 1:
            raise ValueError(f"R must be measured at least once a period, not {self.looks} times")
        Pulse(self.period, self.nudge, self.refractory, self.bend)

    @property
    def fireflies(self) -> int:
        """The number of fireflies."""
        return self.side * self.side


@dataclass(slots=True)
class Recording:
    """The observations of a field.

    Attributes:
        settings: The settings of the field.
        times: Seconds at which R was measured.
        order: R at these times.
        flashes: (time, place), by time; the first ones, if there were very many.
        flashed: Total number of flashes.
        steps: Steps that agents have made, including the observer's.
        seconds: Real seconds that the run has taken so far.
        lag: The largest delay of the field, in seconds.
    """

    settings: Settings
    times: list[float] = field(default_factory=list)
    order: list[float] = field(default_factory=list)
    flashes: list[tuple[float, int]] = field(default_factory=list)
    flashed: int = 0
    steps: int = 0
    seconds: float = 0.0
    lag: float = 0.0

    @property
    def synchronous_since(self) -> float | None:
        """Time since which R has stayed above ``SYNCHRONOUS`` to the end; None if it has not."""
        since = None
        for time, order in zip(reversed(self.times), reversed(self.order), strict=True):
            if order <= SYNCHRONOUS:
                break
            since = time
        return since


#: Called at each look, with the recording so far and the medium.
Watcher = Callable[[Recording, Medium], object]


@task
async def observe(
    place: int, medium: Medium, every: float, look: Callable[[], object], count: int = 0
) -> int:
    """An agent that looks at a fixed interval in seconds, and counts its looks."""
    if await medium.rest(place, count * every) is None:
        return count
    look()
    return observe.tail(place, medium, every, look, count + 1)


async def simulate(
    settings: Settings,
    engine: Engine,
    recording: Recording | None = None,
    watch: Watcher | None = None,
) -> Recording:
    """Let the fireflies of a field live on the virtual machine, each an agent of its own.

    Time is that of the event loop: real, or virtual.

    Args:
        settings: The field.
        engine: The engine to use. Its rate limits apply to the fireflies' steps. A concurrency
            limit below the number of places would block the field, because all wait in their steps.
        recording: Filled as it goes, so that an interrupted run leaves its part.
        watch: Called at each look.

    Guarantees: all of the recording but ``seconds`` and ``lag`` depends on ``settings`` alone.
    """
    recording = recording or Recording(settings)
    topology = topology_named(settings.topology, settings.side, settings.seed)
    medium = Medium(topology, settings.duration, observers=1)
    pulse = pulse_in(settings, topology)
    began = perf_counter()

    def look() -> None:
        _note(recording, medium, perf_counter() - began)
        if watch is not None:
            watch(recording, medium)

    rng = random.Random(settings.seed)
    agents = []
    for place in range(settings.fireflies):
        medium.zeros[place] = zero = -rng.random() * settings.period
        agents.append(firefly(place, medium, pulse, zero))
    # Last: at one instant it is woken after the flashing agents, who fill the first round.
    agents.append(observe(settings.fireflies, medium, settings.period / settings.looks, look))
    try:
        await engine.run(agents, use_vm=True)
    finally:
        _take(recording, medium)
        recording.seconds = perf_counter() - began
    return recording


def pulse_in(settings: Settings, topology: Topology) -> Pulse:
    """The response of fireflies in a field: one flash is a share of all neighbours' nudge."""
    each = settings.nudge / topology.degree if topology.degree else 0.0
    return Pulse(settings.period, each, settings.refractory, settings.bend)


def _note(recording: Recording, medium: Medium, seconds: float) -> None:
    recording.times.append(medium.now)
    recording.order.append(order_of_phases(medium, recording.settings.period))
    recording.lag = max(recording.lag, medium.lag)
    recording.seconds = seconds
    _take(recording, medium)


def _take(recording: Recording, medium: Medium) -> None:
    # Within an instant the event loop decides the order of steps.
    log = sorted(medium.take_log())
    recording.flashed, recording.steps = medium.flashes, medium.wakes
    recording.flashes += log[: _FLASHES_KEPT - len(recording.flashes)]
