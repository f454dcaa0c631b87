"""Fireflies against Mirollo and Strogatz (1990), and the medium that they share."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from math import exp, inf, log

import pytest

import cascade as cs
from cascade.observatory.agents.kuramoto import Pulse, firefly, resting
from cascade.observatory.agents.medium import BATCH, Medium
from cascade.observatory.agents.swarm import Recording, Settings, observe, simulate
from cascade.observatory.agents.topology import all_to_all, ring
from cascade.runtime.clock import run_virtually


def live(phases, pulse, end, topology=None, tier="auto"):
    """Let fireflies live; the medium afterwards."""

    async def main():
        medium = Medium(topology or all_to_all(len(phases)), end)
        agents = []
        for place, phase in enumerate(phases):
            medium.zeros[place] = zero = -phase * pulse.period
            agents.append(firefly(place, medium, pulse, zero))
        async with cs.Engine(tier=tier) as engine:
            assert await engine.run(agents, use_vm=True) == [*range(len(phases))]
        return medium

    return run_virtually(main)


def field(settings, tier="auto", watch=None):
    async def main():
        async with cs.Engine(tier=tier) as engine:
            return await simulate(settings, engine, watch=watch)

    return run_virtually(main)


def instants(medium):
    """Time → the places that flash then."""
    found = {}
    for time, place in medium.take_log():
        found.setdefault(time, set()).add(place)
    return found


# -- how one answers to a flash -------------------------------------------------------------------


@pytest.mark.parametrize("bend", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.9])
def test_a_flash_moves_the_state_by_the_nudge(bend, phase):
    def f(p):
        return log(1 + (exp(bend) - 1) * p) / bend

    pulse = Pulse(1.0, 0.07, bend=bend)

    assert f(pulse.nudged(phase)) == pytest.approx(f(phase) + 0.07)
    assert f(pulse.nudged(phase, 3)) == pytest.approx(f(phase) + 0.21)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.1), "period must be above 0 seconds, but is 0"),
        ((1, -0.1), "nudge must be at least 0, but is -0.1"),
        ((1, float("nan")), "nudge must be at least 0, but is nan"),
        ((1, 0.1, 1.0), "refractory must be at least 0 and below 1, but is 1.0"),
        ((1, 0.1, 0, 0), "bend must be above 0 and at most 30, but is 0"),
    ],
)
def test_invalid_settings_of_fireflies_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pulse(*arguments)


# -- fireflies ------------------------------------------------------------------------------------


def test_fireflies_are_fused():
    assert cs.explain(firefly).tier == cs.explain(observe).tier == "fused"
    assert cs.explain(firefly).shares_with == ("resting",)


def test_one_that_is_alone_flashes_once_a_period():
    medium = live([0.25], Pulse(2.0, 0.1, 0.3), end=9)

    assert [time for time, _ in medium.take_log()] == [1.5, 3.5, 5.5, 7.5]


def test_without_a_nudge_all_fireflies_keep_their_pace():
    medium = live([0.0, 0.25, 0.5], Pulse(1.0, 0.0, 0.1), end=2.5)

    assert instants(medium) == {
        0.5: {2}, 0.75: {1}, 1.0: {0}, 1.5: {2}, 1.75: {1}, 2.0: {0}, 2.5: {2},
    }  # fmt: skip


def predicted(phase, pulse):
    """The phases at which the other one is met, flash by flash, by the map of the paper."""
    met = []
    while True:
        met.append(phase)
        ahead = pulse.nudged(phase)
        if ahead >= 1:
            return met
        phase = 1 - ahead


@pytest.mark.parametrize("phase", [0.07, 0.31, 0.44, 0.52, 0.83])
@pytest.mark.parametrize("nudge", [0.02, 0.1])
def test_two_follow_the_map_of_mirollo_and_strogatz_until_they_are_one(phase, nudge):
    pulse = Pulse(1.0, nudge)
    expected = predicted(phase, pulse)
    times = instants(live([1.0, phase], pulse, end=len(expected) + 3))
    before = [*times][: len(expected)]

    # From flash to flash passes the remaining time of the one that is about to flash.
    gaps = [after - now for now, after in pairwise(before)]
    assert gaps == pytest.approx([1 - pulse.nudged(p) for p in expected[:-1]])
    assert all(len(times[time]) == 1 for time in before[:-1])
    together = [*times.values()][len(expected) - 1 :]
    assert len(together) >= 3
    assert all(places == {0, 1} for places in together)


@pytest.mark.parametrize(
    "seed", [*range(5), *(pytest.param(n, marks=pytest.mark.thorough) for n in range(5, 25))]
)
def test_all_to_all_almost_all_starts_end_in_synchrony(seed):
    """The theorem of the paper: any number of them, any nudge, bend > 0."""
    rng = random.Random(seed)
    count = rng.randrange(2, 30)
    pulse = Pulse(1.0, rng.uniform(0.1, 0.6) / count, bend=rng.uniform(1, 5))
    medium = live([rng.random() for _ in range(count)], pulse, end=150)

    assert [len(places) for places in instants(medium).values()][-3:] == [count] * 3


def test_a_flash_sets_off_a_chain_at_one_instant():
    """Each can be set off by one flash only, and only by its neighbour's."""
    pulse = Pulse(1.0, 0.1)
    count = 40
    phases = [1.0, *[0.99] * (count - 1)]
    medium = live(phases, pulse, end=0.5, topology=ring(count))

    assert instants(medium) == {0.0: {*range(count)}}


def test_a_firefly_that_has_just_flashed_sees_nothing():
    def second_flash_of_the_first(refractory):
        medium = live([1.0, 0.9], Pulse(1.0, 0.02, refractory), end=1.5)
        return [time for time, place in medium.take_log() if place == 0][1]

    # The other flashes less than 0.1 after the first one.
    assert second_flash_of_the_first(0.3) == 1.0
    assert second_flash_of_the_first(0.0) < 0.995


# -- the medium -----------------------------------------------------------------------------------


def test_the_observer_sees_all_earlier_flashes():
    seen = []
    field(
        Settings(side=3, duration=1.0, looks=4),
        watch=lambda recording, medium: seen.append((recording.times[-1], medium.now)),
    )

    assert seen == [(t, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]


def test_rounds_are_woken_in_batches():
    """So that other work has its turn, also when all flash at once."""
    count = 3 * BATCH + 1
    turns = []

    async def main():
        medium = Medium(all_to_all(count), end=1.5)
        pulse = Pulse(1.0, 0.1)

        async def other():
            await asyncio.sleep(1)  # when all flash
            for _ in range(20):
                turns.append(medium.wakes)
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        async with cs.Engine() as engine:
            await engine.run([firefly(n, medium, pulse, 0.0) for n in range(count)], use_vm=True)
        await beside

    run_virtually(main)
    steps = [after - before for before, after in pairwise(turns)]
    assert {*steps} == {0, BATCH, 1}
    assert sum(steps) >= count


def test_an_agent_that_fails_ends_the_run():
    @cs.task
    async def faulty(place, medium):
        await medium.rest(place, 0.5)
        raise RuntimeError("broken wing")

    async def main():
        medium = Medium(all_to_all(3), end=10)
        pulse = Pulse(1.0, 0.1)
        agents = [firefly(0, medium, pulse, 0.0), resting(1, medium, pulse, 0.0), faulty(2, medium)]
        async with cs.Engine() as engine:
            await engine.run(agents, use_vm=True)

    with pytest.raises(RuntimeError, match="broken wing"):
        run_virtually(main)


def test_time_begins_when_all_have_come():
    async def main():
        medium = Medium(all_to_all(2), end=10)
        early = medium.rest(0, 1.0)
        await asyncio.sleep(100)
        assert not early.done()
        late = medium.rest(1, 2.0)
        await early
        return asyncio.get_running_loop().time(), medium.now, late.done()

    assert run_virtually(main) == (101.0, 1.0, False)


def test_a_wait_for_the_past_ends_now():
    async def main():
        medium = Medium(all_to_all(1), end=10)
        await medium.rest(0, 5.0)
        await medium.rest(0, 1.0)
        before = medium.now
        await medium.rest(0, 6.0)
        return before, medium.now

    assert run_virtually(main) == (5.0, 6.0)


def test_after_the_end_there_is_nothing_to_wait_for():
    medium = live([0.5], Pulse(1.0, 0.1), end=3)

    assert medium.now == 3
    assert medium.listen(0, inf).result() is None


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [2, pytest.param(20, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("topology", ["torus", "small-world", "all-to-all"])
def test_a_hundred_come_into_step_from_any_start(topology, seeds):
    ends = []
    for seed in range(seeds):
        recording = field(Settings(side=10, topology=topology, seed=seed, duration=30))
        assert recording.order[0] < 0.4
        ends.append(recording.order[-1])

    assert all(end > 0.999 for end in ends)


def test_a_wave_around_a_ring_comes_to_an_end():
    """Phases that wind around it once are no synchrony, but flashes take no time, so it dies."""
    count = 40
    pulse = Pulse(1.0, 0.03, refractory=0.2)
    medium = live([n / count for n in range(count)], pulse, end=150, topology=ring(count))
    waves = instants(medium)

    assert max(len(places) for time, places in waves.items() if time < 2) < count / 2
    assert [len(places) for places in waves.values()][-3:] == [count] * 3


@pytest.mark.parametrize("topology", ["torus", "small-world", "all-to-all", "ring"])
def test_a_seed_gives_the_same_floats_each_time_on_each_tier(topology):
    settings = Settings(side=6, topology=topology, duration=8, seed=3)
    first = field(settings)
    for tier in ("auto", "generated", "interpreted"):
        again = field(settings, tier)
        assert (again.order, again.flashes, again.steps) == (
            first.order,
            first.flashes,
            first.steps,
        )

    assert field(Settings(side=6, topology=topology, duration=8, seed=4)).order != first.order


def test_in_real_time_they_do_the_same():
    """The clock runs fast here, and jumps: nothing waits, and nothing is on time."""
    settings = Settings(side=4, duration=6, seed=2)

    class Hasty(asyncio.SelectorEventLoop):
        def time(self):
            return super().time() * 1000

    async def main():
        async with cs.Engine() as engine:
            return await simulate(settings, engine)

    with asyncio.Runner(loop_factory=Hasty) as runner:
        hasty = runner.run(main())

    calm = field(settings)
    assert hasty.lag > calm.lag == 0
    assert (hasty.order, hasty.flashes) == (calm.order, calm.flashes)


def test_the_engine_counts_the_steps_that_the_medium_sees():
    seen = {}

    async def main():
        async with cs.Engine(tier="interpreted") as engine:

            def watch(recording, medium):
                seen[medium.wakes] = engine.runs()[0].steps

            await simulate(Settings(side=5, duration=3), engine, watch=watch)

    run_virtually(main)
    # Of the round that the observer is in, some steps have yet to be made, and its own is.
    assert len(seen) > 50
    assert all(0 < wakes - steps <= 26 for wakes, steps in seen.items())


def test_a_recording_knows_since_when_they_are_in_step():
    recording = Recording(Settings())
    recording.times, recording.order = [0, 1, 2, 3, 4], [0.1, 0.97, 0.95, 0.96, 0.99]
    assert recording.synchronous_since == 3

    recording.order[-1] = 0.5
    assert recording.synchronous_since is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 0}, "the side must be from 1 to 1000, but is 0"),
        ({"side": 1001}, "the side must be from 1 to 1000, but is 1001"),
        ({"topology": "cube"}, "there is no topology 'cube'"),
        ({"duration": 0}, "the duration must be above 0 seconds, but is 0"),
        ({"duration": inf}, "the duration must be a finite number"),
        ({"period": -1}, "the period must be above 0 seconds, but is -1"),
        ({"looks": 0}, "at least once a period, not 0 times"),
    ],
)
def test_a_field_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Settings(**options)


def test_a_rate_limit_slows_the_steps_and_changes_nothing_else():
    """A late flash reaches no firefly earlier: the events are the same, but take longer."""

    async def main(rate):
        async with cs.Engine() as engine:
            if rate is not None:
                engine.constraints.limit_rate("task:firefly", rate)
            settings = Settings(side=4, topology="all-to-all", duration=3, seed=5)
            recording = await simulate(settings, engine)
            return recording, asyncio.get_running_loop().time()

    free, quick = run_virtually(lambda: main(None))
    slowed, slow = run_virtually(lambda: main("20/s"))
    assert slowed.order == free.order
    assert slowed.flashes == free.flashes
    assert quick == pytest.approx(3)
    assert slow > 2 * quick
