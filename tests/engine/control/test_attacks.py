"""An attacker who may publish: the messages that still get through, and the texts that leave."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from tests.engine.control.test_plane import Heard, constrain, is_a

import cascade as cs
from cascade.adapters.connectors import MemoryBroker, MemoryConnector
from cascade.adapters.connectors.pacing import Allowance
from cascade.adapters.connectors.topics import matches
from cascade.runtime.control import inbox as inbox_module
from cascade.runtime.control import plane as plane_module
from cascade.runtime.control import status as status_module
from cascade.runtime.control.inbox import Inbox
from cascade.runtime.control.room import MOST_CONSTRAINTS
from cascade.runtime.control.status import read_status, status_of, write_status
from cascade.runtime.events import ConstraintSet, ControlMessageRefused, TaskBlocking
from cascade.runtime.telemetry.texts import MOST_OF_A_TEXT, TOO_LONG, WITHHELD, Texts, cut
from cascade.runtime.telemetry.wording import as_data
from cascade.spec.protocols import ConnectionState

SECRET = "hunter2"


@cs.task
def fails(password):
    raise ValueError(f"cannot log in with {password}" + "x" * 30_000_000 * (password == "huge"))


def without_secrets(text):
    return text.replace(SECRET, "***")


@pytest.fixture
async def engine():
    async with cs.Engine() as engine:
        yield engine


@pytest.fixture
async def outside():
    async with MemoryConnector(MemoryBroker()) as connector:
        yield connector


def plane_for(engine, outside, **options):
    return cs.ControlPlane(engine, MemoryConnector(outside._broker), **options)


# -- a pause gets through -------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [["concurrency"], ["pause"], ["concurrency", "pause"]])
async def test_there_is_always_room_for_a_pause_of_all(engine, outside, kinds):
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]):
        for kind in kinds:
            for number in range(MOST_CONSTRAINTS + 50):
                constrain(outside, f"task:t{number}", kind, 9 if kind == "concurrency" else None)
        constrain(outside, "global", "pause")
        await told.until(is_a(ConstraintSet, scope="global"))


async def test_limits_leave_room_for_pauses_of_tasks(engine, outside):
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]):
        for number in range(MOST_CONSTRAINTS + 50):
            constrain(outside, f"task:t{number}", "concurrency", 9)
        constrain(outside, "task:pay", "pause")
        await told.until(is_a(ConstraintSet, scope="task:pay"))


async def test_a_pause_is_obeyed_before_all_else_that_waits(engine, outside):
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]):
        for number in range(900):
            constrain(outside, f"task:t{number}", "concurrency", 9)
        constrain(outside, "task:pay", "pause")
        constrain(outside, "global", "pause")
        await told.until(is_a(ConstraintSet, scope="task:t899"))
    assert [event.scope for event in told.all][:2] == ["global", "task:pay"]


class Lossy(MemoryConnector):
    """Loses the first message to a topic, as a broker does for a subscriber that is too slow."""

    lost = 0

    def _soon(self, call, *args):
        if args and args[0] == "cascade/constraints/global/pause" and not self.lost:
            self.lost += 1
        else:
            super()._soon(call, *args)


async def test_a_pause_that_the_broker_dropped_in_a_flood_is_asked_for_again(engine, outside):
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    connector = Lossy(outside._broker)
    async with cs.ControlPlane(engine, connector, telemetry=[], every=0.01):
        constrain(outside, "global", "pause")
        for number in range(400):
            constrain(outside, f"task:t{number}", "concurrency", 9)
        await told.until(is_a(ConstraintSet, scope="global"))
    assert connector.lost == 1


class Brings(MemoryConnector):
    """Delivers retained messages to all matching subscriptions, as MQTT brokers may."""

    def _deliver_retained(self, subscription):
        for topic, payload in self._broker._retained.items():
            if matches(subscription.pattern, topic):
                for other in self._subscriptions.matching(topic):
                    self._soon(other.deliver, topic, payload)


@pytest.mark.parametrize("kind", [MemoryConnector, Brings])
async def test_a_flood_does_not_repeat_a_pause_that_the_program_has_removed(engine, outside, kind):
    told, looks = Heard(), Heard()

    class Looks(kind):
        async def subscribe(self, pattern, handler):
            end = await super().subscribe(pattern, handler)
            looks(pattern)
            return end

    engine.bus.subscribe(ConstraintSet, told)
    is_pause = is_a(ConstraintSet, scope="global", kind="pause")
    async with cs.ControlPlane(engine, Looks(outside._broker), telemetry=[], every=0.01):
        constrain(outside, "global", "pause")
        await told.until(is_pause)
        engine.constraints.resume()
        told.all.clear()
        for number in range(400):
            constrain(outside, f"task:t{number}", "concurrency", 9)
        await looks.until(lambda pattern: pattern == "cascade/constraints/global/pause")
        constrain(outside, "task:last", "concurrency", 9)
        await told.until(is_a(ConstraintSet, scope="task:last"))
        assert not any(map(is_pause, told.all))
        constrain(outside, "global", "pause")  # said anew, in the same words
        await told.until(is_pause)


async def test_messages_of_a_lost_connection_do_not_answer_for_the_next(engine, outside):
    connector = MemoryConnector(outside._broker)
    async with cs.ControlPlane(engine, connector, name="e", telemetry=[]) as plane:
        plane._on_message("cascade/constraints/task/a/pause", b"{}")
        plane._on_sync("cascade/engines/e/sync", plane._nonce)
        plane._on_state(ConnectionState(False, "lost"))
        plane._look()
        assert not plane._in_step.is_set()


async def test_the_status_lists_a_pause_however_many_limits_there_are(engine):
    for number in range(2_000):
        engine.constraints.limit_concurrency(f"task:t{number}", 1)
        engine.constraints.pause(f"task:t{number}")
        if not number:
            engine.constraints.pause()
    status = read_status(write_status(status_of(engine, "e", "h", 1, 1.0, 0)))
    listed = {(rule.scope, rule.kind) for rule in status.constraints}
    assert ("global", "pause") in listed
    assert ("task:t1999", "pause") in listed
    assert ("task:t1999", "concurrency") in listed
    assert len(listed) + status.more_constraints == 4_001


# -- floods ---------------------------------------------------------------------------------------


async def test_the_newest_of_many_messages_counts_and_few_are_looked_at(engine, outside):
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]):
        for number in range(2_000):
            constrain(outside, "task:t", "concurrency", number + 1)
        await told.until(is_a(ConstraintSet, value=2_000))
    assert len(told.all) < 20


async def test_a_flood_of_topics_is_refused_and_the_pause_is_not(engine, outside, monkeypatch):
    monkeypatch.setattr(inbox_module, "MOST_PENDING", 100)
    refused, told = Heard(), Heard()
    engine.bus.subscribe(ControlMessageRefused, refused)
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]) as plane:
        for number in range(200):
            plane._on_message(f"cascade/constraints/task/t{number}/pause", b"{}")
        plane._on_message("cascade/constraints/global/pause", b"{}")
        await told.until(is_a(ConstraintSet, scope="global"))
    assert len(refused.all) == 100
    assert {event.reason for event in refused.all} == {"too many others wait"}


async def test_long_messages_are_refused_unread(engine, outside):
    refused = Heard()
    engine.bus.subscribe(ControlMessageRefused, refused)
    async with plane_for(engine, outside):
        outside.publish(f"cascade/constraints/task/{'x' * 60_000}/pause", b"{}")
        outside.publish("cascade/constraints/global/pause", b" " * 1_000_000)
        await refused.until(lambda event: "1000000 bytes" in event.reason)
    assert all(len(event.topic) < 1_100 for event in refused.all)


def test_an_inbox_keeps_the_newest_of_each_topic():
    inbox = Inbox("a/global/pause", lambda topic, payload: True)
    for topic, payload in (("b/x", b"1"), ("c/pause", b"2"), ("b/x", b"3"), ("b/y", b"4")):
        assert inbox.put(topic, payload)
    assert inbox.put("a/global/pause", b"5")
    assert len(inbox) == 4
    assert "b/x" in inbox
    taken = inbox.take(3)
    assert taken == [("a/global/pause", [b"5"]), ("c/pause", [b"2"]), ("b/x", [b"1", b"3"])]
    assert inbox.take(3) == [("b/y", [b"4"])]
    assert inbox.take(3) == []


@pytest.fixture
def reads(monkeypatch):
    """Counts the messages that are read."""
    found = []
    read = plane_module.read_steering

    def counted(prefix, topic, payload):
        found.append(payload)
        return read(prefix, topic, payload)

    monkeypatch.setattr(plane_module, "read_steering", counted)
    return found


@pytest.mark.parametrize("malformed", [1, 3, 4, 5, 100])
@pytest.mark.parametrize(
    ("topic", "valid"),
    [
        ("task/t/concurrency", b'{"value": 7}'),
        ("task/t/concurrency", b'{ "value" : 7 }'),
        ("task/t/rate_limit", b'{"value": "7/s"}'),
        ("global/pause", b"{}"),
        ("global/pause", b'{"ttl": 60}'),
    ],
)
async def test_the_newest_valid_message_counts_whatever_follows_it(
    engine, outside, topic, valid, malformed
):
    told, refused = Heard(), Heard()
    engine.bus.subscribe(ConstraintSet, told)
    engine.bus.subscribe(ControlMessageRefused, refused)
    async with plane_for(engine, outside, telemetry=[]) as plane:
        plane._on_message(f"cascade/constraints/{topic}", b"{broken")
        plane._on_message(f"cascade/constraints/{topic}", valid)
        for _ in range(malformed):
            plane._on_message(f"cascade/constraints/{topic}", b'{"value": 7')
        await told.until(is_a(ConstraintSet))
    assert len(told.all) == 1
    assert len(refused.all) == malformed


async def test_a_valid_flood_is_read_once_a_topic_and_changes_the_rules_once(
    engine, outside, reads, monkeypatch
):
    changes = []
    change = engine.constraints.change
    monkeypatch.setattr(engine.constraints, "change", lambda w: changes.append(w) or change(w))
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]) as plane:
        for number in range(2_000):
            topic = f"cascade/constraints/task/t{number % 10}/concurrency"
            plane._on_message(topic, b'{"value": %d}' % (number + 1))
        await told.until(is_a(ConstraintSet, value=2_000))
    assert len(reads) == 10
    assert len(changes) == 1


@pytest.mark.parametrize("payload", [b"{", b'{"value": 0}', b'{"value": "1/s"}', b'{ "value": 3}'])
async def test_whatever_comes_is_read_once_at_most_and_little_of_it_waits(
    engine, outside, reads, payload
):
    async with plane_for(engine, outside, telemetry=[]) as plane:
        for _ in range(1_000):
            plane._on_message("cascade/constraints/task/t/concurrency", payload)
            waiting = plane._inbox._others.get("cascade/constraints/task/t/concurrency", ())
            assert len(waiting) <= inbox_module.MOST_UNSURE
        assert len(reads) <= 1_000


async def test_messages_that_are_all_malformed_do_not_hold_up_the_start(engine, outside):
    async with plane_for(engine, outside, telemetry=[]) as plane:
        plane._in_step.clear()
        plane._on_message("cascade/constraints/task/t/concurrency", b"{")
        plane._on_sync("cascade/engines/e/sync", plane._nonce)
        for _ in range(inbox_module.MOST_UNSURE):
            plane._on_message("cascade/constraints/task/t/concurrency", b"{")
        async with asyncio.timeout(20):
            await plane._in_step.wait()


def test_work_that_others_cause_gets_a_share_of_the_time():
    now = 0.0
    allowance = Allowance(0.08, lambda: now)
    worked = 0.0
    while now < 100:
        now += 0.001
        worked += 0.001
        allowance.spend(0.001)
        now += allowance.pause
    assert worked / now == pytest.approx(0.08, rel=0.05)


async def test_only_the_brokers_own_answer_says_that_all_is_known(engine, outside):
    """Anybody can publish on the topic of the answer."""
    async with plane_for(engine, outside, name="e") as plane:
        plane._in_step.clear()
        plane._on_sync("cascade/engines/e/sync", b"{}")
        assert not plane._in_step.is_set()
        plane._on_sync("cascade/engines/e/sync", plane._nonce)
        assert plane._in_step.is_set()


async def test_a_fault_of_our_own_does_not_end_obedience(engine, outside, monkeypatch, caplog):
    told = Heard()
    engine.bus.subscribe(ConstraintSet, told)
    async with plane_for(engine, outside, telemetry=[]):
        for place in ("read_steering", "Room"):
            with monkeypatch.context() as patched:
                patched.setattr(plane_module, place, None)
                constrain(outside, "task:a", "pause")
                for _ in range(10):
                    await asyncio.sleep(0)
            constrain(outside, f"task:{place}", "pause")
            await told.until(is_a(ConstraintSet, scope=f"task:{place}"))
    assert caplog.text.count("TypeError") == 2


# -- an engine cannot be hidden -------------------------------------------------------------------


@pytest.mark.parametrize("digits", [16, 400, 4_000])
async def test_no_number_hides_an_engine(engine, outside, digits):
    heard, refused = Heard(), Heard()
    engine.bus.subscribe(ControlMessageRefused, refused)
    await outside.subscribe("cascade/engines/+/status", heard)
    number = b"1" + b"0" * digits
    async with plane_for(engine, outside, name="e", every=0.01):
        outside.publish("cascade/constraints/task/z/concurrency", b'{"value":' + number + b"}")
        outside.publish("cascade/constraints/task/y/rate_limit", b'{"value":"' + number + b'/s"}')
        outside.publish("cascade/constraints/task/z/rate_limit", b'{"value":' + number + b"}")
        await refused.until(lambda event: event.topic.endswith("z/rate_limit"))
        before = len(heard.all)
        await heard.until(lambda message: len(heard.all) > before + 1)
        assert len(refused.all) == 3
        assert engine.constraints.active() == []


@pytest.mark.parametrize("digits", [16, 300])
async def test_no_capacity_hides_an_engine(digits, outside):
    heard = Heard()
    await outside.subscribe("cascade/engines/+/status", heard)
    engine = cs.Engine(capacities={"gpu": 10**digits})
    async with engine, plane_for(engine, outside, name="e"):
        _, payload = await heard.until(lambda message: message[1])
    assert read_status(payload).capacities == {"gpu": 1e15}


class Unfit(MemoryConnector):
    """A connector with faults: its fifth subscription, and the end of the sixth."""

    subscribed = 0

    async def subscribe(self, pattern, handler):
        self.subscribed += 1
        if self.subscribed == 5:
            raise ValueError(pattern)
        await super().subscribe(pattern, handler)
        return self._end

    def _end(self):
        if self.subscribed == 6:
            self.subscribed += 1
            raise ValueError("end")


async def test_no_fault_of_a_connector_ends_the_heartbeats(engine, outside, caplog):
    heard = Heard()
    await outside.subscribe("cascade/engines/+/status", heard)
    connector = Unfit(outside._broker)
    async with cs.ControlPlane(engine, connector, name="e", telemetry=[], every=0.01):
        for fault in ("cannot ask its broker", "cannot end a subscription"):
            for number in range(400):
                constrain(outside, f"task:t{number}", "concurrency", 9)
            await heard.until(lambda _, fault=fault: fault in caplog.text)
            before = len(heard.all)
            await heard.until(lambda _, before=before: len(heard.all) > before + 1)


async def test_a_status_that_is_too_long_is_told_in_short(engine, outside, monkeypatch):
    monkeypatch.setattr(status_module, "MOST_STATUS_BYTES", 1000)
    heard = Heard()
    await outside.subscribe("cascade/engines/+/status", heard)
    for number in range(20):
        engine.constraints.pause(f"task:{number:0100}")
    async with plane_for(engine, outside, name="e"):
        _, payload = await heard.until(lambda message: message[1])
    assert read_status(payload).trouble == "the status cannot be read: ValueError"


def test_the_longest_names_fit_into_a_status():
    """Letters that have two bytes of UTF-8, and six where JSON writes them as escapes."""
    name = "\u0444" * 550
    wait = status_module.WaitStatus(name, name, (name,) * 20)
    rule = status_module.ConstraintStatus(name, "pause")
    about = ("e", "h", 1, 0.0, 1.0)
    status = status_module.EngineStatus(*about, waiting=(wait,) * 50, constraints=(rule,) * 501)
    assert read_status(write_status(status)) == status


async def test_a_name_that_statuses_cannot_hold_is_refused(engine, outside):
    with pytest.raises(
        cs.errors.ArgumentError, match=r"at most 1100 bytes of UTF-8, but .* has 1101"
    ):
        plane_for(engine, outside, name="x" * 1101)
    plane_for(engine, outside, name="x" * 1100)


async def test_a_part_that_cannot_be_told_leaves_the_others(engine, outside, monkeypatch):
    def broken(*_, **__):
        raise ValueError(SECRET)

    heard = Heard()
    await outside.subscribe("cascade/engines/+/status", heard)
    engine.constraints.pause()
    monkeypatch.setattr(engine, "waiting", broken)
    async with plane_for(engine, outside, name="e"):
        _, payload = await heard.until(lambda message: message[1])
    status = read_status(payload)
    assert status.trouble == "waits cannot be read: ValueError"
    assert [rule.kind for rule in status.constraints] == ["pause"]


async def test_a_heartbeat_that_fails_says_at_least_that_the_engine_is_there(
    engine, outside, monkeypatch, caplog
):
    def broken(*_, **__):
        raise ValueError(SECRET)

    heard = Heard()
    await outside.subscribe("cascade/engines/+/status", heard)
    monkeypatch.setattr(plane_module, "status_of", broken)
    async with plane_for(engine, outside, name="e", every=0.01):
        for _ in range(3):
            _, payload = await heard.until(lambda message: message[1])
            heard.all.clear()
    assert read_status(payload).engine == "e"
    assert read_status(payload).trouble == "the status cannot be read: ValueError"
    assert caplog.text.count("cannot be read; only") == 1


async def test_a_name_that_utf8_cannot_encode_is_told(engine, outside):
    assert status_module._name("\ud800" + "é" * 5_000, Texts()).startswith("\\ud800é")


# -- texts that leave -----------------------------------------------------------------------------


async def told_of(engine, outside, target, **options):
    heard = Heard()
    await outside.subscribe("cascade/telemetry/#", heard)
    async with plane_for(engine, outside, telemetry=["run", "task"], **options):
        with pytest.raises(ValueError, match="cannot log in"):
            await engine.run(target)
        await heard.until(lambda message: message[0].endswith("RunFinished"))
    return [payload for _, payload in heard.all]


async def test_secrets_leave_with_errors_unless_they_are_redacted(engine, outside):
    assert any(SECRET.encode() in text for text in await told_of(engine, outside, fails(SECRET)))
    told = await told_of(engine, outside, fails(SECRET), redact=without_secrets)
    assert not any(SECRET.encode() in text for text in told)
    assert any(b"cannot log in with ***" in text for text in told)


async def test_a_text_that_redact_fails_on_is_withheld(engine, outside, caplog):
    for redact in (lambda text: 1 / 0, lambda text: None, lambda text: text.nothing):
        told = await told_of(engine, outside, fails(SECRET), redact=redact)
        assert not any(SECRET.encode() in text for text in told)
        assert any(WITHHELD.encode() in text for text in told)
    assert "redact failed" in caplog.text
    assert SECRET not in caplog.text


async def test_the_status_is_redacted_too(outside):
    @cs.task(name=f"login_{SECRET}")
    async def login():
        await asyncio.Event().wait()

    heard = Heard()
    await outside.subscribe("cascade/engines/+/status", heard)
    engine = cs.Engine(capacities={SECRET: 1})
    async with engine, plane_for(engine, outside, every=0.01, redact=without_secrets):
        running = asyncio.ensure_future(engine.run(login().with_capacity(hunter2=1)))
        _, payload = await heard.until(lambda m: m[1] and read_status(m[1]).runs)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert SECRET not in payload.decode()
    assert read_status(payload).runs[0].target == "login_***"


async def test_an_error_of_30_megabytes_leaves_in_2_kibibytes(engine, outside):
    told = await told_of(engine, outside, fails("huge"))
    assert max(map(len, told)) < MOST_OF_A_TEXT + 500


def test_lists_and_numbers_that_leave_are_bounded():
    event = TaskBlocking("1", "t", 10**5_000, 0.1, "s" * 10_000)
    text = json.dumps(Texts().data(as_data(event)))
    assert len(text) < MOST_OF_A_TEXT + 500
    assert Texts().data(["x"] * 1_000)[-1] == "… 950 more"


def test_a_secret_that_a_cut_goes_through_does_not_leave():
    """The text is cut to the limit of redact; a text that this has shortened shows its end."""
    noise, most = "password=" + "x" * 991 + " ", 65_536
    texts = Texts(lambda text: re.sub(r"password=x+ |" + SECRET, "", text))
    for before in range(len(SECRET) + 1):
        text = (noise * 65)[: most - before] + SECRET + noise * 3
        for keep_end in (False, True):
            found = texts.clean(text[::-1] if keep_end else text, keep_end=keep_end)
            found = found[::-1] if keep_end else found
            assert SECRET[:3] not in found


def test_a_long_text_is_redacted_and_cut_at_the_end_that_says_less():
    texts = Texts(lambda text: text.replace(SECRET, "***"))
    long = f"begin {SECRET} " + "x" * 200_000 + f" {SECRET} end"
    assert texts.clean(long, 100).startswith("begin *** x")
    assert texts.clean(long, 100, keep_end=True).endswith("x *** end")
    assert Texts(lambda text: "").clean(long) == TOO_LONG


def test_a_stack_keeps_its_innermost_frames():
    event = TaskBlocking("1", "t", 1, 0.1, "outer\n" * 1_000 + "inner\n")
    stack = Texts().data(as_data(event))["stack"]
    assert stack.endswith("outer\ninner\n")
    assert len(stack.encode()) <= MOST_OF_A_TEXT


@pytest.mark.parametrize("text", ["", "a" * 5_000, "é" * 5_000, "💥" * 5_000, "\ud800" * 5_000])
def test_a_text_is_cut_by_its_bytes(text):
    for keep_end in (False, True):
        found = cut(text, 100, keep_end=keep_end).encode()
        assert len(found) <= 100
        assert not text or len(found) > 85


def test_redact_must_be_a_function(engine):
    with pytest.raises(cs.errors.ArgumentError, match=r"^redact takes a function"):
        cs.ControlPlane(engine, MemoryConnector(MemoryBroker()), redact="secret")


def test_a_heartbeat_is_made_once_a_day_at_least(engine):
    with pytest.raises(cs.errors.ArgumentError, match="every must be at most"):
        cs.ControlPlane(engine, MemoryConnector(MemoryBroker()), every=1e9)
