"""MessageBus: deliveries and their order."""

import re

import pytest

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    RunFinished,
    RunStarted,
    TaskCached,
    TaskEvent,
    TaskFinished,
    TaskStarted,
)


@pytest.fixture
def bus():
    return MessageBus()


@pytest.fixture
def seen():
    return []


started = TaskStarted("run", "fetch", 1)
finished = TaskFinished("run", "fetch", 1, 0.5)


def test_handlers_are_told_of_their_type(bus, seen):
    bus.subscribe(TaskStarted, seen.append)
    bus.publish(started)
    bus.publish(finished)

    assert seen == [started]


def test_handlers_of_a_base_are_told_of_all_its_types(bus, seen):
    bus.subscribe(TaskEvent, seen.append)
    bus.publish(RunStarted("run", "fetch", "graph"))
    bus.publish(started)
    bus.publish(finished)

    assert seen == [started, finished]


def test_the_general_are_told_before_the_special_and_the_first_before_the_second(bus, seen):
    bus.subscribe(TaskStarted, lambda e: seen.append("special 1"))
    bus.subscribe(Event, lambda e: seen.append("general 1"))
    bus.subscribe(TaskStarted, lambda e: seen.append("special 2"))
    bus.subscribe(Event, lambda e: seen.append("general 2"))
    bus.publish(started)

    assert seen == ["general 1", "general 2", "special 1", "special 2"]


def test_wants_knows_the_types_and_their_bases(bus):
    assert not bus.wants(TaskStarted)
    cancel = bus.subscribe(TaskEvent, print)

    assert bus.wants(TaskStarted)
    assert bus.wants(TaskFinished)
    assert not bus.wants(RunFinished)
    cancel()
    assert not bus.wants(TaskStarted)


def test_a_subscription_can_be_ended_more_than_once(bus, seen):
    cancel = bus.subscribe(TaskStarted, seen.append)
    again = bus.subscribe(TaskStarted, seen.append)
    cancel()
    cancel()
    bus.publish(started)
    assert seen == [started]

    again()
    bus.publish(started)
    assert seen == [started]


def test_a_handler_may_end_its_own_subscription(bus, seen):
    def once(event):
        seen.append(event)
        cancel()

    cancel = bus.subscribe(TaskStarted, once)
    bus.subscribe(TaskStarted, seen.append)
    bus.publish(started)
    bus.publish(started)

    assert seen == [started, started, started]


def test_a_handler_may_subscribe_another(bus, seen):
    bus.subscribe(TaskStarted, lambda e: bus.subscribe(TaskStarted, seen.append))
    bus.publish(started)
    assert seen == []
    bus.publish(started)
    assert seen == [started]


def test_a_handler_that_raises_is_logged_and_the_others_are_told(bus, seen, caplog):
    def broken(event):
        raise ValueError("no")

    bus.subscribe(TaskStarted, broken)
    bus.subscribe(TaskStarted, seen.append)
    bus.publish(started)

    assert seen == [started]
    (record,) = caplog.records
    assert record.name == "cascade.bus"
    assert "broken" in record.getMessage()
    assert record.exc_info[0] is ValueError


def test_a_handler_that_keeps_raising_is_logged_ever_less(bus, seen, caplog):
    def broken(event):
        raise ValueError("no")

    bus.subscribe(TaskStarted, broken)
    bus.subscribe(TaskStarted, seen.append)
    for _ in range(1_000):
        bus.publish(started)

    assert len(seen) == 1_000
    numbers = [re.search(r"failure no\. (\d+)", r.getMessage())[1] for r in caplog.records]
    assert numbers == ["1", "10", "100", "1000"]


def test_each_subscription_that_raises_is_logged(bus, caplog):
    def broken(event):
        raise ValueError("no")

    def worse(event):
        raise KeyError("no")

    bus.subscribe(TaskStarted, broken)
    bus.subscribe(TaskStarted, worse)
    bus.publish(started)

    assert [r.exc_info[0] for r in caplog.records] == [ValueError, KeyError]


def test_a_subscription_in_the_midst_of_a_look_up_is_not_missed_later(bus, seen):
    """Workers ask ``wants`` while the loop's thread subscribes."""

    class Interrupted(dict):
        def get(self, event_type, default):
            found = super().get(event_type, default)
            if event_type is TaskStarted and not self:
                bus.subscribe(TaskStarted, seen.append)
            return found

    bus._subscriptions = Interrupted()

    assert not bus.wants(TaskStarted)
    assert bus.wants(TaskStarted)


def test_handlers_that_take_events_at_once_are_told_apart(bus):
    told = []
    bus.subscribe(TaskStarted, lambda event: told.append("later"))
    cancel = bus.subscribe(TaskEvent, lambda event: told.append("at once"), at_once=True)

    assert bus.publish_at_once(started)
    assert told == ["at once"]
    bus.publish_later(started)
    assert told == ["at once", "later"]
    bus.publish(started)
    assert told[2:] == ["at once", "later"]
    assert not bus.publish_at_once(TaskCached("1", "load", 1))
    cancel()
    assert bus.publish_at_once(started)
    assert len(told) == 5


def test_a_coroutine_function_is_refused(bus):
    async def handler(event): ...

    with pytest.raises(TypeError, match=r"handler .* is a coroutine function"):
        bus.subscribe(TaskStarted, handler)


@pytest.mark.parametrize("event_type", [int, "TaskStarted", started, None])
def test_other_objects_than_event_classes_are_refused(bus, event_type):
    with pytest.raises(TypeError, match="takes a class of events"):
        bus.subscribe(event_type, print)
