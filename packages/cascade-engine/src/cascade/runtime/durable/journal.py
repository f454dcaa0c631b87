"""Journal: what a durable run knows. The machinery of graphs asks it and tells it.

A node has one durable state: none, then a *record* of what it goes on as, then its *outcome*. Both
are stored under its key. A run that is resumed takes an outcome as the node's value, and a record
as the result of a call that has just returned; nothing else of its past is needed.

Nodes of a graph that another node, their *owner*, has continued as are needed until the owner has
its value or continues as something else. Then their outcomes are dropped: a loop that runs for ever
needs no more storage than one of its steps.

Containers, operators, maps and routers are computed anew. Such a node is journaled nonetheless if
it continues as the call of a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import inf
from time import monotonic
from typing import Any, TypeVar

from cascade.graph.codec import Codec
from cascade.graph.naming import NodeKey, context_of
from cascade.graph.records import GraphRecord, graph_record, read_record, tail_record
from cascade.graph.stored_calls import fitted
from cascade.runtime.durable.kept import Kept
from cascade.runtime.durable.keys import Keys, Named
from cascade.runtime.durable.rows import BLOB, ERROR, VALUE, rows_of, written
from cascade.runtime.durable.wait_records import WAIT, WaitRecords
from cascade.runtime.durable.writer import Desk
from cascade.runtime.inbox import Inbox, Letter
from cascade.runtime.semantics.outcomes import Failed, Missing, is_error
from cascade.spec.blueprint import TailCall
from cascade.spec.errors import (
    CycleError,
    InternalError,
    NotStorableError,
    SerializationError,
)
from cascade.spec.lazy_types import LazyResult, gathered
from cascade.spec.params import Env
from cascade.spec.run_rows import Chunk, Loaded, Record
from cascade.spec.run_store import StoreTransaction
from cascade.spec.task import Task

T = TypeVar("T")
_log = logging.getLogger("cascade.durable")
#: A journaled outcome of a node that has continued as a call.
Continued = LazyResult[Any] | TailCall


class _Place:
    """A node that has continued at least once."""

    __slots__ = ("due", "inner", "is_recorded", "keeps", "owner", "passed", "same", "step")

    def __init__(self, owner: NodeKey | None) -> None:
        self.owner = owner
        #: How often it has continued, apart from snapshots of loops of plain functions. The same
        #: in each process, as names and idempotency keys are made of it.
        self.step = 0
        #: When the next record of its loop is due, and how many steps it has made without one.
        self.due = 0.0
        self.passed = 0
        #: Whether it has a record.
        self.is_recorded = False
        #: Whether its outcome is kept, although it is no call of a task.
        self.keeps = False
        #: The target of the graph that it has continued as.
        self.same: NodeKey | None = None
        #: Nodes with outcomes that are dropped with its present step.
        self.inner: list[NodeKey] = []


class Journal:
    """The journal of one run in this process. Use it under the run's lock.

    Args:
        codec: Encodes values and what nodes go on as.
        keys: The keys of the target's nodes.
        desk: Takes what is to be written.
        sync: Whether no call begins before the outcomes that it depends on are committed (D4).
        strict: Whether a value that cannot be stored is the error of its node (D7).

    Attributes:
        run_id: The id of the run. To be set.
        fetch: Gives the body of a large value by its digest. To be set.
        transaction: Gives a transaction of a task, which is not begun yet. To be set.
        tell: Publishes that the value of a node cannot be stored. Set when the run is made.
        made: Number of steps of the run (M20) that are recorded, and will not be made again.
    """

    run_id: str
    fetch: Callable[[bytes], bytes]
    transaction: Callable[[], AbstractContextManager[StoreTransaction]]
    tell: Callable[[LazyResult[Any], NotStorableError], None]

    def __init__(
        self, codec: Codec, keys: Keys, desk: Desk, *, sync: bool = True, strict: bool = False
    ) -> None:
        self.keys = keys
        self.sync = sync
        #: Takes what is to be written.
        self.desk = desk
        self._codec = codec
        self._strict = strict
        #: The error that ended the run before its graph had begun.
        self._stopped: BaseException | None = None
        #: The signals of the run.
        self.inbox = Inbox()
        #: Seconds of waiting that are worth leaving this process for; None for none (D10).
        self.unload: float | None = None
        self._release: Callable[[Sequence[Callable[[], object]]], None] | None = None
        self._fail: Callable[[BaseException], None] | None = None
        self._kept = Kept(desk)
        #: Records of earlier processes that no node has taken yet.
        self._records: dict[NodeKey, Record] = {}
        self._places: dict[NodeKey, _Place] = {}
        #: Target of a graph → the node that has continued as it, which gets the same outcome.
        self._same: dict[NodeKey, NodeKey] = {}
        self._waits = WaitRecords(desk)
        #: Nodes whose values have no stored form, or are not to be kept.
        self._unstorable: set[NodeKey] = set()
        #: Task → what has changed in its code since the run began (D9).
        self.code_changes: Mapping[str, Sequence[str]] = {}
        #: Nodes whose outcomes the transactions of their tasks have committed (D5).
        self._apart: set[NodeKey] = set()
        #: Node with such a task that is being called → what its attempts have in common.
        self._once: dict[NodeKey, Any] = {}
        #: Tasks of which a warning was given.
        self._warned: set[str] = set()
        self.made = 0

    # -- its run ----------------------------------------------------------------------------------

    def begin(
        self,
        release: Callable[[Sequence[Callable[[], object]]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """The graph of the run begins. In the loop's thread.

        Args:
            release: Called with functions that have waited for a commit.
            fail: Ends the run with an error.
        """
        self._release, self._fail = release, fail
        if self._stopped is not None:
            fail(self._stopped)

    def committed(self, waiting: list[Callable[[], object]]) -> None:
        """Let functions go on that have waited for a commit. In the loop's thread."""
        if self._release is not None:
            self._release(waiting)

    def stop(self, error: BaseException) -> None:
        """End the run. In the loop's thread."""
        self._stopped = self._stopped or error
        if self._fail is not None:
            self._fail(error)

    def end(self) -> None:
        """The graph of the run has ended; nothing is told to it any more."""
        self._release = self._fail = None

    def is_due(self, node: LazyResult[Any], every: float) -> bool:
        """Whether a record of the loop of a node is due; the next one is, ``every`` seconds later.

        The first one is due at once: arguments without a stored form are refused early (D7).
        """
        named = self.keys.named(node)
        if named is None or every == inf:
            return False
        _, place = self._place(named)
        now = monotonic()
        if now < place.due:
            place.passed += 1
            return False
        place.due = now + every
        return True

    # -- what earlier processes have left ---------------------------------------------------------

    def load(self, loaded: Loaded) -> None:
        """Take over what is known of the run.

        Raises:
            SerializationError: A chunk is damaged.
        """
        self._kept.load(loaded.chunks)
        for row in self._kept.done.values():
            self._belongs(row.key, row.owner)
        for outcome in loaded.outcomes:
            self._apart.add(outcome.key)
            for row in rows_of(Chunk(0, outcome.body)):
                self._kept.done.setdefault(row.key, row)
                self._belongs(row.key, row.owner)
        for record in loaded.records:
            if record.kind == WAIT:
                self._belongs(self._waits.load(record), record.context or None)
                continue
            self._records[record.key] = record
            place = self._places.setdefault(record.key, _Place(None))
            place.owner = record.context or None
            place.step, place.is_recorded = record.step, True
            self._belongs(record.key, place.owner)
        self.made = self.desk.progress = max(loaded.run.progress - len(self._records), 0)
        for signal in loaded.signals:
            self.inbox.put(Letter(signal.name, signal.body, signal.number))
        self.inbox.seen = max(self.inbox.seen, loaded.run.inbox)

    # -- signals and waits (D10, D11) -------------------------------------------------------------

    def begin_wait(self, node: LazyResult[Any], until: float) -> float:
        """Record that a node waits until a time (UTC, seconds), unless that is known already.

        Returns:
            When its wait is over; the record of an earlier process counts.
        """
        named = self.keys.named(node)
        if named is None:
            return until
        known = self._waits.until(named.key)
        if known is not None:
            return known
        self._belongs(named.key, named.owner)
        return self._waits.begin(named.key, named.owner, until)

    def end_wait(self, node: LazyResult[Any]) -> None:
        """Forget when the wait of a node is over, which has its outcome."""
        named = self.keys.named(node)
        if named is not None:
            self._waits.end(named.key)

    def read(self, body: bytes) -> Any:
        """The value of a signal.

        Raises:
            SerializationError: It cannot be read in this process.
        """
        return self._codec.loads(body)

    def has(self, lazy: LazyResult[Any]) -> bool:
        """Whether a node has its outcome from an earlier process."""
        if not self._kept.done:
            return False
        named = self.keys.named(lazy)
        return named is not None and named.key in self._kept.done

    def outcome(self, lazy: LazyResult[Any]) -> Any:
        """The outcome of such a node.

        Raises:
            SerializationError: It cannot be read in this process.
        """
        row = self._kept.done[self.keys[lazy]]
        body = row.body
        if row.kind == BLOB:
            body = self.fetch(bytes.fromhex(body.decode()))
        value = self._codec.loads(body)
        return Failed(lazy.name, value) if row.kind == ERROR else value

    def handed(self, lazy: LazyResult[Any]) -> Continued | None:
        """What a node goes on as, according to its record; None without one. Once for each node.

        Raises:
            CodeChangedError: The stored call does not fit its task any more (D9).
            SerializationError: It cannot be read in this process.
        """
        if not self._records:
            return None
        named = self.keys.named(lazy)
        record = None if named is None else self._records.pop(named.key, None)
        if record is None:
            return None
        found = read_record(self._codec, record.body, self.keys.by_key())
        self.keys.put(found.keys, record.key)
        if isinstance(found, GraphRecord):
            self._be_same(self._places[record.key], record.key, found.keys.get(found.target))
            return found.target
        fitting = fitted(found.task, found.version, found.args)
        args, kwargs = found.task.parameters.spread(fitting)
        return TailCall(args, kwargs, found.blueprint, found.task)

    def steps(self, lazy: LazyResult[Any]) -> int:
        """How often a node has continued, of which there is a record."""
        return self._places[self.keys[lazy]].step

    # -- what this process tells ------------------------------------------------------------------

    def rounds(self, lazy: LazyResult[Any]) -> int:
        """The rounds that a node has made, without the one that ``handed`` gives (M20)."""
        return self._places[self.keys[lazy]].step - 1

    def record(self, node: LazyResult[Any], outcome: Any) -> None:
        """Keep the outcome of a node.

        Raises:
            NotStorableError: Its value has no stored form, and the journal is strict.
        """
        named = self.keys.named(node)
        if named is None or (isinstance(outcome, Missing) and not is_error(outcome, node)):
            return  # when the run is resumed, it ends so again, from its record on (D8)
        key, place = named.key, self._places.pop(named.key, None)
        is_same, is_safe = self._same.pop(key, None) is not None, True
        self._once.pop(key, None)
        if key in self._apart and not isinstance(outcome, Missing):
            if key not in self._kept.done:
                self._belongs(key, named.owner)
        elif self._is_kept(node, place) and not is_same and key not in self._kept.done:
            if isinstance(outcome, Failed):
                is_safe = self._keep(node, named, ERROR, outcome.error)
            else:
                is_safe = self._keep(node, named, VALUE, outcome)
            if not is_safe and place is not None:
                self._places[key] = place  # what it is made of again
                self._belongs(key, place.owner)
                return
        if place is not None:
            self._forget(key, place)

    def holds(self, node: LazyResult[Any], users: Iterable[LazyResult[Any]] = ()) -> bool:
        """Whether the users of a node that has just got its outcome wait for the commit.

        A container or an operator does not wait for the values in it; its users wait for them.
        """
        if not self.sync or (users and all(map(_only_computes, users))):
            return False
        if node.task.structural:
            return not self.desk.is_clean
        key = self.keys.named(node)
        if key is None or key.key in self._apart:
            return False
        return key.key not in self._kept.done and key.key not in self._unstorable

    def goes_on(
        self,
        node: LazyResult[Any],
        continued: Continued | None,
        structural: bool = False,
        steps: int = 1,
        counts: bool = True,
    ) -> bool:
        """The last call of a node has returned ``continued``; whether to hold that.

        Args:
            node: The node.
            continued: A lazy value; or a tail call with its task and all arguments, in which only
                lazy values that are not in literals are to be computed. None if it has no form.
            structural: Whether it was no call of a task.
            steps: Number of steps of a compiled loop since the last record.
            counts: Whether it is a step: it would be one in any process, whatever the time is.

        Raises:
            NotStorableError: An argument of a tail call has no stored form.
        """
        named = self.keys.named(node)
        if named is None:
            return False
        key, place = self._place(named)
        place.step += counts
        if structural:
            place.keeps = isinstance(continued, LazyResult) and not continued._dependencies
            return False
        if continued is None:
            return False  # the node's last call may be made again
        try:
            if isinstance(continued, TailCall):
                kind, body = "tail", self._tail(continued, key, place)
            else:
                kind, body = "graph", self._graph(continued, key, place)
        except NotStorableError:
            if isinstance(continued, TailCall):
                raise
            return False
        except (SerializationError, CycleError) as error:
            self._warn(
                node,
                "task '%s' continues as something that cannot be stored, so its call is made again "
                "if the run is resumed before it has its value: %s",
                error,
            )
            return False
        self.made += steps + place.passed
        place.passed = 0
        self.desk.progress = self.made
        self.desk.record(Record(key, kind, place.step, body, place.owner or b""))
        if not place.is_recorded:
            place.is_recorded = True
            self._belongs(key, place.owner)
        self._drop_inner(place)
        return self.sync

    def count(self, node: LazyResult[Any]) -> None:
        """A node makes a step without a record."""
        named = self.keys.named(node)
        if named is not None:
            self._place(named)[1].step += 1

    def add(self, node: LazyResult[Any], target: LazyResult[Any]) -> None:
        """Name the nodes of a graph that a node needs to continue, if they have no names yet."""
        named = self.keys.named(node)
        if named is not None and target not in self.keys:
            key, place = self._place(named)
            owner = key if self._is_kept(node, place) else place.owner
            self.keys.put(self.keys.new_if_any(target, context_of(key, place.step)), owner)

    def succeed(self) -> None:
        """Drop what nodes have continued as that are not needed any more: the run has its value."""
        while self._places:
            self._forget(*self._places.popitem())

    # -- calls that are kept apart; from any thread -----------------------------------------------

    def place_of(self, node: LazyResult[Any]) -> tuple[NodeKey, int, NodeKey | None]:
        """The key under which the present call of a node is kept, its step, and who needs it."""
        named = self.keys.named(node)
        if named is None:
            raise InternalError(f"{node!r} has no key in run {self.run_id!r}")
        key = self._same.get(named.key, named.key)
        place = self._places.get(key)
        if place is None:
            return key, 0, named.owner
        return key, place.step, named.owner if key == named.key else place.owner

    def once(self, key: NodeKey, make: Callable[[], T]) -> T:
        """What the attempts of one call have in common, until the node has its outcome."""
        once: T = self._once.setdefault(key, make())
        return once

    def entry(self, key: NodeKey, task: str, owner: NodeKey | None, value: Any) -> bytes:
        """A value as the transaction of its task writes it.

        Raises:
            NotStorableError: It has no stored form.
        """
        return written(key, task, VALUE, owner, self._codec.dumps(value))

    def committed_apart(self, key: NodeKey) -> None:
        """The transaction of a task has committed the outcome of its node."""
        self._apart.add(key)

    # -- bookkeeping ------------------------------------------------------------------------------

    def _place(self, named: Named) -> tuple[NodeKey, _Place]:
        """The place of a node, or of the one that has continued as it; and the key of that."""
        key = self._same.get(named.key, named.key)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(named.owner)
        elif key == named.key:
            place.owner = named.owner
        return key, place

    def _graph(self, target: LazyResult[Any], key: NodeKey, place: _Place) -> bytes:
        """The record of a returned lazy value, whose nodes get their names."""
        new = self.keys.new_if_any(target, context_of(key, place.step))
        self.keys.put(new, key)
        self._be_same(place, key, new.get(target))
        return graph_record(target, self.keys, self.keys.lasting)

    def _tail(self, tail: TailCall, key: NodeKey, place: _Place) -> bytes:
        """The record of a tail call, whose lazy arguments get their names."""
        assert tail.target is not None
        args = tail.target.parameters.named(tail.args, tail.kwargs)
        lazies = [value for value in args.values() if isinstance(value, LazyResult)]
        new: dict[LazyResult[Any], NodeKey] = {}
        if lazies:
            together = gathered(lazies, lazies[0]._code, lazies[0]._lasti)
            new = self.keys.new_if_any(together, context_of(key, place.step))
            new.pop(together, None)
        self.keys.put(new, key)
        return tail_record(
            self._codec,
            tail.target,
            args,
            place.step,
            blueprint=tail.target_blueprint_id,
            keys=self.keys,
            known=self.keys.lasting,
        )

    def _be_same(self, place: _Place, key: NodeKey, target: NodeKey | None) -> None:
        """Note that the target of the graph that ``key`` has continued as has the same outcome."""
        if place.same is not None:
            self._same.pop(place.same, None)
        place.same = target
        if target is not None:
            self._same[target] = key

    def _is_kept(self, node: LazyResult[Any], place: _Place | None) -> bool:
        # An environment variable may have changed when the run is resumed.
        is_read = isinstance(node, Env)
        return is_read or isinstance(node.task, Task) or (place is not None and place.keeps)

    def _keep(self, node: LazyResult[Any], named: Named, kind: int, value: Any) -> bool:
        """Write an outcome; whether it has a stored form.

        At once: nobody may change a value before it is encoded (D7).
        """
        if node._calls.checkpoint == inf and not node.task.is_wait:
            self._unstorable.add(named.key)
            return False
        try:
            body = self._codec.dumps(value)
        except NotStorableError as error:
            self._unstorable.add(named.key)
            if self._strict:
                raise
            self.tell(node, error)
            self._warn(
                node,
                "a result of task '%s' cannot be stored, so it is computed again if the run is "
                "resumed and needs it: %s",
                error,
            )
            return False
        self._kept.write(named.key, node.task.name, kind, named.owner, body)
        self._belongs(named.key, named.owner)
        return True

    def _warn(self, node: LazyResult[Any], text: str, error: Exception) -> None:
        """Warn once of each task, as often as its nodes may meet this."""
        if node.name not in self._warned:
            self._warned.add(node.name)
            _log.warning(text, node.name, error)

    def _belongs(self, key: NodeKey, owner: NodeKey | None) -> None:
        """Note that a node is only needed by a step of another one."""
        if owner is not None:
            place = self._places.get(owner)
            if place is None:
                place = self._places[owner] = _Place(None)
            place.inner.append(key)

    def _drop_inner(self, place: _Place) -> None:
        """Drop all that is kept of the nodes that only a step of ``place`` has needed."""
        inner, place.inner = place.inner, []
        for key in inner:
            self._waits.end(key)
            self._kept.drop(key)
            self._unstorable.discard(key)
            if key in self._apart:
                self._apart.discard(key)
                self.desk.drop_apart(key)
            found = self._places.pop(key, None)
            if found is not None:  # it has failed, or was not needed any more
                self._forget(key, found)

    def _forget(self, key: NodeKey, place: _Place) -> None:
        """Drop what a node has continued as."""
        if place.same is not None:
            self._same.pop(place.same, None)
        if place.is_recorded:
            self.desk.drop_record(key)
            self._records.pop(key, None)
        self._drop_inner(place)


def _only_computes(node: LazyResult[Any]) -> bool:
    """Whether a node is a container or an operator, which calls no task."""
    return node.task.structural and type(node) is LazyResult
