"""attach: lines, progress, both or neither, where somebody can use them."""

import io
import json

import pytest

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Event, NodesPlanned, RunFinished, RunStarted, TaskFinished
from cascade.runtime.telemetry.attach import attach


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    pytest.importorskip("rich", reason="needs rich: pip install 'cascade-engine[cli]'")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


@pytest.fixture
def bus():
    return MessageBus()


def play(bus):
    bus.publish(RunStarted("1", "crawl", "graph", at=10.0))
    bus.publish(NodesPlanned("1", 1, at=10.0))
    bus.publish(TaskFinished("1", "fetch", 7, 0.5, at=10.5))
    bus.publish(RunFinished("1", "succeeded", 0.5, at=10.5))


BAR, EVENT, LINE = "━", "fetch #7", "crawl, graph path: started"


@pytest.mark.parametrize(
    ("log_format", "progress", "expected"),
    [
        (None, None, set()),
        (None, False, set()),
        (None, True, {LINE}),
        ("human", None, {EVENT}),
        ("human", False, {EVENT}),
        ("human", True, {EVENT, LINE}),
    ],
)
def test_output_without_a_terminal(bus, log_format, progress, expected):
    to = io.StringIO()
    with attach(bus, log_format, progress, to):
        play(bus)

    assert {text for text in (BAR, EVENT, LINE) if text in to.getvalue()} == expected


@pytest.mark.parametrize(
    ("log_format", "progress", "expected"),
    [
        (None, None, {BAR}),
        (None, False, set()),
        (None, True, {BAR}),
        ("human", None, {EVENT}),
        ("human", False, {EVENT}),
        ("human", True, {EVENT, BAR}),
    ],
)
def test_output_in_a_terminal(bus, terminal, log_format, progress, expected):
    with attach(bus, log_format, progress, terminal):
        play(bus)

    assert {text for text in (BAR, EVENT, LINE) if text in terminal.getvalue()} == expected


@pytest.mark.parametrize("progress", [None, False, True])
def test_json_is_not_mixed_with_anything(bus, progress):
    """A program that reads it line by line would fail at the first line of progress."""
    to = io.StringIO()
    with attach(bus, "json", progress, to):
        play(bus)

    assert [json.loads(line)["event"] for line in to.getvalue().splitlines()] == [
        "RunStarted",
        "NodesPlanned",
        "TaskFinished",
        "RunFinished",
    ]


def test_without_options_nothing_is_subscribed(bus):
    with attach(bus, stream=io.StringIO()):
        assert not any(map(bus.wants, (Event, RunStarted, TaskFinished)))


def test_all_ends_with_the_block(bus, terminal):
    with pytest.raises(OSError, match="no disk"), attach(bus, "human", True, terminal):
        raise OSError("no disk")

    assert not any(map(bus.wants, (Event, RunStarted, TaskFinished)))
    assert terminal.getvalue().count("\x1b[?25h") == 1


def test_an_unknown_format_is_refused(bus):
    with pytest.raises(ValueError, match="log_format must be"), attach(bus, "xml"):
        pass


def test_a_level_alone_asks_for_lines_for_people(bus):
    to = io.StringIO()
    with attach(bus, stream=to, log_level="error", progress=False):
        bus.publish(RunStarted("1", "report", "graph", at=1.0))
        bus.publish(RunFinished("1", "failed", 1.0, OSError("no disk"), at=2.0))

    assert to.getvalue() == "   1.000  report            failed after 1.0 s: OSError: no disk\n"
