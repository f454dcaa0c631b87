"""Kept outcomes: where the outcomes of nodes lie in the store, and which of them are needed.

A chunk is dropped with the last outcome in it that was needed, and a large value with the last
outcome that mentions it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from cascade.graph.naming import NodeKey
from cascade.runtime.durable.blobs import LARGE, Blobs
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.rows import (
    BLOB,
    VALUE,
    Row,
    plain_values,
    rows_of,
    written,
)
from cascade.spec.run_rows import Chunk

#: Types of small values that never change and always have a stored form.
LASTING: Final = frozenset({int, bool, float, type(None)})


class Kept:
    """The outcomes of one run in its store. Use it under the run's lock.

    Args:
        desk: Takes what is to be written.
        blobs: Has the large values.

    Attributes:
        done: Outcomes of earlier processes that are still needed. A value of a node of the target's
            graph may stand without its row.
    """

    def __init__(self, desk: Desk, blobs: Blobs) -> None:
        self._desk = desk
        self._blobs = blobs
        self.done: dict[NodeKey, Row | bytes] = {}
        #: Node that may be dropped → the chunk of its outcome; chunk → how many are needed in it.
        self._chunks: dict[NodeKey, int] = {}
        self._needed: Counter[int] = Counter()

    def load(self, chunks: Iterable[Chunk]) -> Mapping[NodeKey, NodeKey]:
        """Take over the outcomes of earlier processes.

        Returns:
            The owners of nodes that belong to graphs which others have returned.

        Raises:
            SerializationError: A chunk is damaged.
        """
        done = self.done
        owners: dict[NodeKey, NodeKey] = {}
        for chunk in chunks:
            plain = plain_values(chunk)
            if plain is None or not done.keys().isdisjoint(plain[0]):
                self._load_rows(chunk, owners)
                continue
            keys, bodies = plain
            done.update(zip(keys, bodies, strict=True))
            self._needed[chunk.number] += 1  # until the end, as are nodes of the target's graph
        return owners

    def _load_rows(self, chunk: Chunk, owners: dict[NodeKey, NodeKey]) -> None:
        for row in rows_of(chunk):
            if row.key in self.done:  # it was computed again nevertheless
                self.drop(row.key)
                owners.pop(row.key, None)
            self.done[row.key] = row
            self._count(row.key, chunk.number)
            if row.owner is not None:
                owners[row.key] = row.owner
            if row.kind == BLOB:
                self._blobs.hold(row.key, [bytes.fromhex(row.body.decode())])

    def write(self, key: NodeKey, task: str, kind: int, owner: NodeKey | None, body: bytes) -> None:
        """Write an outcome, and a large value apart."""
        if len(body) >= LARGE and kind == VALUE:
            digest = self._blobs.write(body)
            self._blobs.hold(key, [digest])
            kind, body = BLOB, digest.hex().encode()
        self._count(key, self._desk.outcome(key, written(key, task, kind, owner, body)))

    def drop(self, key: NodeKey) -> None:
        """Forget an outcome that is not needed any more, if there is one."""
        self.done.pop(key, None)
        self._blobs.release(key)
        chunk = self._chunks.pop(key, None)
        if chunk is not None:
            self._desk.drop_outcome(key)
            self._needed[chunk] -= 1
            if not self._needed[chunk]:
                del self._needed[chunk]
                self._desk.drop_chunk(chunk)

    def _count(self, key: NodeKey, chunk: int) -> None:
        self._chunks[key] = chunk
        self._needed[chunk] += 1
