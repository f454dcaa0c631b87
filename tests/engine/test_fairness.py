"""YieldBudget: the event loop has its turns while a loop spins (M9)."""

import asyncio
import itertools
import math
import random

import pytest

import cascade as cs
from cascade.runtime.clock import run_virtually
from cascade.runtime.diagnostics import blocking_calls
from cascade.runtime.execution import fairness
from cascade.runtime.execution.fairness import BUDGET, YieldBudget


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move; real time decides nothing."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(fairness, "perf_counter", clock)
    # Otherwise batches that take long on a busy machine are ended by the look at blocking calls.
    monkeypatch.setattr(blocking_calls, "PLAIN_THRESHOLD", math.inf)
    return clock


async def batch(budget, clock, seconds_a_step):
    """Run steps until the budget wants a pause; how many, and whether the loop had a turn."""
    turns = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    steps = 1
    clock.now += seconds_a_step
    while not budget.step():
        steps += 1
        clock.now += seconds_a_step
    await budget.pause()
    return steps, bool(turns)


async def test_quick_steps_make_longer_batches_without_a_turn(clock):
    budget = YieldBudget()

    assert [await batch(budget, clock, 0) for _ in range(5)] == [
        (1, False),
        (8, False),
        (64, False),
        (512, False),
        (4096, False),
    ]


async def test_batches_of_longer_steps_grow_more_slowly(clock):
    """Eight times as many might not fit."""
    budget = YieldBudget()

    sizes = [(await batch(budget, clock, BUDGET / 12))[0] for _ in range(2)]

    assert sizes == [1, 2]


async def test_batches_do_not_grow_for_ever(clock):
    budget = YieldBudget()
    for _ in range(25):
        steps, _ = await batch(budget, clock, 0)

    assert steps == 1 << 18


async def test_a_batch_that_used_the_budget_gives_the_loop_a_turn(clock):
    budget = YieldBudget()
    for _ in range(2):
        await batch(budget, clock, 0)

    steps, turned = await batch(budget, clock, BUDGET / 64)
    assert (steps, turned) == (64, True)


async def test_slow_steps_make_shorter_batches(clock):
    budget = YieldBudget()
    for _ in range(2):
        await batch(budget, clock, 0)
    sizes = [(await batch(budget, clock, BUDGET))[0] for _ in range(3)]

    assert sizes == [64, 1, 1]


@pytest.mark.parametrize("returns", ["tail", "lazy"])
async def test_other_coroutines_have_turns_while_a_loop_spins(run, returns):
    """The loop ends only when another coroutine has had its turns."""
    turns = 0

    @cs.task
    def spin(n):
        if turns >= 5 or n > 10_000_000:
            return turns
        return spin.tail(n + 1) if returns == "tail" else spin(n + 1)

    async def count():
        nonlocal turns
        while turns < 5:
            turns += 1
            await asyncio.sleep(0)

    value, _ = await asyncio.gather(run(spin(0)), count())
    assert value >= 5


async def test_other_coroutines_have_turns_while_a_coroutine_loop_spins(run):
    turns = 0

    @cs.task
    async def spin(n):
        return spin.tail(n + 1) if turns < 5 and n < 10_000_000 else turns

    async def count():
        nonlocal turns
        while turns < 5:
            turns += 1
            await asyncio.sleep(0)

    value, _ = await asyncio.gather(run(spin(0)), count())
    assert value >= 5


@pytest.fixture
def spin(clock):
    """Loops that spin at once on budgets of their own, each step of a length of its own; the steps
    that each makes, and the longest time between two turns of the event loop."""

    async def spin(*lengths, seconds=1.0, disturbance=0.0):
        made = dict.fromkeys(range(len(lengths)), 0)
        turns = [clock.now]
        end = clock.now + seconds
        chance = random.Random(len(lengths))

        async def loop(place, length):
            budget = YieldBudget()
            while clock.now < end:
                made[place] += 1
                clock.now += length
                if chance.random() < disturbance:
                    clock.now += BUDGET
                if budget.step():
                    await budget.pause()

        async def watch():
            while clock.now < end:
                turns.append(clock.now)
                await asyncio.sleep(0)

        await asyncio.gather(watch(), *(loop(i, length) for i, length in enumerate(lengths)))
        return made, max(later - turn for turn, later in itertools.pairwise(turns))

    return spin


@pytest.mark.parametrize("count", [2, 4, 7, 40])
@pytest.mark.parametrize("disturbance", [0, 0.001])
async def test_equal_loops_make_as_many_steps(spin, count, disturbance):
    """M9: whatever disturbs one of them now and then, as other processes do."""
    made, _ = await spin(*[BUDGET / 800] * count, disturbance=disturbance)
    assert max(made.values()) / min(made.values()) <= 1.5


async def test_loops_with_steps_of_all_lengths_have_equal_shares(spin):
    lengths = [BUDGET / 100, BUDGET / 300, BUDGET / 1000, BUDGET / 5000]
    made, _ = await spin(*lengths)
    taken = [made[place] * length for place, length in enumerate(lengths)]
    assert max(taken) / min(taken) <= 1.5


async def test_loops_that_spin_at_once_share_the_budget(spin):
    _, longest = await spin(*[BUDGET / 800] * 5)
    assert longest < BUDGET * 2  # the first ones do not know yet of the others


@cs.task(mode="inline")  # a slow step would move the loop to a thread
def spins(place, note):
    return spins.tail(place, note) if note(place) else None


@cs.task(mode="inline")  # a slow step would move the loop to a thread
def spins_here(place, note):
    return spins_there.tail(place, note) if note(place) else None


@cs.task(mode="inline")  # a slow step would move the loop to a thread
def spins_there(place, note):
    return spins_here.tail(place, note) if note(place) else None


@cs.task
async def spins_in_a_coroutine(place, note):
    return spins_in_a_coroutine.tail(place, note) if note(place) else None


async def test_equal_loops_of_all_kinds_and_engines_have_equal_shares(clock):
    """M9: fused and generated ones, and those of coroutines."""
    made = [0] * 6
    end = clock.now + 2

    def note(place):
        made[place] += 1
        clock.now += BUDGET / 800
        return clock.now < end

    async with cs.Engine() as one, cs.Engine(tier="generated") as two:
        kinds = [spins, spins_here, spins_in_a_coroutine, spins, spins, spins_in_a_coroutine]
        engines = [one, one, one, one, two, two]
        await asyncio.gather(
            *(
                engine.run(kind(place, note), use_vm=True)
                for place, (engine, kind) in enumerate(zip(engines, kinds, strict=True))
            )
        )
    assert max(made) / min(made) <= 1.5


async def test_a_loop_that_waits_in_each_step_has_batches_of_the_budget_all_the_same(clock):
    """The steps of a batch may wait no more, and are then to give way in time."""
    budget = YieldBudget()
    for _ in range(40):
        budget.left = 0
        clock.now += BUDGET / 10 * budget._batch
        since = clock.now
        clock.now += BUDGET / 10
        budget.turned(budget._batch, since)
        await budget.pause()

    assert budget.left * BUDGET / 10 <= BUDGET * 1.5


async def test_steps_that_wait_soon_have_large_batches_whatever_comes_between_two(clock):
    """An entry of a loop takes longer than many steps; only these count."""
    budget = YieldBudget()
    sizes = []
    for _ in range(5):
        sizes.append(budget.left)
        budget.left = 0
        since = clock.now
        clock.now += BUDGET / 10_000
        budget.turned(sizes[-1], since)
        clock.now += BUDGET
        await budget.pause()

    assert sizes == [1, 8, 64, 512, 4096]


def test_in_virtual_time_a_loop_gets_as_far_each_time():
    """And neither the machine's speed nor its clock decides how its steps and others interleave."""

    @cs.task
    def spin(n):
        seen.append("step")
        return spin.tail(n - 1) if n else None

    async def watch():
        for _ in range(8):
            seen.append("turn")
            await asyncio.sleep(0)

    async def main(tier):
        async with cs.Engine(tier=tier) as engine:
            await asyncio.gather(engine.run(spin(5_000), use_vm=True), watch())

    for tier in ("interpreted", "generated", "auto"):
        orders = []
        for _ in range(3):
            seen: list[str] = []
            run_virtually(main(tier))
            orders.append([place for place, what in enumerate(seen) if what == "turn"])
        assert orders[0] == orders[1] == orders[2]
        assert orders[0][-1] >= fairness._FIXED_STEPS
