"""The contract of Connector, for every implementation; over MQTT with a separate broker."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from tests.services import running_mosquitto

import cascade as cs
from cascade.adapters.connectors import (
    LocalConnector,
    MemoryBroker,
    MemoryConnector,
    Message,
    MqttConnector,
    MqttSettings,
)
from cascade.adapters.connectors.local_folder import HubLock, LocalFolder
from cascade.adapters.connectors.local_hub import LocalHub
from cascade.spec.protocols import ConnectionState, Connector


class Memory:
    """Connectors that meet in this process."""

    def __init__(self):
        self.broker = MemoryBroker()

    def connector(self, *, will=None, max_queued=1000):
        return MemoryConnector(self.broker, will=will, max_queued=max_queued)

    async def stop(self):
        self.broker.stop()

    async def start(self):
        self.broker.start()

    async def lose(self, connector):
        self.broker.cut(connector)


class Local:
    """Connectors that meet in a folder, whose hub this object can kill."""

    def __init__(self, path):
        self.path = path
        self.folder = LocalFolder(path)
        self.folder.prepare()
        self.lock = HubLock(self.folder)
        assert self.lock.take()
        self.hub = LocalHub(self.folder, self.lock)
        self.hub.start()

    def connector(self, *, will=None, max_queued=1000):
        return LocalConnector(self.path, will=will, max_queued=max_queued)

    async def stop(self):
        """As if its process had been killed; but no other may take its place."""
        hub = self.hub

        async def kill():
            hub._server.close()
            for member in hub._members:
                member.leaves = True
                member.transport.abort()
            hub._end.set()

        asyncio.run_coroutine_threadsafe(kill(), hub._loop)
        await asyncio.to_thread(hub._thread.join)

    async def start(self):
        self.hub = LocalHub(self.folder, self.lock)
        self.hub.start()

    async def lose(self, connector):
        for member in list(self.hub._members):
            if member.name == connector._name:
                self.hub._loop.call_soon_threadsafe(member.transport.abort)

    def close(self):
        self.hub.stop()


class Mqtt:
    """Connectors that meet at a real broker."""

    def __init__(self, broker):
        self.broker = broker
        self._ids = iter(range(1000))

    def connector(self, *, will=None, max_queued=1000):
        settings = MqttSettings(
            url=self.broker.url,
            client_id=f"connector-{next(self._ids)}",
            reconnect_min=0.01,
            reconnect_max=0.05,
            max_queued=max_queued,
        )
        return MqttConnector(settings, will=will)

    async def stop(self):
        await asyncio.to_thread(self.broker.stop)

    async def start(self):
        await asyncio.to_thread(self.broker.start)

    async def lose(self, connector):
        """Come in under its name: a broker lets only the latest have it."""
        import aiomqtt

        _, _, port = self.broker.url.rpartition(":")
        async with aiomqtt.Client("127.0.0.1", int(port), identifier=connector._client_id):
            pass


@pytest.fixture(params=["memory", "local", "mqtt"])
def place(request, tmp_path) -> Iterator[Memory | Local | Mqtt]:
    if request.param == "memory":
        yield Memory()
    elif request.param == "local":
        local = Local(tmp_path / "folder")
        yield local
        local.close()
    else:
        with running_mosquitto(tmp_path) as broker:
            yield Mqtt(broker)


@pytest.fixture
async def connectors(place):
    """Make connectors that are connected, and closed when the test ends; nothing may be left."""
    made = []

    async def connect(**options):
        connector = place.connector(**options)
        made.append(connector)
        await connector.connect()
        return connector

    yield connect
    for connector in made:
        await connector.disconnect()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Inbox:
    """A handler that keeps its messages, for a test to wait for."""

    def __init__(self):
        self._queue = asyncio.Queue()

    def __call__(self, topic, payload):
        self._queue.put_nowait((topic, payload))

    async def next(self):
        return await self._queue.get()

    async def take(self, count):
        return [await self.next() for _ in range(count)]

    async def until(self, last):
        """All messages up to the one with the payload ``last``, which is not among them."""
        found = []
        while (message := await self.next())[1] != last:
            found.append(message)
        return found

    @property
    def is_empty(self):
        return self._queue.empty()


async def becomes(connector, connected):
    """Wait for a state; the first that fits."""
    if connector.state.connected == connected:
        return connector.state
    told = asyncio.get_running_loop().create_future()

    def look(state):
        if state.connected == connected and not told.done():
            told.set_result(state)

    cancel = connector.on_state(look)
    try:
        return await told
    finally:
        cancel()


def test_it_is_a_connector(place):
    assert isinstance(place.connector(), Connector)


# Messages.


async def test_a_message_reaches_all_subscribers_including_its_publisher(connectors):
    one, other = await connectors(), await connectors()
    inboxes = [Inbox(), Inbox(), Inbox()]
    await one.subscribe("a/b", inboxes[0])
    await other.subscribe("a/+", inboxes[1])
    await other.subscribe("other", inboxes[2])

    one.publish("a/b", b"\x00\xff")

    assert [await inbox.next() for inbox in inboxes[:2]] == [("a/b", b"\x00\xff")] * 2
    one.publish("other", b"end")
    assert await inboxes[2].next() == ("other", b"end")


async def test_a_message_is_delivered_by_the_loop_and_not_inside_of_publish(connectors):
    connector = await connectors()
    inbox = Inbox()
    await connector.subscribe("a", inbox)

    connector.publish("a", b"")

    assert inbox.is_empty
    assert await inbox.next() == ("a", b"")


async def test_messages_to_a_topic_arrive_in_the_order_of_publishing(connectors):
    one, other = await connectors(), await connectors()
    inbox = Inbox()
    await other.subscribe("numbers/#", inbox)
    for number in range(300):
        one.publish(f"numbers/{number % 3}", str(number).encode())

    arrived = await inbox.take(300)

    for topic in range(3):
        numbers = [int(payload) for name, payload in arrived if name == f"numbers/{topic}"]
        assert numbers == list(range(topic, 300, 3))


async def test_a_large_payload_arrives_whole(connectors):
    one, other = await connectors(), await connectors()
    inbox = Inbox()
    await other.subscribe("large", inbox)
    payload = bytes(range(256)) * 20_000

    one.publish("large", payload)

    assert await inbox.next() == ("large", payload)


async def test_handlers_of_one_pattern_and_of_overlapping_ones_are_all_called(connectors):
    one, other = await connectors(), await connectors()
    inboxes = [Inbox() for _ in range(4)]
    for pattern, inbox in zip(["a/#", "a/+", "+/b", "a/#"], inboxes, strict=True):
        await other.subscribe(pattern, inbox)

    one.publish("a/b", b"1")

    assert [await inbox.next() for inbox in inboxes] == [("a/b", b"1")] * 4


async def test_a_raising_handler_stops_no_other_and_is_logged_at_its_1st_and_10th_failure(
    connectors, caplog
):
    connector = await connectors()
    calls, inbox = [], Inbox()

    def broken(topic, payload):
        calls.append(payload)
        raise ValueError("broken handler")

    await connector.subscribe("a", broken)
    await connector.subscribe("a", inbox)
    for number in range(12):
        connector.publish("a", b"%d" % number)

    await inbox.take(12)
    assert calls == [b"%d" % number for number in range(12)]
    assert connector.state.connected
    first, tenth = [record.message for record in caplog.records if record.exc_info]
    assert "failure no. 1 " in first
    assert "failure no. 10 " in tenth


async def test_handlers_run_in_the_loops_thread(connectors):
    connector = await connectors()
    threads = asyncio.Queue()
    await connector.subscribe("a", lambda *_: threads.put_nowait(threading.get_ident()))

    await asyncio.to_thread(connector.publish, "a", b"")

    assert await threads.get() == threading.get_ident()


async def test_a_handler_may_publish(connectors):
    connector = await connectors()
    inbox = Inbox()
    await connector.subscribe("ping", lambda _, payload: connector.publish("pong", payload))
    await connector.subscribe("pong", inbox)

    connector.publish("ping", b"1")

    assert await inbox.next() == ("pong", b"1")


async def test_any_thread_may_publish_and_keeps_its_order(connectors):
    one, other = await connectors(), await connectors()
    inbox = Inbox()
    await other.subscribe("threads/+", inbox)
    together = threading.Barrier(4)

    def work(name):
        together.wait(10)
        for number in range(100):
            one.publish(f"threads/{name}", b"%d" % number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()

    arrived = await inbox.take(400)

    for thread in threads:
        await asyncio.to_thread(thread.join)
    for name in range(4):
        own = [int(payload) for topic, payload in arrived if topic == f"threads/{name}"]
        assert own == list(range(100))


# Retained messages.


async def test_a_late_subscriber_gets_the_latest_retained_message_of_each_topic(connectors):
    one, other = await connectors(), await connectors()
    early, late = Inbox(), Inbox()
    await one.subscribe("state/#", early)
    for topic, payload in [("state/a", b"1"), ("state/b", b"2"), ("state/a", b"3")]:
        one.publish(topic, payload, retain=True)
    one.publish("state/c", b"not retained")
    assert [payload for _, payload in await early.take(4)] == [b"1", b"2", b"3", b"not retained"]

    await other.subscribe("state/#", late)
    other.publish("state/end", b"end")

    arrived = await late.take(3)
    assert {("state/a", b"3"), ("state/b", b"2"), ("state/end", b"end")} == set(arrived)


async def test_a_second_handler_of_a_pattern_gets_retained_messages_too(connectors):
    connector = await connectors()
    first, second = Inbox(), Inbox()
    await connector.subscribe("state", first)
    connector.publish("state", b"on", retain=True)
    assert await first.next() == ("state", b"on")

    await connector.subscribe("state", second)

    assert await second.next() == ("state", b"on")


async def test_an_empty_retained_message_makes_the_broker_forget(connectors):
    one, other = await connectors(), await connectors()
    early, late = Inbox(), Inbox()
    await one.subscribe("state", early)
    one.publish("state", b"on", retain=True)
    one.publish("state", b"", retain=True)
    assert await early.take(2) == [("state", b"on"), ("state", b"")]

    await other.subscribe("state", late)
    other.publish("state", b"end")

    assert await late.next() == ("state", b"end")


# Subscriptions.


async def test_an_ended_subscription_gets_no_messages_and_the_others_go_on(connectors):
    connector = await connectors()
    first, second = Inbox(), Inbox()
    cancel = await connector.subscribe("a", first)
    await connector.subscribe("a", second)

    connector.publish("a", b"1")
    assert [await first.next(), await second.next()] == [("a", b"1")] * 2
    cancel()
    cancel()
    connector.publish("a", b"2")

    assert await second.next() == ("a", b"2")
    assert first.is_empty


async def test_a_pattern_can_be_subscribed_to_again(connectors):
    one, other = await connectors(), await connectors()
    first, second = Inbox(), Inbox()
    cancel = await other.subscribe("a", first)
    cancel()
    await other.subscribe("a", second)

    one.publish("a", b"1")

    assert await second.next() == ("a", b"1")
    assert first.is_empty


@pytest.mark.parametrize("pattern", ["", "a/#/b", "a+", "a/b#", 3, "a\0", "$share/group/a"])
async def test_a_pattern_that_cannot_be_is_refused(connectors, pattern):
    connector = await connectors()

    with pytest.raises(cs.errors.ArgumentError, match="pattern"):
        await connector.subscribe(pattern, Inbox())


async def test_a_coroutine_function_is_refused_as_a_handler(connectors):
    connector = await connectors()

    async def handle(topic, payload): ...

    with pytest.raises(cs.errors.ArgumentError, match="coroutine function"):
        await connector.subscribe("a", handle)
    with pytest.raises(cs.errors.ArgumentError, match="got 3"):
        await connector.subscribe("a", 3)
    with pytest.raises(cs.errors.ArgumentError, match="coroutine function"):
        connector.on_state(handle)
    with pytest.raises(cs.errors.ArgumentError, match="got 3"):
        connector.on_state(3)


@pytest.mark.parametrize(
    ("topic", "payload", "retain", "told"),
    [
        ("", b"", False, "at least one character"),
        ("a/+", b"", False, "wildcard"),
        ("#", b"", False, "wildcard"),
        ("a\n", b"", False, r"U\+000A at index 1"),
        (b"a", b"", False, "a topic must be a str"),
        (["a"], b"", False, "a topic must be a str"),
        ("a", "text", False, r"\.encode\(\)"),
        ("a", bytearray(b"x"), False, "must be bytes"),
        ("a", None, False, "must be bytes"),
        ("a", b"", 1, "retain must be True or False"),
    ],
)
async def test_publish_refuses_invalid_topics_payloads_and_flags(
    place, topic, payload, retain, told
):
    connector = place.connector()

    with pytest.raises(cs.errors.ArgumentError, match=told):
        connector.publish(topic, payload, retain=retain)
    with pytest.raises(cs.errors.ArgumentError, match=told):
        place.connector(will=Message(topic, payload, retain))


# The life of a connection.


async def test_a_connector_reports_its_state(place):
    connector = place.connector()
    states = []
    assert connector.state == ConnectionState(False, "connect() was not called yet")
    cancel = connector.on_state(states.append)

    await connector.connect()
    await connector.connect()
    assert connector.state == ConnectionState(True)
    await connector.disconnect()
    await connector.disconnect()

    closed = ConnectionState(False, "disconnect() was called")
    assert connector.state == closed
    assert states == [ConnectionState(True), closed]
    cancel()
    async with connector:
        assert connector.state.connected
    assert len(states) == 2


async def test_a_raising_state_handler_does_not_disturb_the_others(place, caplog):
    connector = place.connector()
    states = []

    def broken(state):
        raise ValueError("broken watcher")

    connector.on_state(broken)
    connector.on_state(states.append)
    async with connector:
        pass

    assert [state.connected for state in states] == [True, False]
    assert [record.exc_info[1].args for record in caplog.records] == [("broken watcher",)] * 2


async def test_disconnect_leaves_no_task_and_calls_no_handler_any_more(place):
    connector, inbox = place.connector(), Inbox()
    async with connector:
        await connector.subscribe("a", inbox)
        connector.publish("a", b"1")
        await inbox.next()
        connector.publish("a", b"2")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    arrived = inbox._queue.qsize()

    await asyncio.sleep(0)
    assert inbox._queue.qsize() == arrived


async def test_messages_published_just_before_disconnect_are_sent(place, connectors):
    other, inbox = await connectors(), Inbox()
    await other.subscribe("a", inbox)
    async with place.connector() as connector:
        for number in range(50):
            connector.publish("a", b"%d" % number)

    assert await inbox.take(50) == [("a", b"%d" % number) for number in range(50)]
    assert connector.dropped == 0


async def test_a_connector_can_connect_again_with_its_subscriptions(place, connectors):
    connector, inbox = place.connector(), Inbox()
    await connector.subscribe("a", inbox)
    for number in range(3):
        async with connector:
            connector.publish("a", b"%d" % number)
            assert await inbox.next() == ("a", b"%d" % number)


async def test_messages_published_before_connect_are_sent_on_connect(place, connectors):
    other, inbox = await connectors(), Inbox()
    await other.subscribe("a", inbox)
    connector = place.connector()
    connector.publish("a", b"1")
    connector.publish("a", b"2")

    async with connector:
        assert await inbox.take(2) == [("a", b"1"), ("a", b"2")]


async def test_a_connector_belongs_to_the_loop_that_connected_it(connectors):
    connector = await connectors()

    def elsewhere(call):
        async def main():
            await call()

        return asyncio.to_thread(asyncio.run, main())

    for call in (
        connector.connect,
        connector.disconnect,
        lambda: connector.subscribe("a", Inbox()),
    ):
        with pytest.raises(cs.errors.ConnectorError, match="another event loop"):
            await elsewhere(call)
    assert connector.state.connected


# When the connection is lost.


async def test_connect_raises_without_a_broker_and_leaves_no_task_running(place):
    await place.stop()
    connector = place.connector()

    with pytest.raises(cs.errors.ConnectorError, match=r"^cannot connect") as caught:
        await connector.connect()

    assert not connector.state.connected
    assert connector.state.reason in str(caught.value)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await connector.disconnect()
    await place.start()
    async with connector:
        assert connector.state.connected


async def test_without_waiting_a_connector_goes_on_trying(place):
    await place.stop()
    connector = place.connector()

    await connector.connect(wait=False)
    await connector.connect(wait=False)
    assert not connector.state.connected
    await place.start()
    await becomes(connector, True)
    await connector.disconnect()


async def test_disconnect_ends_the_attempts(place):
    await place.stop()
    connector = place.connector()
    await connector.connect(wait=False)

    await connector.disconnect()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert connector.state.reason == "disconnect() was called"


async def test_a_lost_broker_is_told_and_raises_nowhere(place, connectors):
    connector = await connectors()

    await place.stop()
    state = await becomes(connector, False)
    connector.publish("a", b"1")
    cancel = await connector.subscribe("a", Inbox())
    cancel()

    assert state.reason
    assert not state.connected


async def test_a_reconnect_restores_subscriptions_and_sends_queued_messages(place, connectors):
    connector = await connectors()
    before, during = Inbox(), Inbox()
    await connector.subscribe("before/#", before)

    await place.stop()
    await becomes(connector, False)
    await connector.subscribe("during/#", during)
    for number in range(50):
        connector.publish("before/a", b"%d" % number)
        connector.publish("during/a", b"%d" % number)
    await place.start()

    for inbox in (before, during):
        assert [int(payload) for _, payload in await inbox.take(50)] == list(range(50))
    assert connector.dropped == 0


async def test_an_earlier_subscriber_gets_all_queued_messages(place, connectors):
    """The publisher connects last, so that nothing is sent before there is a subscription."""
    other, inbox = await connectors(), Inbox()
    await other.subscribe("a", inbox)
    await place.stop()
    await becomes(other, False)
    await place.start()
    await becomes(other, True)
    one = place.connector()
    for number in range(100):
        one.publish("a", b"%d" % number)

    async with one:
        assert [int(payload) for _, payload in await inbox.take(100)] == list(range(100))


async def test_a_full_queue_drops_the_oldest_and_counts_them(place, connectors):
    other, inbox = await connectors(), Inbox()
    await other.subscribe("a", inbox)
    connector = place.connector(max_queued=3)
    for number in range(10):
        connector.publish("a", b"%d" % number)
    assert connector.dropped == 7

    async with connector:
        assert [payload for _, payload in await inbox.take(3)] == [b"7", b"8", b"9"]
    assert connector.dropped == 7


async def test_messages_still_queued_at_disconnect_are_dropped_and_counted(place, connectors):
    connector = await connectors()
    await place.stop()
    await becomes(connector, False)
    connector.publish("a", b"1")
    connector.publish("a", b"2")

    await connector.disconnect()

    assert connector.dropped == 2


async def test_retained_messages_come_again_after_a_reconnect(place, connectors):
    one, other = await connectors(), await connectors()
    inbox = Inbox()
    await other.subscribe("state", inbox)
    one.publish("state", b"on", retain=True)
    assert await inbox.next() == ("state", b"on")

    lost = asyncio.ensure_future(becomes(other, False))
    await asyncio.sleep(0)
    await place.lose(other)
    await lost

    assert await inbox.next() == ("state", b"on")


async def test_a_last_will_is_published_when_the_connection_is_lost(place, connectors):
    other, inbox = await connectors(), Inbox()
    await other.subscribe("engines/#", inbox)
    will = Message("engines/1", b"lost", retain=True)
    one = await connectors(will=will)

    await place.lose(one)

    assert await inbox.next() == ("engines/1", b"lost")
    late = Inbox()
    await other.subscribe("engines/1", late)
    assert await late.next() == ("engines/1", b"lost")


async def test_a_disconnect_publishes_no_last_will(place, connectors):
    other, inbox = await connectors(), Inbox()
    await other.subscribe("engines/#", inbox)
    async with place.connector(will=Message("engines/1", b"lost")):
        pass

    other.publish("engines/end", b"end")

    assert await inbox.next() == ("engines/end", b"end")


async def test_connectors_recover_from_many_losses_in_a_row(place, connectors, caplog):
    one, other = await connectors(), await connectors()
    inbox = Inbox()
    await other.subscribe("a", inbox)
    for number in range(3):
        await place.stop()
        await asyncio.gather(becomes(one, False), becomes(other, False))
        await place.start()
        await asyncio.gather(becomes(one, True), becomes(other, True))
        one.publish("a", b"%d" % number)
        assert await inbox.next() == ("a", b"%d" % number)
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


@pytest.mark.parametrize("will", ["text", ("a", b"x", True), 3])
def test_a_will_must_be_a_message(place, will):
    with pytest.raises(cs.errors.ArgumentError, match="will must be a Message"):
        place.connector(will=will)


@pytest.mark.parametrize("limit", [0, -1, 1.5, None, "many", True])
def test_max_queued_must_be_a_count_of_messages(place, limit):
    with pytest.raises(cs.errors.ArgumentError, match="max_queued must be an int ≥ 1"):
        place.connector(max_queued=limit)
