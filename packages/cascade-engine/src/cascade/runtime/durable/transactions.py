"""Transactions of tasks in the store's own database, and the outcomes that they committed (D5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.rows import VALUE, Row, rows_of, written
from cascade.spec.run_rows import Chunk, Outcome
from cascade.spec.run_store import StoreTransaction

T = TypeVar("T")


class Transactions:
    """The transactions of the tasks of one run.

    Args:
        codec: Encodes values.
        desk: Takes what is to be deleted.
        begin: Gives a transaction, which is not begun yet.
    """

    def __init__(
        self,
        codec: Codec,
        desk: Desk,
        begin: Callable[[], AbstractContextManager[StoreTransaction]],
    ) -> None:
        self.begin = begin
        self._codec = codec
        self._desk = desk
        #: Nodes whose outcomes were committed so.
        self._committed: set[NodeKey] = set()
        #: Node with such a task that is being called → what its attempts have in common.
        self._calls: dict[NodeKey, Any] = {}
        #: Collections that stay empty until the first transaction.
        self.all: tuple[Sized, ...] = self._committed, self._calls

    def load(self, outcome: Outcome) -> Iterator[Row]:
        """Take over an outcome of an earlier process; its row.

        Raises:
            SerializationError: It is damaged.
        """
        self._committed.add(outcome.key)
        yield from rows_of(Chunk(0, outcome.body))

    # -- from any thread --------------------------------------------------------------------------

    def once(self, key: NodeKey, make: Callable[[], T]) -> T:
        """What the attempts of one call have in common, until the node has its outcome."""
        once: T = self._calls.setdefault(key, make())
        return once

    def entry(self, key: NodeKey, task: str, owner: NodeKey | None, value: Any) -> bytes:
        """A value as the transaction of its task writes it.

        Raises:
            NotStorableError: It has no stored form.
        """
        return written(key, task, VALUE, owner, self._codec.dumps(value))

    def committed(self, key: NodeKey) -> None:
        """The transaction of a task has committed the outcome of its node."""
        self._committed.add(key)

    # -- under the run's lock ---------------------------------------------------------------------

    def __contains__(self, key: NodeKey) -> bool:
        return key in self._committed

    def end_call(self, key: NodeKey) -> None:
        """A node has its outcome, and no further attempt comes."""
        self._calls.pop(key, None)

    def drop(self, key: NodeKey) -> None:
        """Delete the outcome of a node, if a transaction has written it."""
        if key in self._committed:
            self._committed.discard(key)
            self._desk.drop_apart(key)
