"""Recordings of runs, and their comparison with later runs; the recorder of events."""

import asyncio
import json
import sys
import types
from dataclasses import dataclass

import pytest

import cascade as cs
from cascade.runtime.events import TaskRetrying
from cascade.testing import (
    EventRecorder,
    Recording,
    VirtualEngine,
    override,
    record_run,
    recording_calls,
)


@dataclass
class Order:
    item: str
    count: int


class Opaque:
    def __reduce__(self):
        raise TypeError("never")


@cs.task
def load(day):
    return [Order("tea", day), Order("milk", 2)]


@cs.task
async def price(order):
    await asyncio.sleep(0)
    return len(order.item) * order.count


@cs.task
def total(prices):
    return sum(prices)


@cs.task
def bill(orders):
    return total(price.map(order=orders))


@cs.task
def countdown(n):
    return countdown.tail(n - 1) if n else object()


report = bill(load(cs.Param("day", type=int)))
LINES = [
    "day = 3",
    "load(3) → [Order(item='tea', count=3), Order(item='milk', count=2)]",
    "bill([Order(item='tea', count=3), Order(item='milk', count=2)]) → <lazy total>",
    "  total([9, 8]) → 17",
    "  price(order=Order(item='tea', count=3)) → 9",
    "  price(order=Order(item='milk', count=2)) → 8",
    "17",
]


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_recording_has_the_calls_in_an_order_of_their_own(use_vm):
    recording, value = record_run(report, {"day": 3}, use_vm=use_vm)

    assert value == 17
    assert recording.lines == LINES


def test_both_paths_and_all_threads_make_the_same_recording():
    target = [report, *(price(Order("x", n)) for n in range(20))]
    first = record_run(target, {"day": 1}).recording
    first.assert_same(record_run(target, {"day": 1}, threads=1).recording)
    first.assert_same(record_run(target, {"day": 1}, use_vm=True).recording)


def test_a_file_gives_the_recording_back_and_shows_changes_as_a_diff(tmp_path):
    file = tmp_path / "deep" / "report.json"
    record_run(report, {"day": 3}).recording.save(file)
    recording = Recording.load(file)

    assert recording.params == {"day": 3}
    assert recording.check(report) == 17
    with (
        override(price, function=lambda order: 10 if order.item == "milk" else 9),
        pytest.raises(AssertionError) as told,
    ):
        recording.check(report, use_vm=True)
    assert sorted(line for line in str(told.value).splitlines() if line[0] in "-+") == [
        "+  price(order=Order(item='milk', count=2)) → 10", "+  total([9, 10]) → 19", "+++ now",
        "+19",
        "-  price(order=Order(item='milk', count=2)) → 8", "-  total([9, 8]) → 17",
        "--- recorded", "-17",
    ]  # fmt: skip


def test_a_recording_gives_the_source_of_a_test(tmp_path, monkeypatch):
    recording = record_run(report, {"day": 3}).recording
    recording.save(tmp_path / "report.json")
    module = types.ModuleType("recorded_flows")
    module.report = report
    monkeypatch.setitem(sys.modules, "recorded_flows", module)
    source = recording.as_test("recorded_flows:report", "report.json", replay=["price", "load"])
    names = {"__file__": str(tmp_path / "test_report.py")}
    exec(source, names)
    names["test_report_is_as_recorded"]()
    with override(total, value=1), pytest.raises(AssertionError, match="has changed since"):
        names["test_report_is_as_recorded"]()
    with pytest.raises(cs.errors.ArgumentError, match="takes MODULE:NAME, such as flows:report"):
        recording.as_test("flows.py:report", "report.json")
    with pytest.raises(cs.errors.ArgumentError, match="but got 'report'"):
        recording.as_test("report", "report.json")


def test_tasks_are_replayed_from_the_recording(tmp_path):
    file = tmp_path / "report.json"
    record_run(report, {"day": 3}).recording.save(file)
    recording = Recording.load(file)
    with override(load, error=ConnectionError), override(price, error=ConnectionError):
        assert recording.check(report, replay=["load", "price"]) == 17
    with pytest.raises(AssertionError) as told, recording.replaying("load"):
        cs.run(report, {"day": 4})
    assert str(told.value).startswith("the recording has no call load(4); it has\n    load(3)")
    with pytest.raises(cs.errors.ArgumentError, match=r"no call of 'laod' \(did you mean 'load'"):
        recording.check(report, replay=["laod"])


def test_equal_calls_are_replayed_in_their_order():
    values = iter([1, 2, 3])
    with override(price, function=lambda order: next(values)):
        target = [price(1), price(1).after(price(2))]
        recording = record_run(target[0]).recording
        more = record_run(price(1)).recording
    both = Recording({}, [*recording.calls, *more.calls])
    with both.replaying("price"):
        assert [cs.run(price(1)) for _ in range(3)] == [1, 2, 2]


def test_values_without_a_stored_form_are_compared_and_not_replayed(tmp_path):
    give = cs.task(lambda: Opaque(), name="give")
    recording = record_run(give()).recording
    recording.save(tmp_path / "one.json")
    loaded = Recording.load(tmp_path / "one.json")
    loaded.check(give())
    with pytest.raises(AssertionError, match="has only the text of the value <"):
        loaded.check(give(), replay=["give"])
    assert " at 0x" not in (tmp_path / "one.json").read_text()


def test_failures_and_steps_are_calls():
    @cs.task
    def flaky(n):
        raise ValueError(f"no {n}")

    target = [flaky(1).with_retry(2, delay=0).catch(ValueError, None), countdown(1)]
    lines = record_run(target).recording.lines

    assert lines[:2] == ["flaky(1) → raises ValueError('no 1')"] * 2
    assert lines[2].startswith("countdown(1) → TailCall(0")
    assert lines[3] == "countdown(0) → <object object>"


def test_long_values_differ_by_their_digest():
    long = cs.task(lambda n: "x" * 5000 + str(n), name="long")
    first, second = (record_run(long(n)).recording.calls[0].outcome for n in (1, 2))
    assert len(first) < 1100
    assert first != second


def test_recordings_in_virtual_time_on_any_engine():
    with VirtualEngine() as virtual:
        recording, value = record_run(report, {"day": 3}, run=virtual.run)
        assert (value, recording.check(report, run=virtual.run, use_vm=True)) == (17, 17)


async def test_calls_are_recorded_in_coroutines_too():
    async with cs.Engine() as engine:
        with recording_calls() as calls:
            await engine.run(report, {"day": 3})
        await engine.run(report, {"day": 3})
    assert [call.task for call in calls()] == ["load", "bill", "total", "price", "price"]


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"cascade recording": 99})])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(cs.errors.ArgumentError, match="is no recording of this version"):
        Recording.load(tmp_path / "file.json")


def test_events_are_checked_with_the_events_in_the_message():
    @cs.task
    def flaky(n, failures=[2]):  # noqa: B006
        failures[0] -= 1
        if failures[0] >= 0:
            raise ConnectionError("refused")
        return n

    @cs.task
    def refuse():
        raise ValueError("never")

    with VirtualEngine() as virtual:
        events = virtual.events
        target = [total([flaky(1).with_retry(5, delay=3600)]), price(Order("x", 0))]
        virtual.run(target)
        with pytest.raises(ValueError, match="never"):
            virtual.run(total([refuse()]))
        assert virtual.time.elapsed == 7200
        events.assert_ran("flaky", times=1)
        events.assert_retried("flaky", times=2)
        events.assert_finished("total")
        events.assert_failed("refuse", ValueError, times=1)
        events.assert_not_ran("bill")
        events.assert_order("flaky", "total")
        assert [event.attempt for event in events.of(TaskRetrying)] == [1, 2]
        for wrong, message in [
            (lambda: events.assert_failed("refuse", KeyError), "'refuse' failed with KeyError 0 "),
            (lambda: events.assert_order("total", "flaky"), "but began: flaky, total; the events:"),
            (
                lambda: events.assert_ran("price", times=2),
                "'price' ran 1 times, not 2; the",
            ),
            (lambda: events.assert_cached("price"), "'price' was found in a cache 0 times, not at"),
            (lambda: events.assert_skipped("price"), "'price' was skipped 0 times"),
        ]:
            with pytest.raises(AssertionError) as told:
                wrong()
            assert message in str(told.value)
            assert "failed attempt 1, next in 1 h: ConnectionError: refused" in str(told.value)
        events.clear()
        virtual.run(price(Order("x", 1)))
        names = [line.partition(" #")[0] for line in events.lines]
        assert names.count("price") == 2


async def test_a_recorder_takes_the_events_of_any_engine():
    async with cs.Engine() as engine:
        with EventRecorder(engine.bus) as events:
            await engine.run(report, {"day": 1})
        await engine.run(report, {"day": 1})
    events.assert_ran("load", times=1)
