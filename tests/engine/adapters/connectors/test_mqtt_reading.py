"""Bytes from an MQTT broker, cut into pieces at any place."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

import pytest
from tests.engine.adapters.connectors.test_mqtt import Peer, settings, welcome

import cascade as cs
from cascade.adapters.connectors import MqttConnector
from cascade.adapters.connectors.subscriptions import Subscriptions


def length(size):
    found = b""
    while True:
        size, digit = divmod(size, 128)
        found += bytes([digit | (128 if size else 0)])
        if not size:
            return found


def message(topic, payload, qos=0, number=1):
    name = topic.encode()
    body = len(name).to_bytes(2) + name + (number.to_bytes(2) if qos else b"") + payload
    return bytes([0x30 | qos << 1]) + length(len(body)) + body


class Sender(Peer):
    """Accepts a subscription, and then sends the given bytes, piece by piece."""

    def __init__(self, pieces):
        super().__init__(connect=welcome, subscribe=self._send)
        self._pieces = pieces

    def _send(self, body):
        return b"\x90\x03" + body[:2] + b"\x00" + b"".join(self._pieces)


class Dripping(Sender):
    """The same in writes of a few bytes, which arrive as TCP cuts and joins them."""

    async def _serve(self, reader, writer):
        write = writer.write

        def drip(data):
            for piece in self._cut(data):
                write(piece)

        writer.write = drip
        await super()._serve(reader, writer)

    def _cut(self, data):
        chance = random.Random(len(data))
        while data:
            size = chance.randrange(1, 7)
            yield data[:size]
            data = data[size:]


async def received(peer, count):
    async with peer:
        connector = MqttConnector(settings(peer.url))
        arrived = asyncio.Queue()
        async with connector:
            await connector.subscribe("#", lambda *said: arrived.put_nowait(said))
            async with asyncio.timeout(20):
                return [await arrived.get() for _ in range(count)]


@pytest.mark.parametrize("kind", [Sender, Dripping])
async def test_messages_of_all_sizes_and_qualities_arrive_in_their_order(kind):
    sizes = (0, 1, 110, 127, 128, 5_000, 70_000, 3)
    said = [(f"t/{place}é", bytes([place]) * size) for place, size in enumerate(sizes)]
    pieces = [message(*what, qos=place % 2) for place, what in enumerate(said)]

    assert await received(kind(pieces), len(said)) == said


async def test_thousands_at_once_arrive_in_their_order():
    said = [(f"t/{number % 7}", b"%d" % number) for number in range(20_000)]

    assert await received(Sender([message(*what) for what in said]), len(said)) == said


@pytest.mark.parametrize(
    "bad",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five digits
        b"\x30\x03\x00\xff" + b"a",  # a topic that is longer than the packet
    ],
    ids=["length", "topic"],
)
async def test_malformed_bytes_end_the_connection(bad):
    async with Sender([message("t", b"1"), bad]) as peer:
        connector = MqttConnector(settings(peer.url))
        async with connector:
            states = asyncio.Queue()
            connector.on_state(states.put_nowait)
            async with asyncio.timeout(20):
                try:
                    await connector.subscribe("t", lambda *_: None)
                finally:
                    while (await states.get()).connected:
                        pass


def test_handlers_of_a_topic_are_cached_until_subscriptions_change():
    subscriptions = Subscriptions()
    first = subscriptions.add("a/+", print)
    assert subscriptions.matching("a/b") == [first]
    second = subscriptions.add("a/b", print)
    assert subscriptions.matching("a/b") == [first, second]
    subscriptions.remove(first)
    assert subscriptions.matching("a/b") == [second]
    for number in range(5_000):
        assert subscriptions.matching(f"c/{number}") == []
    assert len(subscriptions._known[1]) <= 1_024


async def test_a_broker_that_breaks_off_before_it_answers_leaves_no_error_behind():
    """As one does that expects TLS; asyncio would tell of an exception that nobody retrieved."""

    async def break_off(reader, writer):
        await reader.read(1)
        now = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        writer.transport.abort()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(cs.errors.ConnectorError):
            await MqttConnector(settings(url, timeout=0.2)).connect()
