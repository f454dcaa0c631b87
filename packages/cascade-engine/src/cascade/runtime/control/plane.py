"""ControlPlane: connects an engine to a connector."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Self, Unpack

from cascade.adapters.connectors.local import LocalConnector
from cascade.adapters.connectors.outbox import Message
from cascade.adapters.connectors.pacing import Allowance
from cascade.runtime.control.inbox import Inbox
from cascade.runtime.control.lookout import Lookout
from cascade.runtime.control.looks import PARTS, asked_topic, orders_topic, shown_topic
from cascade.runtime.control.messages import (
    MOST_BYTES,
    MOST_OF_A_TOPIC,
    RefusedMessageError,
    Steering,
    read_steering,
    status_topic,
)
from cascade.runtime.control.plane_options import PlaneOptions, PlaneSettings, next_name
from cascade.runtime.control.room import MOST_CONSTRAINTS, Room
from cascade.runtime.control.status import (
    EngineStatus,
    status_of,
    write_status,
)
from cascade.runtime.control.telemetry import Telemetry, check_groups
from cascade.runtime.engine import Engine
from cascade.runtime.events import (
    ConnectorConnected,
    ConnectorDisconnected,
    ControlMessageRefused,
)
from cascade.runtime.limits.rules import Constraint
from cascade.runtime.options import settings, takes
from cascade.runtime.telemetry.texts import Texts
from cascade.spec.errors import ArgumentError, ConnectorError
from cascade.spec.protocols import ConnectionState, Connector
from cascade.spec.wording import short, type_name

_log = logging.getLogger("cascade.control")

#: Most topics whose last message is remembered.
_HEARD_KEPT = 4 * MOST_CONSTRAINTS
#: Share of the loop's time for carrying out messages.
_SHARE = 0.025
#: Topics handled before the loop gets its turn.
_SLICE = 64
#: Messages between two heartbeats after which a broker may have dropped a pause.
_FLOOD = 300
#: Seconds for a broker to send a retained pause.
_LOOK = 1.0
#: Smallest ratio of the heartbeat interval to its cost: many constraints take milliseconds.
_HEARTBEAT_SHARE = 40
#: Least seconds between two statuses, however many messages come.
_PAUSE = 0.05


class ControlPlane:
    """Lets other processes watch and steer an engine: ``async with ControlPlane(…)``.

    Published constraints take effect on the engine like calls of ``engine.constraints``. For one
    scope and kind the last one counts, whatever its source. A broker that cannot be reached, or is
    lost, never stops or fails a run: the engine keeps its present rules, and the connector tries
    again.

    Args:
        engine: The engine.
        connector: Connected at the start of the block, and disconnected at its end. By default a
            ``LocalConnector``: programs of the same user on this machine find the engine.
    """

    @takes(PlaneOptions, PlaneSettings)
    def __init__(
        self,
        engine: Engine,
        connector: Connector | None = None,
        **options: Unpack[PlaneOptions],
    ) -> None:
        """Make a control plane; its block connects it.

        Raises:
            ArgumentError: An option is unknown or has an impossible value.
            ConnectorError: No connector is given, and connectors of one machine do not work here.
        """
        if not isinstance(engine, Engine):
            raise ArgumentError(f"ControlPlane takes an engine first, but got {short(engine)}")
        if connector is not None and not isinstance(connector, Connector):
            raise ArgumentError(f"ControlPlane takes a connector, but got {short(connector)}")
        how = settings(PlaneSettings, "ControlPlane", options, PlaneOptions.__optional_keys__)
        self.name = how.name or next_name()
        if connector is None:  # if this process is killed, its engine is gone
            gone = Message(status_topic(how.prefix, self.name), b"", retain=True)
            connector = LocalConnector(will=gone)
        self._texts = Texts(how.redact)
        self._engine = engine
        self._connector = connector
        self._host = socket.gethostname().split(".")[0]
        self._prefix = how.prefix
        self._every = how.every
        self._patience = how.patience
        self._groups = check_groups(how.telemetry)
        self._telemetry: Telemetry | None = None
        self._cancels: list[Callable[[], object]] = []
        self._beating: asyncio.Task[None] | None = None
        self._pause_topic = f"{how.prefix}/constraints/global/pause"
        self._inbox = Inbox(self._pause_topic, self._is_valid)
        self._allowance: Allowance | None = None
        #: The next look at the inbox; None while it is empty.
        self._next_look: asyncio.Handle | None = None
        #: Messages that came since the last heartbeat.
        self._came = 0
        #: Functions that end the subscriptions which ask a broker again for a pause.
        self._looks: list[Callable[[], object]] = []
        #: Whether the last of them has yet to be answered.
        self._awaits_answer = False
        #: Shows the engine to views; None before the first of them asks.
        self._lookout: Lookout | None = None
        #: Number of messages in the inbox from before the broker had sent all retained ones; None
        #: if it has not sent all of them yet, or if all are handled.
        self._before_sync: int | None = None
        #: Content of the last sync message; others may publish on that topic as well.
        self._nonce = b""
        #: Topic → its last message; the latest topics, in the order of their messages.
        self._heard: dict[str, bytes] = {}
        #: Whether the last status could be published.
        self._tells = True
        #: Set when there is news to publish before the next heartbeat.
        self._news = asyncio.Event()
        #: Set when the broker has sent all retained messages since the last connection.
        self._in_step = asyncio.Event()

    @property
    def _own(self) -> str:
        return f"{self._prefix}/engines/{self.name}"

    async def __aenter__(self) -> Self:
        connector = self._connector
        self._allowance = Allowance(_SHARE, asyncio.get_running_loop().time)
        try:
            self._telemetry = Telemetry(
                self._engine.bus, connector, self._prefix, self.name, self._groups, self._texts
            )
            self._cancels.append(connector.on_state(self._on_state))
            for topic, handler in (
                (f"{self._prefix}/constraints/#", self._on_message),
                (f"{self._own}/sync", self._on_sync),
                (asked_topic(self._prefix, self.name), self._on_asked),
                (orders_topic(self._prefix, self.name), self._on_order),
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

    async def __aexit__(self, *_error: object) -> None:
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
        if self._lookout is not None:
            self._lookout.close()
        self._end_looks()
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        try:
            if beating is not None:
                await asyncio.wait([beating])  # otherwise it might publish a status after this
                self._connector.publish(status_topic(self._prefix, self.name), b"", retain=True)
        finally:
            await self._connector.disconnect()

    # -- heartbeats ---------------------------------------------------------------------------

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            began = loop.time()
            self._tell()
            pause = max(_PAUSE, (loop.time() - began) * _HEARTBEAT_SHARE)
            pause = min(pause, self._every)
            self._end_looks()
            flooded, self._came = self._came > _FLOOD, 0
            if flooded:
                await self._look_for_a_pause()
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every - pause):
                    await self._news.wait()

    async def _look_for_a_pause(self) -> None:
        """Make the broker send a retained global pause again.

        When more messages come than this process reads, a broker drops some, and an important one
        may be among them. A pause is retained, so every new subscription gets it.
        """
        self._awaits_answer = True
        try:
            async with asyncio.timeout(_LOOK):
                look = await self._connector.subscribe(self._pause_topic, self._on_answer)
        except (TimeoutError, ConnectorError):
            return
        except Exception:  # of a user's connector; without heartbeats the engine would seem gone
            _log.exception("the engine %r cannot ask its broker for a pause again", self.name)
            return
        self._looks.append(look)

    def _on_answer(self, topic: str, payload: bytes) -> None:
        """Handle a message of such a subscription; a broker may send it for both patterns.

        A message that was carried out is not carried out again. Otherwise its ttl would begin anew
        in every flood, and tasks that the program itself has resumed would be paused again.
        """
        if self._heard.get(topic) != payload:
            self._on_message(topic, payload)
        self._awaits_answer = False

    def _end_looks(self) -> None:
        """End the subscriptions of earlier looks, which were answered."""
        self._awaits_answer = False
        while self._looks:
            end = self._looks.pop()
            try:
                end()
            except Exception:  # of a user's connector
                _log.exception("the engine %r cannot end a subscription", self.name)

    def _tell(self) -> None:
        try:
            self._tell_status()
        except Exception as error:  # a silent engine would be taken for gone
            if self._tells:
                _log.exception(
                    "the status of the engine %r cannot be read; only its presence is published",
                    self.name,
                )
            self._tells = False
            self._tell_that_it_is_there(f"the status cannot be read: {type_name(error)}")
        else:
            self._tells = True

    def _tell_status(self) -> None:
        left_out = 0 if self._telemetry is None else self._telemetry.left_out
        about = (self.name, self._host, os.getpid(), self._every, left_out, self._texts)
        self._publish(write_status(status_of(self._engine, *about)))

    def _tell_that_it_is_there(self, trouble: str) -> None:
        about = (self.name, self._host, os.getpid(), time.time(), self._every)
        with contextlib.suppress(Exception):  # it was logged, and the next heartbeat tries again
            self._publish(write_status(EngineStatus(*about, trouble=trouble)))

    def _publish(self, status: bytes) -> None:
        self._connector.publish(status_topic(self._prefix, self.name), status, retain=True)

    # -- what comes ---------------------------------------------------------------------------

    def _on_state(self, state: ConnectionState) -> None:
        bus = self._engine.bus
        # Retained messages may come before this report of a new connection.
        self._in_step.clear()
        self._before_sync = None  # messages of the last connection do not answer this one
        if state.connected:
            # The broker sends its retained messages before those published after the subscription.
            self._nonce = os.urandom(8).hex().encode()
            self._connector.publish(f"{self._own}/sync", self._nonce)
            bus.publish(ConnectorConnected("", self.name))
        else:
            kept = len(self._engine.constraints.active())
            bus.publish(ConnectorDisconnected("", self.name, state.reason, kept))

    def _on_message(self, topic: str, payload: bytes) -> None:
        """Keep a message for the next look; each costs little, however many come."""
        self._came += 1
        answers = self._awaits_answer and topic == self._pause_topic
        known = (answers or not self._in_step.is_set()) and self._heard.get(topic) == payload
        if known and topic not in self._inbox:
            self._awaits_answer &= not answers  # one such message is the answer to the look
            return  # it is retained, and was carried out before the connection was lost
        if len(topic) > MOST_OF_A_TOPIC:
            self._refuse(f"{topic[:MOST_OF_A_TOPIC]}…", "its topic is too long")
        elif len(payload) > MOST_BYTES:
            self._refuse(topic, f"it has {len(payload)} bytes; at most {MOST_BYTES} are allowed")
        elif not self._inbox.put(topic, payload):
            self._refuse(topic, "too many others wait")
        elif self._next_look is None:
            self._next_look = asyncio.get_running_loop().call_soon(self._look)

    def _on_sync(self, _topic: str, payload: bytes) -> None:
        if payload != self._nonce:
            return
        self._before_sync = len(self._inbox)
        self._count_down(0)

    def _on_asked(self, topic: str, payload: bytes) -> None:
        self._views().ask(topic, payload)

    def _on_order(self, topic: str, payload: bytes) -> None:
        self._views().order(topic, payload)

    def _views(self) -> Lookout:
        if self._lookout is None:
            topics = {part: shown_topic(self._prefix, self.name, part) for part in PARTS}
            self._lookout = Lookout(
                self._engine,
                lambda part, body: self._connector.publish(topics[part], body),
                self._texts,
                lambda why: self._refuse(f"{self._own}/asked", why),
            )
        return self._lookout

    def _look(self) -> None:
        """Carry out some of the received messages; continue later, within the time budget."""
        assert self._allowance is not None
        loop = asyncio.get_running_loop()
        taken = self._inbox.take(_SLICE)
        try:
            with self._allowance.spending():
                self._obey(taken)
        except Exception:  # an error of this library; later messages must still be carried out
            _log.exception("the engine %r failed on one of %d messages", self.name, len(taken))
        self._count_down(len(taken))
        pause = self._allowance.pause
        self._next_look = loop.call_later(pause, self._look) if len(self._inbox) else None
        self._news.set()

    def _count_down(self, done: int) -> None:
        """Note that ``done`` messages from before the sync are handled."""
        if self._before_sync is not None:
            self._before_sync -= done
            if self._before_sync <= 0 or not len(self._inbox):  # or they were all malformed
                self._before_sync = None
                self._in_step.set()

    def _obey(self, messages: Iterable[tuple[str, list[bytes]]]) -> None:
        constraints = self._engine.constraints
        room = Room(info.constraint.key for info in constraints.active())
        wanted: dict[tuple[str, str], Constraint | None] = {}
        for topic, unread in messages:
            for payload in reversed(unread):  # a malformed message replaces no valid one
                steering = self._read(topic, payload, room)
                if steering is not None:
                    self._remember(topic, payload)
                    wanted[steering.scope, steering.kind] = steering.constraint
                    break
        constraints.change(wanted)

    def _read(self, topic: str, payload: bytes, room: Room | None = None) -> Steering | None:
        """The request in a message; None if it is refused."""
        try:
            steering = read_steering(self._prefix, topic, payload)
            if room is not None:
                room.take(steering)
        except RefusedMessageError as refusal:
            self._refuse(topic, str(refusal))
        except Exception as error:
            self._refuse(topic, f"reading it fails: {type_name(error)}")
            _log.exception("the engine %r cannot read a message", self.name)
        else:
            return steering
        return None

    def _is_valid(self, topic: str, payload: bytes) -> bool:
        return self._read(topic, payload) is not None

    def _remember(self, topic: str, payload: bytes) -> None:
        self._heard.pop(topic, None)
        self._heard[topic] = payload
        if len(self._heard) > _HEARD_KEPT:
            del self._heard[next(iter(self._heard))]

    def _refuse(self, topic: str, why: str) -> None:
        self._engine.bus.publish(ControlMessageRefused("", topic, why))
