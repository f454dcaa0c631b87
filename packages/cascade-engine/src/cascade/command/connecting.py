"""The control plane of an engine that a command has made, so that other commands find it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cascade.command.failures import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from cascade.command.remote import LoopFactory
    from cascade.runtime.engine import Engine

Connect = Annotated[
    bool,
    Parameter(
        negative="--no-connect",
        show_default=False,
        help="Whether other commands can watch and steer it. By default those of this user on this "
        "machine can; with CASCADE_MQTT_URL, those at that broker.",
    ),
]
RunBroker = Annotated[str | None, Parameter(metavar="URL", help="The same, over this broker.")]


def loop_factory(broker: str | None) -> LoopFactory | None:
    """What makes the event loop of an engine that is connected; None for the system's own loop."""
    from cascade.command.remote import watching_loop

    # Not in each case: on Windows such a loop has no subprocesses, which tasks may need.
    return watching_loop() if broker or os.environ.get("CASCADE_MQTT_URL") else None


def plane_of(
    engine: Engine, connect: bool, broker: str | None
) -> AbstractAsyncContextManager[object]:
    """What connects the engine while its block runs.

    Raises:
        UsageError: The broker that was given cannot be used. Without one, the engine is just not
            found by other commands: its work must not fail over that.
    """
    from cascade.adapters.connectors import Message
    from cascade.command.remote import connector_of
    from cascade.runtime.control.messages import status_topic
    from cascade.runtime.control.plane import ControlPlane
    from cascade.runtime.control.plane_options import next_name

    if not connect and broker is None:
        return nullcontext()
    name = next_name()
    # In case this process is killed.
    gone = Message(status_topic("cascade", name), b"", retain=True)
    # On one machine nothing reads the events: views ask an engine for what they show.
    is_local = broker is None and not os.environ.get("CASCADE_MQTT_URL")
    try:
        connector = connector_of(broker, gone)
        if is_local:
            return ControlPlane(engine, connector, name=name, telemetry=())
        return ControlPlane(engine, connector, name=name)
    except UsageError:
        if broker is not None:
            raise
        return nullcontext()
