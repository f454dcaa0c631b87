"""Short runs: the first calls of a run that need neither a worker nor a graph.

Most runs of a service have few nodes: coroutines, and functions with ``mode="inline"``. The
machinery of a graph run costs more than such nodes. So their calls are begun here one after the
other, in the asyncio task of the run, as straight-line code does in programs. A coroutine that
waits while nothing else could run is awaited here, too. For all else (a call for a worker, other
calls beside one that waits, an error, a lazy value, a tail call, the end of the turn of the event
loop) the run gets its graph, which goes on from there.

After the first wait of a program, this makes the rest of its plain calls as well (M6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Generator, Iterator, Sequence
from time import perf_counter
from types import NoneType, coroutine
from typing import Any

from cascade.graph.build import inputs_of
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.contexts import is_written
from cascade.runtime.execution.coroutines import watched
from cascade.runtime.execution.early_calls import (
    EarlyCall,
    EarlyTurn,
    has_plain_tasks,
    may_begin_early,
)
from cascade.runtime.execution.placement import Place
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.fast_lane import arguments
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.run import AwaitedCall, Run
from cascade.runtime.semantics.outcomes import RELEASED
from cascade.runtime.semantics.pins import named_in
from cascade.runtime.straightline.chunks import GOES_ON, continues
from cascade.runtime.straightline.stops import Bailout, Begun
from cascade.spec.containers import ATOMS, GATHER
from cascade.spec.lazy_types import LazyResult

#: Most nodes of a short run. More are worth a graph, whose nodes cost less.
_MOST_NODES = 16
#: Types of values that need not be released early.
_SMALL = frozenset({int, float, bool, NoneType})


class ShortRun:
    """The calls of one run, made in its asyncio task.

    Args:
        run: The run.
        lazies: The nodes, inputs before their users; the target is the last.
        uses: Node → the number of mentions of it among the inputs of the others.
    """

    __slots__ = (
        "_call",
        "_error",
        "_given",
        "_lazies",
        "_pins",
        "_place",
        "_run",
        "_turn",
        "_uses",
        "_values",
    )

    def __init__(
        self, run: Run, lazies: Sequence[LazyResult[Any]], uses: dict[LazyResult[Any], int]
    ) -> None:
        self._run = run
        self._lazies = lazies
        self._uses = uses
        self._values: dict[LazyResult[Any], Any] = {}
        #: The nodes whose values are kept after their last use, once that has mattered (M21).
        self._pins: Container[LazyResult[Any]] | None = None
        #: The next node; and its value, if its call has ended.
        self._place = 0
        self._given: Any = UNSET
        self._error: BaseException | None = None
        #: The call at which the straight-line code of a program has stopped.
        self._call: EarlyCall | None = None
        self._turn = self._new_turn()

    @classmethod
    def of(cls, run: Run, target: LazyResult[Any]) -> ShortRun | None:
        """The calls of a run of ``target``; None if the run needs more from the beginning."""
        if not (_is_simple(run) and has_plain_tasks(run.loop)):
            return None
        uses = _uses(target)
        if uses is None:
            return None
        lazies = [*uses] if len(uses) < 3 else sorted(uses, key=_number, reverse=True)
        lazies.reverse()
        return cls(run, lazies, uses)

    @classmethod
    def after(cls, run: Run, begun: Begun) -> ShortRun | None:
        """The rest of the calls of a program whose code has stopped at a call that waits."""
        lazies, place, call = begun.lazies, begun.stopped.place, begun.stopped.result
        if type(call) is not EarlyCall:
            return None
        if not (_is_simple(run) and _rest_depends_on(lazies, place)):
            return None
        uses: dict[LazyResult[Any], int] = {}
        for lazy in lazies[place:]:
            for source in lazy._dependencies:
                uses[source] = uses.get(source, 0) + 1
        made = cls(run, lazies, uses)
        values = zip(lazies, begun.stopped.done, strict=False)
        made._values = {lazy: value for lazy, value in values if value is not RELEASED}
        made._place, made._pins, made._call = place, begun.kept, call
        begun.forget()
        return made

    def _new_turn(self) -> EarlyTurn:
        run = self._run
        assert run.early is not None
        return EarlyTurn(run.early, run, run.context.copy(), run.held)

    async def outcome(self) -> Any:
        """The value of the target; or a Begun, at the point where the graph has to go on."""
        outcome: Any = self._call or self._begin()
        self._call = None
        if type(outcome) is EarlyCall:
            outcome = await self._rest(outcome)
        if type(outcome) is not Bailout:
            return outcome
        return Begun(self._lazies, outcome, self._pins or ())

    def _begin(self) -> Any:
        """Make calls from the next one on.

        Returns:
            The value of the target; an EarlyCall that waits, for ``rest``; or a Bailout.
        """
        run, lazies, values, turn = self._run, self._lazies, self._values, self._turn
        context = turn.context
        args: Any
        kwargs: Any
        value, self._given = self._given, UNSET
        for place in range(self._place, len(lazies)):
            lazy = lazies[place]
            if value is UNSET:
                try:
                    if not lazy._dependencies:
                        args, kwargs = lazy.args, lazy.kwargs
                    elif lazy._dependencies is lazy.args:
                        args, kwargs = [*map(values.__getitem__, lazy.args)], lazy.kwargs
                    else:
                        args, kwargs = arguments(lazy, values.__getitem__)
                    if not lazy._plain:
                        value = context.run(turn.begin, lazy.task, args, kwargs)
                    elif lazy.task is GATHER:
                        value = lazy.task.func(*args, **kwargs)
                    elif run.placement.place(lazy.task, short=True) is Place.INLINE:
                        value = run.call_here(lazy.task, lazy.task.func, args, kwargs)
                    else:
                        return Bailout(self._done(place))
                except BaseException as error:
                    args = kwargs = None  # this frame lives as long as the error does
                    return Bailout(self._done(place), UNSET, error)
                args = kwargs = None
            kind = type(value)
            if kind not in ATOMS and (
                issubclass(kind, GOES_ON) if lazy.task.structural else continues(value)
            ):
                if kind is EarlyCall and _rest_depends_on(lazies, place):
                    self._place = place
                    return value
                return Bailout(self._done(place), value)
            if place + 1 == len(lazies):
                return value
            values[lazy], value = value, UNSET
            if lazy._dependencies:
                self._release(lazy)
            if is_written(context, len(run.context), run.held):
                context = turn.context = run.context.copy()
            if (now := perf_counter()) > turn.until:
                return Bailout(self._done(place + 1))
            turn.began = now
        raise AssertionError("a run has a target")

    async def _rest(self, call: EarlyCall) -> Any:
        """The value of the target, or a Bailout, after a call that waits."""
        run = self._run
        run.watch_waits(self._lacking)
        outcome: Any = call
        while type(outcome) is EarlyCall:
            value = await self._ended(outcome)
            error, self._error = self._error, None
            try:
                if error is not None:
                    return Bailout(self._done(self._place), UNSET, error)
            finally:
                del error  # otherwise a cycle: its traceback holds this frame
            self._given, value = value, None
            self._turn = self._new_turn()
            outcome = self._begin()
            if not _is_simple(run) and type(outcome) is EarlyCall:
                return Bailout(self._done(self._place), outcome)
        return outcome

    def _done(self, place: int) -> list[Any]:
        """The results of the nodes before one."""
        get = self._values.get
        return [get(lazy, RELEASED) for lazy in self._lazies[:place]]

    def _release(self, lazy: LazyResult[Any]) -> None:
        """Release the inputs whose last user is this node (M21)."""
        uses, values = self._uses, self._values
        for source in lazy._dependencies:
            left = uses[source] = uses[source] - 1
            if left or type(values[source]) in _SMALL:
                continue
            if self._pins is None:
                self._pins = named_in(self._lazies[-1])
            if source not in self._pins:
                del values[source]

    # -- a call that waits --------------------------------------------------------------------

    async def _ended(self, call: EarlyCall) -> Any:
        """The value of a call that waits; or its error is in ``_error``.

        Raises:
            CancelledError: The run was cancelled.
        """
        run = self._run
        asked = call.task.cancelling()
        call.enter(run)
        call.goes_on_as(self._to_end(call, self._lazies[self._place], asked))
        value: Any = None
        try:
            value = await call.task
        except asyncio.CancelledError as error:
            if run.is_cancelled:
                raise
            self._error = cancelled_inside()  # through a handle on the asyncio task (M13)
            self._error.__cause__ = error
        if run.is_cancelled:
            self._error = None
            raise asyncio.CancelledError
        return value

    @coroutine
    def _to_end(
        self, call: EarlyCall, lazy: LazyResult[Any], asked: int
    ) -> Generator[Any, Any, Any]:
        """The rest of a call, in its own asyncio task."""
        run = self._run
        cancels = AwaitedCall(call.operation, run.calls, self._is_cancelled)
        cancels.before = 0
        if asked:
            cancels.changed(asked)
        watch = run.watch_steps(call.operation, lazy)
        try:
            return (yield from watched(call.context, call.resumed(), watch, cancels))  # type: ignore[arg-type]
        except BaseException as error:
            if not isinstance(error, Exception) and run.is_cancelled:
                raise
            self._error = error
        return None

    def _is_cancelled(self, outside: int) -> bool:
        return outside > 0 and self._run.is_cancelled

    def _lacking(self) -> Iterator[Waiting]:
        """The nodes that wait for inputs. In the loop's thread."""
        pending = dict.fromkeys(self._lazies[self._place :])
        for lazy in pending:
            lacks = tuple(dict.fromkeys(i.name for i in inputs_of(lazy) if i in pending))
            if lacks and not lazy.task.structural:
                yield Waiting(lazy.name, lazy.number, "inputs", lacks)


def _is_simple(run: Run) -> bool:
    """Whether nothing is told of the run's calls, and nothing limits them."""
    return (
        run.early is not None
        and run.bus.is_silent
        and run.record is None
        and not run.constraints.any
        and not (VirtualLoop.was_used and isinstance(run.loop, VirtualLoop))
    )


def _uses(target: LazyResult[Any]) -> dict[LazyResult[Any], int] | None:
    """The nodes, and the number of mentions of each; None if one needs more than a call here."""
    uses = {target: 0}
    todo = [target]
    while todo:
        lazy = todo.pop()
        if not (lazy.task is GATHER if lazy._plain else may_begin_early(lazy)):
            return None
        for source in lazy._dependencies:
            known = uses.get(source)
            if known is None:
                if len(uses) == _MOST_NODES:
                    return None
                uses[source] = 1
                todo.append(source)
            else:
                uses[source] = known + 1
    return uses


def _rest_depends_on(lazies: Sequence[LazyResult[Any]], place: int) -> bool:
    """Whether all nodes after one need its value."""
    reached = {lazies[place]}
    for lazy in lazies[place + 1 :]:
        if reached.isdisjoint(lazy._dependencies):
            return False
        reached.add(lazy)
    return True


def _number(lazy: LazyResult[Any]) -> int:
    return lazy.number
