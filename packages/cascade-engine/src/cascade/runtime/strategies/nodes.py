"""Nodes: what a graph run knows of its nodes, and what follows when one has its value.

Pure bookkeeping, under the lock of its owner: which node waits for which, where values go, which
lazy values the run has met. Nothing here runs a task; ``activate`` is told which could.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from cascade.graph.model import Graph
from cascade.runtime.skipping import Skipped
from cascade.runtime.strategies.segment import PENDING, Address, Resume, Segment, priorities
from cascade.spec.errors import CycleError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.protocols import Solver, StateBackend


class Nodes:
    """The nodes of one run.

    Args:
        solver: Gives nodes their priorities; None where the graph's own order will do.
        state: Where outcomes are kept for later, or None.
        activate: Called with a segment and an index when all that the node waits for is there.
        on_result: Called with the value of the target.
    """

    def __init__(
        self,
        solver: Solver | None,
        state: StateBackend | None,
        activate: Callable[[Segment, int], None],
        on_result: Callable[[Any], None],
    ) -> None:
        self._solver = solver
        self._state = state
        self._activate = activate
        self._on_result = on_result
        self._first: Segment | None = None
        #: Lazy values of all segments but the first, by address. Weak: a loop that makes new ones
        #: for ever must not be remembered for ever.
        self._memory: weakref.WeakKeyDictionary[LazyResult[Any], Address] = (
            weakref.WeakKeyDictionary()
        )
        #: Nodes that returned a lazy value which is being computed elsewhere: their names.
        self._joins: dict[tuple[Segment, int], tuple[str, str]] = {}

    def add(self, graph: Graph, continuation: Resume | Address | None) -> None:
        """Make ``graph`` a segment and activate what waits for nothing."""
        segment = Segment(graph, continuation)
        if self._solver is not None:
            segment.priority = priorities(self._solver.resolve(graph), graph)
        if self._first is None:
            self._first = segment
        else:
            for index, lazy in enumerate(segment.lazies):
                self._memory[lazy] = self.address(segment, index)
        ready = [i for i, count in enumerate(segment.waits) if not count]
        if graph.outside:
            self._wire_outside(segment, graph.outside)
        for index in ready:
            self._activate(segment, index)

    def known(self, lazy: LazyResult[Any]) -> Address | None:
        """The address of a lazy value that this run has met."""
        assert self._first is not None
        index = self._first.index.get(lazy)
        if index is not None:
            return self.address(self._first, index)
        return self._memory.get(lazy)

    def remember(self, lazy: LazyResult[Any], address: Address) -> None:
        """Note that the value of ``lazy`` will be at ``address``."""
        self._memory[lazy] = address

    def address(self, segment: Segment, index: int) -> Address:
        """Where the value of a node goes: of a root, where its segment's goes."""
        if index == segment.root and isinstance(segment.continuation, Address):
            return segment.continuation
        return Address(segment, index)

    def _hand_on(self, source: Address, target: Address) -> None:
        """Let ``target`` have the value at ``source``, now or later."""
        value = source.segment.values[source.index]
        if value is PENDING:
            source.segment.foreign.setdefault(source.index, []).append(target)
        else:
            self.settle(target.segment, target.index, value)

    def join(self, segment: Segment, index: int, name: str, lazy: LazyResult[Any]) -> bool:
        """Let a node take the value of ``lazy``, which it returned, if the run has met that (M14).

        Returns:
            Whether it has.

        Raises:
            CycleError: ``lazy`` waits for the node itself.
        """
        known = self.known(lazy)
        if known is None:
            return False
        own = self.address(segment, index)
        if (known.segment, known.index) == (own.segment, own.index):
            raise CycleError(
                f"task '{name}' returned '{lazy.name}' (called at {lazy.callsite}), which is "
                "waiting for its result",
                [lazy.name, name, lazy.name],
            )
        self._joins[segment, index] = (name, lazy.name)
        self._hand_on(known, Address(segment, index))
        return True

    def standstill(self) -> CycleError:
        """The error for a run in which nothing runs and nothing could."""
        joins = [f"'{a}' continues as '{b}'" for a, b in self._joins.values()]
        names = [a for a, _ in self._joins.values()]
        return CycleError(
            f"the run stands still, because tasks wait for each other: {', '.join(joins)}",
            [*names, *names[:1]],
        )

    def settle(self, segment: Segment, index: int, value: Any) -> None:
        """Keep a node's value and activate what waited for it.

        A list of what is left, and no recursion: values may be handed on along a long chain.
        """
        todo = [(segment, index)]
        while todo:
            segment, index = todo.pop()
            segment.values[index] = value
            if self._state is not None and index <= segment.root:
                self._keep(segment.lazies[index], value)
            waits = segment.waits
            for user in segment.successors[index]:
                waits[user] -= 1
                if not waits[user]:
                    self._activate(segment, user)
            if segment.foreign:
                todo += [(a.segment, a.index) for a in segment.foreign.pop(index, ())]
            if self._joins:
                self._joins.pop((segment, index), None)
            if index == segment.root:
                self._leave(segment, value, todo)

    def _leave(self, segment: Segment, value: Any, todo: list[tuple[Segment, int]]) -> None:
        """A segment's root is done."""
        continuation = segment.continuation
        if continuation is None:
            self._on_result(value)
            return
        segment.let_go()
        if isinstance(continuation, Address):
            todo.append((continuation.segment, continuation.index))
        else:
            segment.continuation = None  # it holds the tail call, and that its lazy arguments
            continuation.go_on(value)

    def _wire_outside(
        self, segment: Segment, outside: Sequence[tuple[int, LazyResult[Any]]]
    ) -> None:
        """Connect inputs that other segments compute; each gets a place behind the own nodes."""
        users: dict[LazyResult[Any], list[int]] = {}
        for user, lazy in outside:
            users.setdefault(lazy, []).append(user)
        segment.index = dict(segment.index)
        for lazy, waiting in users.items():
            place = segment.index[lazy] = len(segment.values)
            segment.values.append(PENDING)
            segment.successors.append(waiting)
            address = self.known(lazy)
            assert address is not None
            self._hand_on(address, Address(segment, place))

    def _keep(self, lazy: LazyResult[Any], value: Any) -> None:
        assert self._state is not None
        if isinstance(value, Skipped):
            self._state.put_skip_reason(lazy.id, repr(value))
        else:
            self._state.put_result(lazy.id, value)
