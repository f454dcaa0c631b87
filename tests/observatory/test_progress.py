"""show_progress: bars in a terminal, sparse lines elsewhere, and nothing left behind."""

import io

import pytest
from rich.console import Console

import cascade as cs
from cascade.observatory.monitors.progress import show_progress
from cascade.runtime.events import Event, NodesPlanned, RunFinished, RunStarted, TaskFinished


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)


def play(bus, *, finish=True):
    """A run of four tasks, half a second each, at made-up times."""
    bus.publish(RunStarted("1", "crawl[all]", "graph", at=10.0))
    bus.publish(NodesPlanned("1", 1, at=10.0))
    bus.publish(NodesPlanned("1", 3, at=10.1))
    for i in range(4):
        bus.publish(TaskFinished("1", "fetch", i, 0.5, at=10.5 + 0.5 * i))
    if finish:
        bus.publish(RunFinished("1", "succeeded", 2.0, at=12.0))


def test_without_a_terminal_there_are_few_plain_lines():
    bus, to = cs.MessageBus(), console(terminal=False)
    with show_progress(bus, to, every=1.0):
        play(bus)

    assert to.file.getvalue().splitlines() == [
        "crawl[all], graph path: started",
        "crawl[all], graph path: 2 of 4 tasks",
        "crawl[all], graph path: 4 of 4 tasks",
        "crawl[all], graph path: succeeded, 4 of 4 tasks in 2.00 s",
    ]


def test_in_a_terminal_there_is_a_bar_with_counts():
    bus, to = cs.MessageBus(), console(terminal=True)
    with show_progress(bus, to):
        play(bus)

    assert "crawl[all], graph path ━" in to.file.getvalue()
    assert "4/4" in to.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_yields_the_figures_of_the_runs(terminal):
    bus = cs.MessageBus()
    with show_progress(bus, console(terminal=terminal)) as tally:
        play(bus, finish=False)

    assert (tally.runs[0].planned, tally.runs[0].done) == (4, 4)


@pytest.mark.parametrize("terminal", [False, True])
async def test_after_a_failure_it_says_so_and_unsubscribes(terminal):
    @cs.task
    def fail():
        raise OSError("no disk")

    bus, to = cs.MessageBus(), console(terminal=terminal)
    async with cs.Engine(bus=bus) as engine:
        with pytest.raises(OSError, match=r"^no disk"), show_progress(bus, to):
            await engine.run(fail())

    assert "failed" in to.file.getvalue()
    assert not any(bus.wants(event) for event in [Event, *Event.__subclasses__()])
    assert not bus.wants(TaskFinished)
