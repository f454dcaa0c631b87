"""The common part of connectors: their state, and its subscribers."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from cascade.adapters.connectors.outbox import Message, Outbox
from cascade.adapters.connectors.subscriptions import Subscriptions, check_handler
from cascade.spec.errors import ArgumentError, ConnectorError
from cascade.spec.protocols import ConnectionState
from cascade.spec.wording import short

_log = logging.getLogger("cascade.connectors")

StateHandler = Callable[[ConnectionState], object]

CLOSED = ConnectionState(False, "disconnect() was called")


class ConnectorBase(ABC):
    """A connector without its connection.

    Args:
        max_queued: Most messages that wait for a connection.
        will: The broker publishes this when the connection is lost without a ``disconnect``.
    """

    def __init__(self, max_queued: int, will: Message | None) -> None:
        if will is not None:
            if not isinstance(will, Message):
                raise ArgumentError(
                    f"will must be a Message, but is {short(will)}; "
                    "write Message(topic, payload, retain)"
                )
            will.check()
        self._will = will
        self._outbox = Outbox(max_queued)
        self._subscriptions = Subscriptions()
        self._state = ConnectionState(False, "connect() was not called yet")
        self._watchers: list[list[StateHandler]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @abstractmethod
    async def connect(self, *, wait: bool = True) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected; if not, the reason."""
        return self._state

    @property
    def dropped(self) -> int:
        """The number of messages that were dropped instead of sent, since it was made."""
        return self._outbox.dropped

    def on_state(self, handler: StateHandler) -> Callable[[], None]:
        """Call ``handler(state)`` at each change of ``state``, in the loop's thread.

        Returns:
            A function that ends these calls.
        """
        check_handler(handler, "with the state")
        row = [handler]  # compared by identity, because the same handler may be given twice
        self._watchers.append(row)

        def cancel() -> None:
            self._watchers = [other for other in self._watchers if other is not row]

        return cancel

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.disconnect()

    def _tell(self, state: ConnectionState) -> None:
        """Change the state; for the loop's thread."""
        if state == self._state:
            return
        self._state = state
        for (handler,) in list(self._watchers):
            try:
                handler(state)
            except Exception:
                _log.exception("the handler %s failed on %r", short(handler), state)

    def _check_loop(self) -> None:
        """Refuse a call that would touch another loop's connection."""
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise ConnectorError(
                f"{self!r} is connected in another event loop than this one, whose thread alone "
                "may use it; only publish() is for any thread"
            )
