"""Records of nodes: what their last calls gave in place of values, for other processes (R4, R5).

A record takes the place of the one before: an agent that loops for ever has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey, context_of
from cascade.graph.records import (
    Apart,
    GraphRecord,
    digests_in,
    graph_record,
    read_record,
    tail_record,
)
from cascade.graph.references import reference_to
from cascade.graph.stored_calls import fitted
from cascade.runtime.durable.blobs import LARGE, Blobs
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.keys import Keys
from cascade.runtime.durable.places import Place, Places
from cascade.runtime.durable.warnings_once import WarningsOnce
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.errors import CycleError, NotStorableError, SerializationError
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.run_rows import Record
from cascade.spec.task import Task

#: What records are signed for.
_PURPOSE: Final = b"record"
#: The end of what mentions the large arguments of a record: its node may have a large value.
_END: Final = b"/record"
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
        blobs: Has large arguments.
        fetch: Gives a large argument by its digest.
    """

    def __init__(
        self,
        codec: Codec,
        keys: Keys,
        desk: Desk,
        blobs: Blobs,
        fetch: Callable[[bytes], bytes],
    ) -> None:
        self._codec = codec
        self._keys = keys
        self._desk = desk
        self._blobs = blobs
        self._fetch = fetch
        #: The large arguments of the record that is being written.
        self._digests: list[bytes] = []
        self._apart = Apart(LARGE, self._keep_apart)
        #: Records of earlier processes that no node has taken yet.
        self._loaded: dict[NodeKey, Record] = {}
        self._warnings = WarningsOnce(_NOT_STORED)
        self._references: dict[Task[..., Any], str] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    def load(self, record: Record) -> None:
        """Take over the record of an earlier process.

        Raises:
            SerializationError: It is damaged, or signed with another key.
        """
        body = unsealed(self._codec, record)
        self._loaded[record.key] = record._replace(body=body)
        self._blobs.hold(record.key + _END, digests_in(body))

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
        found = read_record(self._codec, record.body, self._keys.by_key(), self._fetch)
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
        self._digests = []
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
        body = self._codec.seal(body, _PURPOSE)
        self._desk.record(Record(key, kind, place.step, body, place.owner or b""))
        self._blobs.hold(key + _END, self._digests)
        return True

    def drop(self, key: NodeKey) -> None:
        """Drop the record of a node."""
        self._loaded.pop(key, None)
        self._desk.drop_record(key)
        self._blobs.release(key + _END)

    def _keep_apart(self, body: bytes) -> bytes:
        digest = self._blobs.write(body)
        self._digests.append(digest)
        return digest

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
        lazies: list[LazyResult[Any]] = []
        if not ATOMS.issuperset(map(type, args.values())):
            lazies = [v for v in _all_values(tail.target, args) if isinstance(v, LazyResult)]
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
            apart=self._apart,
            reference=self._reference_to(tail.target),
        )

    def _reference_to(self, task: Task[..., Any]) -> str | None:
        """The name of a task, which is looked up once in a run."""
        found = self._references.get(task)
        if found is None and (found := reference_to(task)) is not None:
            self._references[task] = found
        return found


def unsealed(codec: Codec, record: Record) -> bytes:
    """The body of a record without its signature.

    Raises:
        SerializationError: It is signed with another key.
    """
    return codec.unseal(record.body, _PURPOSE)


def _all_values(task: Task[..., Any], named: Mapping[str, Any]) -> Iterator[Any]:
    """The arguments of a call; those for ``*args`` and ``**kwargs`` one by one."""
    for name, value in named.items():
        if name == task.parameters.var_positional:
            yield from value
        elif name == task.parameters.var_keyword:
            yield from value.values()
        else:
            yield value
