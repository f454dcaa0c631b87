"""Nodes: the bookkeeping of a graph run's nodes, and the steps that follow a value.

Used under the lock of its owner: which nodes wait for which, where values go, which lazy values the
run has met. Nothing here runs a task; the dispatch gets the nodes that could run. The fast lane has
an inlined copy of ``settle`` for the commonest case.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

from cascade.graph.build import build_graph
from cascade.graph.wiring import Several, Wiring, users_of, wire
from cascade.runtime.diagnostics.tracebacks import leave_out_machinery
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.queues.stages import Stages, stages_of
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import (
    NONE_FOREIGN,
    PENDING,
    Address,
    Continuation,
    Handed,
    Segment,
    Shares,
)
from cascade.runtime.graph_path.standstill import lacking, standstill
from cascade.runtime.graph_path.streams import Streams, is_list_of_items
from cascade.runtime.semantics.outcomes import RELEASED, Missing, is_error, released
from cascade.runtime.semantics.pins import Pins
from cascade.runtime.semantics.recording import Record
from cascade.runtime.straightline.stops import Begun
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import next_number
from cascade.spec.protocols import Solver

#: Gives the graph of a target, without nodes that are known, and those that only these need.
Wire: TypeAlias = Callable[..., Wiring]
#: How many nodes are left out in one go, before others have the guard.
_AT_ONCE = 500


class Nodes:
    """The nodes of one run.

    Args:
        parts: The other parts of the run.
        solver: Plans the stages of nodes; None if any order will do.
        stages: Receives the stages of the first segment.
    """

    def __init__(
        self,
        parts: RunParts,
        solver: Solver | None = None,
        stages: Stages | None = None,
    ) -> None:
        self._solver = solver
        self._stages = stages
        self._parts = parts
        self._record: Record | None = parts.run.record
        self._activate = parts.dispatch.activate
        self._journal = parts.run.journal
        #: Whether nothing but a node's users needs its value.
        self._keeps_only = self._record is None and self._journal is None
        if self._journal is not None and self._journal.has_records:
            self._activate = parts.commits.activate
        #: Finds the nodes of the target's graph, without those with outcomes of earlier processes.
        self.wire: Wire = wire if self._journal is None else parts.commits.wire
        self._end = parts.end
        #: The segment of the run's target.
        self.first: Segment | None = None
        #: Segments that are not done, in the order in which they were added.
        self._live: dict[Segment, None] = {}
        #: Lazy values of all segments but the first → their addresses. Weak: a loop that makes new
        #: ones for ever must not be remembered for ever.
        self._memory: dict[weakref.ref[LazyResult[Any]], Address] = {}
        self._forget = self._memory.pop  # in C; a WeakKeyDictionary takes twice as long
        #: The run has met no lazy value with a greater number.
        self.newest = next_number()
        #: No lazy value with a number above this belongs to the first segment.
        self._begun = self.newest
        #: All nodes of the first segment, after they were first needed.
        self._of_first: set[LazyResult[Any]] | None = None
        self._pins = Pins(parts.run.blueprints.inputs())
        self.streams = Streams()
        #: A first segment of one node, while its task is unsearched: most runs end in this state.
        self._alone: Wiring | None = None
        #: Node → functions that turn its outcome into another one before it is kept, the last one
        #: first. There are several if a node that continues as another passes its place on.
        self.watched: dict[tuple[Segment, LazyResult[Any]], list[Callable[[Any], Any]]] = {}

    def add(
        self,
        wiring: Wiring,
        continuation: Continuation,
        kept: Iterable[LazyResult[Any]] = (),
    ) -> Segment:
        """Make ``wiring`` a segment and activate its nodes without inputs.

        The values of ``kept`` nodes are kept after their last use in it.

        Raises:
            ReleasedValueError: It needs a value that was released (M21).
        """
        done = () if self._journal is None else self._take_done(wiring)
        outside = wiring.outside
        handed = [(z, *self.look_up(z)) for z in self.streams.lists_of(wiring)] if outside else ()
        nodes = wiring.nodes() if self.first is not None else ()
        segment = Segment(wiring, continuation, self.first is None)
        if self._record is not None:
            segment.outside = frozenset(outside)
        self._live[segment] = None
        if wiring.ranked:
            self._parts.dispatch.rank()
        if self._solver is not None:
            graph = build_graph(wiring.target, known=set(wiring.outside).__contains__)
            segment.priority = stages_of(self._solver.resolve(graph), graph)
            if self._stages is not None and self.first is None:
                self._stages.of_first = segment.priority
        if self.first is None:
            self.first = segment
        else:
            segment.nodes = addresses = {lazy: Address(segment, lazy) for lazy in nodes}
            if isinstance(continuation, Address):
                addresses[wiring.target] = continuation
            for lazy, address in addresses.items():
                self.remember(lazy, address)
        self._pin(wiring)
        for lazy in kept:
            segment.keep(lazy)
        ready = wiring.ready
        if outside:
            ready = [*ready, *self.streams.attach_known(segment, wiring)]
            for lazy, known, value in handed:
                self._hand_on(known, value, segment, lazy)
        activate = self._activate
        for lazy in ready:
            activate(segment, lazy)
        segment.deep = is_list_of_items(wiring.target)  # from here on
        if done:
            self._parts.commits.settle(segment, done)
        if wiring.done:
            for lazy, value in wiring.done.items():
                self.settle(segment, lazy, value)
        return segment

    def _take_done(self, wiring: Wiring) -> list[LazyResult[Any]]:
        """The nodes of a new graph that earlier processes have computed."""
        known = None if self.first is None else self.known
        return self._parts.commits.take_done(wiring, known)

    def resume(self, wiring: Wiring, continuation: Continuation, begun: Begun) -> Segment:
        """Add a graph whose first nodes have values, and whose next ones were already called."""
        done = dict(zip(begun.lazies, begun.stopped.done, strict=False))
        begun_nodes = {*done, *(stop.lazy for stop in begun.stops())}
        if self.first is None:  # a call that was made before may have made further lazy values
            self.newest = self._begun = max(lazy.number for lazy in begun.lazies)
        ready = [lazy for lazy in wiring.ready if lazy not in begun_nodes]
        wiring.ready = []
        segment = self.add(wiring, continuation)
        slots, waits = segment.slots, segment.waits
        for lazy, value in done.items():
            users = [user for user in users_of(slots.get(lazy)) if user not in begun_nodes]
            is_kept = value is not RELEASED and (lazy in begun.kept or lazy in segment.kept)
            if is_kept or len(users) > 1:
                slots[lazy] = Shares([value] * (len(users) + is_kept))
                segment.shared.update(users)
            elif users:
                slots[lazy] = value
            else:
                slots.pop(lazy, None)
            for user in users:
                left = waits[user] = waits.get(user, 1) - 1
                if not left:
                    ready.append(user)
        for lazy in ready:
            self._activate(segment, lazy)
        return segment

    def is_kept(self, segment: Segment, node: LazyResult[Any], lazy: LazyResult[Any]) -> bool:
        """Whether the value of a node, which has continued as ``lazy``, is kept or recorded."""
        recorded = self._record is not None
        return recorded or node in segment.kept or lazy in (self._pins.found or ())

    @property
    def simple(self) -> bool:
        """Whether nodes have had only plain values so far."""
        if self._record is not None or self._solver is not None or self._end.any_missing:
            return False
        return self._parts.run.short_cuts

    def known(self, lazy: LazyResult[Any]) -> Address | None:
        """The address of the value of a lazy value that this run has met."""
        first = self.first
        assert first is not None
        if lazy in first.slots or lazy is first.target:
            return Address(first, lazy)
        found = self._memory.get(weakref.ref(lazy))
        if found is None and lazy.number <= self._begun and lazy in self._nodes_of_first():
            return Address(first, lazy)  # its value was released
        return found

    def _is_known(self, lazy: LazyResult[Any]) -> bool:
        return self.known(lazy) is not None

    def _nodes_of_first(self) -> set[LazyResult[Any]]:
        """The nodes of the first segment; its slots lack those with released values."""
        if self._of_first is None:
            assert self.first is not None
            # The journal has the values of the others; these are never released.
            self._of_first = set(self.wire(self.first.target).nodes())
        return self._of_first

    def remember(self, lazy: LazyResult[Any], address: Address) -> None:
        """Note that the value of ``lazy`` will be at ``address``."""
        self._memory[weakref.ref(lazy, self._forget)] = address
        if self._alone is not None:
            self._search_alone()
        if self._pins.found and lazy in self._pins.found:
            segment, node = address.place
            segment.keep(node)
        if lazy.number > self.newest:
            self.newest = lazy.number

    def address(self, segment: Segment, node: LazyResult[Any]) -> Address:
        """The address of a node's value; for a target, that of its segment."""
        if segment is self.first:
            return Address(segment, node)
        # One object, shared by all that pass its value on; a segment of which only the target is
        # left has forgotten it.
        return segment.nodes.get(node) or self._memory[weakref.ref(node)]

    def look_up(self, lazy: LazyResult[Any]) -> tuple[Address, Any]:
        """The address of a lazy value that the run has met, and its value, or PENDING.

        Raises:
            ReleasedValueError: It was released.
        """
        known = self.known(lazy)
        assert known is not None
        value = known.now
        if value is RELEASED:
            raise released(lazy)
        return known, value

    def _hand_on(
        self, source: Address, value: Any, segment: Segment, node: LazyResult[Any]
    ) -> None:
        """Give ``node`` the value at ``source``; later, if it is PENDING."""
        if value is PENDING:
            there, other = source.place
            there.pass_on(other, Address(segment, node))
        else:
            self.settle(segment, node, value)

    def _pin(self, wiring: Wiring) -> None:
        """Pin values of a new segment marked by ``keep()``, and those its tasks can name (M21)."""
        pins = self._pins
        assert self.first is not None
        if not wiring.users and wiring.target is self.first.target:
            self._alone = wiring
            return
        if self._alone is not None:
            self._search_alone()
        pins.search(wiring, self._is_known)
        for lazy in (*wiring.kept, *pins.found):
            if lazy in wiring.users or lazy is wiring.target:
                address = self.known(lazy)
                if address is not None and address.segment is not None:
                    address.segment.keep(address.place[1])

    @property
    def live(self) -> Collection[Segment]:
        """The segments that are not done, in the order in which they were added; a copy."""
        return self._live.copy()

    def _search_alone(self) -> None:
        assert self._alone is not None
        self._pins.search(self._alone, self._is_known)
        self._alone = None

    def join(
        self, segment: Segment, node: LazyResult[Any], name: str, lazy: LazyResult[Any]
    ) -> bool:
        """Give a node the value of ``lazy``, which it returned, if the run has met that (M14).

        Returns:
            Whether it has.

        Raises:
            CycleError: ``lazy`` waits for the node itself.
            ReleasedValueError: The value was released (M21).
        """
        known = self.known(lazy)
        if known is None:
            return False
        own = self.address(segment, node)
        if known.segment is own.segment and known.node is own.node is not None:
            raise CycleError(
                f"task '{name}' returned '{lazy.name}' (called at {lazy.callsite}), which is "
                "waiting for its result",
                [lazy.name, name, lazy.name],
            )
        value = known.now
        if value is RELEASED:
            raise released(lazy)
        self._hand_on(known, value, segment, node)
        return True

    def take_over(self, source: Address, segment: Segment, node: LazyResult[Any]) -> None:
        """Give a node the value that is, or will be, at ``source``."""
        self._hand_on(source, source.now, segment, node)

    def standstill(self) -> CycleError:
        """The error for a run in which nothing runs and nothing could."""
        assert self.first is not None
        return standstill(self.first, self._live)

    def lacking(self) -> Iterator[Waiting]:
        """The nodes that wait for inputs, without those that Cascade added."""
        return lacking(self._live)

    def settle(self, segment: Segment, node: LazyResult[Any], value: Any) -> None:
        """Keep a node's value and activate the nodes that waited for it."""
        slots = segment.slots
        user = slots.get(node)
        if type(user) is LazyResult and not (
            self._end.any_missing or self.watched or segment.foreign
        ):  # the commonest case: a value for one other node
            if not self._keeps_only and self._is_held(segment, node, value, user):
                return
            slots[node] = value
            left = segment.waits.get(user, 1) - 1
            if left:
                segment.waits[user] = left
            else:
                self._activate(segment, user)
        else:
            self._settle(segment, node, value)

    def _is_held(
        self, segment: Segment, node: LazyResult[Any], value: Any, user: LazyResult[Any]
    ) -> bool:
        """Record a value; whether its user waits for a commit (D4)."""
        if self._record is not None and node not in segment.outside:
            self._record(node, value)
        if self._journal is None or not self._journal.holds(node, (user,)):
            return False
        segment.slots[node] = value
        self._parts.commits.hold(partial(self._release, segment, [user]))
        return True

    def _settle(self, segment: Segment, node: LazyResult[Any], value: Any) -> None:
        """The same in all cases.

        Uses a list of pending items and no recursion: values may be passed on along a long chain.
        """
        todo: list[tuple[Segment, LazyResult[Any], Any]] = []
        left_out = 0
        only: LazyResult[Any] | None = None
        while True:
            was_only, only = only is node, None
            if self.watched and (segment, node) in self.watched:
                for then in reversed(self.watched.pop((segment, node))):
                    value = then(value)
            lacks = self._end.any_missing and issubclass(type(value), Missing)
            if lacks and is_error(value, node):
                leave_out_machinery(value.error)  # a value: the user's frames only (R9)
                lacks = False
            if self._record is not None and node not in segment.outside:
                self._record(node, value)
            entry = segment.slots.get(node)
            users = [] if entry is None else users_of(entry)
            if type(entry) is Several:
                segment.slots[node] = segment.share(node, value, entry)
            elif entry is not None or node is segment.target:
                segment.slots[node] = value
            if segment.foreign:
                todo += [(*a.place, value) for a in segment.take_foreign(node)]
            if node is segment.target:
                self._leave(segment, value, todo)
            elif self._journal is not None and users and self._journal.holds(node, users):
                self._parts.commits.hold(partial(self._release, segment, users))
            elif lacks and left_out < _AT_ONCE:
                left_out += len(users)
                missing_inputs = self._parts.missing_inputs
                only = missing_inputs.leave_out_users(segment, node, value, was_only, todo, users)
            else:
                self._release(segment, users)
            if not todo:
                return
            segment, node, value = todo.pop()

    def _release(self, segment: Segment, users: list[LazyResult[Any]]) -> None:
        waits = segment.waits
        for user in users:
            left = waits.get(user, 1) - 1
            if left:
                waits[user] = left
            else:
                self._activate(segment, user)

    def _leave(
        self, segment: Segment, value: Any, todo: list[tuple[Segment, LazyResult[Any], Any]]
    ) -> None:
        """A segment's target is done."""
        continuation = segment.continuation
        if continuation is None:
            self._end.succeed(value)
            return
        self.let_go(segment)
        if isinstance(continuation, Address):
            todo.append((*continuation.place, value))
        elif isinstance(continuation, Handed):
            if continuation.go_on is not None:
                continuation.go_on(value)
        else:
            # It holds the tail call and the values of its lazy arguments.
            segment.continuation = None
            self._release_target(segment.target)
            if self._journal is not None and self._journal.holds(segment.target):
                self._parts.commits.hold(partial(continuation.go_on, value))
            else:
                continuation.go_on(value)

    def _release_target(self, target: LazyResult[Any]) -> None:
        """Release the value of a segment that only its continuation has used (M21)."""
        address = self._memory.get(weakref.ref(target))
        if address is not None and target not in (self._pins.found or ()):
            address.settle(RELEASED)

    def let_go(self, segment: Segment) -> None:
        """Forget the nodes of a segment once all have started and only its target may be left.

        The values in the weak memory must not hold its keys, or the keys would never be freed. So
        the addresses of nodes are replaced by their values, if these are kept.
        """
        if segment not in self._live:
            return
        del self._live[segment]
        for node, address in segment.nodes.items():
            if address.segment is segment and not (segment.taken and segment.awaits(node)):
                is_left = node in segment.slots or node is segment.target
                address.settle(segment.value(node) if is_left else RELEASED)
        segment.close()

    def close(self) -> None:
        """Forget all nodes, so that nothing keeps their values after the run."""
        for segment in self._live:
            segment.close()
            segment.foreign = NONE_FOREIGN
        addresses = [*self._memory.values()]  # they hold nodes, whose end would change the memory
        self._memory.clear()
        del addresses
        self.streams.close()
        self._of_first = None
