"""LineWriter: a line per event, for people or as JSON, on any stream."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    InputsAwaited,
    NodesPlanned,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskStarted,
)
from cascade.runtime.telemetry.lines import LineWriter


def play(bus, run_id="abcdef0123", start=10.0):
    bus.publish(RunStarted(run_id, "report", "graph", at=start))
    bus.publish(NodesPlanned(run_id, 0, at=start))
    bus.publish(TaskStarted(run_id, "fetch", 7, at=start))
    error = OSError("no disk")
    bus.publish(TaskRetrying(run_id, "fetch", 7, 1, 0.5, error, at=start + 0.25))
    bus.publish(TaskFailed(run_id, "fetch", 7, 1.0, error, at=start + 1.0))
    bus.publish(RunFinished(run_id, "failed", 1.0, error, at=start + 1.0))


@pytest.fixture
def bus():
    return MessageBus()


@pytest.fixture
def to():
    return io.StringIO()


def test_lines_for_people_count_time_from_the_start_of_the_run(bus, to):
    with LineWriter(bus, to):
        play(bus)

    assert to.getvalue().splitlines() == [
        "   0.000  report            started, graph path",
        "   0.000  fetch #7          started",
        "   0.250  fetch #7          failed attempt 1, next in 500 ms: OSError: no disk",
        "   1.000  fetch #7          failed after 1.0 s: OSError: no disk",
        "   1.000  report            failed after 1.0 s: OSError: no disk",
    ]


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["RunStarted", "TaskStarted", "TaskRetrying", "TaskFailed", "RunFinished"]),
        ("info", ["RunStarted", "TaskRetrying", "TaskFailed", "RunFinished"]),
        ("warning", ["TaskRetrying", "TaskFailed", "RunFinished"]),
        ("error", ["TaskFailed", "RunFinished"]),
    ],
)
def test_events_below_the_level_are_left_out(bus, to, level, events):
    with LineWriter(bus, to, log_format="json", level=level):
        play(bus)
        bus.publish(RunStarted("2", "report", "graph", at=1.0))
        bus.publish(RunFinished("2", "succeeded", 1.0, None, at=2.0))

    written = [json.loads(line) for line in to.getvalue().splitlines()]
    of_first = [line["event"] for line in written if line["run_id"] != "2"]
    assert [name for name in of_first if name != "NodesPlanned"] == events
    assert any(line["run_id"] == "2" for line in written) == (level in ("debug", "info"))


def test_lines_above_a_level_count_time_from_the_start_of_the_run(bus, to):
    with LineWriter(bus, to, level="error"):
        play(bus)
        assert not bus.wants(TaskStarted)

    assert to.getvalue().splitlines() == [
        "   1.000  fetch #7          failed after 1.0 s: OSError: no disk",
        "   1.000  report            failed after 1.0 s: OSError: no disk",
    ]


def test_an_unknown_level_is_refused(bus):
    with pytest.raises(cs.errors.ArgumentError, match="log_level must be one of debug, info"):
        LineWriter(bus, level="loud")


def test_runs_are_told_apart_while_there_are_several(bus, to):
    with LineWriter(bus, to):
        bus.publish(RunStarted("first-run", "a", "graph", at=1.0))
        bus.publish(RunStarted("second-run", "b", "vm", at=2.0))
        bus.publish(TaskStarted("first-run", "fetch", 7, at=3.0))
        bus.publish(RunFinished("second-run", "succeeded", 1.0, at=3.0))
        bus.publish(TaskStarted("first-run", "fetch", 8, at=3.0))

    assert [line.split() for line in to.getvalue().splitlines()[1:]] == [
        ["0.000", "[second]", "b", "started,", "vm", "path"],
        ["2.000", "[first-]", "fetch", "#7", "started"],
        ["1.000", "[second]", "b", "succeeded", "after", "1.0", "s"],
        ["2.000", "fetch", "#8", "started"],
    ]


def test_for_a_run_that_began_before_time_counts_from_its_first_event(bus, to):
    with LineWriter(bus, to):
        bus.publish(TaskStarted("1", "fetch", 7, at=5.0))
        bus.publish(RunFinished("1", "succeeded", 9.0, at=6.5))

    assert [line.split()[:2] for line in to.getvalue().splitlines()] == [
        ["0.000", "fetch"],
        ["1.500", "run"],
    ]


def test_lines_for_programs_are_objects(bus, to):
    with LineWriter(bus, to, log_format="json"):
        play(bus)

    lines = [json.loads(line) for line in to.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "RunStarted",
        "NodesPlanned",
        "TaskStarted",
        "TaskRetrying",
        "TaskFailed",
        "RunFinished",
    ]
    assert lines[4].items() >= {"run_id": "abcdef0123", "task": "fetch", "node": 7}.items()
    assert lines[4]["error"] == {"type": "OSError", "message": "no disk"}
    assert list(lines[0])[:3] == ["at", "event", "run_id"]


def test_texts_and_lists_in_json_are_bounded(bus, to):
    huge = "é" * 1_000_000
    with LineWriter(bus, to, log_format="json"):
        bus.publish(TaskFailed("1", "fetch", 7, 0.25, OSError(huge)))
        bus.publish(InputsAwaited("1", "fetch", 7, (huge,) * 1_000))
    failed, awaited = map(json.loads, to.getvalue().splitlines())
    assert len(failed["error"]["message"].encode()) <= 2048
    assert awaited["inputs"][-1] == "… 950 more"
    assert all(len(text.encode()) <= 2048 for text in awaited["inputs"])


def test_json_has_the_time_of_the_wall_in_utc(bus, to):
    with LineWriter(bus, to, log_format="json"):
        play(bus)

    times = [datetime.fromisoformat(json.loads(x)["at"]) for x in to.getvalue().splitlines()]
    assert {at.tzinfo for at in times} == {UTC}
    assert times[-1] - times[0] == timedelta(seconds=1)


@pytest.mark.parametrize("log_format", ["human", "json"])
async def test_every_event_of_a_run_gets_its_line(run, engine, to, log_format):
    @cs.task
    def double(n):
        return 2 * n

    seen = []
    engine.bus.subscribe(Event, seen.append)
    with LineWriter(engine.bus, to, log_format=log_format):
        await run(double.map(n=[1, 2, 3]))

    for_programs = [e for e in seen if isinstance(e, InputsAwaited) or not getattr(e, "count", 1)]
    told = seen if log_format == "json" else [e for e in seen if e not in for_programs]
    assert len(to.getvalue().splitlines()) == len(told)
    assert len([e for e in told if isinstance(e, TaskFinished)]) == 3


async def test_the_start_of_a_task_comes_before_what_it_writes(run, engine, to):
    @cs.task
    def work():
        to.write("working\n")

    with LineWriter(engine.bus, to):
        await run(work())

    lines = to.getvalue().splitlines()
    at = lines.index("working")
    assert "started" in lines[at - 1]
    assert "finished" in lines[at + 1]


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_name_that_the_stream_cannot_encode_is_escaped(bus, log_format):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    with LineWriter(bus, stream, log_format=log_format):
        bus.publish(TaskStarted("1", "prüfe", 7))
        bus.publish(RunFinished("1", "succeeded", 1.0))

    assert b"pr\\xfcfe" in raw.getvalue() or b"pr\\u00fcfe" in raw.getvalue()


def test_it_writes_to_the_present_standard_error(bus, monkeypatch, to):
    with LineWriter(bus):
        monkeypatch.setattr(sys, "stderr", to)
        play(bus)
        monkeypatch.setattr(sys, "stderr", None)
        play(bus)

    assert len(to.getvalue().splitlines()) == 5


def test_a_stream_that_breaks_does_not_fail_the_run(bus, to, caplog):
    to.close()
    with LineWriter(bus, to):
        play(bus)

    assert [r.name for r in caplog.records] == ["cascade.bus"]


def test_it_can_be_closed_more_than_once(bus, to):
    writer = LineWriter(bus, to)
    writer.close()
    writer.close()
    play(bus)

    assert to.getvalue() == ""
    assert not bus.wants(RunStarted)


def test_an_unknown_format_is_refused_before_anything_is_subscribed(bus):
    with pytest.raises(ValueError, match=r"^log_format must be 'human' or 'json', but is 'xml'$"):
        LineWriter(bus, log_format="xml")

    assert not bus.wants(RunStarted)
