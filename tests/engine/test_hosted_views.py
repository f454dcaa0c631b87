"""What the driver sees of runs that other processes execute: their waits and events."""

import asyncio
import logging
import threading
from time import monotonic
from types import SimpleNamespace

import pytest
from tests import agents_elsewhere as agents
from tests import remote_tasks as tasks

import cascade as cs
from cascade.runtime.bus import MessageBus
from cascade.runtime.elsewhere import host_events
from cascade.runtime.elsewhere.host_events import dumps_events, loads_events
from cascade.runtime.elsewhere.host_messages import Told
from cascade.runtime.events import CodeChanged, StepsMade, TaskFailed, TaskWaiting
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.host_reports import Reports
from cascade.runtime.hosted_runs import HostedRuns
from cascade.spec.map_items import Item


async def until(condition):
    await asyncio.to_thread(tasks.wait_until, condition, 50)


async def test_waits_of_hosted_runs_are_listed(tmp_path, path):
    async with cs.Engine(store=f"sqlite:///{tmp_path}/runs.db") as engine:
        engine.constraints.pause("task:counts")
        runs = [
            engine.start(agents.asks(path), run_id="asks", on="process"),
            engine.start(agents.counts(path, 0), run_id="counts", on="process"),
        ]
        await until(lambda: len(engine.waiting()) == 2)
        signal, pause = sorted(engine.waiting(inputs=False), key=lambda one: one.task, reverse=True)
        assert (signal.task, signal.reason) == ("wait_for", "signal answer")
        assert (pause.task, pause.reason) == ("counts", "pause task:counts")
        assert signal.node == pause.node == 0
        assert monotonic() - 50 < signal.since < monotonic()
        engine.constraints.resume("task:counts")
        await runs[1].result()
        assert [one.task for one in engine.waiting()] == ["wait_for"]
        await engine.signal("asks", "answer", 1)
        await runs[0].result()
        assert engine.waiting() == []


# -- reports --------------------------------------------------------------------------------------


def reporting(**waits):
    """Reports of an engine with these waits, and of no progress."""
    active = [
        SimpleNamespace(id=name, waiting=lambda inputs, name=name: waits[name]) for name in waits
    ]
    engine = SimpleNamespace(runs=list, engine_runs=SimpleNamespace(active=active))
    return Reports(engine)


def test_only_changes_are_reported():
    waits = [Waiting("ask", 7, "signal go", since=monotonic() - 5, item=Item(2, "x=1", 9))]
    reports = reporting(one=waits, other=[])
    ((run_id, (wait,)),) = reports.next().waits
    assert run_id == "one"
    assert (wait.node, wait.item) == (0, Item(2, "x=1", 0))
    assert 5 <= wait.since < 60
    assert reports.next() is None
    waits.clear()
    assert reports.next().waits == [("one", [])]
    assert reports.next() is None


def test_a_run_of_many_waits_reports_some():
    reports = reporting(one=[Waiting("ask", n, "signal go") for n in range(5000)])
    ((_, waits),) = reports.next().waits
    assert len(waits) == 1000


def test_waits_end_with_their_run_and_with_its_host():
    runs = HostedRuns(MessageBus())
    waits = [Waiting("ask", 0, "signal go", since=3.0)]
    told = Told(waits=[("one", waits), ("other", waits), ("of nobody", waits)])
    for run_id in ("one", "other"):
        runs.begin(run_id, "ask", "graph")
    runs.take(told)
    assert [one.task for one in runs.waiting()] == ["ask", "ask"]
    assert monotonic() - 60 < runs.waiting()[0].since <= monotonic() - 3
    runs.lose("one")
    assert len(runs.waiting()) == 1
    runs.end("other", None)
    assert runs.waiting() == []


# -- events ---------------------------------------------------------------------------------------


class Unread:
    """Can be sent, and not be read."""

    def __reduce__(self):
        return _never, ()


def _never():
    raise ImportError("no module named 'flows'")


def test_a_value_of_an_event_that_cannot_be_sent_becomes_its_text():
    lock = threading.Lock()
    event = TaskWaiting("one", "ask", 1, "signal go", (lock,), item=Item(0, "x=1"))
    (received,) = loads_events(dumps_events([event]))
    assert received.holders == repr((lock,))
    assert (received.task, received.item, received.at) == ("ask", Item(0, "x=1"), event.at)
    (failed,) = loads_events(dumps_events([TaskFailed("one", "ask", 1, 0.5, ValueError(lock))]))
    assert failed.error.args == (repr(lock),)
    (changed,) = loads_events(dumps_events([CodeChanged("one", {"ask": lock})]))
    assert "lock" in changed.changes


def test_an_event_that_cannot_be_read_is_left_out_and_told_once(caplog):
    host_events._warn.cache_clear()
    sent = dumps_events(
        [StepsMade("one", Unread(), 1, 1.0)] * 2 + [StepsMade("one", "ask", 1, 1.0)]
    )
    with caplog.at_level(logging.WARNING, "cascade.executors"):
        assert [event.task for event in loads_events(sent)] == ["ask"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "events StepsMade of hosted runs are left out: ImportError: no module named 'flows'"
    )


@pytest.mark.posix
def test_a_process_whose_message_cannot_be_read_is_lost(caplog):
    """Its runs go on elsewhere, instead of waiting for it."""
    told, came = [], threading.Event()

    def tell(_host, message):
        told.append(message)
        came.set()

    with cs.ProcessExecutor(1) as executor:
        host = executor.start_host("tests.odd_host", b"", tell)
        assert came.wait(50)
    assert told == [None]
    assert host.exit_code == -tasks.KILL
    assert "its message was not read" in caplog.text
