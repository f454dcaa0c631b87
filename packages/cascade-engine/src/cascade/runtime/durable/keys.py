"""Keys: the names of the nodes that one process has met of a durable run.

A key is the same in every process (``graph.naming``); the nodes are not. They are kept weakly, as a
loop that makes new ones for ever must not be remembered for ever.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cascade.graph.naming import NodeKey, node_keys
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import LazyResult


class Named(NamedTuple):
    """The names of a node."""

    key: NodeKey
    #: The journaled node that needs the graph to which this one belongs; None for the target's.
    owner: NodeKey | None


class Keys(Mapping[LazyResult[Any], NodeKey]):
    """The keys of nodes. Use it under the run's lock.

    Args:
        lasting: The keys of the nodes of the run's target.

    Attributes:
        lasting: As given: those that a record may mention by their keys. Other nodes may be
            mentioned by a later process before it meets them, so they are written out.
    """

    def __init__(self, lasting: Mapping[LazyResult[Any], NodeKey]) -> None:
        self.lasting = lasting
        self._named: dict[weakref.ref[LazyResult[Any]], Named] = {}
        self._forget = self._named.pop
        #: Key → node; made when a record is read.
        self._lazies: weakref.WeakValueDictionary[NodeKey, LazyResult[Any]] | None = None

    def new(self, target: LazyResult[Any], context: bytes) -> dict[LazyResult[Any], NodeKey]:
        """The keys of the nodes of a graph that have none yet.

        Args:
            target: The target of the graph.
            context: Where the graph belongs; see ``graph.naming``.

        Raises:
            CycleError: Nodes wait for each other.
        """
        return {} if target in self else node_keys(target, context=context, known=self)

    def new_if_any(self, target: LazyResult[Any], context: bytes) -> dict[LazyResult[Any], NodeKey]:
        """The same for a graph that a task has returned.

        Routes and fallbacks that wait for their own node are no error unless they are taken. A
        graph with such ones has no keys: what a crash interrupts there is made again.
        """
        try:
            return self.new(target, context)
        except CycleError:
            return {}

    def put(self, keys: Mapping[LazyResult[Any], NodeKey], owner: NodeKey | None) -> None:
        """Remember the keys of new nodes, which ``owner`` needs."""
        for lazy, key in keys.items():
            self._named[weakref.ref(lazy, self._forget)] = Named(key, owner)
            if self._lazies is not None:
                self._lazies[key] = lazy

    def named(self, lazy: LazyResult[Any]) -> Named | None:
        """The names of a node; None if it has none."""
        key = self.lasting.get(lazy)
        return self._named.get(weakref.ref(lazy)) if key is None else Named(key, None)

    def find(self, lazy: LazyResult[Any]) -> NodeKey | None:
        """The key of a node; None if it has none."""
        key = self.lasting.get(lazy)
        if key is None:
            named = self._named.get(weakref.ref(lazy))
            return None if named is None else named.key
        return key

    def by_key(self) -> Mapping[NodeKey, LazyResult[Any]]:
        """The nodes that live now."""
        if self._lazies is None:
            self._lazies = weakref.WeakValueDictionary()
            for lazy in self:
                self._lazies[self[lazy]] = lazy
        return self._lazies

    def __getitem__(self, lazy: LazyResult[Any]) -> NodeKey:
        # An argument of a node may be any object, also one without a hash or weak references.
        found = self.find(lazy) if isinstance(lazy, LazyResult) else None
        if found is None:
            raise KeyError(lazy)
        return found

    def __contains__(self, lazy: object) -> bool:
        return isinstance(lazy, LazyResult) and self.find(lazy) is not None

    def __iter__(self) -> Iterator[LazyResult[Any]]:
        yield from self.lasting
        yield from [lazy for ref in self._named if (lazy := ref()) is not None]

    def __len__(self) -> int:
        return len(self.lasting) + len(self._named)
