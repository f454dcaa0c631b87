"""The commands for running engines: their output, and arguments that they refuse.

Their effects on engines are tested in tests/end_to_end/test_control_plane.py.
"""

import asyncio
import io
import json
import math
import time
from dataclasses import asdict, replace

import pytest
from rich.console import Console

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.command import remote
from cascade.command.remote import Engines
from cascade.command.steering import _obeyed, _told
from cascade.command.watching import line_of, screen
from cascade.runtime.control.messages import RefusedMessageError
from cascade.runtime.control.status import (
    MOST_STATUS_BYTES,
    ConstraintStatus,
    EngineStatus,
    RunStatus,
    WaitStatus,
    read_status,
    status_of,
    write_status,
)
from cascade.runtime.execution.waiting import Waiting

BUSY = EngineStatus(
    "trainer",
    "host-7",
    4711,
    1_000.0,
    1.0,
    runs=(
        RunStatus("1", "train", "graph", 61.5, 0, 0.0, None),
        RunStatus("2", "agent", "vm", 3_600.0, 123_456_789, 34_000_000.0, "think"),
    ),
    waiting=(
        WaitStatus("train", "capacity gpu", ("train", "train"), 2.5),
        WaitStatus("train", "capacity gpu", ("train", "train"), 1.5),
        WaitStatus("fetch", "rate_limit task:fetch 10/s", (), 0.05),
    ),
    more_runs=7,
    more_waiting=1_200,
    constraints=(
        ConstraintStatus("task:fetch", "rate_limit", "10/s", 29.0),
        ConstraintStatus("global", "pause"),
    ),
    capacities={"gpu": 2},
    available={"gpu": 0},
    abandoned=("slow",),
)
SHARING = replace(
    BUSY, shares=True, constraints=(ConstraintStatus("global", "rate_limit", "9/s", shared="api"),)
)
IDLE = EngineStatus("other", "host-8", 12, 1_000.0, 1.0)


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    monkeypatch.delenv("CASCADE_MQTT_URL", raising=False)


def shown(*engines, width=80):
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in screen(engines):
        console.print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_is_shared_with_other_processes_is_shown_as_such():
    lines = shown(SHARING)

    assert lines[0] == "trainer  host-7, process 4711  gpu 0 of 2 free (shared)  abandoned: slow"
    assert lines[-1] == "  rate_limit  global  9/s shared as 'api'"
    assert read_status(write_status(SHARING)) == SHARING


def test_the_status_of_an_engine_says_what_it_shares():
    capacities = cs.Capacities({"gpu": 2}, store="memory:")
    engine = cs.Engine(capacities=capacities)
    engine.constraints.limit_rate("global", "9/s", shared="api")
    status = status_of(engine, "e", "h", 1, 1.0, 0)
    assert (status.shares, status.available) == (True, {"gpu": 2})
    assert [rule.shared for rule in status.constraints] == ["api"]
    capacities.end_sharing()


def test_the_screen_of_engines_fits_80_columns():
    lines = shown(BUSY, IDLE)

    assert lines == [
        "trainer  host-7, process 4711  gpu 0 of 2 free  abandoned: slow",
        "  run    path         for        steps     steps/s  now",
        "  train  graph  1 min 2 s            0           0",
        "  agent  vm           1 h  123,456,789  34,000,000  think",
        "  …      + 7",
        "  waits           for                         held by  since",
        "  train      × 2  capacity gpu                train    2.5 s",
        "  fetch           rate_limit task:fetch 10/s           50 ms",
        "  …      + 1,200",
        "  constraint  scope       value  left",
        "  rate_limit  task:fetch  10/s   29 s",
        "  pause       global",
        "",
        "other  host-8, process 12",
        "  nothing runs",
    ]


def test_texts_of_engines_are_shown_with_escapes():
    rule = ConstraintStatus("task:fetch_[ab][/]", "pause")
    run = RunStatus("1", "\x1b[2Jreport", "vm", 1.0, 0, 0.0, "\x9b2J")
    odd = EngineStatus("evil\x1b]0;", "h\nost", 1, 0.0, 1.0, runs=(run,), constraints=(rule,))

    text = "\n".join(shown(odd))
    assert "task:fetch_[ab][/]" in text
    assert r"\x1b[2Jreport" in text
    assert not {"\x1b", "\x9b"} & {*text, *line_of(odd)}


async def test_a_status_names_each_holder_once(monkeypatch):
    async with cs.Engine() as engine:
        waiting = Waiting("train", 7, "capacity gpu", ("a", "a", "b") * 1000)
        monkeypatch.setattr(engine, "waiting", lambda inputs: [waiting])
        (told,) = status_of(engine, "one", "host", 1, 1.0, 0).waiting
    assert told.holders == ("a", "b")


def test_no_engines_are_told_in_a_line():
    assert shown() == ["no engine is connected"]


def test_an_engine_in_a_line():
    assert line_of(BUSY) == ("trainer: 9 runs, 34,000,000 steps/s, 1203 waiting, 2 constraints")
    assert line_of(IDLE) == "other: 0 runs, 0 steps/s, 0 waiting, 0 constraints"


@pytest.mark.parametrize("status", [BUSY, IDLE])
def test_a_status_comes_as_it_was_sent(status):
    assert read_status(write_status(status)) == status


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 10_000,
        json.dumps({**json.loads(write_status(BUSY)), "runs": [{"surprise": 1}]}).encode(),
        json.dumps({**json.loads(write_status(BUSY)), "time": "now"}).encode(),
        json.dumps({**json.loads(write_status(BUSY)), "pid": math.inf}).encode(),
        write_status(BUSY).replace(b"61.5", b'"long"'),
        write_status(BUSY).replace(b'"train"', b"1"),
        write_status(BUSY).replace(b"29.0", b"[]"),
        json.dumps({**json.loads(write_status(BUSY)), "engine": None}).encode(),
    ],
)
def test_other_payloads_than_a_status_are_refused(payload):
    with pytest.raises(RefusedMessageError, match="not a status of an engine"):
        read_status(payload)


async def test_the_last_status_of_an_engine_counts():
    engines = Engines()
    async with cs.Engine() as engine:
        broker = MemoryBroker()
        async with MemoryConnector(broker) as outside:
            await outside.subscribe("cascade/engines/+/status", engines.hear)
            outside.publish("cascade/engines/nonsense/status", b"{}")
            plane = cs.ControlPlane(engine, MemoryConnector(broker), name="one", every=0.01)
            async with plane:
                assert await engines.until(lambda: bool(engines.alive), 20)
                assert [status.engine for status in engines.alive] == ["one"]
            assert await engines.until(lambda: not engines.alive, 20)
            assert not await engines.until(lambda: False, 0.001)


async def test_one_that_ends_meanwhile_is_not_waited_for():
    engines = Engines()
    for name in ("one", "two"):
        status = replace(IDLE, engine=name, time=time.time())
        engines.hear(f"cascade/engines/{name}/status", write_status(status))
    asked, before = engines.known, dict.fromkeys(engines.known, 0.0)
    waiting = asyncio.ensure_future(
        _obeyed(engines, asked, before, lambda status: status.engine == "one", 3600)
    )
    await asyncio.sleep(0)
    engines.hear("cascade/engines/two/status", b"")
    async with asyncio.timeout(20):
        obeyed = await waiting
    assert _told(asked & engines.known, obeyed, True) == "holds for one"


class Clocks:
    """Our clock, and Unix time."""

    def __init__(self):
        self.now = 50.0

    def clock(self):
        return self.now

    def wall(self):
        return 1_000_000.0 + self.now


def hear(engines, name, when):
    told = write_status(replace(IDLE, engine=name, time=when))
    engines.hear(f"cascade/engines/{name}/status", told)


def test_one_that_has_been_silent_for_long_is_gone():
    clocks = Clocks()
    engines = Engines(clocks.clock, clocks.wall)
    hear(engines, "trainer", clocks.wall())
    clocks.now += 4
    assert [one.engine for one in engines.alive] == ["trainer"]
    clocks.now += 0.1
    assert engines.alive == []


@pytest.mark.parametrize("off", [-1e9, -3600, 3600, 1e9])
def test_an_engine_with_another_clock_is_shown(off):
    clocks = Clocks()
    engines = Engines(clocks.clock, clocks.wall)
    engines.retained = False
    for _ in range(3):
        hear(engines, "trainer", clocks.wall() + off)
        (one,) = engines.alive
        assert one.trouble.startswith("its clock differs from ours by ")
        clocks.now += 1
    hear(engines, "trainer", clocks.wall() - 3)
    assert engines.alive[0].trouble == ""


def test_an_old_status_that_the_broker_had_retained_is_stale_until_the_engine_speaks():
    clocks = Clocks()
    engines = Engines(clocks.clock, clocks.wall)
    hear(engines, "trainer", clocks.wall() - 3600)
    assert engines.alive[0].trouble.startswith("stale: by our clock this status is 1 h")
    hear(engines, "trainer", clocks.wall() - 3600)  # so it speaks, before the broker is done
    assert engines.alive[0].trouble == "its clock differs from ours by 1 h"
    engines.retained = False
    hear(engines, "late", clocks.wall() - 3600)
    assert {one.trouble for one in engines.alive} == {"its clock differs from ours by 1 h"}


def test_an_engine_speaks_on_its_own_topic_only():
    """Otherwise a publisher for one engine could confirm a pause for another."""
    engines = Engines()
    engines.hear("cascade/engines/evil/status", write_status(BUSY))
    assert engines.statuses == {}


def test_engines_that_are_made_up_are_bounded_and_the_gone_make_room(monkeypatch):
    monkeypatch.setattr(remote, "_MOST_ENGINES", 3)
    engines = Engines()
    for name in ("old", "a", "b", "c", "d"):
        when = 0.0 if name == "old" else time.time()
        told = write_status(replace(IDLE, engine=name, time=when))
        engines.hear(f"cascade/engines/{name}/status", told)
    assert engines.known == {"a", "b", "c"}


def test_silence_is_told_in_a_sentence_that_is_not_too_long():
    assert _told({"a", "b"}, {"a"}) == "holds for a; no answer yet from b"
    assert _told({"b", "a"}, set()) == "no engine confirmed it; no answer from a, b"
    assert _told(set(), set()).startswith("no engine is connected, so none confirms it")
    assert _told({f"e{n:04}" for n in range(1000)}, set()).endswith("e0019 and 980 more")


HOSTILE = {
    "count of 4300 digits": {"more_runs": int("9" * 4300)},
    "huge steps": {"steps": 1e308},
    "negative": {"seconds": -5, "steps": -1},
    "surrogate": {"target": "t\ud800"},
    "huge pid": {"pid": 10**400},
    "endless heartbeat": {"time": 1e308, "every": 1e308},
    "huge amount": {"capacities": {"a": 1e308}},
    "no list": {"runs": {"a": 1}},
    "text for a list": {"abandoned": "x" * 10_000},
    "nan": {"time": math.nan},
    "infinite": {"seconds": math.inf},
    "huge value": {"constraints": [asdict(ConstraintStatus("global", "pause", 10**30))]},
    "names of a megabyte": {"target": "x" * 1_000_000, "capacities": {"x" * 1_000_000: 1}},
    "5000 runs": {"runs": [asdict(BUSY.runs[0])] * 5_000},
    "5000 constraints": {"constraints": [asdict(BUSY.constraints[0])] * 5_000},
    "20000 capacities": {"capacities": {str(n): 1 for n in range(20_000)}},
    "20000 holders": {"holders": ["x"] * 20_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_statuses_are_bounded_before_they_are_shown(name):
    body = asdict(BUSY)
    for field, value in HOSTILE[name].items():
        for row in (body, body["runs"][0], body["waiting"][0]):
            if field in row:
                row[field] = value
    try:
        status = read_status(json.dumps(body).encode())
    except RefusedMessageError as refusal:
        told = str(refusal)
    else:
        told = line_of(status)
        assert sum(map(len, shown(status, width=10_000))) < 1_000_000
        "".join(shown(status)).encode()
    assert len(told) < 2_000


def test_a_status_of_many_megabytes_is_not_read():
    with pytest.raises(RefusedMessageError, match="bytes"):
        read_status(b"[" * (MOST_STATUS_BYTES + 1))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("watch", "--broker", "http://x"), "http://x"),
        (("pause", "taks:x"), "a scope is 'global' or 'task:'"),
        (("pause", "--ttl", "0"), "ttl takes seconds"),
        (("resume", "everything"), "a scope is 'global' or 'task:'"),
        (("limit", "rate", "global", "10"), "as '10/s'"),
        (("limit", "rate", "global", "10/s", "--burst", "0"), "burst must be an int ≥ 1"),
        (("limit", "concurrency", "global", "0"), "≥ 1"),
        (("limit", "concurrency", "global", "many"), "many"),
        (("limit", "off", "global", "pause"), "pause"),
        (("limit", "pause", "global"), "pause"),
        (("pause", "task:a\nb", "--broker", "mqtt://127.0.0.1:1"), "U+000A"),
        (("status", "--prefix", "a+", "--broker", "mqtt://127.0.0.1:1"), "has a wildcard"),
        (("watch", "--wait", "nan", "--broker", "mqtt://127.0.0.1:1"), "--wait takes seconds"),
        (("pause", "--ttl", "inf"), "leave it out"),
        (("pause", "task:a/b", "--broker", "mqtt://127.0.0.1:1"), "cannot be sent"),
        (("pause", "--broker", "mqtt://127.0.0.1:1"), "cannot connect to the broker"),
    ],
)
def test_invalid_arguments_are_refused_in_one_sentence(cascade, words, complaint):
    done = cascade(*words)

    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
    assert done.err.startswith("cascade: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("amount", ["gpu", "gpu=many", "=1", "gpu=-1", "gpu=0", "memory GB=1"])
def test_an_invalid_capacity_is_refused(cascade, amount):
    done = cascade("run", "flows.py:give", "--n", "1", "--capacity", amount)

    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_a_run_has_the_capacities_that_it_is_given(cascade):
    done = cascade("run", "flows.py:taking", "--capacity", "gpu=2", "--capacity", "disk=0.5")
    assert (done.code, done.out) == (0, "7\n")

    done = cascade("run", "flows.py:taking", "--capacity", "gpu=1", "--capacity", "disk=1")
    assert done.code == 1
    assert "CapacityError" in done.err
