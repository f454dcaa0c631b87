"""The event loop of a command that connects to a broker: on Windows one that can watch sockets."""

import asyncio
import sys

import pytest

from cascade.command.connecting import loop_factory
from cascade.command.remote import wait_for
from cascade.runtime.execution.interrupts import run_interruptibly


@pytest.fixture
def no_broker(monkeypatch):
    monkeypatch.delenv("CASCADE_MQTT_URL", raising=False)


def test_elsewhere_it_is_the_systems_own(no_broker):
    assert sys.platform == "win32" or loop_factory("mqtt://broker") is None


def test_on_windows_a_broker_needs_another_loop(no_broker, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")

    assert loop_factory(None) is None
    assert loop_factory("mqtt://broker") is asyncio.SelectorEventLoop
    monkeypatch.setenv("CASCADE_MQTT_URL", "mqtt://broker")
    assert loop_factory(None) is asyncio.SelectorEventLoop


class Loop(asyncio.SelectorEventLoop):
    """A loop that the system would not make."""


async def kind_of_loop():
    return type(asyncio.get_running_loop())


def test_runs_and_views_use_the_loop_that_was_chosen(monkeypatch):
    monkeypatch.setattr("cascade.command.remote.watching_loop", lambda: Loop)

    assert wait_for(kind_of_loop()) is Loop
    assert run_interruptibly(kind_of_loop(), Loop) is Loop
    assert run_interruptibly(kind_of_loop()) is not Loop
