"""Chains: tasks often return a few plain calls, each of which needs only the one before.

No two calls of a chain can overlap. So the worker that finds one loses nothing by making them one
after the other, with straight-line code for the chain's shape, and then continuing with the target.
As nodes of a separate segment they would cost ten times as much.
"""

from __future__ import annotations

from math import inf
from typing import Any

from cascade.graph.wiring import wire
from cascade.runtime.execution.carried_errors import carried
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Address, Work
from cascade.runtime.straightline.stops import Bailout, Begun
from cascade.runtime.straightline.straight import StraightLine, straight_for
from cascade.runtime.straightline.walks import Walk, chain, references
from cascade.spec.blueprint import Literal
from cascade.spec.lazy_types import LazyResult


class Chains(Part):
    """Follows the chains that the calls of one run return. In workers' threads.

    Args:
        parts: The other parts of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        #: Start of the last call of straight-line code, in any thread; required by Limited.
        self.began = 0.0

    def go_along(self, work: Work, lazy: LazyResult[Any]) -> bool | None:
        """Let ``work`` continue as ``lazy``, which has one input; None if that ends no chain.

        Otherwise whether ``work`` is ready for its next call, that of ``lazy``.
        """
        if not lazy._plain or self._run.constraints.any:
            return None
        found = chain(lazy._dependencies[0])
        if found is None or found.lazies[0].number <= self._nodes.newest:
            return None  # the run may know some of it already
        straight = straight_for(found)
        if straight is None or _is_held(lazy, found, straight):
            return None
        with self._lock:
            address = self._nodes.address(work.segment, work.node)
            if work.rounds is not None:
                address.rounds = work.rounds
            self._nodes.remember(lazy, address)
        run = self._run
        outcome = straight.enter(run.context.copy(), run.held, self, found.values)
        if type(outcome) is Bailout:
            self._take_over(lazy, address, found, outcome)
            return False
        work.continue_as(lazy)
        work.args = [_value(v, outcome) for v in lazy.args]
        if lazy.kwargs:
            work.kwargs = {name: _value(v, outcome) for name, v in lazy.kwargs.items()}
        return True

    @property
    def until(self) -> float:
        """The time until which straight-line code may make calls: for ever, or no longer."""
        return -inf if self._end.stopping or self._run.constraints.any else inf

    def _take_over(
        self, lazy: LazyResult[Any], address: Address, found: Walk, bailout: Bailout
    ) -> None:
        """Continue with nodes from the point where straight-line code has stopped."""
        begun = Begun(found.lazies, bailout)
        with self._lock:
            segment = self._nodes.resume(wire(lazy), address, begun)
        self._dispatch.wake_later()
        stop = next(iter(begun.stops()), None)
        if stop is None:
            begun.forget()
            return
        work = Work.begun(segment, stop.lazy, dict(zip(found.lazies, bailout.done, strict=False)))
        begun.forget()
        if stop.error is None:
            work.handed = stop.result  # not followed from here: chains in chains would nest
            with self._lock:
                self._dispatch.send(work)
            return
        self._parts.failures.fail(carried(work.operation.func, stop.error), work)


def _is_held(lazy: LazyResult[Any], found: Walk, straight: StraightLine) -> bool:
    """Whether other code may mention a node of the chain again (M14)."""
    if straight.held_elsewhere(found.lazies):
        return True
    last = len(found.lazies) - 1
    mentions = sum(v is found.lazies[last] for v in (*lazy.args, *lazy.kwargs.values()))
    mentions += lazy._dependencies is not lazy.args
    return references(found.lazies, last) > mentions


def _value(argument: Any, value: Any) -> Any:
    if isinstance(argument, LazyResult):
        return value
    return argument.value if type(argument) is Literal else argument
