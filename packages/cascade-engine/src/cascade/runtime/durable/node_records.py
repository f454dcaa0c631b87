"""Records of nodes: what their last calls gave in place of values, for other processes (R4, R5).

A record takes the place of the one before: an agent that loops for ever has one.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey, context_of
from cascade.graph.records import GraphRecord, graph_record, read_record, tail_record
from cascade.graph.stored_calls import fitted
from cascade.runtime.durable.keys import Keys
from cascade.runtime.durable.places import Place, Places
from cascade.runtime.durable.warnings_once import WarningsOnce
from cascade.runtime.durable.writer import Desk
from cascade.spec.blueprint import TailCall
from cascade.spec.errors import CycleError, NotStorableError, SerializationError
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.run_rows import Record

#: What a call gave that its node continues as.
Continued: TypeAlias = LazyResult[Any] | TailCall
_NOT_STORED: Final = (
    "task '%s' continues as something that cannot be stored, so its call is made again if the run "
    "is resumed before it has its value: %s"
)


class NodeRecords:
    """The records of the nodes of one run. Use it under the run's lock.

    Args:
        codec: Encodes arguments.
        keys: The keys of the nodes; those that a record mentions get theirs.
        desk: Takes what is to be written.
    """

    def __init__(self, codec: Codec, keys: Keys, desk: Desk) -> None:
        self._codec = codec
        self._keys = keys
        self._desk = desk
        #: Records of earlier processes that no node has taken yet.
        self._loaded: dict[NodeKey, Record] = {}
        self._warnings = WarningsOnce(_NOT_STORED)

    def __len__(self) -> int:
        return len(self._loaded)

    def load(self, record: Record) -> None:
        """Take over the record of an earlier process."""
        self._loaded[record.key] = record

    def take(self, lazy: LazyResult[Any], places: Places) -> Continued | None:
        """What a node goes on as, according to its record; None without one. Once for each node.

        Raises:
            CodeChangedError: The stored call does not fit its task any more (D9).
            SerializationError: It cannot be read in this process.
        """
        if not self._loaded:
            return None
        key = self._keys.find(lazy)
        record = None if key is None else self._loaded.pop(key, None)
        if record is None:
            return None
        found = read_record(self._codec, record.body, self._keys.by_key())
        self._keys.put(found.keys, record.key)
        if isinstance(found, GraphRecord):
            places.be_same(places[record.key], record.key, found.keys.get(found.target))
            return found.target
        fitting = fitted(found.task, found.version, found.args)
        args, kwargs = found.task.parameters.spread(fitting)
        return TailCall(args, kwargs, found.blueprint, found.task)

    def write(
        self,
        node: LazyResult[Any],
        continued: Continued,
        key: NodeKey,
        place: Place,
        places: Places,
    ) -> bool:
        """Write a record; whether it has a stored form.

        Args:
            node: The node.
            continued: What its last call gave; a tail call with its task and all arguments.
            key: The key under which it is kept.
            place: The place of that.

        Raises:
            NotStorableError: An argument of a tail call has no stored form.
        """
        try:
            if isinstance(continued, TailCall):
                kind, body = "tail", self._tail(continued, key, place)
            else:
                kind, body = "graph", self._graph(continued, key, place, places)
        except NotStorableError:
            if isinstance(continued, TailCall):
                raise
            return False
        except (SerializationError, CycleError) as error:
            self._warnings.warn(node, error)
            return False
        self._desk.record(Record(key, kind, place.step, body, place.owner or b""))
        return True

    def drop(self, key: NodeKey) -> None:
        """Drop the record of a node."""
        self._loaded.pop(key, None)
        self._desk.drop_record(key)

    def _graph(self, target: LazyResult[Any], key: NodeKey, place: Place, places: Places) -> bytes:
        """The record of a returned lazy value, whose nodes get their names."""
        new = self._keys.new_if_any(target, context_of(key, place.step))
        self._keys.put(new, key)
        places.be_same(place, key, new.get(target))
        return graph_record(target, self._keys, self._keys.lasting)

    def _tail(self, tail: TailCall, key: NodeKey, place: Place) -> bytes:
        """The record of a tail call, whose lazy arguments get their names."""
        assert tail.target is not None
        args = tail.target.parameters.named(tail.args, tail.kwargs)
        lazies = [value for value in args.values() if isinstance(value, LazyResult)]
        new: dict[LazyResult[Any], NodeKey] = {}
        if lazies:
            together = gathered(lazies, lazies[0]._code, lazies[0]._lasti)
            new = self._keys.new_if_any(together, context_of(key, place.step))
            new.pop(together, None)
        self._keys.put(new, key)
        return tail_record(
            self._codec,
            tail.target,
            args,
            place.step,
            blueprint=tail.target_blueprint_id,
            keys=self._keys,
            known=self._keys.lasting,
        )
