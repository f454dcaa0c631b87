"""Rows: how outcomes are written in the chunks of a journal.

A chunk has two lines for each outcome, both JSON: its head,
``["<key>","<task>",<kind>,"<owner>"]``, and its value. Heads are read when a run is resumed, values
when they are needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from cascade.graph.naming import NodeKey
from cascade.spec.errors import SerializationError
from cascade.spec.run_rows import Chunk

#: Kinds of outcomes: a value; an error that is the value of its node (R9); a value that is stored
#: apart, under the digest on the second line.
VALUE: Final = 0
ERROR: Final = 1
BLOB: Final = 2


class Row(NamedTuple):
    """The outcome of a node, as it is stored."""

    key: NodeKey
    kind: int
    owner: NodeKey | None
    body: bytes
    #: The number of the chunk that it is in.
    chunk: int


def written(key: NodeKey, task: str, kind: int, owner: NodeKey | None, body: bytes) -> bytes:
    """An outcome as two lines of a chunk. ``body`` is JSON, which has no line breaks."""
    of = b"" if owner is None else owner.hex().encode()
    return b'["%b",%b,%d,"%b"]\n%b' % (key.hex().encode(), _text(task), kind, of, body)


def rows_of(chunk: Chunk) -> Iterator[Row]:
    """The outcomes in a chunk.

    Raises:
        SerializationError: It is damaged.
    """
    lines = chunk.body.split(b"\n")
    try:
        for head, body in zip(lines[::2], lines[1::2], strict=True):
            key, _task, kind, owner = json.loads(head)
            of = bytes.fromhex(owner) if owner else None
            yield Row(bytes.fromhex(key), kind, of, body, chunk.number)
    except (ValueError, TypeError) as error:
        raise SerializationError(f"chunk {chunk.number} of a journal is damaged: {error}") from None


@lru_cache(maxsize=1024)
def _text(task: str) -> bytes:
    return json.dumps(task).encode()
