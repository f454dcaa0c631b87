"""The item of a map that an error or an event is about: its place and its arguments."""

import asyncio
import json
import re
import time

import pytest

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.runtime.bus import MessageBus
from cascade.runtime.control.telemetry import Telemetry
from cascade.runtime.telemetry.history import History
from cascade.runtime.telemetry.wording import as_data, subject_of


class BadError(Exception):
    pass


@cs.task
def read(path, size=0):
    if path in ("x.csv", b"x"):
        raise BadError(path)
    return path


@cs.task
def total(values):
    return len(values)


@cs.task
async def fetch(url, token="", limit=0):
    await asyncio.sleep(0)
    raise BadError(url)


def note_of(error):
    (note,) = error.__notes__
    return re.sub(r", called at [^,]*", "", note)


@pytest.fixture
def note(run):
    """``await note(target)``: the note of its error, without the place in the source."""

    async def note(target, params=None):
        with pytest.raises(BadError) as caught:
            await run(target, params)
        return note_of(caught.value)

    return note


# -- notes ----------------------------------------------------------------------------------------


async def test_the_note_has_the_items_place_and_arguments(note):
    target = total(read.map(path=["a.csv", "b.csv", "x.csv"], size=[1, 2, 3]))

    assert await note(target) == (
        "cascade: in task 'read' [item 2, path='x.csv', size=3], on the path total → read"
    )


async def test_a_coroutine_with_policies_has_the_same_note(note):
    target = fetch.map(url=["u"]).with_retry(2).with_timeout(10)

    assert await note(target) == "cascade: in task 'fetch' [item 0, url='u']"


async def test_a_program_has_the_same_note(engine):
    program = engine.compile(total(read.map(path=["a.csv", "x.csv"])))

    with pytest.raises(BadError) as caught:
        await program.run()
    assert note_of(caught.value) == (
        "cascade: in task 'read' [item 1, path='x.csv'], on the path total → read"
    )


async def test_the_path_names_the_items_above(note):
    @cs.task
    def each(paths):
        return read.map(path=paths)

    assert await note(total(each.map(paths=[["a"], ["b", "x.csv"]]))) == (
        "cascade: in task 'read' [item 1, path='x.csv'], on the path total → each [item 1] → read"
    )


async def test_the_path_names_the_item_that_continued(note):
    @cs.task
    def begin(n):
        return read("x.csv")

    assert await note(begin.map(n=[1])) == (
        "cascade: in task 'read', on the path begin [item 0] → read"
    )


async def test_a_loop_has_its_first_arguments(note):
    @cs.task
    def count(n, left=3):
        if not left:
            raise BadError(n)
        return count.tail(n + 1, left=left - 1)

    assert await note(count.map(n=[10, 20])) == "cascade: in task 'count' [item 0, n=10]"


async def test_a_tail_call_to_another_task_names_the_task_of_the_map(note):
    @cs.task
    def begin(n):
        return read.tail("x.csv")

    assert await note(begin.map(n=[5])) == "cascade: in task 'read' [item 0 of 'begin', n=5]"


async def test_a_caught_error_has_the_note(run):
    values = await run(read.map(path=["a", "x.csv"], return_exceptions=True))

    assert note_of(values[1]) == "cascade: in task 'read' [item 1, path='x.csv']"


async def test_all_errors_of_a_group_tell_their_items(engine, use_vm):
    with pytest.raises(ExceptionGroup) as caught:
        await engine.run(fetch.map(url=["u", "v"]), use_vm=use_vm, fail_fast=False)

    assert sorted(map(note_of, caught.value.exceptions)) == [
        "cascade: in task 'fetch' [item 0, url='u']",
        "cascade: in task 'fetch' [item 1, url='v']",
    ]


async def test_arguments_are_shortened(note):
    target = fetch.map(url=["u" * 1000], token=[list(range(1000))])

    told = await note(target)
    assert told.startswith("cascade: in task 'fetch' [item 0, url='uuu")
    assert "token=[0, 1, 2, 3, 4, 5, ...]" in told
    assert len(told) < 200


async def test_the_arguments_together_are_cut(note):
    @cs.task
    def many(**given):
        raise BadError

    told = await note(many.map(**{f"name{n}": ["v" * 50] for n in range(20)}))
    assert told.endswith("…]")
    assert len(told) < 300


async def test_control_characters_are_escaped(note):
    assert await note(fetch.map(url=["\x1b[2J\u202e"])) == (
        r"cascade: in task 'fetch' [item 0, url='\x1b[2J\u202e']"
    )


async def test_a_failing_repr_hides_nothing_else(note):
    class Odd:
        def __repr__(self):
            raise RuntimeError

    told = await note(fetch.map(url=[Odd()], limit=[3]))
    assert told.startswith("cascade: in task 'fetch' [item 0, url=<Odd instance at ")
    assert told.endswith(">, limit=3]")


async def test_literals_are_not_shown(note):
    target = fetch.map(url=["u"], token=cs.literal("secret"))

    assert await note(target) == "cascade: in task 'fetch' [item 0, url='u']"


@pytest.mark.parametrize("column", [cs.Param("tokens", type=list), [cs.Param("tokens", type=list)]])
async def test_parameters_are_not_shown(note, column):
    target = fetch.map(url=["u"], token=column)

    told = await note(target, {"tokens": ["secret"]})
    assert told == "cascade: in task 'fetch' [item 0, url='u']"


async def test_the_environment_is_not_shown(note, monkeypatch):
    monkeypatch.setenv("CASCADE_TEST_TOKENS", "secret")
    target = fetch.map(url=["u"], token=[cs.Env("CASCADE_TEST_TOKENS")])

    assert await note(target) == "cascade: in task 'fetch' [item 0, url='u']"


async def test_resources_are_not_shown(note):
    @cs.resource
    def token():
        yield "secret"

    target = fetch.map(url=["u"], token=cs.inject(token))

    assert await note(target) == "cascade: in task 'fetch' [item 0, url='u']"


@pytest.fixture
def told(engine):
    """A list of the events of tasks."""
    events = []
    engine.bus.subscribe(cs.events.TaskEvent, events.append)
    engine.bus.subscribe(cs.events.InputsAwaited, events.append)
    return events


def items_of(events, kind):
    return [str(event.item) for event in events if type(event) is kind]


async def test_no_text_is_made_for_items_that_succeed_and_are_not_watched(engine, run):
    class Silent:
        def __repr__(self):
            texts.append("its text")
            return "a value"

    texts, ended = [], []
    engine.bus.subscribe(cs.events.TaskFinished, ended.append)
    await run(total(read.map(path=[Silent(), Silent()])))

    assert [str(event.item) for event in ended] == ["item 0", "item 1", "None"]
    assert not texts


# -- events ---------------------------------------------------------------------------------------


async def test_events_have_the_item(run, told):
    target = total(read.map(path=["a.csv", "x.csv"], return_exceptions=True))
    await run(target)

    number = target._dependencies[0].number
    assert items_of(told, cs.events.TaskStarted) == [
        "item 0, path='a.csv'",
        "item 1, path='x.csv'",
        "None",
    ]
    assert items_of(told, cs.events.TaskFailed) == ["item 1, path='x.csv'"]
    assert items_of(told, cs.events.TaskFinished) == ["item 0", "None"]
    assert {event.item.map for event in told if event.task == "read"} == {number}


async def test_attempts_and_waits_have_the_item(run, told):
    with pytest.raises(BadError):
        await run(fetch.map(url=["u"]).with_retry(2, delay=0.0001))

    assert items_of(told, cs.events.TaskRetrying) == ["item 0, url='u'"]
    assert items_of(told, cs.events.TaskWaiting) == ["item 0, url='u'"]


async def test_cached_items_have_the_item(run, told):
    cache = cs.LRUCache()
    await run(read.map(path=["a"]).with_cache(cache))
    await run(read.map(path=["a"]).with_cache(cache))

    assert items_of(told, cs.events.TaskCached) == ["item 0, path='a'"]


async def test_an_item_that_blocks_is_named(caplog):
    @cs.task
    async def block(n):
        time.sleep(0.15)  # noqa: ASYNC251  # the fault
        await asyncio.sleep(0)

    found = []
    async with cs.Engine() as engine:
        engine.bus.subscribe(cs.events.TaskBlocking, found.append)
        await engine.run(block.map(n=[7]))

    assert [str(event.item) for event in found] == ["item 0, n=7"]


async def test_waiting_items_are_told(use_vm, held):
    @cs.task
    def hold(n):
        assert held.wait(30)

    def look(_event):
        waiting.extend(engine.waiting(inputs=False))
        held.set()

    waiting = []
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        engine.bus.subscribe(cs.events.TaskWaiting, look)
        target = hold.map(n=[1, 2]).with_capacity(gpu=1)
        await engine.run(target, use_vm=use_vm)

    (wait,) = waiting
    assert (wait.task, wait.reason) == ("hold", "capacity gpu")
    assert str(wait.item) in ("item 0, n=1", "item 1, n=2")


# -- logs, drawings, telemetry --------------------------------------------------------------------


EVENT = cs.events.TaskStarted("7f", "read", 7, item=cs.events.Item(2, "path='x.csv'", 5))


def test_lines_name_the_item():
    assert subject_of(EVENT) == "read #7 [item 2, path='x.csv']"


def test_json_has_the_items_fields():
    assert as_data(EVENT)["item"] == {"index": 2, "arguments": "path='x.csv'", "map": 5}


def test_telemetry_has_no_arguments():
    class Recorder(MemoryConnector):
        def publish(self, topic, payload, *, retain=False):
            published.append(json.loads(payload))

    published, bus = [], MessageBus()
    Telemetry(bus, Recorder(MemoryBroker()), "cascade", "one", ["task"])
    bus.publish(EVENT)

    assert published[0]["item"] == {"index": 2, "map": 5}


async def test_a_drawing_tells_which_item_failed(engine, use_vm):
    items = read.map(path=["a.csv", "x.csv"])
    with History(engine.bus) as history, pytest.raises(BadError):
        await engine.run(total(items), use_vm=use_vm)

    state = history.states[items.number]
    assert (state.state, state.note) == (
        "failed",
        f"item 1, path='x.csv': {BadError.__module__}.BadError: x.csv",
    )
    assert "item 1, path='x.csv'" in cs.visualize(total(items), states=history.states)


async def test_a_drawing_counts_the_items_that_ended(engine, use_vm):
    items = read.map(path=["a.csv", "b.csv"])
    with History(engine.bus) as history:
        await engine.run(total(items), use_vm=use_vm)

    state = history.states[items.number]
    assert (state.state, state.note) == ("finished", "2 items ended")
