"""Runs that are nothing but one coroutine loop: few objects, one frame, and all the rules."""

import asyncio
import gc
import os
import sys
from contextvars import ContextVar
from pathlib import Path

import pytest

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.runtime import events
from cascade.runtime.graph_path import strategy
from cascade.runtime.graph_path.strategy import GraphRun
from cascade.runtime.vm import machine

#: The folder of Cascade's code.
OURS = os.path.join(Path(strategy.__file__).parents[1], "")

variable: ContextVar[object] = ContextVar("variable")
seen: list[object] = []


@pytest.fixture(autouse=True)
def fresh():
    seen.clear()


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were made."""
    made = []
    original = GraphRun.__init__

    def noted(self, *args, **options):
        made.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(GraphRun, "__init__", noted)
    return made


@pytest.fixture(params=["first run", "later run"])
async def engine(request, monkeypatch):
    """One that knows none of the tasks, or has seen all of them go on after their first call."""
    if request.param == "later run":
        monkeypatch.setattr(machine, "first_call", lambda _run, _target: None)
    async with cs.Engine(step_interval=1e-9) as engine:
        yield engine


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


@cs.task
async def parked(event, n=0):
    await event.wait()
    return parked.tail(n=n + 1) if n < 3 else n


@cs.task
async def add(a, b):
    return a + b


# -- what a run holds -----------------------------------------------------------------------------


async def objects_of(start, count):
    """The objects for the collector that each of ``count`` waiting runs holds."""
    gc.collect()
    before = len(gc.get_objects())
    running = [asyncio.ensure_future(start()) for _ in range(count)]
    await turns()
    gc.collect()
    held = len(gc.get_objects()) - before
    for run in running:
        run.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return held / count


async def test_a_waiting_agent_holds_few_objects(engine):
    event = asyncio.Event()

    async def by_hand():
        await event.wait()

    async def run():
        await engine.run(parked(event), use_vm=True)

    await objects_of(run, 3)  # what is made once
    beside = await objects_of(by_hand, 100)
    assert await objects_of(run, 100) - beside < 65


async def test_its_loop_needs_no_graph(engine, graphs):
    event = asyncio.Event()
    event.set()
    assert await engine.run(parked(event), use_vm=True) == 3
    assert not graphs


def frames_of_ours():
    """The number of Cascade's frames between a step and its asyncio task."""
    count, frame = 0, sys._getframe(2)
    while frame is not None and "asyncio" not in frame.f_code.co_filename:
        count += frame.f_code.co_filename.startswith(OURS)
        frame = frame.f_back
    return count


@cs.task
async def counts_frames(n):
    await asyncio.sleep(0)
    seen.append(frames_of_ours())
    return counts_frames.tail(n + 1) if n < 200 else n


@pytest.mark.parametrize(("use_vm", "most"), [(True, 1), (False, 2)], ids=["vm", "graph"])
async def test_a_wait_passes_through_few_frames(engine, use_vm, most):
    """After the first steps, which are calls on the graph path."""
    await engine.run(counts_frames(0), use_vm=use_vm)
    assert {*seen[-100:]} == {most}


# -- its end --------------------------------------------------------------------------------------


@cs.task
async def returns(what, n=0):
    await asyncio.sleep(0)
    return returns.tail(n=n + 1) if n < 40 else what()


@pytest.mark.parametrize(
    ("what", "value"),
    [
        (lambda: [1, {2: "two"}], [1, {2: "two"}]),
        (lambda: add(20, 22), 42),
        (lambda: [add(1, 2), {"x": add(3, 4)}], [3, {"x": 7}]),
        (lambda: add.tail(1, add(2, 3)), 6),
        (lambda: cs.literal("as it is"), "as it is"),
        (lambda: add.map(a=[1, 2], b=[3, 4]), [4, 6]),
    ],
    ids=["a container", "a lazy value", "lazy values inside", "another task", "literal", "a map"],
)
async def test_its_result_goes_on_as_that_of_any_node(engine, what, value):
    assert await engine.run(returns(what), use_vm=True) == value


async def test_a_value_that_was_not_called_is_refused(engine):
    with pytest.raises(cs.errors.CascadeError, match="add"):
        await engine.run(returns(lambda: add), use_vm=True)


async def test_an_error_is_that_of_its_node(engine):
    told = []
    engine.bus.subscribe(events.TaskFailed, told.append)
    with pytest.raises(ZeroDivisionError) as caught:
        await engine.run(returns(lambda: 1 / 0), use_vm=True)
    assert any("in task 'returns'" in note for note in caught.value.__notes__)
    assert [event.task for event in told] == ["returns"]


async def test_errors_are_caught_in_a_run_that_goes_on(engine):
    with pytest.raises(ExceptionGroup) as caught:
        await engine.run(returns(lambda: 1 / 0), use_vm=True, fail_fast=False)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def test_the_value_is_recorded():
    state = InMemoryStateBackend()
    async with cs.Engine(state_backend=state) as engine:
        target = returns(lambda: "the end")
        assert await engine.run(target, use_vm=True) == "the end"
        assert state.get_result(target.id) == "the end"


async def test_its_events_are_those_of_a_graph(engine):
    told = {True: [], False: []}
    for use_vm, names in told.items():
        end = engine.bus.subscribe(
            events.Event, lambda event, names=names: names.append(type(event).__name__)
        )
        await engine.run(returns(lambda: 1), use_vm=use_vm)
        end()
    assert [name for name in told[True] if name != "StepsMade"] == [
        name for name in told[False] if name != "StepsMade"
    ]
    assert "TaskStarted" in told[True]


async def test_subscribers_that_come_later_get_no_half_stories(engine):
    """TaskFinished without TaskStarted, when the run has got a graph."""
    event, told = asyncio.Event(), []

    @cs.task
    async def waits(n):
        await event.wait()
        return waits.tail(n + 1) if n < 3 else add(n, n)

    running = asyncio.ensure_future(engine.run(waits(0), use_vm=True))
    await turns()
    engine.bus.subscribe(events.TaskFinished, told.append)
    event.set()
    assert await running == 6
    assert told == []


# -- its limits -----------------------------------------------------------------------------------


async def test_a_pause_holds_it_up_from_the_next_step(engine):
    gate = asyncio.Queue()

    @cs.task
    async def steps(n):
        seen.append(n)
        await gate.get()
        return steps.tail(n + 1) if n < 100 else n

    running = asyncio.ensure_future(engine.run(steps(0), use_vm=True))
    for _ in range(40):
        gate.put_nowait(None)
    await turns(60)
    engine.constraints.pause("task:steps")
    for _ in range(100):
        gate.put_nowait(None)
    await turns(60)
    assert seen == list(range(41))
    assert [waiting.reason for waiting in engine.waiting()] == ["pause task:steps"]
    engine.constraints.resume("task:steps")
    assert await running == 100
    assert seen == list(range(101))


# -- cancels --------------------------------------------------------------------------------------


async def test_a_step_may_cancel_the_run(engine):
    """It has an asyncio task of its own, so that is no cancel of the call itself (M13)."""

    async def run():
        await engine.run(returns(lambda: seen[0].cancel()), use_vm=True)

    running = asyncio.ensure_future(run())
    seen.append(running)
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_step_that_cancels_itself_has_failed(engine):
    with pytest.raises(cs.errors.TaskCancelledError):
        await engine.run(returns(lambda: asyncio.current_task().cancel()), use_vm=True)
    assert not asyncio.current_task().cancelling()


@cs.task
async def swallows(n):
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append(n)
    return swallows.tail(n + 1)


async def test_a_swallowed_cancel_ends_the_run_after_that_step(engine):
    running = asyncio.ensure_future(engine.run(swallows(0), use_vm=True))
    await turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == [0]


async def test_a_cancel_of_its_asyncio_task_alone_is_an_error_of_the_call(engine, graphs):
    running = asyncio.ensure_future(engine.run(parked(asyncio.Event()), use_vm=True))
    await turns()
    (inner,) = asyncio.all_tasks() - {running, asyncio.current_task()}
    inner.cancel()
    with pytest.raises(cs.errors.TaskCancelledError):
        await running
    assert len(graphs) == 1


async def test_the_deadline_ends_it(engine):
    with pytest.raises(cs.errors.DeadlineError):
        await engine.run(parked(asyncio.Event()), use_vm=True, deadline=0.001)


def test_an_interrupt_in_a_step_is_the_error_of_the_run():
    def interrupt():
        raise KeyboardInterrupt

    async def main():
        async with cs.Engine() as engine:
            with pytest.raises(KeyboardInterrupt):
                await engine.run(returns(interrupt), use_vm=True)
            return "went on"

    assert asyncio.run(main()) == "went on"


# -- context variables ----------------------------------------------------------------------------


@cs.task
async def sets(n):
    seen.append(variable.get("the caller's"))
    variable.set(n)
    await asyncio.sleep(0)
    assert variable.get() == n
    return sets.tail(n + 1) if n < 50 else n


async def test_steps_do_not_see_what_others_have_set(engine):
    await engine.run(sets(0), use_vm=True)
    assert seen == ["the caller's"] * 51
    assert variable.get("the caller's") == "the caller's"


async def test_neither_do_handlers_of_events(engine):
    met = []
    engine.bus.subscribe(events.Event, lambda event: met.append(variable.get("none")))
    await engine.run(sets(0), use_vm=True)
    await turns()
    assert {*met} == {"none"}
