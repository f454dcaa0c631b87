"""show_progress: bars in a terminal, sparse lines elsewhere, and nothing left behind."""

import builtins
import io
import re
import sys

import pytest

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    NodesPlanned,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskRetrying,
    TasksFinished,
    TaskSkipped,
)
from cascade.runtime.telemetry.progress import show_progress


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    pytest.importorskip("rich", reason="needs rich: pip install 'cascade-engine[cli]'")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


@pytest.fixture(params=[False, True], ids=["lines", "bars"])
def to(request):
    """Outputs of progress: a terminal, and others."""
    return request.getfixturevalue("terminal") if request.param else io.StringIO()


def play(bus, *, status="succeeded", run_id="1"):
    """A run of four tasks, half a second each, at made-up times."""
    bus.publish(RunStarted(run_id, "crawl[all]", "graph", at=10.0))
    bus.publish(NodesPlanned(run_id, 1, at=10.0))
    bus.publish(NodesPlanned(run_id, 3, at=10.1))
    for i in range(4):
        bus.publish(TasksFinished(run_id, 1, at=10.5 + 0.5 * i))
    if status != "running":
        bus.publish(RunFinished(run_id, status, 2.0, at=12.0))


def shown(stream):
    """The rows that stay, without colours, controls, and erased text."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    rows = (line.rsplit("\r", 1)[-1] for line in text.split("\n"))
    return [row.split() for row in rows if row.strip()]


def test_without_a_terminal_there_are_few_plain_lines():
    bus, to = MessageBus(), io.StringIO()
    with show_progress(bus, to, every=1.0):
        play(bus)

    assert to.getvalue().splitlines() == [
        "crawl[all], graph path: started",
        "crawl[all], graph path: 2 of 4 tasks",
        "crawl[all], graph path: 4 of 4 tasks",
        "crawl[all], graph path: succeeded, 4 of 4 tasks in 2.0 s",
    ]


def test_lines_report_failures():
    bus, to = MessageBus(), io.StringIO()
    with show_progress(bus, to):
        out_of_the_ordinary(bus)

    assert to.getvalue().splitlines()[-1] == (
        "crawl, vm path: failed, 3 of 5 tasks (2 failed, 1 skipped, 1 retried) in 2.0 s"
    )


def out_of_the_ordinary(bus):
    bus.publish(RunStarted("1", "crawl", "vm", at=10.0))
    bus.publish(NodesPlanned("1", 5, at=10.0))
    bus.publish(TaskRetrying("1", "fetch", 1, 1, 0.5, OSError(), at=10.0))
    bus.publish(TaskFailed("1", "fetch", 1, 0.5, OSError(), at=10.0))
    bus.publish(TaskFailed("1", "fetch", 2, 0.5, OSError(), at=10.0))
    bus.publish(TaskSkipped("1", "fetch", 3, "no", at=10.0))
    bus.publish(RunFinished("1", "failed", 2.0, OSError(), at=12.0))


def test_a_run_that_ended_leaves_its_bar(terminal):
    bus = MessageBus()
    with show_progress(bus, terminal):
        play(bus)

    ((*title, bar, counts, seconds, unit),) = shown(terminal)
    assert title == ["crawl[all],", "graph", "path"]
    assert set(bar) == {"━"}
    assert (counts, seconds, unit) == ("4/4", "2.0", "s")


def test_a_bar_reports_failures(terminal):
    bus = MessageBus()
    with show_progress(bus, terminal):
        out_of_the_ordinary(bus)

    (row,) = shown(terminal)
    assert " ".join(row[4:]) == "3/5 failed, 2 failed, 1 skipped, 1 retried 2.0 s"


def test_a_run_that_goes_on_when_the_block_ends_keeps_its_bar(terminal):
    bus = MessageBus()
    with show_progress(bus, terminal):
        play(bus, status="running")

    (row,) = shown(terminal)
    assert row[0] == "crawl[all],"
    assert "4/4" in row


def test_bars_of_many_runs_do_not_fill_the_terminal(terminal):
    """A bar that ended is printed once and scrolls away; only runs under way are drawn anew."""
    bus = MessageBus()
    with show_progress(bus, terminal) as tally:
        for i in range(100):
            play(bus, run_id=str(i))
        assert tally.under_way == []

    assert len(shown(terminal)) == 100


def test_the_terminal_is_restored(terminal):
    stdout, stderr = sys.stdout, sys.stderr
    bus = MessageBus()
    with pytest.raises(KeyboardInterrupt), show_progress(bus, terminal):
        play(bus, status="running")
        raise KeyboardInterrupt

    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().count(hide) == terminal.getvalue().count(show) == 1
    assert terminal.getvalue().index(hide) < terminal.getvalue().index(show)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_redirected_output_of_the_program_stays_redirected(terminal, monkeypatch):
    """`program > file` gets its output, whatever is shown in the terminal."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with show_progress(MessageBus(), terminal):
        print("a result")

    assert sys.stdout.getvalue() == "a result\n"


def test_a_dumb_terminal_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    bus = MessageBus()
    with show_progress(bus, terminal):
        play(bus)

    assert terminal.getvalue().startswith("crawl[all], graph path: started\n")


def test_without_rich_a_terminal_gets_lines(monkeypatch):
    real = builtins.__import__

    def without_rich(name, *args, **kwargs):
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_rich)
    bus, to = MessageBus(), Terminal()
    with show_progress(bus, to):
        play(bus)

    assert to.getvalue().startswith("crawl[all], graph path: started\n")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_console_of_the_callers_is_used(is_terminal):
    console = pytest.importorskip(
        "rich.console", reason="needs rich: pip install 'cascade-engine[cli]'"
    ).Console(file=io.StringIO(), force_terminal=is_terminal, width=80)
    bus = MessageBus()
    with show_progress(bus, console):
        play(bus)

    assert ("━" in console.file.getvalue()) == is_terminal
    assert "crawl[all], graph path" in console.file.getvalue()


def test_it_is_shown_on_standard_error_if_left_out(capsys):
    bus = MessageBus()
    with show_progress(bus):
        play(bus)

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "4 of 4 tasks in 2.0 s" in captured.err


def test_yields_the_figures_of_the_runs(to):
    bus = MessageBus()
    with show_progress(bus, to) as tally:
        play(bus, status="running")

    assert (tally.runs[0].planned, tally.runs[0].done) == (4, 4)


async def test_after_a_failure_it_says_so_and_unsubscribes(run, engine, to):
    @cs.task
    def fail():
        raise OSError("no disk")

    with pytest.raises(OSError, match=r"^no disk"), show_progress(engine.bus, to):
        await run(fail())

    assert "failed" in to.getvalue()
    assert not any(engine.bus.wants(event) for event in [Event, *Event.__subclasses__()])
    assert not engine.bus.wants(TasksFinished)
