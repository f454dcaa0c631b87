"""Small runs: the calls of a run that needs no graph, or not yet.

Most runs of a service have few nodes: coroutines, and functions with ``mode="inline"``. The
machinery of a graph run costs more than such nodes. So their calls are begun here one after the
other, in the asyncio task of the run, as straight-line code does in programs. A coroutine that
waits while nothing else could run is awaited here, too. ``shared_runs`` gives plain calls to a
worker meanwhile. For all else (other calls beside one that waits, an error, a lazy value, a tail
call, the end of the turn of the event loop) the run gets its graph, which goes on from there.

After the first wait of a program, this makes the rest of its plain calls as well (M6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Generator, Iterator, Sequence
from time import perf_counter
from types import NoneType, coroutine
from typing import Any, Final

from cascade.graph.build import inputs_of
from cascade.runtime.clock import VirtualLoop
from cascade.runtime.current import Place as CurrentPlace
from cascade.runtime.execution.awaited_call import AwaitedCall
from cascade.runtime.execution.cancels import cancelled_inside
from cascade.runtime.execution.contexts import is_written
from cascade.runtime.execution.coroutines import watched
from cascade.runtime.execution.early_calls import (
    EarlyCall,
    EarlyTurn,
    may_begin_early,
)
from cascade.runtime.execution.placement import Place
from cascade.runtime.execution.waiting import Waiting
from cascade.runtime.graph_path.lanes.fast_lane import arguments
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.run import Run
from cascade.runtime.semantics.outcomes import RELEASED
from cascade.runtime.semantics.pins import named_in
from cascade.runtime.straightline.chunks import GOES_ON, continues
from cascade.runtime.straightline.stops import Bailout, Begun, Stop
from cascade.spec.containers import ATOMS, GATHER
from cascade.spec.lazy_types import LazyResult

#: Most nodes of a small run. More are worth a graph, which lets them overlap.
_MOST_NODES = 16
#: The result of a call that a worker has to make.
ELSEWHERE: Final = object()
#: The outcome of calls of which one waits while nothing else could run.
WAITS: Final = object()
#: Types of values that need not be released early.
_SMALL = frozenset({int, float, bool, NoneType})


class SmallRun:
    """The calls of one run, made in its asyncio task.

    Args:
        run: The run.
        lazies: The nodes, inputs before their users; the target is the last.
        uses: Node → the number of mentions of it among the inputs of the others.
    """

    __slots__ = (
        "_at",
        "_call",
        "_error",
        "_given",
        "_lazies",
        "_others",
        "_pins",
        "_place",
        "_run",
        "_turn",
        "_uses",
        "_values",
        "_waiting",
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
        #: The node whose call waits.
        self._waiting = lazies[-1]
        #: Further nodes that were called when the graph begins.
        self._others: list[Stop] = []
        #: The call that waits; from the beginning, if a program's code has stopped at it.
        self._call: EarlyCall | None = None
        self._turn = self._new_turn()
        #: The node that this thread calls, or has called last, for ``cs.current``.
        self._at = lazies[-1]
        run.locate = self._locate
        run.inside = self

    def _locate(self) -> CurrentPlace | None:
        """See ``Run.locate``."""
        lazy = self._called_now()
        return None if lazy is None else CurrentPlace(lazy, lazy, lazy.task)

    def _called_now(self) -> LazyResult[Any] | None:
        return self._at

    @property
    def lazies(self) -> Sequence[LazyResult[Any]]:
        """The nodes of the run."""
        return self._lazies

    @property
    def waiting(self) -> LazyResult[Any]:
        """The node whose call waits, once one does."""
        return self._waiting

    def settled(self) -> set[LazyResult[Any]]:
        """The nodes whose calls have ended."""
        return {*self._lazies[: self._place], *self._values} - {self._waiting}

    @classmethod
    def after(cls, run: Run, begun: Begun) -> SmallRun | None:
        """The rest of the calls of a program whose code has stopped at a call that waits."""
        lazies, place, call = begun.lazies, begun.stopped.place, begun.stopped.result
        if type(call) is not EarlyCall:
            return None
        if not (is_simple(run) and rest_depends_on(lazies, place)):
            return None
        uses: dict[LazyResult[Any], int] = {}
        for lazy in lazies[place:]:
            for source in lazy._dependencies:
                uses[source] = uses.get(source, 0) + 1
        made = cls(run, lazies, uses)
        values = zip(lazies, begun.stopped.done, strict=False)
        made._values = dict(values)
        made._place, made._pins, made._call = place, begun.kept, call
        made._waiting = made._at = lazies[place]
        begun.forget()
        return made

    def _new_turn(self) -> EarlyTurn:
        run = self._run
        assert run.early is not None
        return EarlyTurn(run.early, run, run.context.copy(), run.held)

    async def outcome(self) -> Any:
        """The value of the target; or a Begun, at the point where the graph has to go on."""
        outcome: Any = self._begin() if self._call is None else WAITS
        if outcome is WAITS:
            try:
                outcome = await self._rest()
            except BaseException:  # its traceback has this object
                self._values.clear()
                raise
        if type(outcome) is not Bailout:
            return outcome
        return Begun(self._lazies, outcome, self._pins or (), self._others)

    def _begin(self) -> Any:
        """Make calls from the next one on.

        Returns:
            The value of the target; an EarlyCall that waits, for ``rest``; or a Bailout.
        """
        lazies, value = self._lazies, self._given
        self._given = UNSET
        for place in range(self._place, len(lazies)):
            lazy = lazies[place]
            try:
                if value is UNSET:
                    value = self._made(lazy)
            except BaseException as error:
                return Bailout(self._done(place), UNSET, error)
            if value is ELSEWHERE:
                return Bailout(self._done(place))
            if not is_value(lazy, value):
                if type(value) is EarlyCall and rest_depends_on(lazies, place):
                    self._waiting, self._place, self._call = lazy, place, value
                    return WAITS
                return Bailout(self._done(place), value)
            if place + 1 == len(lazies):
                return value
            self._keep(lazy, value)
            value = UNSET
            if self._is_over():
                return Bailout(self._done(place + 1))
        raise AssertionError("a run has a target")

    def _made(self, lazy: LazyResult[Any]) -> Any:
        """The result of the call of a node that has its inputs; ELSEWHERE if it is for a worker."""
        run, get, turn = self._run, self._values.__getitem__, self._turn
        self._at = lazy
        args: Any
        kwargs: Any
        if not lazy._dependencies:
            args, kwargs = lazy.args, lazy.kwargs
        elif lazy._dependencies is lazy.args:
            args, kwargs = [*map(get, lazy.args)], lazy.kwargs
        else:
            args, kwargs = arguments(lazy, get)
        try:
            if not lazy._plain:
                return turn.context.run(turn.begin, lazy.task, args, kwargs)
            if lazy.task is GATHER:
                return lazy.task.func(*args, **kwargs)
            if run.placement.place(lazy.task, short=True) is not Place.INLINE:
                return ELSEWHERE
            return run.call_here(lazy.task, lazy.task.func, args, kwargs)
        finally:
            args = kwargs = None  # this frame lives as long as an error does

    def _keep(self, lazy: LazyResult[Any], value: Any) -> None:
        """Keep the value of a node, and release its inputs."""
        self._values[lazy] = value
        if lazy._dependencies:
            self._release(lazy)

    def _is_over(self) -> bool:
        """Whether the turn of the event loop is over; after each call."""
        run, turn = self._run, self._turn
        if is_written(turn.context, len(run.context), run.held):
            turn.context = run.context.copy()  # other calls must not see what it has set (M12)
        if (now := perf_counter()) > turn.until or run.constraints.any:  # set by the call
            return True
        turn.began = now
        return False

    async def _rest(self) -> Any:
        """The value of the target, or a Bailout, after a call that waits."""
        run = self._run
        run.watch_waits(self._lacking)
        outcome: Any = WAITS
        while outcome is WAITS:
            value = await self._ended()
            error, self._error = self._error, None
            try:
                if error is not None:
                    return self._failed(error)
            finally:
                del error  # otherwise a cycle: its traceback holds this frame
            self._given, value = value, None
            self._turn = self._new_turn()
            if not is_simple(run):  # meanwhile
                self._turn.until = 0.0
            outcome = self._begin()
        return outcome

    def _failed(self, error: BaseException) -> Bailout:
        """The point at which the call that has waited has failed."""
        return Bailout(self._done(self._place), UNSET, error)

    def _done(self, place: int) -> list[Any]:
        """The results of the nodes before one."""
        get = self._values.get
        return [get(lazy, RELEASED) for lazy in self._lazies[:place]]

    def _release(self, lazy: LazyResult[Any]) -> None:
        """Release the inputs whose last user is this node (M21).

        If two threads count the uses of a value at the same time, it may be kept until the end.
        """
        uses, values = self._uses, self._values
        for source in lazy._dependencies:
            left = uses[source] = uses[source] - 1
            if left or type(values[source]) in _SMALL:
                continue
            if self._pins is None:
                self._pins = named_in(self._lazies[-1])
            if source not in self._pins:
                values[source] = RELEASED

    # -- a call that waits --------------------------------------------------------------------

    async def _ended(self) -> Any:
        """The value of the call that waits; or its error is in ``_error``.

        Raises:
            CancelledError: The run was cancelled.
        """
        run, call, self._call = self._run, self._call, None
        assert call is not None
        asked, task = call.task.cancelling(), call.task
        call.enter(run)
        call.goes_on_as(self._to_end(call, self._waiting, asked))
        del call  # otherwise a cycle: it has the task, which has an error that passes this frame
        value: Any = None
        try:
            value = await task
        except asyncio.CancelledError as error:
            if run.is_cancelled:
                raise
            self._error = cancelled_inside()  # through a handle on the asyncio task (M13)
            self._error.__cause__ = error
        finally:
            del task
        if run.is_cancelled:
            message, self._error = _message_of(self._error), None
            raise asyncio.CancelledError(*message)
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
        watch, context, work = run.watch_steps(call.operation, lazy), call.context, call.resumed()
        del call  # as above
        try:
            return (yield from watched(context, work, watch, cancels))  # type: ignore[arg-type]
        except BaseException as error:
            # Even a cancel of the run: the task would keep it, and it has this frame.
            self._error = error
        return None

    def _is_cancelled(self, outside: int) -> bool:
        return outside > 0 and self._run.is_cancelled

    def _lacking(self) -> Iterator[Waiting]:
        """The nodes that wait for inputs. In the loop's thread."""
        pending = {lazy: None for lazy in self._lazies if lazy not in self._values}
        for lazy in pending:
            lacks = tuple(dict.fromkeys(i.name for i in inputs_of(lazy) if i in pending))
            if lacks and not lazy.task.structural:
                yield Waiting(lazy.name, lazy.number, "inputs", lacks)


def _message_of(error: BaseException | None) -> tuple[Any, ...]:
    """The arguments of a CancelledError; none of another error."""
    return error.args if isinstance(error, asyncio.CancelledError) else ()


def is_simple(run: Run) -> bool:
    """Whether nothing is told of the run's calls, and nothing limits them."""
    return (
        run.early is not None
        and run.bus.is_silent
        and run.record is None
        and run.journal is None
        and run.short_cuts
        and not run.constraints.any
        and not (VirtualLoop.was_used and isinstance(run.loop, VirtualLoop))
    )


def is_value(lazy: LazyResult[Any], result: Any) -> bool:
    """Whether the result of a node's call is its value."""
    kind = type(result)
    return kind in ATOMS or not (
        issubclass(kind, GOES_ON) if lazy.task.structural else continues(result)
    )


def uses_in(target: LazyResult[Any]) -> dict[LazyResult[Any], int] | None:
    """The nodes, and the number of mentions of each; None if one needs more than a call."""
    uses = {target: 0}
    todo = [target]
    while todo:
        lazy = todo.pop()
        if not (lazy._plain or may_begin_early(lazy)):
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


def rest_depends_on(lazies: Sequence[LazyResult[Any]], place: int) -> bool:
    """Whether all nodes after one need its value."""
    reached = {lazies[place]}
    for lazy in lazies[place + 1 :]:
        if reached.isdisjoint(lazy._dependencies):
            return False
        reached.add(lazy)
    return True
