"""Telemetry: events, their topics, and those left out of a flood."""

import json

import pytest

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.runtime import events
from cascade.runtime.bus import MessageBus
from cascade.runtime.control import telemetry
from cascade.runtime.control.telemetry import GROUPS, MOST_PER_SECOND, Telemetry, check_groups


class Recorder(MemoryConnector):
    """A connector that is not connected: published messages are examined here."""

    def __init__(self):
        super().__init__(MemoryBroker())
        self.published = []

    def publish(self, topic, payload, *, retain=False):
        self.published.append((topic, json.loads(payload)))


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000.25

        def time(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(telemetry, "time", clock)
    return clock


@pytest.fixture
def bus():
    return MessageBus()


def told(bus, *groups):
    recorder = Recorder()
    return recorder.published, Telemetry(bus, recorder, "cascade", "one", groups or GROUPS)


def test_events_have_topics_of_their_run_and_group(bus, clock):
    published, _ = told(bus)

    bus.publish(events.RunStarted("7f", "report", "vm"))
    bus.publish(events.TaskWaiting("7f", "fetch", 3, "capacity gpu", ("train",)))
    bus.publish(events.ConstraintSet("", "global", "pause", None, 60.0))
    assert published == [
        (
            "cascade/telemetry/7f/run/RunStarted",
            {"event": "RunStarted", "run_id": "7f", "target": "report", "strategy": "vm"}
            | {"time": 1_000.25},
        ),
        (
            "cascade/telemetry/7f/task/TaskWaiting",
            {"event": "TaskWaiting", "run_id": "7f", "task": "fetch", "node": 3}
            | {"reason": "capacity gpu", "holders": ["train"], "seconds": None, "time": 1_000.25},
        ),
        (
            "cascade/telemetry/one/constraint/ConstraintSet",
            {"event": "ConstraintSet", "run_id": "", "scope": "global", "kind": "pause"}
            | {"value": None, "ttl": 60.0, "time": 1_000.25},
        ),
    ]


def test_every_published_kind_of_event_has_one_group():
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and not kind.__subclasses__()
    }
    groups = {kind: [g for g, bases in GROUPS.items() if issubclass(kind, bases)] for kind in kinds}
    assert all(len(found) <= 1 for found in groups.values())
    assert {kind for kind, found in groups.items() if not found} == {events.InputsAwaited}


def test_only_the_groups_that_are_wanted_cost_anything(bus, clock):
    published, plane = told(bus, "steps")

    assert not bus.wants(events.TaskStarted)
    bus.publish(events.RunStarted("7f", "report", "vm"))
    bus.publish(events.StepsMade("7f", "spin", 10, 5.0))
    assert [topic for topic, _ in published] == ["cascade/telemetry/7f/steps/StepsMade"]
    plane.close()
    assert bus.is_silent


def test_of_many_tasks_some_are_left_out_and_counted(bus, clock):
    published, plane = told(bus)

    for node in range(MOST_PER_SECOND + 7):
        bus.publish(events.TaskStarted("7f", "fetch", node))
    bus.publish(events.RunFinished("7f", "succeeded", 1.0))  # each group has its own number
    assert len(published) == MOST_PER_SECOND + 1
    assert plane.left_out == 7
    clock.now += 1
    bus.publish(events.TaskStarted("7f", "fetch", 0))
    assert len(published) == MOST_PER_SECOND + 2
    assert plane.left_out == 7


@pytest.mark.parametrize(
    "event",
    [
        events.RunStarted("7f", "report", "vm"),
        events.StepsMade("7f", "spin", 10, 5.0),
        events.ControlMessageRefused("", "cascade/constraints/x", "no"),
    ],
)
def test_no_group_is_told_without_end(event, bus, clock):
    published, plane = told(bus)

    for _ in range(MOST_PER_SECOND + 7):
        bus.publish(event)
    assert (len(published), plane.left_out) == (MOST_PER_SECOND, 7)


@pytest.mark.parametrize("groups", ["task", ["task"], ("task", "task")])
def test_groups_are_named_each_once(groups):
    assert check_groups(groups) == ("task",)


@pytest.mark.parametrize("groups", [["tasks"], [None], ["run", "step"]])
def test_an_unknown_group_is_refused(groups):
    with pytest.raises(cs.errors.ArgumentError, match="the groups of telemetry are"):
        check_groups(groups)
