"""Commits: the rows that a run hands to its journal, and the calls that wait for them (D4).

A run without a store has no part of this kind.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from cascade.graph.wiring import Wiring, wire
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.graph_path.compiled_loops.loop_batches import Loop
from cascade.runtime.graph_path.node_rules.whole_calls import whole_call
from cascade.runtime.graph_path.record_intervals import RENEWAL, interval
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Item, Segment, Work
from cascade.runtime.semantics.outcomes import Failed
from cascade.runtime.semantics.recording import Keeper, never
from cascade.spec.blueprint import TailCall
from cascade.spec.checkpoints import CheckpointTail
from cascade.spec.containers import ATOMS, holds_marks, is_container
from cascade.spec.kept_calls import of_calls
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task

#: How many nodes one user has, on average, from which on they are settled together.
_FEW: Final = 4


class Commits:
    """The link between one run's graph and its journal. Use it under the lock.

    Args:
        parts: The other parts of the run, which has a journal.

    Attributes:
        held: How many functions wait for a commit.
    """

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts  # it is made with the table of nodes, and so is no ``Part``
        self._run = parts.run
        self._lock = parts.lock
        self._dispatch = parts.dispatch
        assert parts.run.journal is not None
        self._journal = parts.run.journal
        self._desk = parts.run.journal.desk
        #: Work whose continuation is committed, and may be followed.
        self._committed: set[Work] = set()
        #: Work whose record was just committed, with the results of its last calls.
        self._followed: list[tuple[Work, Any]] = []
        self.held = 0
        #: Lets virtual time go on, which stands still while something waits for a commit.
        self._start_clock: Callable[[], object] = _nothing

    # -- the lease ----------------------------------------------------------------------------

    @property
    def is_overdue(self) -> bool:
        """Whether the lease may be over, so that another process may have the run (D6)."""
        return self._desk.is_overdue

    def await_lease(self) -> None:
        """Return when the next call may begin, or the run ends. In a worker's thread."""
        while self._desk.is_overdue and not self._parts.end.stopping:
            self._desk.hurry()
            time.sleep(RENEWAL)

    async def renewed_lease(self) -> None:
        """The same in the event loop's thread."""
        while self._desk.is_overdue and not self._parts.end.stopping:
            self._desk.hurry()
            await asyncio.sleep(RENEWAL)

    def guarded(self, popleft: Callable[[], Item]) -> Callable[[], Item]:
        """``popleft``, which gives workers what they begin next, once the lease is renewed."""

        return self._desk.guarded(popleft, self.await_lease)

    def keeper(self) -> Keeper:
        """Keeps values on the fast lane that are mere numbers, whose users wait for no commit."""
        if self._run.is_recorded or self._journal.has_records:
            return never
        return self._journal.keep_plain

    def begin(self) -> None:
        """Be told of commits, and of the loss of the run, from now on. In the loop's thread."""
        self._journal.begin(self.release, self._parts.failures.fail)

    # -- outcomes of earlier processes --------------------------------------------------------

    def wire(
        self, target: LazyResult[Any], known: Callable[[LazyResult[Any]], bool] | None = None
    ) -> Wiring:
        """``wire``, without the inputs of nodes that have their outcome in the journal."""
        has = self._journal.has
        if has(target):
            return Wiring(target)
        if known is None:
            return wire(target, self._journal.finder())
        return wire(target, lambda lazy: known(lazy) or has(lazy))

    def add(
        self,
        node: LazyResult[Any],
        target: LazyResult[Any],
        known: Callable[[LazyResult[Any]], bool],
    ) -> Wiring:
        """The graph of ``target``, which ``node`` needs to go on, with names for its nodes.

        Args:
            node: The node.
            target: The target of the graph.
            known: Recognises the nodes that this process has met.
        """
        self._journal.add(node, target)
        return self.wire(target, known)

    def take_done(
        self, wiring: Wiring, known: Callable[[LazyResult[Any]], object] | None
    ) -> list[LazyResult[Any]]:
        """The nodes of a new graph that have their outcome in the journal; no longer ``outside``.

        Args:
            wiring: The graph.
            known: Gives None for nodes that this process has not met; None if it has met none.
        """
        if known is None:
            done, wiring.outside = wiring.outside, []
        else:
            done = [lazy for lazy in wiring.outside if known(lazy) is None]
        if done and known is not None:
            left = set(done)
            wiring.outside = [lazy for lazy in wiring.outside if lazy not in left]
        if self._journal.has(wiring.target):
            done.append(wiring.target)
        return done

    def settle(self, segment: Segment, done: Sequence[LazyResult[Any]]) -> None:
        """Give nodes their outcomes from the journal.

        Raises:
            SerializationError: One cannot be read in this process.
        """
        if self._has_settled(segment, done):
            return
        nodes, end, is_recorded = self._parts.nodes, self._parts.end, self._run.is_recorded
        slots, waits = segment.slots, segment.waits
        is_plain = None
        for lazy, outcome in zip(done, self._journal.outcomes_of(done), strict=True):
            if type(outcome) is Failed:
                end.note_missing()
                is_plain = False
            elif is_plain is None:  # nothing has happened since that was found
                is_plain = not (is_recorded or end.any_missing or nodes.watched or segment.foreign)
            user = slots.get(lazy)
            if is_plain and type(user) is LazyResult and (left := waits.get(user, 1)) > 1:
                # As in ``Nodes.settle``, but it is in the journal already.
                slots[lazy] = outcome
                waits[user] = left - 1
            else:
                nodes.settle(segment, lazy, outcome)
                is_plain = None

    def _has_settled(self, segment: Segment, done: Sequence[LazyResult[Any]]) -> bool:
        """The same for plain values of nodes with few users, all at once; whether it was possible.

        The last value of a user that has all inputs then is settled alone, which makes it ready.
        """
        nodes, waits, end = self._parts.nodes, segment.waits, self._parts.end
        if self._run.is_recorded or end.any_missing or nodes.watched or segment.foreign:
            return False
        users: list[Any] = [*map(segment.slots.get, done)]
        if {LazyResult} != {*map(type, users)}:
            return False
        counts = Counter(users)
        if len(counts) * _FEW > len(done):
            return False
        outcomes = self._journal.plain_outcomes(done)
        if outcomes is None:
            return False
        values, last = dict(zip(done, outcomes, strict=True)), dict(zip(users, done, strict=True))
        ready = {last[user] for user, count in counts.items() if waits.get(user, 1) <= count}
        alone = [(lazy, values.pop(lazy)) for lazy in filter(ready.__contains__, done)]
        segment.slots.update(values)
        for user, count in counts.items():
            waits[user] = max(waits.get(user, 1) - count, 1)
        for lazy, value in alone:
            nodes.settle(segment, lazy, value)
        return True

    def activate(self, segment: Segment, node: LazyResult[Any]) -> None:
        """Send a node with all its inputs to its lane; or what it went on as, if it has begun."""
        handed = self._journal.handed(node)
        if handed is None:
            self._dispatch.activate(segment, node)
            return
        work = Work(segment, node)
        if node._amounts:
            work.policies = self._run.gate.taking(work.policies, work.amounts(), node.name)
        segment.let_go_inputs(node)
        work.handed = handed
        work.rounds = self._journal.rounds(node)
        work.steps = self._journal.steps(node) - 1
        self._committed.add(work)
        self._dispatch.send_handed(work)

    # -- what waits ---------------------------------------------------------------------------

    def waits(self, work: Work, result: TailCall | LazyResult[Any]) -> bool:
        """Record that a node goes on as ``result``; whether it is followed only after the commit.

        Raises:
            NotStorableError: An argument of a tail call has no stored form (D7).
        """
        if work in self._committed:
            self._committed.discard(work)
            return False
        structural = work.operation.structural
        if not isinstance(result, TailCall):
            is_held = self._journal.goes_on(work.node, result, structural)
        elif structural:
            return False
        else:
            is_async, asks = work.operation.is_async, type(result) is CheckpointTail
            depends = _needs_record(work, result)
            if not (depends or self._is_due(work)):
                self._journal.pass_steps(work.node, 1, is_async)
                return False
            whole = whole_call(work, result, self._run.blueprints)
            counts = depends or is_async
            is_held = self._journal.goes_on(work.node, whole, counts=counts) or asks
            # A step of a plain function has no effects: it need not wait for its record (D4).
            is_effect = is_async or work.policies.checkpoint is not None
            is_held = is_held and (asks or depends or is_effect)
        if is_held:
            self.hold(partial(self._is_next, work, result))
        else:
            self._desk.tell()
        return is_held

    def _is_due(self, work: Work) -> bool:
        """Whether a record of a loop is due now; the next one is, a while later."""
        every = interval(work.policies, work.operation.is_async, self._journal.sync)
        return self._journal.is_due(work.node, every)

    def note_batch(self, work: Work, loop: Loop) -> None:
        """Count the steps of a batch of a compiled loop. Now and then, record the next step.

        Raises:
            NotStorableError: An argument has no stored form (D7).
        """
        made, loop.recorded = loop.made - loop.recorded, loop.made
        with self._lock:
            self._journal.pass_steps(work.node, made, loop.code.is_async)
            if work.loop is not loop or not self._is_due(work):
                return
        args, kwargs = loop.task.parameters.spread(loop.code.named(loop.state, loop.values))
        with self._lock:
            self._journal.goes_on(
                work.node, TailCall(args, kwargs, None, loop.task), steps=0, counts=False
            )
            self._desk.tell()

    def _is_next(self, work: Work, result: Any) -> None:
        self._followed.append((work, result))

    def _follow(self, work: Work, result: Any) -> None:
        """Go on with a node whose record is committed. In the event loop's thread."""
        self._committed.add(work)
        self._parts.after_call.go_on(work, result)

    def hold(self, go_on: Callable[[], object]) -> None:
        """Call ``go_on`` once all that was journaled so far is committed."""
        if not self.held and VirtualLoop.was_used and isinstance(self._run.loop, VirtualLoop):
            self._start_clock = self._run.loop.hold("a commit")
        self.held += 1
        self._desk.then(go_on, urgent=not self._dispatch.has_more)

    def hurry(self) -> None:
        """Have the next commit begun at once, if anything waits for it."""
        if self.held:
            self._desk.hurry()

    def release(self, waiting: Sequence[Callable[[], object]]) -> None:
        """Go on with the waiting nodes. In the event loop's thread, in a callback of the loop."""
        dispatch = self._dispatch
        with self._lock:
            # Below, the pumping begins at once, and not in another turn of the event loop.
            pumps, dispatch.is_pumping = not dispatch.is_pumping, True
            for go_on in waiting:
                go_on()
        followed, self._followed = self._followed, []
        for work, result in followed:
            if not self._parts.end.stopping:
                self._follow(work, result)
        with self._lock:  # others may hold more at this moment
            self.held -= len(waiting)
            if not self.held:
                self._start_clock()
            if pumps and not dispatch.sent:
                pumps = dispatch.is_pumping = False
        dispatch.released(pumps)

    def close(self) -> None:
        """Be told of commits no more, and let nothing wait for one. In the loop's thread."""
        self._journal.end()
        self._start_clock()


def _nothing() -> None:
    """What has stopped no clock."""


def _needs_record(work: Work, tail: TailCall) -> bool:
    """Whether another process could not make the step again from an earlier record.

    Nodes among the arguments have to be found by their names, and a call with a transaction or an
    idempotency key has to be told from the calls before it.
    """
    given = *tail.args, *tail.kwargs.values()
    if type(tail) is CheckpointTail or any(
        type(value) not in ATOMS and _holds_lazy(work, value) for value in given
    ):
        return True
    task = tail.target or work.operation
    return isinstance(task, Task) and of_calls((*task.parameters.injections.values(), *given))


def _holds_lazy(work: Work, value: Any) -> bool:
    """Whether an argument of a tail call is lazy, or has lazy values in it (M2)."""
    kind = type(value)
    if issubclass(kind, LazyResult):
        return True
    if not is_container(kind) or not holds_marks(value, (LazyResult,)):
        return False
    return not any(value is known for known in (*work.args, *work.kwargs.values()))
