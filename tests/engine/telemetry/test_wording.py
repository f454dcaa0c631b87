"""Events in words and as data: every kind of event, whatever its fields contain."""

import dataclasses
import json
import math

import pytest

from cascade.runtime import events
from cascade.runtime.events import (
    CallAbandoned,
    CodeChanged,
    ConnectorConnected,
    ConnectorDisconnected,
    ConstraintRemoved,
    ConstraintSet,
    ControlMessageRefused,
    Event,
    InputsAwaited,
    NodesPlanned,
    ResourceAcquired,
    ResourceReleased,
    ResultNotStored,
    RunFinished,
    RunStarted,
    StepsMade,
    TaskBlocking,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
    TaskWaiting,
)
from cascade.runtime.telemetry.wording import as_data, error_text, in_words, subject_of

STACK = 'File "a.py", line 1, in main\n    outer()\n  File "b.py", line 7, in outer\n    spin()\n'


class BrokenError(Exception):
    def __str__(self):
        raise ValueError("no words")


class BrokenRepr:
    def __repr__(self):
        raise ValueError("no repr")


TASK = ("run", "fetch", 7)
SAID = [
    (RunStarted("run", "report", "vm"), "", "started, vm path"),
    (RunFinished("run", "succeeded", 1.25), "", "succeeded after 1.2 s"),
    (
        RunFinished("run", "failed", 0.003, OSError("no disk")),
        "",
        "failed after 3 ms: OSError: no disk",
    ),
    (ConstraintSet("run", "global", "pause"), "pause global", "set"),
    (ConnectorConnected("run", "trainer"), "engine trainer", "connected to the broker"),
    (
        ConnectorDisconnected("run", "trainer", "no route", 2),
        "engine trainer",
        "not connected, 2 constraints stay in force: no route",
    ),
    (
        ControlMessageRefused("run", "a/b", "it is not valid JSON"),
        "message 'a/b'",
        "refused: it is not valid JSON",
    ),
    (
        ConstraintSet("run", "task:a*", "rate_limit", "10/s", 90.0),
        "rate_limit task:a*",
        "set, 10/s, for 1 min 30 s",
    ),
    (
        ConstraintRemoved("run", "global", "concurrency", 4, "expired"),
        "concurrency global",
        "expired",
    ),
    (NodesPlanned("run", 1), "", "has 1 more task to do"),
    (NodesPlanned("run", 12), "", "has 12 more tasks to do"),
    (TaskStarted(*TASK), "fetch #7", "started"),
    (TaskStarted("run", "fetch", 0), "fetch", "started"),
    (TaskFinished(*TASK, 0.25), "fetch #7", "finished after 250 ms"),
    (TaskFailed(*TASK, 61.0, KeyError("x")), "fetch #7", "failed after 1 min 1 s: KeyError: 'x'"),
    (
        TaskRetrying(*TASK, 2, 1.5, OSError("a\n  b")),
        "fetch #7",
        "failed attempt 2, next in 1.5 s: OSError: a b",
    ),
    (TaskSkipped(*TASK, "is_big"), "fetch #7", "skipped, because is_big was falsy"),
    (TaskCached(*TASK), "fetch #7", "found in the cache"),
    (
        ResultNotStored(*TASK, TypeError("a socket")),
        "fetch #7",
        "has a result that cannot be stored: TypeError: a socket",
    ),
    (TaskWaiting(*TASK, "retry delay", (), 2.0), "fetch #7", "waits: retry delay, 2.0 s"),
    (TaskWaiting(*TASK, "gpu", ("a", "b")), "fetch #7", "waits: gpu, held by a, b"),
    (InputsAwaited(*TASK, ("a", "b")), "fetch #7", "waits for its inputs: a, b"),
    (
        TaskBlocking(*TASK, 0.2, STACK),
        "fetch #7",
        'blocked the event loop for 200 ms, at File "b.py", line 7, in outer',
    ),
    (
        CodeChanged("run", {"f:pay": ["f:RATE changed"]}),
        "",
        "goes on with new code of f:pay",
    ),
    (CallAbandoned(*TASK, 3), "fetch #7", "abandoned a call that still runs, 3 such in all"),
    (StepsMade("run", "spin", 12345, 2e6), "spin", "made 12,345 steps, 2,000,000 a second"),
    (ResourceAcquired("run", "db"), "resource db", "opened"),
    (ResourceReleased("run", "db"), "resource db", "closed"),
    (ResourceReleased("run", "db", OSError("x")), "resource db", "closed: OSError: x"),
]


@pytest.mark.parametrize(("event", "subject", "words"), SAID)
def test_events_in_words(event, subject, words):
    assert (subject_of(event), in_words(event)) == (subject, words)


def test_no_kind_of_event_is_without_words():
    bases = {
        Event,
        events.TaskEvent,
        events.ResourceEvent,
        events.ConstraintEvent,
        events.ControlEvent,
    }
    kinds = {k for k in vars(events).values() if isinstance(k, type) and issubclass(k, Event)}

    assert {type(event) for event, _, _ in SAID} == kinds - bases


@pytest.mark.parametrize("event", [event for event, _, _ in SAID])
def test_events_as_data_have_their_names_and_fields(event):
    data = json.loads(json.dumps(as_data(event), allow_nan=False))

    assert data["event"] == type(event).__name__
    assert data["run_id"] == "run"
    fields = {field.name for field in dataclasses.fields(event)} - {"at"}
    if getattr(event, "item", None) is None:  # only items of maps have it
        fields -= {"item"}
    assert data.keys() == fields | {"event"}


def test_errors_as_data_have_type_and_message():
    data = as_data(TaskFailed(*TASK, 0.5, json.JSONDecodeError("no", "{", 1)))

    assert data["error"] == {
        "type": "json.decoder.JSONDecodeError",
        "message": "no: line 1 column 2 (char 1)",
    }
    assert as_data(RunFinished("run", "succeeded", 1.0))["error"] is None


@pytest.mark.parametrize("odd", [math.nan, math.inf, {1: object()}, BrokenRepr(), b"x", "\ud800"])
def test_whatever_fields_hold_becomes_data(odd):
    data = as_data(TaskWaiting(*TASK, odd, (odd,), odd))

    assert json.loads(json.dumps(data, allow_nan=False))["task"] == "fetch"


def test_an_error_without_words_does_not_hide_that_there_was_one():
    failed = TaskFailed(*TASK, 0.5, BrokenError())

    assert "BrokenError: <its message cannot be shown>" in in_words(failed)
    assert as_data(failed)["error"]["message"] == "<its message cannot be shown>"


def test_an_error_is_one_line_of_bounded_length():
    text = error_text(ValueError("line\n" * 1000))

    assert text.startswith("ValueError: line line")
    assert text.endswith("…")
    assert len(text) < 400
    assert error_text(ValueError()) == "ValueError"


def test_an_event_of_somebody_elses_kind_is_told_by_its_fields():
    class TaskPaused(events.TaskEvent):
        pass

    event = TaskPaused(*TASK)

    assert in_words(event) == "task='fetch', node=7"
    assert as_data(event) == {"event": "TaskPaused", "run_id": "run", "task": "fetch", "node": 7}
