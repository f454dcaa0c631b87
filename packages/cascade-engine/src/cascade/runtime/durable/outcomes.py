"""Outcomes: the values of nodes, and the errors that are their values, to bytes and back (D7, D8).

A value is encoded as soon as its node has it, because anything may change it in place afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from math import inf
from typing import Any, Final

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey
from cascade.runtime.durable.kept import Kept
from cascade.runtime.durable.keys import Keys, Named
from cascade.runtime.durable.rows import BLOB, ERROR, VALUE, Row
from cascade.runtime.durable.warnings_once import WarningsOnce
from cascade.runtime.semantics.outcomes import Failed
from cascade.spec.errors import NotStorableError
from cascade.spec.lazy_types import LazyResult

_NOT_STORED: Final = (
    "a result of task '%s' cannot be stored, so it is computed again if the run is resumed and "
    "needs it: %s"
)


class Outcomes:
    """The outcomes of the nodes of one run. Use it under the run's lock.

    Args:
        codec: Encodes values.
        keys: The keys of the nodes.
        kept: Where they lie in the store.
        strict: Whether a value that cannot be stored is the error of its node.
        fetch: Gives the body of a large value by its digest.

    Attributes:
        tell: Publishes that the value of a node cannot be stored. Set when the run is made.
    """

    tell: Callable[[LazyResult[Any], NotStorableError], None]

    def __init__(
        self, codec: Codec, keys: Keys, kept: Kept, strict: bool, fetch: Callable[[bytes], bytes]
    ) -> None:
        self._codec = codec
        self._keys = keys
        self._kept = kept
        self._strict = strict
        self._fetch = fetch
        #: Nodes whose values have no stored form, or are not to be kept.
        self._not_kept: set[NodeKey] = set()
        self._warnings = WarningsOnce(_NOT_STORED)

    def has(self, lazy: LazyResult[Any]) -> bool:
        """Whether a node has its outcome from an earlier process."""
        if not self._kept.done:
            return False
        return self._keys.find(lazy) in self._kept.done

    def finder(self) -> Callable[[LazyResult[Any]], bool] | None:
        """``has`` as it is now, None if no node has: a look into a set for the target's graph."""
        lasting, done = self._keys.lasting, self._kept.done
        if not done:
            return None
        if len(self._keys) > len(lasting):
            return self.has
        return set(compress(lasting, map(done.__contains__, lasting.values()))).__contains__

    def of(self, lazy: LazyResult[Any]) -> Any:
        """The outcome of such a node.

        Raises:
            SerializationError: It cannot be read in this process.
        """
        row = self._kept.done[self._keys[lazy]]
        if isinstance(row, bytes):
            return self._codec.loads(row)
        body = row.body
        if row.kind == BLOB:
            body = self._fetch(bytes.fromhex(body.decode()))
        value = self._codec.loads(body)
        return Failed(lazy.name, value) if row.kind == ERROR else value

    def of_all(self, lazies: Sequence[LazyResult[Any]]) -> Iterable[Any]:
        """The outcomes of several such nodes; faster than one by one if all are plain values.

        Raises:
            SerializationError: An outcome cannot be read in this process. Raised in its turn.
        """
        plain = self.plain(lazies)
        return map(self.of, lazies) if plain is None else plain

    def plain(self, lazies: Sequence[LazyResult[Any]]) -> Sequence[Any] | None:
        """The same if all are plain values that can be read together, else None."""
        done: Mapping[Any, Row | bytes] = self._kept.done
        rows = [*map(done.get, map(self._keys.lasting.get, lazies))]
        bodies = [row for row in rows if type(row) is bytes]
        return self._codec.loads_plain(bodies) if len(bodies) == len(rows) else None

    def keep(self, node: LazyResult[Any], named: Named, outcome: Any) -> bool:
        """Write the outcome of a node; whether it is kept.

        Raises:
            NotStorableError: It has no stored form, and that is an error of the node.
        """
        policies = node._policies
        if policies is not None and policies.calls.checkpoint == inf and not node.task.is_wait:
            self._not_kept.add(named.key)
            return False
        kind, value = VALUE, outcome
        if type(outcome) is Failed:
            kind, value = ERROR, outcome.error
        try:
            body = self._codec.dumps(value)
        except NotStorableError as error:
            self._not_kept.add(named.key)
            if self._strict:
                raise
            self.tell(node, error)
            self._warnings.warn(node, error)
            return False
        self._kept.write(named.key, node.task.name, kind, named.owner, body)
        return True

    def is_written(self, key: NodeKey) -> bool:
        """Whether this process has written the outcome that a node has."""
        return key not in self._kept.done and key not in self._not_kept

    def drop(self, key: NodeKey) -> None:
        """Drop the outcome of a node that is not needed any more."""
        self._kept.drop(key)
        self._not_kept.discard(key)
