"""One connection to an MQTT broker: opening, closing, and the reason of a failure.

``aiomqtt.Client`` needs some care. Its ``__aenter__`` connects on a thread, which goes on when the
task is cancelled and then calls back a loop that may be closed. It is therefore never cancelled
here, and ends by its own timeouts. If the CONNECT gets no answer, it leaves its socket, its reader
and a task behind, which ``__aexit__`` cleans up. A publish call does not notice that the connection
is lost, and waits for its timeout; the sender must watch ``messages`` meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cascade.adapters.connectors.mqtt_reading import reading_client
from cascade.adapters.connectors.mqtt_settings import MqttSettings
from cascade.adapters.connectors.mqtt_tls import tls_context
from cascade.adapters.connectors.outbox import Message
from cascade.spec.errors import ConnectorError

if TYPE_CHECKING:
    import ssl

    import aiomqtt

#: Most messages in transit to the broker at once: as many as paho-mqtt sends without an answer.
WINDOW = 20
#: Size of the kernel's receive buffer in bytes: some hundred short messages.
_RECEIVE_BUFFER = 32_768
#: Seconds for a broker to answer a disconnect.
_FAREWELL = 1.0

# Messages of aiomqtt and paho-mqtt about a lost connection end in the connector's state. This
# logger shows them at a lower level.
_library_log = logging.getLogger("cascade.connectors.aiomqtt")
_library_log.setLevel(logging.CRITICAL)


def require_aiomqtt() -> None:
    """Refuse to go on without aiomqtt.

    Raises:
        ConnectorError: It is not installed.
    """
    try:
        import aiomqtt  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "aiomqtt":
            raise
        raise ConnectorError(
            'MqttConnector needs aiomqtt: pip install "cascade-engine[mqtt]"'
        ) from None


def require_readers(loop: asyncio.AbstractEventLoop) -> None:
    """Refuse an event loop that cannot watch sockets, as the default one of Windows.

    Raises:
        ConnectorError: It is such a loop.
    """
    if type(loop).add_reader is asyncio.AbstractEventLoop.add_reader:
        raise ConnectorError(
            f"MqttConnector needs an event loop that watches sockets, which {type(loop).__name__}, "
            "the default of Windows, does not\n"
            "    right:  with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:\n"
            "                runner.run(main())"
        )


async def open_client(
    settings: MqttSettings,
    client_id: str,
    will: Message | None,
    deliver: Callable[[str, bytes], None],
) -> aiomqtt.Client:
    """Connect, and wait until the broker accepts.

    Args:
        settings: Address and credentials.
        client_id: The connection's name.
        will: The last will.
        deliver: Called with the topic and the payload of each message, in the loop's thread.

    Raises:
        ConnectorError: The broker does not answer or refuses; the message has the reason.
        ArgumentError: A file of the settings cannot be used.
    """
    import aiomqtt

    password, context = await asyncio.to_thread(_read_files, settings)
    client: aiomqtt.Client = reading_client()(
        settings.host,
        settings.port,
        logger=_library_log,
        username=settings.username,
        password=password,
        identifier=client_id,
        will=will and aiomqtt.Will(will.topic, will.payload, settings.qos, will.retain),
        clean_session=True,
        timeout=settings.timeout,
        keepalive=settings.keepalive,
        tls_context=context,
        # Otherwise a message may wait 40 ms and more for the answer to the one before it.
        # While reading pauses, a message waits for all bytes that the kernel has buffered before
        # it.
        socket_options=[
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER),
        ],
    )
    client.deliver = deliver  # type: ignore[attr-defined]  # of its subclass
    client.pending_calls_threshold = WINDOW  # otherwise it warns of too many calls
    try:
        await client.__aenter__()
    # An impossible host name raises ValueError (UnicodeError).
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        why = explain(error)
        if not isinstance(error, aiomqtt.MqttCodeError):
            await close_client(client)  # it got no answer: see above
        if why == "Operation timed out":
            why = (
                f"no answer within {settings.timeout:g} s; is it MQTT that is spoken there, and do "
                "both sides use TLS or neither?"
            )
        raise ConnectorError(f"cannot connect to the broker at {settings.url}: {why}") from None
    return client


async def close_client(client: aiomqtt.Client) -> None:
    """Disconnect politely if possible, and leave nothing behind."""
    import aiomqtt

    client.timeout = _FAREWELL
    with suppress(aiomqtt.MqttError):
        await client.__aexit__(None, None, None)
    # It has cancelled its housekeeping task by call_soon: one turn of the loop delivers the cancel,
    # one more ends the task.
    for _ in range(2):
        await asyncio.sleep(0)


def is_refusal(code: Any) -> bool:
    """Whether a broker's answer to a subscription is a refusal."""
    return int(getattr(code, "value", code)) >= 128


def explain(error: BaseException) -> str:
    """The fault in one line; the cause if the error itself says nothing more."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error.__cause__ or error) or type(error).__name__


def _read_files(settings: MqttSettings) -> tuple[str | None, ssl.SSLContext | None]:
    password = settings.read_password()
    return password, tls_context(settings) if settings.uses_tls else None
