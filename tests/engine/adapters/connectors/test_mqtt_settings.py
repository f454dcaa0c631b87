"""MqttSettings: from a program, and from the environment; never showing a secret."""

from __future__ import annotations

import traceback

import pytest

import cascade as cs
from cascade.adapters.connectors import MqttConnector, MqttSettings

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "host", "port", "uses_tls"),
    [
        ("mqtt://broker", "broker", 1883, False),
        ("mqtts://broker", "broker", 8883, True),
        ("mqtt://10.0.0.1:1884/", "10.0.0.1", 1884, False),
        ("mqtts://[::1]:99", "::1", 99, True),
    ],
)
def test_a_url_says_where_the_broker_is_and_whether_with_tls(url, host, port, uses_tls):
    settings = MqttSettings(url=url)

    assert (settings.host, settings.port, settings.uses_tls) == (host, port, uses_tls)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"url": 3}, r"url must be a str.* but is 3"),
        ({"url": "broker"}, r"url must be like 'mqtt://host:1883'"),
        ({"url": "http://broker"}, r"url must be like .* but is 'http://broker'"),
        ({"url": "mqtt://"}, r"url must be like"),
        ({"url": "mqtt://broker:0"}, r"url must be like"),
        ({"url": "mqtt://broker:many"}, r"url 'mqtt://broker:many' cannot be read"),
        ({"url": "mqtt://[broker"}, r"cannot be read"),
        ({"url": "mqtt://\0h"}, r"must have no spaces, control .*, but is 'mqtt://"),
        ({"url": "mqtt://bro\tker"}, r"url must have no spaces"),
        ({"url": "mqtt://bro ker"}, r"url must have no spaces"),
        ({"url": "mqtt://broker\n"}, r"url must have no spaces"),
        ({"url": "\x1fmqtt://broker"}, r"url must have no spaces"),
        ({"url": "mqtt://bro\u202eker"}, r"url must have no spaces"),
        ({"url": "mqtt://broker/\0"}, r"url must have no spaces"),
        ({"url": "mqtt://broker", "username": "a\0b"}, r"username must have no control"),
        ({"url": "mqtt://broker", "client_id": "a\nb"}, r"client_id must have no control"),
        ({"url": "mqtts://broker", "ca_file": "a\0b"}, r"ca_file must have no control"),
        ({"url": "mqtt://broker/topic"}, r"has a part after the port"),
        ({"url": "mqtt://broker?a=1"}, r"has a part after the port"),
        ({"username": ""}, r"username must be a str that is not empty, but is '' of type str"),
        ({"client_id": 3}, r"client_id must be a str"),
        ({"username": "me", "password": "a", "password_file": "b"}, r"give one of them"),
        ({"password": "a"}, r"no username"),
        ({"password_file": "a"}, r"no username"),
        ({"ca_file": "ca.pem"}, r"ca_file is for TLS, but url is 'mqtt://broker'; write mqtts://"),
        ({"url": "mqtts://broker", "key_file": "key.pem"}, r"without the cert_file"),
        ({"qos": 2}, r"qos must be 0 or 1, but is 2"),
        ({"qos": True}, r"qos must be 0 or 1"),
        ({"timeout": 0}, r"timeout takes seconds > 0"),
        ({"reconnect_min": -1}, r"reconnect_min takes seconds"),
        ({"reconnect_min": 5, "reconnect_max": 4}, r"reconnect_max must not be less"),
        ({"keepalive": 0}, r"keepalive must be an int ≥ 1"),
        ({"keepalive": 65536}, r"keepalive must be at most 65535"),
        ({"max_queued": 0}, r"max_queued must be an int ≥ 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(cs.errors.ArgumentError, match=told):
        MqttSettings(**{"url": "mqtt://broker", **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"mqtt://me:{SECRET}@broker"},
        {"url": f"me:{SECRET}@broker"},
        {"password": SECRET},
        {"password": SECRET, "password_file": "file", "username": "me"},
        {"password": SECRET.encode(), "username": "me"},
        {"password": [SECRET], "username": "me"},
    ],
)
def test_no_error_shows_a_secret(wrong):
    with pytest.raises(cs.errors.ArgumentError) as caught:
        MqttSettings(**{"url": "mqtt://broker", **wrong})

    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_no_repr_shows_a_secret():
    settings = MqttSettings(url="mqtt://broker", username="me", password=SECRET)

    assert SECRET not in f"{settings!r} {settings} {MqttConnector(settings)!r}"


def test_the_environment_has_a_variable_for_each_setting():
    settings = MqttSettings.from_env(
        {
            "CASCADE_MQTT_URL": "mqtts://broker:99",
            "CASCADE_MQTT_USERNAME": "me",
            "CASCADE_MQTT_PASSWORD": SECRET,
            "CASCADE_MQTT_PASSWORD_FILE": "",
            "CASCADE_MQTT_CA_FILE": "ca.pem",
            "CASCADE_MQTT_QOS": "0",
            "CASCADE_MQTT_TIMEOUT": "2.5",
            "CASCADE_MQTT_MAX_QUEUED": "7",
            "CASCADE_CACHE": "something else",
        }
    )

    assert settings == MqttSettings(
        url="mqtts://broker:99",
        username="me",
        password=SECRET,
        ca_file="ca.pem",
        qos=0,
        timeout=2.5,
        max_queued=7,
    )


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, r"CASCADE_MQTT_URL is not set"),
        ({"CASCADE_MQTT_URL": ""}, r"CASCADE_MQTT_URL is not set"),
        (
            {"CASCADE_MQTT_URL": "mqtt://broker", "CASCADE_MQTT_PASWORD": SECRET},
            r"CASCADE_MQTT_PASWORD is no setting \(did you mean 'PASSWORD'\?\)",
        ),
        (
            {"CASCADE_MQTT_URL": "mqtt://broker", "CASCADE_MQTT_QOS": "high"},
            r"CASCADE_MQTT_QOS must be a whole number, but is 'high'",
        ),
        (
            {"CASCADE_MQTT_URL": "mqtt://broker", "CASCADE_MQTT_TIMEOUT": "long"},
            r"CASCADE_MQTT_TIMEOUT must be a number, but is 'long'",
        ),
    ],
)
def test_an_environment_that_says_too_little_or_too_much_is_refused(environ, told):
    with pytest.raises(cs.errors.ArgumentError, match=told) as caught:
        MqttSettings.from_env(environ)
    assert SECRET not in str(caught.value)


def test_a_connector_without_settings_asks_the_environment(monkeypatch):
    monkeypatch.setenv("CASCADE_MQTT_URL", "mqtt://broker:99")
    monkeypatch.setenv("CASCADE_MQTT_CLIENT_ID", "engine-1")

    assert repr(MqttConnector()).startswith("<MqttConnector engine-1 at mqtt://broker:99: ")


def test_other_objects_than_settings_are_refused():
    with pytest.raises(cs.errors.ArgumentError, match="settings must be MqttSettings or a URL"):
        MqttConnector({"url": "mqtt://broker"})


def test_a_password_is_the_first_line_of_its_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\nnot this\n", encoding="utf-8")
    settings = MqttSettings(url="mqtt://broker", username="me", password_file=str(path))

    assert settings.read_password() == SECRET
    path.write_text("renewed", encoding="utf-8")
    assert settings.read_password() == "renewed"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"cannot be read: No such file"),
        (b"", r"has no password on its first line"),
        (b"\n" + SECRET.encode(), r"has no password on its first line"),
        (SECRET.encode() + b"\xff", r"cannot be read: it is not UTF-8 text"),
    ],
)
def test_the_error_for_a_bad_password_file_does_not_show_its_content(tmp_path, content, told):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    settings = MqttSettings(url="mqtt://broker", username="me", password_file=str(path))

    with pytest.raises(cs.errors.ArgumentError, match=told) as caught:
        settings.read_password()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
