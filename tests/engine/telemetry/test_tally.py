"""RunTally counts the events of the bus, and only until it is closed."""

import pytest

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    NodesPlanned,
    RunFinished,
    RunStarted,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TasksFinished,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.telemetry.tally import RunTally


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
    bus = MessageBus()
    async with cs.Engine(bus=bus) as engine:
        with RunTally(bus, lambda run, event: planned.append(run.planned)) as tally:
            assert await engine.run(total(double.map(n=range(5)))) == 20

    (run,) = tally.runs
    assert (run.target, run.strategy, run.status) == ("total", "graph", "succeeded")
    assert (run.planned, run.done) == (6, 6)
    assert 1 in planned
    assert run.seconds > 0


async def test_both_paths_count_the_same():
    bus = MessageBus()
    async with cs.Engine(bus=bus) as engine:
        with RunTally(bus) as tally:
            await engine.run(double(double(1)))
            await engine.run(double(double(1)), use_vm=True)

    assert [(run.strategy, run.planned, run.done) for run in tally.runs] == [
        ("graph", 2, 2),
        ("vm", 2, 2),
    ]


async def test_a_failed_task_is_done_and_nothing_stays_subscribed():
    bus = MessageBus()
    async with cs.Engine(bus=bus) as engine:
        with pytest.raises(OSError, match=r"^no disk"), RunTally(bus) as tally:
            await engine.run(fail())

    assert (tally.runs[0].status, tally.runs[0].done) == ("failed", 1)
    assert not any(map(bus.wants, (RunStarted, NodesPlanned, TasksFinished, RunFinished)))


def test_a_run_that_began_earlier_is_left_out():
    bus = MessageBus()
    with RunTally(bus) as tally:
        bus.publish(NodesPlanned("earlier", 3))
        bus.publish(RunFinished("earlier", "succeeded", 1.0))

    assert tally.runs == []


def test_failures_skips_and_retries_are_counted_apart():
    bus = MessageBus()
    with RunTally(bus) as tally:
        bus.publish(RunStarted("1", "report", "graph"))
        bus.publish(NodesPlanned("1", 6))
        bus.publish(TasksFinished("1", 1))
        bus.publish(TaskSkipped("1", "b", 2, "no"))
        bus.publish(TaskSkipped("1", "c", 3, "no"))
        bus.publish(TaskCached("1", "d", 4))
        bus.publish(TaskRetrying("1", "e", 5, 1, 0.5, OSError()))
        bus.publish(TaskFailed("1", "e", 5, 0.5, OSError()))

    (run,) = tally.runs
    assert (run.done, run.failed, run.skipped, run.cached, run.retries) == (5, 1, 2, 1, 1)
    assert run.remarks == ["1 failed", "2 skipped", "1 cached", "1 retried"]


def test_that_a_failed_run_has_a_failed_task_is_no_remark():
    bus = MessageBus()
    with RunTally(bus) as tally:
        bus.publish(RunStarted("1", "report", "graph"))
        bus.publish(TaskFailed("1", "e", 5, 0.5, OSError()))
        bus.publish(RunFinished("1", "failed", 0.5, OSError()))

    assert tally.runs[0].remarks == []


def test_no_event_of_each_task_is_asked_for():
    """Only subscribed events cost something: sums are enough."""
    bus = MessageBus()
    with RunTally(bus):
        assert not bus.wants(TaskStarted)
        assert not bus.wants(TaskFinished)
        assert bus.wants(TasksFinished)


def test_changes_are_told_now_and_then_but_the_start_and_the_end_always():
    """By the clock of the events, for each run by itself."""
    told = []
    bus = MessageBus()
    with RunTally(bus, lambda run, event: told.append((run.run_id, event.at)), every=1.0):
        for run_id in "12":
            bus.publish(RunStarted(run_id, "report", "graph", at=10.0))
            bus.publish(NodesPlanned(run_id, 30, at=10.0))
        for i in range(25):
            bus.publish(TasksFinished("1", 1, at=10.0 + 0.125 * i))
        bus.publish(TaskRetrying("2", "a", 1, 1, 0.1, OSError(), at=10.5))
        bus.publish(TaskSkipped("2", "a", 1, "no", at=11.5))
        bus.publish(RunFinished("1", "succeeded", 3.0, at=13.0))

    assert told == [
        ("1", 10.0),
        ("2", 10.0),
        ("1", 11.0),
        ("1", 12.0),
        ("1", 13.0),
        ("2", 11.5),
        ("1", 13.0),
    ]


def test_runs_are_under_way_from_their_start_to_their_end():
    bus = MessageBus()
    with RunTally(bus) as tally:
        bus.publish(RunStarted("1", "a", "graph"))
        bus.publish(RunStarted("2", "b", "graph"))
        bus.publish(RunFinished("1", "succeeded", 1.0))

    assert [run.target for run in tally.under_way] == ["b"]
    assert [run.target for run in tally.runs] == ["a", "b"]
