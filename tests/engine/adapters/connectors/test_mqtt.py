"""MqttConnector: faults that only a network causes. The rest is in tests/contracts."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import subprocess
import sys

import pytest
from tests.services import free_port, running_mosquitto

import cascade as cs
from cascade.adapters.connectors import MqttConnector, MqttSettings, mqtt
from cascade.runtime.clock import run_virtually

SECRET = "hunter2"
CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14


class Peer:
    """A server that answers MQTT packets as a test says, by their type; no answer is one too."""

    def __init__(self, **answers):
        self._answers = {getattr(sys.modules[__name__], n.upper()): a for n, a in answers.items()}
        self.packets = asyncio.Queue()
        self.gone = asyncio.Event()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readexactly(1))[0] >> 4
                size = shift = 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    size |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = await reader.readexactly(size)
                self.packets.put_nowait((head, body))
                answer = self._answers.get(head)
                if answer is hang_up:
                    break
                if answer is not None:
                    writer.write(answer(body))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()
            self.gone.set()

    async def next(self, wanted):
        while (packet := await self.packets.get())[0] != wanted:
            pass
        return packet[1]


def hang_up(body): ...


def welcome(body):
    return b"\x20\x02\x00\x00"


def confirm_publish(body):
    size = int.from_bytes(body[:2])
    return b"\x40\x02" + body[2 + size : 4 + size]


def refuse_subscription(body):
    return b"\x90\x03" + body[:2] + b"\x80"


def settings(url, **others):
    return MqttSettings(
        **{"url": url, "reconnect_min": 0.01, "reconnect_max": 0.05, "timeout": 5.0, **others}
    )


@pytest.fixture(autouse=True)
async def nothing_is_left():
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def heard(connector, topic, retain=False):
    """Wait for the next message to ``topic``."""
    told = asyncio.get_running_loop().create_future()
    cancel = await connector.subscribe(
        topic, lambda _, payload: told.done() or told.set_result(payload)
    )
    try:
        return await told
    finally:
        cancel()


# A broker that does not answer.


async def test_a_server_that_says_nothing_is_given_up_and_its_socket_closed():
    async with Peer() as peer:
        connector = MqttConnector(settings(peer.url, timeout=0.2))

        with pytest.raises(cs.errors.ConnectorError, match=r"no answer within 0\.2 s; is it MQTT"):
            await connector.connect()

        assert asyncio.all_tasks() - {asyncio.current_task()} <= served(peer)
        await peer.gone.wait()


def served(peer):
    """The tasks of a Peer's connections, which end when the other side is gone."""
    return {task for task in asyncio.all_tasks() if "Peer._serve" in repr(task.get_coro())}


async def test_disconnect_while_connecting_waits_for_the_attempt_and_leaves_nothing():
    async with Peer() as peer:
        connector = MqttConnector(settings(peer.url, timeout=0.2))
        await connector.connect(wait=False)
        await peer.next(CONNECT)

        await connector.disconnect()

        assert connector.state.reason == "disconnect() was called"
        assert asyncio.all_tasks() - {asyncio.current_task()} <= served(peer)
        await peer.gone.wait()


async def test_connect_can_be_cancelled_and_leaves_nothing():
    async with Peer() as peer:
        connector = MqttConnector(settings(peer.url, timeout=0.2))
        connecting = asyncio.create_task(connector.connect())
        await peer.next(CONNECT)

        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

        assert asyncio.all_tasks() - {asyncio.current_task()} <= served(peer)
        await peer.gone.wait()


async def test_disconnect_ends_a_connect_that_somebody_waits_for():
    async with Peer() as peer:
        connector = MqttConnector(settings(peer.url, timeout=0.2))
        connecting = asyncio.create_task(connector.connect())
        await peer.next(CONNECT)

        await connector.disconnect()

        with pytest.raises(cs.errors.ConnectorError, match=r"^disconnect\(\) was called$"):
            await connecting


async def test_a_disconnect_that_is_cancelled_goes_on_and_connect_works_after_it(mosquitto):
    connector = MqttConnector(settings(mosquitto.url))
    await connector.connect()
    closed = asyncio.Event()
    connector.on_state(lambda state: state.connected or closed.set())
    disconnecting = asyncio.create_task(connector.disconnect())
    await asyncio.sleep(0)
    disconnecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await disconnecting
    await closed.wait()

    await connector.disconnect()
    async with connector:
        assert connector.state.connected


async def test_a_broker_that_answers_nothing_any_more_is_left_and_asked_anew():
    async with Peer(connect=welcome) as peer:  # and no answer to published messages
        connector = MqttConnector(settings(peer.url, timeout=0.1))
        async with connector:
            connector.publish("a", b"1")
            first = await peer.next(PUBLISH)
            await peer.next(CONNECT)
            again = await peer.next(PUBLISH)
    assert first[:3] == again[:3] == b"\x00\x01a"


async def test_a_host_that_cannot_be_is_an_error_of_connect():
    connector = MqttConnector(settings("mqtt://" + "x" * 70 + ".example"))

    with pytest.raises(
        cs.errors.ConnectorError, match=r"^cannot connect to the broker at mqtt://xxx"
    ):
        await connector.connect()


class LoopOfWindows(asyncio.SelectorEventLoop):
    """As the default one there, it has no readers."""

    add_reader = asyncio.AbstractEventLoop.add_reader


def test_an_event_loop_that_cannot_watch_sockets_is_named_with_one_that_can():
    async def main():
        await MqttConnector(MqttSettings(url="mqtt://broker")).connect()

    runner, refused = asyncio.Runner(loop_factory=LoopOfWindows), cs.errors.ConnectorError
    with runner, pytest.raises(refused) as caught:
        runner.run(main())
    assert str(caught.value) == (
        "MqttConnector needs an event loop that watches sockets, which LoopOfWindows, the default "
        "of Windows, does not\n"
        "    right:  with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:\n"
        "                runner.run(main())"
    )


def test_pauses_between_attempts_double_up_to_a_bound_and_are_not_all_alike(monkeypatch):
    attempts, enough = [], asyncio.Event()

    async def fail(*_):
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) == 40:
            enough.set()
        raise cs.errors.ConnectorError("nobody is there")

    async def main():
        connector = MqttConnector(MqttSettings(url="mqtt://broker"))
        await connector.connect(wait=False)
        await enough.wait()
        await connector.disconnect()

    monkeypatch.setattr(mqtt, "open_client", fail)
    run_virtually(main())

    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    expected = [min(0.5 * 2**number, 30.0) for number in range(len(pauses))]
    for pause, least in zip(pauses, expected, strict=True):
        assert least - 1e-6 <= pause <= least * 1.5 + 1e-6
    assert len({round(pause, 6) for pause in pauses[-10:]}) == 10


async def test_errors_of_the_library_do_not_end_the_attempts(monkeypatch, caplog):
    attempts = asyncio.Queue()

    async def fail(*_):
        attempts.put_nowait(None)
        raise RuntimeError("a fault of the library")

    monkeypatch.setattr(mqtt, "open_client", fail)
    connector = MqttConnector(settings("mqtt://broker"))
    await connector.connect(wait=False)
    for _ in range(3):
        await attempts.get()
    await connector.disconnect()

    assert "failed unexpectedly, and connects again" in caplog.text


# A broker that refuses.


async def test_a_message_that_the_broker_closes_over_does_not_hold_up_the_others(tmp_path, caplog):
    lines = ["allow_anonymous true", "max_packet_size 2000"]
    with running_mosquitto(tmp_path, *lines) as broker:
        async with MqttConnector(settings(broker.url)) as other:
            arrived = asyncio.Queue()
            await other.subscribe("a", lambda _, payload: arrived.put_nowait(payload))
            connector = MqttConnector(settings(broker.url))
            for payload in (b"1", b"x" * 5000, b"2", b"3"):
                connector.publish("a", payload)
            async with connector:
                found = []
                while not found or found[-1] != b"3":
                    found.append(await arrived.get())

    assert list(dict.fromkeys(found)) == [b"1", b"2", b"3"]
    assert connector.dropped == 1
    assert "a message to 'a' is dropped" in caplog.text


async def test_a_subscription_that_the_broker_refuses_is_an_error_and_forgotten(caplog):
    async with Peer(connect=welcome, subscribe=refuse_subscription) as peer:
        connector = MqttConnector(settings(peer.url))
        async with connector:
            with pytest.raises(
                cs.errors.ConnectorError, match=r"^the broker refuses the subscription to 'a/\+'$"
            ):
                await connector.subscribe("a/+", lambda *_: None)
        await connector.subscribe("kept", lambda *_: None)
        async with connector:
            await peer.next(SUBSCRIBE)
            assert b"kept" in await peer.next(SUBSCRIBE)
            assert connector.state.connected
    assert "refuses the subscription to 'kept'" in caplog.text


async def test_a_subscription_that_is_cancelled_is_forgotten():
    async with Peer(connect=welcome) as peer:  # and no word to the subscription
        connector = MqttConnector(settings(peer.url, timeout=0.2))
        async with connector:
            subscribing = asyncio.create_task(connector.subscribe("a", lambda *_: None))
            await peer.next(SUBSCRIBE)
            subscribing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await subscribing
            assert connector._subscriptions.patterns() == []


# Quality of service.


async def test_with_qos_1_unanswered_messages_are_sent_again():
    async with Peer(connect=welcome, publish=hang_up) as peer:
        connector = MqttConnector(settings(peer.url))
        async with connector:
            connector.publish("a", b"1")
            await peer.next(PUBLISH)
            peer._answers[PUBLISH] = confirm_publish
            assert (await peer.next(PUBLISH)).endswith(b"1")
    assert connector.dropped == 0


async def test_with_qos_0_a_message_is_sent_once_without_a_number():
    async with Peer(connect=welcome, publish=hang_up) as peer:
        async with MqttConnector(settings(peer.url, qos=0)) as connector:
            connector.publish("a", b"1")
            assert await peer.next(PUBLISH) == b"\x00\x01a1"
            await peer.next(CONNECT)
        assert not [packet for packet in list(peer.packets._queue) if packet[0] == PUBLISH]


# Credentials and TLS.


@pytest.fixture
def passwords(tmp_path):
    """The password file that lets ``me`` in, with SECRET."""
    path = tmp_path / "passwords"
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs mosquitto_passwd: apt-get install mosquitto")
    subprocess.run([program, "-b", "-c", str(path), "me", SECRET], check=True, capture_output=True)
    return ["allow_anonymous false", f"password_file {path}"]


async def test_credentials_open_the_door_from_a_file_too(tmp_path, passwords):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n", encoding="utf-8")
    with running_mosquitto(tmp_path, *passwords) as broker:
        for given in ({"password": SECRET}, {"password_file": str(secret)}):
            async with MqttConnector(settings(broker.url, username="me", **given)) as connector:
                assert connector.state.connected


async def test_a_wrong_password_is_told_and_shown_nowhere(tmp_path, passwords, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "cascade.connectors.aiomqtt")
    wrong = settings("mqtt://nowhere", username="me", password=SECRET + "x")
    with running_mosquitto(tmp_path, *passwords) as broker:
        connector = MqttConnector(
            settings(broker.url, username=wrong.username, password=wrong.password)
        )
        with pytest.raises(cs.errors.ConnectorError, match=r"(?i)not authori[sz]ed") as caught:
            await connector.connect()
        await connector.connect(wait=False)
        await connector.disconnect()

    assert "CONNECT" in caplog.text  # the library's lines are among them
    assert SECRET not in f"{caplog.text} {caught.value!r} {caught.value.__cause__!r} {connector!r}"


async def assert_no_connection(told, url, **others):
    with pytest.raises(cs.errors.ConnectorError, match=told):
        await MqttConnector(settings(url, **others)).connect()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs openssl: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    what = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    whose = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    where = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([program, *what, *whose, *where], check=True, capture_output=True)
    return cert, key


async def test_tls_with_a_certificate_that_the_ca_file_vouches_for(tmp_path, certificate):
    with running_mosquitto(tmp_path, tls=certificate) as broker:
        async with MqttConnector(settings(broker.url, ca_file=str(certificate[0]))) as connector:
            connector.publish("a", b"1", retain=True)
            assert await heard(connector, "a") == b"1"


async def test_tls_with_an_untrusted_certificate_is_refused(tmp_path, certificate):
    with running_mosquitto(tmp_path, tls=certificate) as broker:
        await assert_no_connection(r"certificate verify failed", broker.url)


async def test_tls_for_another_name_is_refused(tmp_path, certificate):
    with running_mosquitto(tmp_path, tls=certificate) as broker:
        url = broker.url.replace("127.0.0.1", "localhost")
        await assert_no_connection(r"verify failed", url, ca_file=str(certificate[0]))


async def test_tls_files_that_cannot_be_used_are_told(tmp_path, certificate):
    cert, key = map(str, certificate)
    text = tmp_path / "text"
    text.write_text("no certificate", encoding="utf-8")
    url = f"mqtts://127.0.0.1:{free_port()}"
    for told, files in [
        (r"ca_file '/none' cannot be used: .*No such file", {"ca_file": "/none"}),
        (r"ca_file .* cannot be used", {"ca_file": str(text)}),
        (r"cert_file .* and key_file .* cannot be used", {"cert_file": cert, "key_file": cert}),
        (r"cert_file '/none'", {"cert_file": "/none", "key_file": key}),
    ]:
        await assert_no_connection(told, url, **files)


# Without aiomqtt.


async def test_without_aiomqtt_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    connector = MqttConnector(settings("mqtt://broker"))

    with pytest.raises(cs.errors.ConnectorError, match=r'pip install "cascade-engine\[mqtt\]"'):
        await connector.connect()
    with pytest.raises(cs.errors.ConnectorError, match=r'pip install "cascade-engine\[mqtt\]"'):
        await connector.connect(wait=False)


def test_importing_connectors_does_not_import_aiomqtt():
    code = "import sys, cascade.adapters.connectors; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert not {"aiomqtt", "paho"} & set(result.stdout.split())
