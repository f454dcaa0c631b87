"""Connections to running engines: where they meet, and the statuses that they publish."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic, time
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from cyclopts import Parameter

from cascade.command.failures import UsageError
from cascade.graph.durations import duration_text

if TYPE_CHECKING:
    from cascade.adapters.connectors import Message
    from cascade.runtime.control.status import EngineStatus
    from cascade.runtime.limits.rules import Constraint
    from cascade.spec.protocols import Connector

T = TypeVar("T")
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

Broker = Annotated[
    str | None,
    Parameter(
        metavar="URL",
        help="mqtt://host or mqtts://host; its other settings come from the environment: "
        "CASCADE_MQTT_USERNAME, CASCADE_MQTT_PASSWORD_FILE … Left out: CASCADE_MQTT_URL; if "
        "that is not set, the engines of this user on this machine.",
    ),
]
Prefix = Annotated[str, Parameter(metavar="TOPIC", help="The first levels of all topics.")]
Patience = Annotated[
    float, Parameter(metavar="SECONDS", help="How long to wait for engines to answer.")
]


def connector_of(broker: str | None, will: Message | None = None) -> Connector:
    """A connector to a broker, with the settings of the environment; without one, to the engines of
    this user on this machine.

    Args:
        broker: URL of the broker, instead of that of the environment.
        will: Published if the connection is lost for good.

    Raises:
        UsageError: The settings are invalid, or the extra is not installed.
    """
    from cascade.adapters.connectors import LocalConnector, MqttConnector, MqttSettings
    from cascade.spec.errors import ArgumentError, ConnectorError

    try:
        if broker is None and not os.environ.get("CASCADE_MQTT_URL"):
            return LocalConnector(will=will)
        environ = dict(os.environ)
        if broker is not None:
            environ["CASCADE_MQTT_URL"] = broker
        return MqttConnector(MqttSettings.from_env(environ), will=will)
    except (ArgumentError, ConnectorError, ImportError) as error:
        raise UsageError(str(error)) from None


#: Most engines, and most constraints, that are remembered; others could invent more.
_MOST_ENGINES = 2000


class Engines:
    """The known engines and their statuses.

    An engine is identified by its topic: the name in its status must be the same. A broker that
    restricts publishing by topic thus prevents engines from speaking for others. Whether an engine
    is alive depends on the arrival of its messages, because its clock may differ from ours.

    Args:
        clock: The time of arrivals.
        wall: Unix time.

    Attributes:
        statuses: By name, without engines that have announced their end.
        constraints: By topic, those that hold for engines which connect later.
        retained: Whether messages may be old: until the broker has sent all retained ones.
    """

    def __init__(
        self, clock: Callable[[], float] = monotonic, wall: Callable[[], float] = time
    ) -> None:
        self.statuses: dict[str, EngineStatus] = {}
        self.retained = True
        self.constraints: dict[str, Constraint] = {}
        self._clock = clock
        self._wall = wall
        #: Name → arrival of the last status.
        self._came: dict[str, float] = {}
        #: Name → delay of that arrival after the time in the status, in seconds.
        self._late: dict[str, float] = {}
        #: Engines that are known only by retained messages.
        self._retained: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def known(self) -> set[str]:
        """The names of the engines that have not announced their end."""
        return {status.engine for status in self.statuses.values()}

    @property
    def alive(self) -> list[EngineStatus]:
        """The engines that sent a message lately, by name; ``trouble`` reports doubts."""
        found = [self._with_doubt(s) for s in self.statuses.values() if not self._is_gone(s)]
        return sorted(found, key=lambda status: status.engine)

    def _is_gone(self, status: EngineStatus) -> bool:
        return self._clock() - self._came[status.engine] > status.patience

    def _with_doubt(self, status: EngineStatus) -> EngineStatus:
        late = self._late[status.engine]
        if abs(late) <= status.patience:
            return status
        if status.engine in self._retained and late > 0:
            doubt = (
                f"stale: by our clock this status is {duration_text(late)} old, so the engine may "
                "be gone, or its clock differs"
            )
        else:
            doubt = f"its clock differs from ours by {duration_text(abs(late))}"
        return replace(status, trouble="; ".join(filter(None, (status.trouble, doubt))))

    def hear(self, topic: str, payload: bytes) -> None:
        """Record a message of an engine."""
        from cascade.runtime.control.messages import RefusedMessageError
        from cascade.runtime.control.status import read_status

        name = topic.split("/")[-2]
        if not payload:
            self._forget(name)
        else:
            try:
                status = read_status(payload)
            except RefusedMessageError:
                return  # from another program, or another version
            if status.engine != name or not self._has_room(name):
                return
            # A second message since we listen cannot be the retained one.
            if self.retained and name not in self.statuses:
                self._retained.add(name)
            else:
                self._retained.discard(name)
            self.statuses[name] = status
            self._came[name] = self._clock()
            self._late[name] = self._wall() - status.time
        self._changed.set()

    def hear_steering(self, topic: str, payload: bytes) -> None:
        """Record a constraint that someone has published."""
        from cascade.runtime.control.messages import RefusedMessageError, read_steering

        prefix = topic.partition("/constraints/")[0]
        with suppress(RefusedMessageError):
            constraint = read_steering(prefix, topic, payload).constraint
            self.constraints.pop(topic, None)
            if constraint is not None and len(self.constraints) < _MOST_ENGINES:
                self.constraints[topic] = constraint

    def _has_room(self, name: str) -> bool:
        """Whether one more can be remembered; dead or stale engines make room."""
        if name in self.statuses or len(self.statuses) < _MOST_ENGINES:
            return True
        for other, status in list(self.statuses.items()):
            stale = other in self._retained and self._late[other] > status.patience
            if stale or self._is_gone(status):
                self._forget(other)
        return len(self.statuses) < _MOST_ENGINES

    def _forget(self, name: str) -> None:
        self.statuses.pop(name, None)
        self._came.pop(name, None)
        self._late.pop(name, None)
        self._retained.discard(name)

    async def change(self) -> None:
        """Wait until an engine sends a message."""
        await self._changed.wait()
        self._changed.clear()

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``holds()`` is true, at most so many seconds; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    await self.change()
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def engines_at(
    broker: str | None, prefix: str, patience: float
) -> AsyncIterator[tuple[Connector, Engines]]:
    """A connection, and the engines that the broker knows of.

    Raises:
        UsageError: The broker cannot be reached, or the settings, the prefix or the seconds are
            invalid.
    """
    from cascade.adapters.connectors import check_topic
    from cascade.spec.checks import check_seconds
    from cascade.spec.errors import ArgumentError, ConnectorError

    try:
        check_topic(prefix)
        check_seconds("--wait", patience)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    connector = connector_of(broker)
    engines = Engines()
    try:
        await connector.connect()
    except ConnectorError as error:
        raise UsageError(str(error)) from None
    try:
        await connector.subscribe(f"{prefix}/engines/+/status", engines.hear)
        await connector.subscribe(f"{prefix}/constraints/#", engines.hear_steering)
        await in_step(connector, prefix, patience)
        engines.retained = False
        yield connector, engines
    finally:
        await connector.disconnect()


async def in_step(connector: Connector, prefix: str, patience: float) -> None:
    """Wait until the broker has sent all retained messages."""
    said = asyncio.Event()
    topic = f"{prefix}/commands/{os.urandom(8).hex()}"
    cancel = await connector.subscribe(topic, lambda *_: said.set())
    connector.publish(topic, b"{}")
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await said.wait()
    cancel()


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; Ctrl-C cancels it."""
    from cascade.runtime.execution.interrupts import run_on

    return run_on(work, watching_loop())


def watching_loop() -> LoopFactory | None:
    """What makes an event loop that can watch sockets, as MQTT needs; None where each loop can."""
    return asyncio.SelectorEventLoop if sys.platform == "win32" else None
