"""Keys: the names of the nodes that one process has met of a durable run.

A key is the same in every process (``graph.naming``); the nodes are not. They are kept weakly, as a
loop that makes new ones for ever must not be remembered for ever.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cascade.graph.naming import NodeKey, node_keys
from cascade.spec.lazy_types import LazyResult


class Named(NamedTuple):
    """The names of a node."""

    key: NodeKey
    #: The journaled node that needs the graph to which this one belongs; None for the target's.
    owner: NodeKey | None
    #: Whether every process that goes on with the run knows it from the beginning: it belongs to
    #: the graph of the run's target.
    lasts: bool


class Keys(Mapping[LazyResult[Any], NodeKey]):
    """The keys of nodes. Use it under the run's lock."""

    def __init__(self) -> None:
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

    def put(
        self,
        keys: Mapping[LazyResult[Any], NodeKey],
        owner: NodeKey | None,
        lasts: bool = False,
    ) -> None:
        """Remember the keys of new nodes, which ``owner`` needs."""
        for lazy, key in keys.items():
            self._named[weakref.ref(lazy, self._forget)] = Named(key, owner, lasts)
            if self._lazies is not None:
                self._lazies[key] = lazy

    def named(self, lazy: LazyResult[Any]) -> Named | None:
        """The names of a node; None if it has none."""
        return self._named.get(weakref.ref(lazy))

    def by_key(self) -> Mapping[NodeKey, LazyResult[Any]]:
        """The nodes that live now."""
        if self._lazies is None:
            self._lazies = weakref.WeakValueDictionary()
            for ref, named in self._named.items():
                lazy = ref()
                if lazy is not None:
                    self._lazies[named.key] = lazy
        return self._lazies

    @property
    def lasting(self) -> Mapping[LazyResult[Any], NodeKey]:
        """The nodes that a record may mention by their keys: those of the target's graph.

        Others may be mentioned by a later process before it meets them. So they are written out.
        """
        return _Lasting(self)

    def __getitem__(self, lazy: LazyResult[Any]) -> NodeKey:
        return self._named[weakref.ref(lazy)].key

    def __contains__(self, lazy: object) -> bool:
        return isinstance(lazy, LazyResult) and weakref.ref(lazy) in self._named

    def __iter__(self) -> Iterator[LazyResult[Any]]:
        return iter([lazy for ref in self._named if (lazy := ref()) is not None])

    def __len__(self) -> int:
        return len(self._named)


class _Lasting(Mapping[LazyResult[Any], NodeKey]):
    """The keys of nodes that every process of a run knows."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __contains__(self, lazy: object) -> bool:
        named = self._keys.named(lazy) if isinstance(lazy, LazyResult) else None
        return named is not None and named.lasts

    def __getitem__(self, lazy: LazyResult[Any]) -> NodeKey:
        if lazy not in self:
            raise KeyError(lazy)
        return self._keys[lazy]

    def __iter__(self) -> Iterator[LazyResult[Any]]:
        return iter([lazy for lazy in self._keys if lazy in self])

    def __len__(self) -> int:
        return sum(1 for _ in self)
