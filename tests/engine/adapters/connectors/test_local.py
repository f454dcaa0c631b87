"""LocalConnector: what its contract does not say: hubs that move, are killed or stopped; access."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

import cascade as cs
from cascade.adapters.connectors import LocalConnector, Message, local_folder, local_hub
from cascade.adapters.connectors.local_frames import Kind, as_json, frame, read_frame
from cascade.spec.protocols import ConnectionState

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets")

GREETING = b'{"version": 1, "name": "x", "process": "x", "will": null}'

#: Connects first, so it has the hub; says so, and then waits.
HOLDER = """
import asyncio, sys
from cascade.adapters.connectors import LocalConnector, Message

async def main():
    will = Message("engines/holder", b"lost", retain=True)
    async with LocalConnector(sys.argv[1], will=will) as connector:
        connector.publish("kept", b"by the hub", retain=True)
        told = asyncio.Event()
        await connector.subscribe("kept", lambda *_: told.set())
        await told.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "folder"


@pytest.fixture
def holder(folder):
    """A process that has the hub."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


class Inbox(asyncio.Queue):
    def __call__(self, topic, payload):
        self.put_nowait((topic, payload))


async def becomes(connector, connected):
    changed = asyncio.Event()
    cancel = connector.on_state(lambda _: changed.set())
    while connector.state.connected != connected:
        await changed.wait()
        changed.clear()
    cancel()
    return connector.state


async def test_the_log_of_a_connection_has_its_present_state(folder, caplog):
    caplog.set_level(logging.INFO, "cascade")
    async with LocalConnector(folder) as connector:
        assert caplog.messages == [f"opened {connector!r}"]
        assert caplog.messages[0].endswith(": connected>")


async def test_the_hub_moves_without_a_loss_when_its_connector_leaves(folder, caplog):
    first = LocalConnector(folder)
    await first.connect()
    async with LocalConnector(folder) as second, LocalConnector(folder) as third:
        states, inbox = [], Inbox()
        second.on_state(states.append)
        third.on_state(states.append)
        await third.subscribe("numbers", inbox)
        first.publish("state", b"on", retain=True)
        for number in range(200):
            second.publish("numbers", b"%d" % number)
            if number == 100:
                await first.disconnect()
        arrived = [await inbox.get() for _ in range(200)]
        assert [int(payload) for _, payload in arrived] == list(range(200))
        late = Inbox()
        await second.subscribe("state", late)
        assert await late.get() == ("state", b"on")
        assert states == []
    assert not caplog.records


async def test_a_killed_hub_has_a_successor_that_knows_its_retained_messages(
    folder, holder, monkeypatch
):
    monkeypatch.setattr(local_hub, "_GRACE", 0.2)
    async with LocalConnector(folder) as connector, LocalConnector(folder) as other:
        assert "hub.sock" in os.listdir(folder)
        holder.send_signal(signal.SIGKILL)
        await asyncio.gather(becomes(connector, False), becomes(other, False))
        await asyncio.gather(becomes(connector, True), becomes(other, True))
        inbox = Inbox()
        await connector.subscribe("kept", inbox)
        assert await inbox.get() == ("kept", b"by the hub")
        await other.subscribe("engines/+", inbox)
        assert await inbox.get() == ("engines/holder", b"lost")  # it did not come back


async def test_a_stopped_hub_is_a_lost_connection_until_it_goes_on(folder, holder):
    async with LocalConnector(folder, timeout=0.3) as connector:
        holder.send_signal(signal.SIGSTOP)
        state = await becomes(connector, False)
        assert f"process {holder.pid}, does not answer" in state.reason
        newcomer = LocalConnector(folder, timeout=0.1)
        with pytest.raises(cs.errors.ConnectorError, match="is it stopped"):
            await newcomer.connect()
        holder.send_signal(signal.SIGCONT)
        await becomes(connector, True)
        inbox = Inbox()
        await connector.subscribe("a", inbox)
        connector.publish("a", b"1")
        assert await inbox.get() == ("a", b"1")


async def test_retained_messages_stay_when_the_last_one_leaves(folder):
    async with LocalConnector(folder) as connector:
        connector.publish("state", b"on", retain=True)
        connector.publish("other", b"on", retain=True)
        connector.publish("other", b"", retain=True)
    async with LocalConnector(folder) as connector:
        inbox = Inbox()
        await connector.subscribe("#", inbox)
        connector.publish("end", b"")
        assert [await inbox.get() for _ in range(2)] == [("state", b"on"), ("end", b"")]


async def test_the_will_of_a_process_that_was_killed_alone_waits_for_the_next_one(folder, holder):
    holder.kill()
    holder.wait()
    async with LocalConnector(folder) as connector:
        inbox = Inbox()
        await connector.subscribe("engines/holder", inbox)
        assert await inbox.get() == ("engines/holder", b"lost")
        assert len(os.listdir(folder / "members")) == 1  # its own


async def test_many_that_connect_at_once_have_one_hub(folder):
    connectors = [LocalConnector(folder) for _ in range(8)]
    await asyncio.gather(*(connector.connect() for connector in connectors))
    inbox = Inbox()
    for connector in connectors:
        await connector.subscribe("a", inbox)
    connectors[3].publish("a", b"1")
    assert [await inbox.get() for _ in connectors] == [("a", b"1")] * 8
    assert sum(connector._hub is not None for connector in connectors) == 1
    for connector in connectors:
        await connector.disconnect()
    assert not (folder / "hub.sock").exists()


async def test_a_forked_child_does_not_keep_the_place_of_the_hub(folder):
    async with LocalConnector(folder) as first:
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            await first.disconnect()
            async with LocalConnector(folder) as second:
                assert second.state == ConnectionState(True)
                assert second._hub is not None
        finally:
            os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, child, 0)


# -- access and errors ------------------------------------------------------------------------


async def test_the_folder_is_closed_to_other_users(folder):
    async with LocalConnector(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: (path.mkdir(), path.chmod(0o755)), "its mode is 755"),
        (lambda path: path.write_text(""), "is no folder"),
        (lambda path: path.symlink_to(path.parent), "is no folder"),
    ],
)
async def test_a_folder_that_others_may_enter_is_refused(folder, make, told):
    make(folder)
    with pytest.raises(cs.errors.ConnectorError, match=rf"^cannot connect: .*{told}"):
        await LocalConnector(folder).connect()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs to be run by root, who may act as another user",
)
async def test_a_folder_of_another_user_is_refused(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(cs.errors.ConnectorError, match="belongs to another user, number 12345"):
        await LocalConnector(folder).connect()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"folder": 3}, "folder must be a path, but is 3"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "long"}, "timeout"),
    ],
)
def test_arguments_are_checked(options, told):
    with pytest.raises(cs.errors.ArgumentError, match=told):
        LocalConnector(**options)


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(cs.errors.ConnectorError, match="too long for a socket"):
        LocalConnector(tmp_path / ("long" * 30))


def test_the_default_folder_is_private_to_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert local_folder.default_folder() == tmp_path / "cascade"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert local_folder.default_folder().name == f"cascade-{os.getuid()}"


async def test_a_process_of_another_version_is_refused(folder):
    async with LocalConnector(folder):
        reader, writer = await asyncio.open_unix_connection(folder / "hub.sock")
        hello = {"version": 99, "name": "x", "process": "x"}
        writer.write(frame(Kind.HELLO, json.dumps(hello).encode()))
        kind, body = await read_frame(reader)
        assert kind is Kind.REFUSED
        assert b"of another version of Cascade" in body
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(Kind.HELLO, b"[]"),
        frame(Kind.HELLO, b'{"version": 1}'),
        frame(Kind.HELLO, b'{"version": 1, "name": "x", "process": "x", "will": 3}'),
        frame(Kind.HELLO, GREETING) + frame(Kind.TAKEN),
        frame(Kind.HELLO, GREETING) + frame(Kind.PUBLISH),
        frame(Kind.PUBLISH, b"\x00\x00\x01a"),
        b"\xff\xff\xff\xff\x01",
        b"\x00\x00\x00\x01\x63",
    ],
)
async def test_a_connection_that_sends_something_else_is_closed(folder, data):
    async with LocalConnector(folder) as connector:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(raw, str(folder / "hub.sock"))
            await loop.sock_sendall(raw, data)
            while await loop.sock_recv(raw, 1000):
                pass
        inbox = Inbox()
        await connector.subscribe("a", inbox)
        connector.publish("a", b"1")
        assert await inbox.get() == ("a", b"1")


async def test_a_member_that_reads_nothing_is_cut_off(folder, monkeypatch):
    monkeypatch.setattr(local_hub, "MAX_BYTES_QUEUED", 1_000_000)
    async with LocalConnector(folder) as connector:
        reader, writer = await asyncio.open_unix_connection(folder / "hub.sock")
        will = as_json(Message("gone", b"1"))
        hello = {"version": 1, "name": "slow", "process": "slow", "will": will}
        writer.write(frame(Kind.HELLO, json.dumps(hello).encode()))
        writer.write(frame(Kind.SUBSCRIBE, b"flood"))
        while (await read_frame(reader))[0] is not Kind.DONE:
            pass
        inbox = Inbox()
        await connector.subscribe("gone", inbox)
        writer.transport.pause_reading()
        for _ in range(100):
            connector.publish("flood", bytes(100_000))
        assert await inbox.get() == ("gone", b"1")
        writer.transport.abort()
