"""Ticker: the event loop has its turns while a loop spins (M9)."""

import asyncio

import pytest

import cascade as cs
from cascade.runtime import ticker
from cascade.runtime.clock import run_virtually
from cascade.runtime.ticker import BUDGET, Ticker


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(ticker, "perf_counter", clock)
    return clock


async def batch(ticker, clock, seconds_a_step):
    """Run steps until the ticker wants a pause; how many, and whether the loop had a turn."""
    turns = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    steps = 1
    clock.now += seconds_a_step
    while not ticker.step():
        steps += 1
        clock.now += seconds_a_step
    await ticker.pause()
    return steps, bool(turns)


async def test_quick_steps_make_longer_batches_without_a_turn(clock):
    ticker = Ticker()

    assert [await batch(ticker, clock, 0) for _ in range(5)] == [
        (1, False),
        (2, False),
        (4, False),
        (8, False),
        (16, False),
    ]


async def test_batches_do_not_grow_for_ever(clock):
    ticker = Ticker()
    for _ in range(25):
        steps, _ = await batch(ticker, clock, 0)

    assert steps == 1 << 18


async def test_a_batch_that_used_the_budget_gives_the_loop_a_turn(clock):
    ticker = Ticker()
    for _ in range(6):
        await batch(ticker, clock, 0)

    steps, turned = await batch(ticker, clock, BUDGET / 64)
    assert (steps, turned) == (64, True)


async def test_slow_steps_make_shorter_batches(clock):
    ticker = Ticker()
    for _ in range(6):
        await batch(ticker, clock, 0)
    sizes = [(await batch(ticker, clock, BUDGET))[0] for _ in range(8)]

    assert sizes == [64, 32, 16, 8, 4, 2, 1, 1]


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


async def test_loops_that_spin_at_once_share_the_budget(clock):
    """What the event loop does elsewhere counts, but never so much that nothing is done here."""
    ticker = Ticker()

    def elsewhere():
        clock.now += BUDGET

    for _ in range(8):
        await batch(ticker, clock, 0)
    sizes = []
    for _ in range(12):
        asyncio.get_running_loop().call_soon(elsewhere)
        sizes.append((await batch(ticker, clock, BUDGET / 256))[0])

    assert sizes[0] == 256
    assert sizes[-1] < 32
    assert sizes[-1] * BUDGET / 256 > BUDGET / 80


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
        assert orders[0][-1] >= ticker._FIXED_STEPS
