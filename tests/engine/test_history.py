"""History: the outcome of each node, on both paths."""

import asyncio
import gc
import weakref

import pytest
from tests.sample_tasks import add

import cascade as cs
from cascade.graph.states import NodeState
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    RunFinished,
    RunStarted,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.telemetry.history import History


@cs.task
def fail(*_):
    raise OSError("no disk")


@pytest.fixture
def bus():
    return MessageBus()


async def test_every_task_that_ended_has_state_start_and_duration(run, engine):
    inner = add(1)
    target = add(inner, 2)
    with History(engine.bus) as history:
        await run(target)

    first, second = history.nodes[inner.number], history.nodes[target.number]
    assert [first.task, first.node, first.state] == ["add", inner.number, "finished"]
    assert second.state == "finished"
    assert first.started <= second.started
    assert min(first.seconds, second.seconds) >= 0


async def test_a_failure_is_recorded_and_its_users_never_ran(run, engine):
    failing = fail()
    target = add(failing)
    history = History(engine.bus)
    with pytest.raises(OSError, match="no disk"):
        await run(target)

    record = history.nodes[failing.number]
    assert (record.state, record.error) == ("failed", "OSError: no disk")
    dependent = history.nodes.get(target.number)
    assert dependent is None or (dependent.state, dependent.started) == ("cancelled", None)


async def test_a_skip_is_recorded_with_its_condition(run, engine):
    """R6."""
    skipped = add(1).run_if(add(0))
    with History(engine.bus) as history:
        await run(add(1).after(skipped))

    record = history.nodes[skipped.number]
    assert (record.state, record.reason, record.started) == ("skipped", "add", None)


async def test_retries_are_counted(run, engine):
    """R10."""
    attempts = []

    @cs.task
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError("no disk")

    target = flaky().with_retry(max_attempts=3)
    with History(engine.bus) as history:
        await run(target)

    record = history.nodes[target.number]
    assert (record.state, record.retries, record.error) == ("finished", 2, "OSError: no disk")
    assert history.states[target.number].note == "2 retries"


async def test_nodes_cut_off_by_a_failure_are_recorded_as_cancelled(run, engine):
    begun = asyncio.Event()

    @cs.task
    async def forever():
        begun.set()
        await asyncio.Event().wait()

    @cs.task
    async def fail_late():
        await begun.wait()
        raise OSError("no disk")

    endless = forever()
    with History(engine.bus) as history, pytest.raises(OSError, match="no disk"):
        await run([endless, fail_late()])

    assert history.nodes[endless.number].state == "cancelled"
    assert history.states[endless.number] == NodeState("cancelled")


async def test_nodes_that_a_run_adds_are_recorded(run, engine):
    """R4, R8: items of a map, and graphs returned by a task."""

    @cs.task
    def outer(n):
        return add(n)

    with History(engine.bus) as history:
        await run(outer.map(n=[1, 2, 3]))

    assert sorted(r.task for r in history.nodes.values()) == ["add"] * 3 + ["outer"] * 3


def test_the_present_state_of_a_node_is_recorded(bus):
    history = History(bus)
    bus.publish(RunStarted("1", "report", "graph"))
    bus.publish(TaskStarted("1", "fetch", 7, at=1.0))
    assert history.states == {7: NodeState("running")}

    error = OSError("no disk")
    bus.publish(TaskRetrying("1", "fetch", 7, 1, 0.5, error))
    assert history.states == {7: NodeState("retrying", None, "1 retry, OSError: no disk")}

    bus.publish(TaskWaiting("1", "fetch", 7, "gpu", ("train",), 1.5))
    assert history.states == {7: NodeState("waiting", None, "gpu, held by train, 1.5 s")}

    bus.publish(TaskFailed("1", "fetch", 7, 2.5, error))
    assert history.states == {7: NodeState("failed", 2.5, "OSError: no disk")}
    assert history.nodes[7].started == 1.0


def test_a_value_from_the_cache_took_no_time(bus):
    history = History(bus)
    bus.publish(TaskCached("1", "fetch", 7))
    bus.publish(RunFinished("1", "succeeded", 1.0))

    assert history.states == {7: NodeState("cached")}


def test_a_node_of_several_runs_has_the_record_of_the_last(bus):
    history = History(bus)
    bus.publish(TaskStarted("1", "fetch", 7))
    bus.publish(TaskRetrying("1", "fetch", 7, 1, 0.5, OSError("no disk")))
    bus.publish(TaskFinished("1", "fetch", 7, 1.0))
    bus.publish(TaskSkipped("2", "fetch", 7, "no"))

    record = history.nodes[7]
    assert (record.run_id, record.state, record.retries, record.seconds) == (
        "2",
        "skipped",
        0,
        None,
    )


def test_the_end_of_one_run_leaves_the_others_running(bus):
    history = History(bus)
    bus.publish(TaskStarted("1", "fetch", 7))
    bus.publish(TaskStarted("2", "fetch", 8))
    bus.publish(RunFinished("1", "cancelled", 1.0))

    assert {n: r.state for n, r in history.nodes.items()} == {7: "cancelled", 8: "running"}


def test_nodes_that_wait_at_the_end_of_the_run_are_recorded_as_cancelled(bus):
    """Also if it waited before it ever ran, for a capacity for example."""
    history = History(bus)
    bus.publish(TaskWaiting("1", "fetch", 7, "gpu"))
    bus.publish(RunFinished("1", "failed", 1.0, OSError("no disk")))

    assert history.states == {7: NodeState("cancelled")}


def test_calls_that_are_no_nodes_are_left_out(bus):
    """Those of a blueprint that was made by hand."""
    history = History(bus)
    bus.publish(TaskStarted("1", "fetch", 0))
    bus.publish(TaskFinished("1", "fetch", 0, 1.0))

    assert history.nodes == {}


def test_it_ends_with_its_block_and_can_be_cleared(bus):
    with History(bus) as history:
        bus.publish(TaskStarted("1", "fetch", 7))
        history.clear()
        assert history.nodes == {}
        bus.publish(TaskFinished("1", "fetch", 7, 1.0))
        assert history.nodes[7].state == "finished"

    assert not bus.wants(TaskFinished)


async def test_errors_are_not_kept_alive(run, engine):
    """Their tracebacks would keep the task's variables."""

    class Large:
        pass

    seen = []

    @cs.task
    def work():
        large = Large()
        seen.append(weakref.ref(large))
        raise OSError("no disk")

    history = History(engine.bus)
    with pytest.raises(OSError, match="no disk"):
        await run(work())
    gc.collect()

    assert len(history.nodes) == 1
    assert seen[0]() is None


async def test_a_drawing_shows_the_run(run, engine):
    target = add(fail(add(1)))
    with History(engine.bus) as history, pytest.raises(OSError, match="no disk"):
        await run(target)

    drawing = cs.visualize(target, states=history.states)
    assert "<br/>OSError: no disk" in drawing
    assert "class n0 finished" in drawing
    assert "class n1 failed" in drawing
    assert "class n2 finished" not in drawing
