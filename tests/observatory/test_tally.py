"""RunTally counts what the bus tells, and only while it is entered."""

import pytest

import cascade as cs
from cascade.observatory.monitors.tally import RunTally
from cascade.runtime.events import NodesPlanned, RunFinished, RunStarted, TaskFinished


@cs.task
def double(n):
    return 2 * n


@cs.task
def fail():
    raise OSError("no disk")


@cs.task
def total(numbers):
    return sum(numbers)


async def test_totals_grow_with_a_map_and_all_get_done():
    """R8: how many tasks a map makes is known late."""
    planned = []
    bus = cs.MessageBus()
    async with cs.Engine(bus=bus) as engine:
        with RunTally(bus, lambda run, event: planned.append(run.planned)) as tally:
            assert await engine.run(total(double.map(n=range(5)))) == 20

    (run,) = tally.runs
    assert (run.target, run.strategy, run.status) == ("total", "graph", "succeeded")
    assert (run.planned, run.done) == (6, 6)
    assert 1 in planned
    assert run.seconds > 0


async def test_both_paths_count_the_same():
    bus = cs.MessageBus()
    async with cs.Engine(bus=bus) as engine:
        with RunTally(bus) as tally:
            await engine.run(double(double(1)))
            await engine.run(double(double(1)), use_vm=True)

    assert [(run.strategy, run.planned, run.done) for run in tally.runs] == [
        ("graph", 2, 2),
        ("vm", 2, 2),
    ]


async def test_a_failed_task_is_done_and_nothing_stays_subscribed():
    bus = cs.MessageBus()
    async with cs.Engine(bus=bus) as engine:
        with pytest.raises(OSError, match=r"^no disk"), RunTally(bus) as tally:
            await engine.run(fail())

    assert (tally.runs[0].status, tally.runs[0].done) == ("failed", 1)
    assert not any(map(bus.wants, (RunStarted, NodesPlanned, TaskFinished, RunFinished)))


def test_a_run_that_began_earlier_is_left_out():
    bus = cs.MessageBus()
    with RunTally(bus) as tally:
        bus.publish(NodesPlanned("earlier", 3))
        bus.publish(RunFinished("earlier", "succeeded", 1.0))

    assert tally.runs == []
