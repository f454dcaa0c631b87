"""The frames between local connectors and their hub: a length, a kind, and a body.

A frame is four bytes with the length of the rest, one byte with its ``Kind``, and the body of that
kind. ``PUBLISH`` and ``MESSAGE`` begin their bodies with a flag (whether it is retained) and the
length of the topic in two bytes, before the topic and the payload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

from cascade.adapters.connectors.outbox import MAX_PAYLOAD, Message
from cascade.adapters.connectors.topics import MAX_BYTES

#: Of the frames below; processes of another version are refused.
VERSION = 1
_HEAD = Struct("!IB")
_TOPIC = Struct("!?H")
_MAX_FRAME = MAX_PAYLOAD + MAX_BYTES + 16


class Kind(IntEnum):
    """What a frame says. To the hub: the first five; from the hub: the others, and ``BYE``."""

    #: The first one of a connection: JSON with its version, name, process and last will.
    HELLO = 1
    #: A pattern. Answered by ``DONE``, after the retained messages.
    SUBSCRIBE = 3
    #: A pattern.
    UNSUBSCRIBE = 4
    #: A message. Answered by ``TAKEN``.
    PUBLISH = 5
    #: The sender is going to close the connection, and means it.
    BYE = 6
    #: Answers ``HELLO``.
    WELCOME = 7
    #: Answers ``HELLO`` of another version: text.
    REFUSED = 8
    #: Answers one ``SUBSCRIBE``; in order.
    DONE = 9
    #: Answers one ``PUBLISH``; in order.
    TAKEN = 10
    #: A message to a subscriber: a body as that of ``PUBLISH``.
    MESSAGE = 11
    #: Are you there? Answered by ``PONG``.
    PING = 12
    PONG = 13


def frame(kind: Kind, body: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return _HEAD.pack(len(body) + 1, kind) + body


def message_body(message: Message) -> bytes:
    topic = message.topic.encode()
    return _TOPIC.pack(message.retain, len(topic)) + topic + message.payload


def as_json(message: Message | None) -> list[object] | None:
    """A message as JSON, for last wills."""
    return None if message is None else [message.topic, message.payload.hex(), message.retain]


def from_json(parts: object) -> Message | None:
    """The message of ``as_json``.

    Raises:
        ValueError: It is none.
    """
    match parts:
        case None:
            return None
        case [str(topic), str(payload), bool(retain)]:
            return Message(topic, bytes.fromhex(payload), retain)
    raise ValueError("no message")


def read_message(body: bytes) -> Message:
    retain, length = _TOPIC.unpack_from(body)
    end = _TOPIC.size + length
    return Message(body[_TOPIC.size : end].decode(), body[end:], retain)


class Frames:
    """The frames in a stream of bytes that comes in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The frames that end in these bytes.

        Raises:
            ValueError: These bytes are no frame.
        """
        self._data += data
        begin = 0
        try:
            while len(self._data) - begin >= _HEAD.size:
                length, kind = _head(self._data, begin)
                end = begin + 4 + length
                if len(self._data) < end:
                    return
                body = bytes(self._data[begin + _HEAD.size : end])
                begin = end
                yield kind, body
        finally:
            del self._data[:begin]


def _head(data: bytes | bytearray, begin: int = 0) -> tuple[int, Kind]:
    length, kind = _HEAD.unpack_from(data, begin)
    if not 1 <= length <= _MAX_FRAME:
        raise ValueError(f"a frame of {length} bytes")
    return length, Kind(kind)


async def read_frame(reader: asyncio.StreamReader) -> tuple[Kind, bytes]:
    """The next frame.

    Raises:
        EOFError: The connection has ended (``asyncio.IncompleteReadError`` is one).
        ValueError: These bytes are no frame.
    """
    length, kind = _head(await reader.readexactly(_HEAD.size))
    return kind, await reader.readexactly(length - 1)
