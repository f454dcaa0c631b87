"""``@cs.schedule``: each time enqueues one run, however many workers there are."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

import cascade as cs
from cascade.graph.codec import Codec
from cascade.runtime.durable import schedules
from cascade.runtime.durable.schedules import Timetable
from cascade.spec.errors import ArgumentError, DefinitionError

BERLIN = ZoneInfo("Europe/Berlin")


@cs.task
def report(day: str = "today") -> str:
    return f"report of {day}"


def weekly():
    return report("this week")


@pytest.fixture(autouse=True)
def no_schedules(monkeypatch):
    monkeypatch.setattr(schedules, "_schedules", {})


class Clock:
    def __init__(self, *when: int, tz=UTC) -> None:
        self.at(*when, tz=tz)

    def at(self, *when: int, tz=UTC) -> None:
        self.now = datetime(*when).replace(tzinfo=tz).timestamp()  # type: ignore[arg-type]

    def __call__(self) -> float:
        return self.now


def ids(store) -> list[str]:
    return [run.run_id for run in store.runs()]


def test_each_time_enqueues_one_run_for_all_workers(store):
    cs.schedule("0 7 * * *", tz="Europe/Berlin", name="report")(report)
    clock = Clock(2026, 11, 30, 6, tz=BERLIN)
    first, second = Timetable(Codec(), clock), Timetable(Codec(), clock)
    assert first.fire(store) == second.fire(store) == 60
    assert ids(store) == []
    clock.at(2026, 11, 30, 7, tz=BERLIN)
    for timetable in (first, second, first):
        timetable.fire(store)
    assert ids(store) == ["report@2026-11-30T07:00+01:00"]
    clock.at(2026, 12, 1, 7, 0, 30, tz=BERLIN)
    second.fire(store)
    first.fire(store)
    assert ids(store) == ["report@2026-12-01T07:00+01:00", "report@2026-11-30T07:00+01:00"]


def test_the_next_time_tells_how_long_to_wait(store):
    cs.schedule("30 * * * *")(report)
    clock = Clock(2026, 1, 1, 12, 29, 50)
    timetable = Timetable(Codec(), clock)
    assert timetable.fire(store) == 10
    clock.now += 10
    assert timetable.fire(store) == 60
    assert len(ids(store)) == 1


def test_of_missed_times_the_latest_is_made_up_for(store):
    cs.schedule("0 * * * *", name="hourly")(weekly)
    clock = Clock(2026, 1, 1, 11, 59)
    timetable = Timetable(Codec(), clock)
    timetable.fire(store)
    clock.at(2026, 1, 1, 12)
    timetable.fire(store)
    clock.at(2026, 1, 3, 9, 30)
    Timetable(Codec(), clock).fire(store)  # another worker, after a long night
    assert ids(store) == ["hourly@2026-01-03T09:00+00:00", "hourly@2026-01-01T12:00+00:00"]
    timetable.fire(store)
    assert len(ids(store)) == 2


def test_a_new_schedule_makes_up_for_nothing(store):
    cs.schedule("0 7 * * *")(report)
    Timetable(Codec(), Clock(2026, 1, 1, 7, 30)).fire(store)
    assert ids(store) == []


def test_a_run_that_was_deleted_is_not_enqueued_again(store):
    cs.schedule("0 7 * * *", name="report")(report)
    clock = Clock(2026, 1, 1, 6, 59)
    timetable = Timetable(Codec(), clock)
    timetable.fire(store)
    clock.at(2026, 1, 1, 7)
    timetable.fire(store)
    store.delete("report@2026-01-01T07:00+00:00")
    Timetable(Codec(), clock).fire(store)
    assert ids(store) == []


@pytest.mark.parametrize(
    ("day", "fired"),
    [
        ((2026, 3, 29), ["nightly@2026-03-29T03:00+02:00"]),  # 02:30 is left out
        ((2026, 10, 25), ["nightly@2026-10-25T02:30+02:00"]),  # 02:30 comes twice
    ],
)
def test_a_day_on_which_the_clocks_change_has_one_run(store, day, fired):
    cs.schedule("30 2 * * *", tz=BERLIN, name="nightly")(report)
    clock = Clock(*day, 1, tz=BERLIN)
    timetable = Timetable(Codec(), clock)
    for _ in range(24 * 4):
        timetable.fire(store)
        clock.now += 900
    assert ids(store)[::-1][:1] == fired
    assert len(ids(store)) == 1


async def test_a_worker_executes_what_is_scheduled(store):
    made = []

    @cs.schedule("* * * * *", name="each minute")
    def each_minute():
        made.append(1)
        return report("this minute")

    clock = Clock(2026, 1, 1, 12, 0, 59)
    timetable = Timetable(Codec(), clock)
    timetable.fire(store)
    clock.now += 1
    timetable.fire(store)
    async with cs.Engine(store=store) as engine:
        value = await engine.resume("each minute@2026-01-01T12:01+00:00")
    assert (value, made) == ("report of this minute", [1])


def test_a_function_that_gives_no_target_is_told_and_not_tried_again(store, caplog):
    calls = []

    @cs.schedule("* * * * *")
    def wrong() -> str:
        calls.append(1)
        return "a text"

    clock = Clock(2026, 1, 1, 12, 0, 59)
    timetable = Timetable(Codec(), clock)
    timetable.fire(store)
    clock.now += 1
    timetable.fire(store)
    timetable.fire(store)
    assert (ids(store), calls) == ([], [1])
    assert "a function that returned 'a text', but a target is a lazy value" in caplog.text


@pytest.mark.parametrize("expression", ["0 7 * *", "0 25 * * *", "daily", 7, "* * * * * *"])
def test_a_wrong_expression_is_refused(expression):
    with pytest.raises(ArgumentError, match="takes a cron expression such as"):
        cs.schedule(expression)


def test_a_wrong_time_zone_is_refused():
    with pytest.raises(ArgumentError, match="tz takes the name of a time zone"):
        cs.schedule("0 7 * * *", tz="Europe/Berlijn")


def test_a_task_that_needs_arguments_is_refused():
    @cs.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    with pytest.raises(DefinitionError, match="needs a, but is called without arguments"):
        cs.schedule("0 7 * * *")(add)
    with pytest.raises(DefinitionError, match="decorates a task, or a function"):
        cs.schedule("0 7 * * *")(add(1))


def test_two_schedules_of_a_task_need_names():
    cs.schedule("0 7 * * *")(report)
    with pytest.raises(DefinitionError, match="give this one a name"):
        cs.schedule("0 8 * * *")(report)
    cs.schedule("0 8 * * *", name="at eight")(report)
