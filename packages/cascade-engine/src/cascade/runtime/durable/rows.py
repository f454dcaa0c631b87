"""Rows: how outcomes are written in the chunks of a journal.

A chunk has two lines for each outcome, both JSON: its head,
``["<key>","<task>",<kind>,"<owner>",<milliseconds since the epoch>]``, and its value. Heads are
read when a run is resumed, values when they are needed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from math import inf
from time import time
from typing import Any, Final, NamedTuple, TypeAlias

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey, hex_of
from cascade.spec.digest import SIZE
from cascade.spec.errors import SerializationError
from cascade.spec.run_rows import Chunk

#: Kinds of outcomes: a value; an error that is the value of its node (R9); a value that is stored
#: apart, under the digest on the second line.
VALUE: Final = 0
ERROR: Final = 1
BLOB: Final = 2
#: In the head of a value of a node of the target's graph, between the task and the time.
_PLAIN: Final = b'",%d,"",' % VALUE
#: The place of the key in a head.
_HEX: Final = slice(2, 2 + 2 * SIZE)
#: The kind and the key of the record of the code with which a run was computed again.
CODE: Final = "code"


class Row(NamedTuple):
    """The outcome of a node, as it is stored."""

    key: NodeKey
    kind: int
    owner: NodeKey | None
    body: bytes
    #: The number of the chunk that it is in.
    chunk: int
    #: The name of the task.
    task: str
    #: When it was written, in seconds since the epoch.
    time: float


#: The value of a node that is encoded when it is written, because nothing changes it in place: key,
#: name of the task, when the node got it in seconds since the epoch, and the value. A plain tuple,
#: as each of very many nodes makes one.
Later: TypeAlias = tuple[NodeKey, str, float, Any]


def written(key: NodeKey, task: str, kind: int, owner: NodeKey | None, body: bytes) -> bytes:
    """An outcome as two lines of a chunk. ``body`` is JSON, which has no line breaks."""
    of = "" if owner is None else owner.hex()
    head = f'["{key.hex()}",{_text(task)},{kind},"{of}",{int(time() * 1000)}]\n'
    return head.encode() + body


def written_later(codec: Codec, later: Sequence[Later]) -> bytes:
    """The same for several values that were not encoded before, in a seventh of the time."""
    keys, tasks, times, values = zip(*later, strict=True)
    lines: list[str] = []
    add = lines.append
    # Neighbours mostly share the task and the millisecond, which lasts from ``begin`` to ``end``.
    last, begin, end, rest = None, inf, inf, ""
    for key, task, at, body in zip(
        hex_of(keys), tasks, times, codec.dumps_atoms(values), strict=True
    ):
        if task is not last or not begin <= at < end:
            last, begin, end = task, at, (int(at * 1000) + 1) / 1000
            rest = f'",{_text(task)},{VALUE},"",{int(at * 1000)}]\n'
        add(f'["{key}{rest}{body}')
    return "\n".join(lines).encode()


def rows_of(chunk: Chunk) -> list[Row]:
    """The outcomes in a chunk.

    Raises:
        SerializationError: It is damaged.
    """
    lines = chunk.body.split(b"\n")
    number, from_hex = chunk.number, bytes.fromhex
    try:
        heads = json.loads(b"[%b]" % b",".join(lines[::2]))  # all at once: a tenth of the time
        return [
            Row(from_hex(key), kind, from_hex(owner) or None, body, number, task, at / 1000)
            for (key, task, kind, owner, at), body in zip(heads, lines[1::2], strict=True)
        ]
    except (ValueError, TypeError) as error:
        raise SerializationError(f"chunk {chunk.number} of a journal is damaged: {error}") from None


def plain_values(chunk: Chunk) -> tuple[list[NodeKey], list[bytes]] | None:
    """The keys and the values in a chunk with nothing but values of nodes of the target's graph.

    Takes a sixth of the time of ``rows_of``. None for a chunk that has anything else, or is
    damaged.
    """
    lines = chunk.body.split(b"\n")
    heads = lines[::2]
    # As an unescaped quote, this is in no name of a task.
    if b"\n".join(heads).count(_PLAIN) != len(heads) or len(lines) != 2 * len(heads):
        return None
    try:
        digits = b"".join([head[_HEX] for head in heads]).decode()
        whole = bytes.fromhex(digits)
    except ValueError:
        return None
    keys = [whole[start : start + SIZE] for start in range(0, len(whole), SIZE)]
    return (keys, lines[1::2]) if len(keys) == len(heads) else None


def without(chunk: Chunk, keys: Collection[NodeKey]) -> Chunk | None:
    """A chunk without the outcomes of some nodes; None if nothing is left.

    Raises:
        SerializationError: It is damaged.
    """
    lines = chunk.body.split(b"\n")
    kept = [
        b"\n".join(lines[2 * place : 2 * place + 2])
        for place, row in enumerate(rows_of(chunk))
        if row.key not in keys
    ]
    return Chunk(chunk.number, b"\n".join(kept)) if kept else None


@lru_cache(maxsize=1024)
def _text(task: str) -> str:
    return json.dumps(task)
