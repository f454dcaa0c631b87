"""EventLogger: events as records of logging, at the levels that people expect."""

import logging

import pytest

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    CallAbandoned,
    Event,
    ResourceAcquired,
    ResourceReleased,
    RunFinished,
    RunStarted,
    TaskBlocking,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskStarted,
)
from cascade.runtime.telemetry.logs import EventLogger


@pytest.fixture
def bus():
    return MessageBus()


@pytest.fixture
def at_debug(caplog):
    caplog.set_level(logging.DEBUG, "cascade")
    return caplog


def told(caplog):
    return [(r.name, r.levelname, r.getMessage()) for r in caplog.records]


def test_levels_of_events(bus, at_debug):
    error = OSError("no disk")
    with EventLogger(bus):
        bus.publish(RunStarted("1", "report", "graph"))
        bus.publish(ResourceAcquired("1", "db"))
        bus.publish(TaskStarted("1", "fetch", 7))
        bus.publish(TaskBlocking("1", "fetch", 7, 0.2, ""))
        bus.publish(TaskRetrying("1", "fetch", 7, 1, 0.5, error))
        bus.publish(CallAbandoned("1", "fetch", 7, 1))
        bus.publish(TaskFinished("1", "fetch", 7, 0.25))
        bus.publish(TaskFailed("1", "fetch", 8, 0.25, error))
        bus.publish(ResourceReleased("1", "db"))
        bus.publish(RunFinished("1", "failed", 1.5, error))
        bus.publish(RunStarted("2", "report", "graph"))
        bus.publish(RunFinished("2", "succeeded", 1.5))
        bus.publish(RunStarted("3", "report", "graph"))
        bus.publish(RunFinished("3", "cancelled", 1.5))

    assert told(at_debug) == [
        ("cascade.run", "INFO", "report started, graph path"),
        ("cascade.resource", "DEBUG", "resource db opened"),
        ("cascade.task", "DEBUG", "fetch #7 started"),
        ("cascade.task", "WARNING", "fetch #7 blocked the event loop for 200 ms"),
        (
            "cascade.task",
            "WARNING",
            "fetch #7 failed attempt 1, next in 500 ms: OSError: no disk",
        ),
        (
            "cascade.task",
            "WARNING",
            "fetch #7 abandoned a call that still runs, 1 such in all",
        ),
        ("cascade.task", "DEBUG", "fetch #7 finished after 250 ms"),
        ("cascade.task", "ERROR", "fetch #8 failed after 250 ms: OSError: no disk"),
        ("cascade.resource", "DEBUG", "resource db closed"),
        ("cascade.run", "ERROR", "report failed after 1.5 s: OSError: no disk"),
        ("cascade.run", "INFO", "report started, graph path"),
        ("cascade.run", "INFO", "report succeeded after 1.5 s"),
        ("cascade.run", "INFO", "report started, graph path"),
        ("cascade.run", "INFO", "report cancelled after 1.5 s"),
    ]


async def test_the_traceback_of_a_failure_is_logged_once(run, engine, at_debug):
    @cs.task
    def fail():
        raise OSError("no disk")

    with EventLogger(engine.bus), pytest.raises(OSError, match="no disk") as caught:
        await run(fail())

    errors = [r for r in at_debug.records if r.levelno == logging.ERROR]
    assert [r.name for r in errors] == ["cascade.task", "cascade.run"]
    assert errors[0].exc_info[1] is caught.value
    assert errors[1].exc_info is None


async def test_a_failure_of_no_task_has_its_traceback_too(run, engine, at_debug):
    @cs.task
    def use(tool=cs.inject("tool")): ...

    with EventLogger(engine.bus), pytest.raises(cs.errors.ResourceNotFoundError) as caught:
        await run(use())

    (error,) = [r for r in at_debug.records if r.levelno == logging.ERROR]
    assert error.name == "cascade.run"
    assert error.exc_info[1] is caught.value


async def test_the_start_of_a_task_comes_before_the_records_of_its_own_code(run, engine, at_debug):
    @cs.task
    def work():
        logging.getLogger("cascade.test").info("working")

    with EventLogger(engine.bus):
        await run(work())

    loggers = [r.name for r in at_debug.records if r.name in ("cascade.task", "cascade.test")]
    assert loggers == ["cascade.task", "cascade.test", "cascade.task"]


def test_a_resource_that_fails_to_close_is_an_error(bus, caplog):
    with EventLogger(bus):
        bus.publish(ResourceReleased("1", "db", OSError("no disk")))

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("cascade.resource", "ERROR")
    assert record.exc_info[0] is OSError


def test_records_have_the_fields_of_their_events(bus, at_debug):
    with EventLogger(bus):
        bus.publish(TaskFailed("1", "fetch", 7, 0.25, OSError("no disk")))

    (record,) = at_debug.records
    assert (record.event, record.run_id, record.task) == ("TaskFailed", "1", "fetch")
    assert (record.node, record.duration) == (7, 0.25)
    assert record.error == {"type": "OSError", "message": "no disk"}


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.CRITICAL])
def test_events_below_the_level_are_not_published(bus, caplog, level):
    caplog.set_level(level, "cascade")
    with EventLogger(bus):
        assert not any(map(bus.wants, (TaskStarted, TaskFinished)))
    with EventLogger(bus, force=True):
        assert all(map(bus.wants, (TaskStarted, TaskFinished)))

    assert not any(map(bus.wants, (Event, TaskStarted, TaskFailed, RunStarted, RunFinished)))


def test_levels_can_change_later_if_everything_is_listened_to(bus, caplog):
    caplog.set_level(logging.INFO, "cascade")
    with EventLogger(bus, force=True):
        bus.publish(TaskStarted("1", "fetch", 7))
        caplog.set_level(logging.DEBUG, "cascade")
        bus.publish(TaskStarted("1", "fetch", 8))

    assert [r.node for r in caplog.records] == [8]


def test_at_error_level_a_failed_run_is_still_called_by_its_name(bus, caplog):
    caplog.set_level(logging.ERROR, "cascade")
    with EventLogger(bus):
        bus.publish(RunStarted("1", "report", "graph"))
        bus.publish(RunFinished("1", "failed", 1.5, OSError("no disk")))

    assert [r.getMessage() for r in caplog.records] == [
        "report failed after 1.5 s: OSError: no disk"
    ]
