"""ControlPlane: an engine, tied to a connector."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from cascade.adapters.connectors.topics import check_topic
from cascade.runtime.control.messages import (
    RefusedMessageError,
    Steering,
    read_steering,
    status_topic,
)
from cascade.runtime.control.status import status_of, write_status
from cascade.runtime.control.telemetry import GROUPS, Telemetry, check_groups
from cascade.runtime.engine import Engine
from cascade.runtime.events import (
    ConnectorConnected,
    ConnectorDisconnected,
    ControlMessageRefused,
)
from cascade.spec.checks import check_seconds
from cascade.spec.errors import ArgumentError
from cascade.spec.protocols import ConnectionState, Connector
from cascade.spec.wording import short

_log = logging.getLogger("cascade.control")

#: Constraints that an engine has at most by what comes from outside; more are refused.
MOST_CONSTRAINTS = 1000
#: Topics of which the last message is remembered.
_HEARD_KEPT = 4 * MOST_CONSTRAINTS
#: Seconds between two statuses at least, however many messages come.
_PAUSE = 0.05
#: Numbers for engines that are not given a name, of which a process may have several.
_numbers = itertools.count(1)


class ControlPlane:
    """Lets an engine be watched and steered from outside: ``async with ControlPlane(…)``.

    Constraints that are published take effect on the engine, as if ``engine.constraints`` was
    told; of those for one scope and kind the last one counts, wherever it comes from. A broker
    that cannot be reached, or is lost, never stops or fails a run: the engine keeps the rules that
    it knows, and the connector tries again.

    Args:
        engine: The engine.
        connector: Connected here, and disconnected at the end.
        name: What the engine is called outside, which no other one may be; host and process id if
            left out, and a number from the second engine of a process on.
        prefix: What all topics begin with.
        every: Seconds between two heartbeats.
        telemetry: What is told of, by groups; see ``cascade.runtime.control.telemetry``.
        patience: Seconds to wait at the start for the broker, and for the rules that it has.

    Raises:
        ArgumentError: One of these makes no sense.
    """

    def __init__(
        self,
        engine: Engine,
        connector: Connector,
        *,
        name: str | None = None,
        prefix: str = "cascade",
        every: float = 1.0,
        telemetry: Iterable[str] = tuple(GROUPS),
        patience: float = 2.0,
    ) -> None:
        if not isinstance(engine, Engine):
            raise ArgumentError(f"ControlPlane takes an engine first, but got {short(engine)}")
        if not isinstance(connector, Connector):
            raise ArgumentError(f"ControlPlane takes a connector, but got {short(connector)}")
        host = socket.gethostname().split(".")[0]
        self.name = next_name() if name is None else name
        for what, level in (("name", self.name), ("prefix", prefix)):
            _check_level(what, level)
        check_seconds("every", every)
        check_seconds("patience", patience)
        self._engine = engine
        self._connector = connector
        self._host = host
        self._prefix = prefix
        self._every = every
        self._patience = patience
        self._groups = check_groups(telemetry)
        self._telemetry: Telemetry | None = None
        self._cancels: list[Callable[[], object]] = []
        self._beating: asyncio.Task[None] | None = None
        #: Topic → what was there last; the latest topics, in the order of their messages.
        self._heard: dict[str, bytes] = {}
        #: Whether the last status could be told.
        self._tells = True
        #: Set when there is something to tell before the next heartbeat.
        self._news = asyncio.Event()
        #: Set when the broker has said all that it has retained, since the last connection.
        self._in_step = asyncio.Event()

    @property
    def _own(self) -> str:
        return f"{self._prefix}/engines/{self.name}"

    async def __aenter__(self) -> Self:
        connector = self._connector
        try:
            self._telemetry = Telemetry(
                self._engine.bus, connector, self._prefix, self.name, self._groups
            )
            self._cancels.append(connector.on_state(self._on_state))
            for topic, handler in (
                (f"{self._prefix}/constraints/#", self._on_message),
                (f"{self._own}/sync", self._on_sync),
            ):
                self._cancels.append(await connector.subscribe(topic, handler))
            await connector.connect(wait=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._in_step.wait()
            self._beating = asyncio.create_task(self._beat(), name="heartbeats")
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
        if self._telemetry is not None:
            self._telemetry.close()
        for cancel in self._cancels:
            cancel()
        self._cancels.clear()
        try:
            if beating is not None:
                await asyncio.wait([beating])  # else it might tell something after this
                self._connector.publish(status_topic(self._prefix, self.name), b"", retain=True)
        finally:
            await self._connector.disconnect()

    # -- heartbeats ---------------------------------------------------------------------------

    async def _beat(self) -> None:
        pause = min(_PAUSE, self._every)
        while True:
            self._news.clear()
            self._tell()
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every - pause):
                    await self._news.wait()

    def _tell(self) -> None:
        try:
            self._tell_status()
        except Exception:  # one that cannot be told shall not be the last, nor end a program
            if self._tells:
                _log.exception("the status of the engine %r cannot be told", self.name)
            self._tells = False
        else:
            self._tells = True

    def _tell_status(self) -> None:
        left_out = 0 if self._telemetry is None else self._telemetry.left_out
        status = status_of(self._engine, self.name, self._host, os.getpid(), self._every, left_out)
        topic = status_topic(self._prefix, self.name)
        self._connector.publish(topic, write_status(status), retain=True)

    # -- what comes ---------------------------------------------------------------------------

    def _on_state(self, state: ConnectionState) -> None:
        bus = self._engine.bus
        # What is retained may come before this is told that there is a connection again.
        self._in_step.clear()
        if state.connected:
            # What the broker has retained comes before what is published after the subscription.
            self._connector.publish(f"{self._own}/sync", b"{}")
            bus.publish(ConnectorConnected("", self.name))
        else:
            kept = len(self._engine.constraints.active())
            bus.publish(ConnectorDisconnected("", self.name, state.reason, kept))

    def _on_message(self, topic: str, payload: bytes) -> None:
        if not self._in_step.is_set() and self._heard.get(topic) == payload:
            return  # it is retained, and was obeyed before the connection was lost
        try:
            steering = read_steering(self._prefix, topic, payload)
            self._check_room(steering)
        except RefusedMessageError as refusal:
            self._engine.bus.publish(ControlMessageRefused("", topic, str(refusal)))
            return
        self._heard.pop(topic, None)
        self._heard[topic] = payload
        if len(self._heard) > _HEARD_KEPT:
            del self._heard[next(iter(self._heard))]
        self._obey(steering)
        self._news.set()

    def _on_sync(self, _topic: str, _payload: bytes) -> None:
        self._in_step.set()

    def _check_room(self, steering: Steering) -> None:
        if steering.constraint is None:
            return
        kept = {info.constraint.key for info in self._engine.constraints.active()}
        if len(kept) >= MOST_CONSTRAINTS and steering.constraint.key not in kept:
            raise RefusedMessageError(
                f"the engine has {len(kept)} constraints, and takes no more than "
                f"{MOST_CONSTRAINTS} from outside; remove some, or use a pattern for many tasks"
            )

    def _obey(self, steering: Steering) -> None:
        constraints = self._engine.constraints
        if steering.constraint is None:
            constraints.remove(steering.scope, steering.kind)
        else:
            constraints.set(steering.constraint)


def next_name() -> str:
    """What the next engine of this process is called, by its host and process id."""
    host, number = socket.gethostname().split(".")[0], next(_numbers)
    return f"{host}-{os.getpid()}" + (f"-{number}" if number > 1 else "")


def _check_level(what: str, level: object) -> None:
    if not isinstance(level, str) or not level or any(c in level for c in "+#\0"):
        raise ArgumentError(f"{what} is part of topics, without '+' and '#', but is {short(level)}")
    check_topic(level)  # else nothing could be told, and only the log would say so
    if what == "name" and "/" in level:
        raise ArgumentError(f"the name of an engine is one level of topics, but is {short(level)}")
