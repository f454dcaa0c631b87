"""Journal: the stored state of a durable run. The machinery of graphs asks it and tells it.

A node has one durable state: none, then a *record* of what it goes on as, then its *outcome*. Both
are stored under its key. A run that is resumed takes an outcome as the node's value, and a record
as the result of a call that has just returned; nothing else of its past is needed.

The parts: ``outcomes``, ``records``, ``waits``, ``transactions`` each keep one kind of row, and
``places`` knows which rows are not needed any more. A loop that runs for ever therefore needs no
more storage than one of its steps.

Containers, operators, maps and routers are computed anew. Such a node is journaled nonetheless if
it continues as the call of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from time import monotonic, time
from typing import Any

from cascade.graph.naming import NodeKey, context_of
from cascade.runtime.durable.blobs import Blobs
from cascade.runtime.durable.guarantees import Guarantees
from cascade.runtime.durable.kept import LASTING, Kept
from cascade.runtime.durable.keys import Keys
from cascade.runtime.durable.node_records import Continued, NodeRecords
from cascade.runtime.durable.outcomes import Outcomes
from cascade.runtime.durable.places import Place, Places
from cascade.runtime.durable.rows import CODE
from cascade.runtime.durable.run_storage import RunStorage
from cascade.runtime.durable.transactions import Transactions
from cascade.runtime.durable.wait_records import WAIT, WaitRecords
from cascade.runtime.inbox import Inbox, Letter
from cascade.runtime.semantics.outcomes import Missing, is_error
from cascade.runtime.semantics.recording import Keeper
from cascade.spec.errors import InternalError, TaskNotImportedError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import Env
from cascade.spec.run_rows import Loaded
from cascade.spec.task import Task


class Journal:
    """The journal of one run in this process. Use it under the run's lock.

    Args:
        storage: Reads and writes the run's part of the store.
        keys: The keys of the target's nodes.
        guarantees: Those of the engine.
        unload: Seconds of waiting that are worth leaving this process for; None for none (D10).

    Attributes:
        code_changes: Task → what has changed in its code since the run began (D9).
        desk: Takes the rows to write.
        has_code: Whether there is a record of the code with which the run was computed again.
        inbox: The signals of the run.
        not_imported: The error of a row that names a module which this process may not import; the
            run is for another one.
        made: Number of steps of the run (M20) that are recorded, and will not be made again.
        outcomes: The outcomes of nodes.
        sync: Whether no call begins before the outcomes that it depends on are committed (D4).
        transactions: The transactions of tasks.
    """

    def __init__(
        self,
        storage: RunStorage,
        keys: Keys,
        guarantees: Guarantees,
        *,
        unload: float | None = None,
    ) -> None:
        codec, desk, fetch = storage.codec, storage.desk, storage.fetch
        self.run_id = storage.run.run_id
        self.keys = keys
        self.sync = guarantees.durability == "sync"
        self.desk = desk
        self.unload = unload
        self.has_code = False
        self.inbox = Inbox()
        self.made = 0
        self.not_imported: TaskNotImportedError | None = None
        self.code_changes: Mapping[str, Sequence[str]] = {}
        self._codec = codec
        blobs = Blobs(desk)
        self._kept = Kept(desk, blobs)
        self.outcomes = Outcomes(codec, keys, self._kept, guarantees.strict, fetch)
        self.transactions = Transactions(codec, desk, storage.transaction)
        self._records = NodeRecords(codec, keys, desk, blobs, fetch)
        self._waits = WaitRecords(desk)
        self._places = Places(self._drop, self._records.drop)
        #: All are empty as long as nodes have only had values.
        self._events = (*self._places.all, *self.transactions.all)
        #: Keeps the outcome of a node if that is the small value of a call, and nothing else has
        #: happened in its graph yet; whether it is. Refuses one whose user, if given, may have to
        #: wait for the commit (D4).
        self.keep_plain = self._keeper()
        #: The error that ended the run before its graph had begun.
        self._stopped: BaseException | None = None
        self._release: Callable[[Sequence[Callable[[], object]]], None] | None = None
        self._fail: Callable[[BaseException], None] | None = None

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

    # -- what earlier processes have left ---------------------------------------------------------

    def load(self, loaded: Loaded) -> None:
        """Take over the stored state of the run.

        Raises:
            SerializationError: A chunk is damaged.
        """
        places = self._places
        for key, owner in self._kept.load(loaded.chunks).items():
            places.add_inner(key, owner)
        for outcome in loaded.outcomes:
            for row in self.transactions.load(outcome):
                self._kept.done.setdefault(row.key, row)
                # Unless it was committed in the "sync" way, the step that needs it may have no
                # record: then that step is made again, and has to find it (D5).
                places.add_adrift(row.key, row.owner)
        for record in loaded.records:
            if record.kind == CODE:
                self.has_code = True
                continue
            if record.kind == WAIT:
                places.add_inner(self._waits.load(record), record.context or None)
                continue
            self._records.load(record)
            places.load(record.key, record.context or None, record.step)
        self.made = self.desk.progress = max(loaded.run.progress - len(self._records), 0)
        for signal in loaded.signals:
            self.inbox.put(Letter(signal.name, signal.body, signal.number))
        self.inbox.seen = max(self.inbox.seen, loaded.run.inbox)

    def has(self, lazy: LazyResult[Any]) -> bool:
        """Whether a node has its outcome from an earlier process."""
        return self.outcomes.has(lazy)

    def finder(self) -> Callable[[LazyResult[Any]], bool] | None:
        """``has``, but quicker for many nodes, until anything changes; None if no node has."""
        return self.outcomes.finder()

    def outcomes_of(self, lazies: Sequence[LazyResult[Any]]) -> Iterator[Any]:
        """The outcomes of nodes that have one from an earlier process, in the order of ``lazies``.

        Raises:
            SerializationError: An outcome cannot be read in this process. Raised in its turn.
        """
        self._meet(lazies)
        try:
            yield from self.outcomes.of_all(lazies)
        except TaskNotImportedError as error:
            self.not_imported = error
            raise

    def plain_outcomes(self, lazies: Sequence[LazyResult[Any]]) -> Sequence[Any] | None:
        """The same if all are plain values that can be read together, else None."""
        self._meet(lazies)
        return self.outcomes.plain(lazies)

    def _meet(self, lazies: Iterable[LazyResult[Any]]) -> None:
        if self._places.any_adrift:
            for lazy in lazies:
                self._places.meet(self.keys[lazy])

    @property
    def has_records(self) -> bool:
        """Whether ``handed`` may give anything."""
        return len(self._records) > 0

    def handed(self, lazy: LazyResult[Any]) -> Continued | None:
        """What a node goes on as, according to its record; None without one. Once for each node.

        Raises:
            CodeChangedError: The stored call does not fit its task any more (D9).
            SerializationError: It cannot be read in this process.
        """
        try:
            return self._records.take(lazy, self._places)
        except TaskNotImportedError as error:
            self.not_imported = error
            raise

    def steps(self, lazy: LazyResult[Any]) -> int:
        """How often a node has continued, of which there is a record."""
        return self._places[self.keys[lazy]].step

    def rounds(self, lazy: LazyResult[Any]) -> int:
        """The rounds that a node has made, without the one that ``handed`` gives (M20)."""
        return self.steps(lazy) - 1

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
        self._places.add_inner(named.key, named.owner)
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

    # -- outcomes ---------------------------------------------------------------------------------

    def record(self, node: LazyResult[Any], outcome: Any) -> None:
        """Keep the outcome of a node.

        Raises:
            NotStorableError: Its value has no stored form, and the journal is strict.
        """
        if self.keep_plain(node, outcome, None):
            return
        named = self.keys.named(node)
        if named is None or (issubclass(type(outcome), Missing) and not is_error(outcome, node)):
            return  # when the run is resumed, it ends so again, from its record on (D8)
        key, places, done = named.key, self._places, self._kept.done
        place = places.take(key)
        is_same = places.leave_as(key)
        self.transactions.end_call(key)
        if key in self.transactions and not isinstance(outcome, Missing):
            if key not in done:
                places.add_inner(key, named.owner)
        elif not is_same and key not in done and self._is_kept(node, place):
            if self.outcomes.keep(node, named, outcome):
                places.add_inner(key, named.owner)
            elif place is not None:
                places.put_back(key, place)  # what it is made of again
                return
        if place is not None:
            places.forget(key, place)

    def _keeper(self) -> Keeper:
        """``keep_plain``, a closure: each of very many nodes calls it."""
        key_of, done, events = self.keys.lasting.get, self._kept.done, self._events
        later, tell, waits = self.desk.later, self.desk.tell, self.sync

        def keep_plain(node: LazyResult[Any], outcome: Any, user: Any) -> bool:
            if user is not None and (
                type(user) is not LazyResult or (waits and not user.task.structural)
            ):
                return False
            if type(outcome) not in LASTING or node._policies is not None or any(events):
                return False
            key = key_of(node)
            if key is None or type(node.task) is not Task:
                return False
            if key not in done:
                later.append((key, node.task.name, time(), outcome))
                if len(later) == 1:
                    tell()
            return True

        return keep_plain

    def holds(self, node: LazyResult[Any], users: Iterable[LazyResult[Any]] = ()) -> bool:
        """Whether the users of a node that has just got its outcome wait for the commit.

        A container or an operator does not wait for the values in it; its users wait for them.
        """
        if not self.sync or (users and all(map(_only_computes, users))):
            return False
        if node.task.structural:
            return not self.desk.is_clean
        key = self.keys.find(node)
        if key is None or key in self.transactions:
            return False
        return self.outcomes.is_written(key)

    def succeed(self) -> None:
        """Drop the continuations of nodes, which a run that has its value needs no more."""
        self._places.forget_all()
        if self.has_code:
            self.desk.drop_record(CODE.encode())

    # -- what nodes continue as -------------------------------------------------------------------

    def is_due(self, node: LazyResult[Any], every: float) -> bool:
        """Whether a record of the loop of a node is due; the next one is, ``every`` seconds later.

        The first one is due at once: arguments without a stored form are refused early (D7).
        """
        named = self.keys.named(node)
        if named is None or every == inf:
            return False
        _, place = self._places.make(named)
        now = monotonic()
        if now < place.due:
            return False
        place.due = now + every
        return True

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
            steps: Number of steps that were not told before.
            counts: Whether it is a step: it would be one in any process, whatever the time is.

        Raises:
            NotStorableError: An argument of a tail call has no stored form.
        """
        named = self.keys.named(node)
        if named is None:
            return False
        key, place = self._places.make(named)
        place.step += counts
        if structural:
            place.keeps = isinstance(continued, LazyResult) and not continued._dependencies
            return False
        if continued is None:
            return False  # the node's last call may be made again
        if not self._records.write(node, continued, key, place, self._places):
            return False
        self.made += steps + place.passed
        place.passed = 0
        self.desk.progress = self.made
        if not place.is_recorded:
            place.is_recorded = True
            self._places.add_inner(key, place.owner)
        self._places.drop_inner(place)
        return self.sync

    def pass_steps(self, node: LazyResult[Any], made: int, counts: bool) -> None:
        """A node has made so many steps without a record; see ``goes_on``."""
        named = self.keys.named(node)
        if named is not None:
            place = self._places.make(named)[1]
            place.passed += made
            place.step += made * counts

    def add(self, node: LazyResult[Any], target: LazyResult[Any]) -> None:
        """Name the nodes of a graph that a node needs to continue, if they have no names yet."""
        named = self.keys.named(node)
        if named is not None and target not in self.keys:
            key, place = self._places.make(named)
            owner = key if self._is_kept(node, place) else place.owner
            self.keys.put(self.keys.new_if_any(target, context_of(key, place.step)), owner)

    # -- from any thread --------------------------------------------------------------------------

    def place_of(self, node: LazyResult[Any]) -> tuple[NodeKey, int, NodeKey | None]:
        """The key under which the present call of a node is kept, its step, and its owner."""
        named = self.keys.named(node)
        if named is None:
            raise InternalError(f"{node!r} has no key in run {self.run_id!r}")
        key, place = self._places.find(named.key)
        if place is None:
            return key, 0, named.owner
        return key, place.step, named.owner if key == named.key else place.owner

    # -- helpers ----------------------------------------------------------------------------------

    def _is_kept(self, node: LazyResult[Any], place: Place | None) -> bool:
        if isinstance(node.task, Task) or (place is not None and place.keeps):
            return True
        return isinstance(node, Env)  # the variable may have changed when the run is resumed

    def _drop(self, key: NodeKey) -> None:
        """Drop all that is kept of a node which is not needed any more."""
        self._waits.end(key)
        self.outcomes.drop(key)
        self.transactions.drop(key)


def _only_computes(node: LazyResult[Any]) -> bool:
    """Whether a node is a container or an operator, which calls no task."""
    return node.task.structural and type(node) is LazyResult
