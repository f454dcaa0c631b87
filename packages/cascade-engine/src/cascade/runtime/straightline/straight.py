"""StraightLine: the code for a graph of plain calls, which makes them one after the other."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextvars import Context
from math import inf
from time import perf_counter
from typing import Any

from cascade.runtime.current import uses_current
from cascade.runtime.diagnostics.blocking_calls import PLAIN_THRESHOLD
from cascade.runtime.diagnostics.blocking_warnings import BlockedStep, warn
from cascade.runtime.execution.contexts import Held
from cascade.runtime.execution.early_calls import may_begin_early
from cascade.runtime.execution.fairness import Turn
from cascade.runtime.execution.placement import Placement, starts_loop
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.semantics.outcomes import RELEASED
from cascade.runtime.straightline.chunks import chunks_of
from cascade.runtime.straightline.stops import STOPS, Bailout, Entry, Limited, Pause, Steps
from cascade.runtime.straightline.walks import Walk, mentions_of, references
from cascade.spec.callsite import CallSite
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import Source
from cascade.spec.task import Task

#: How often a shape must occur before code is written for it, and how many a task remembers.
_WORTHWHILE = 3
_SHAPES_KEPT = 32


def straight_for(found: Walk) -> StraightLine | None:
    """The code for a graph's shape, once that occurred often enough; kept with the task."""
    task = found.lazies[-1].task
    if not isinstance(task, Task):
        return None
    if task.parameters.var_positional is not None or task.parameters.var_keyword is not None:
        return None
    shapes: dict[Any, Any] = task.derived.setdefault("straight", {})
    known = shapes.get(found.shape, 0)
    if isinstance(known, StraightLine):
        return known
    if known + 1 < _WORTHWHILE:
        if len(shapes) >= _SHAPES_KEPT:  # make room: rare shapes are not those of a loop
            kept = {shape: code for shape, code in shapes.items() if isinstance(code, StraightLine)}
            shapes.clear()
            shapes.update(kept)
        if len(shapes) < _SHAPES_KEPT:
            shapes[found.shape] = known + 1
        return None
    if any(isinstance(one.task, Task) and uses_current(one.task) for one in found.lazies):
        shapes[found.shape] = -inf  # its calls are to be told apart
        return None
    shapes[found.shape] = straight = StraightLine(found)
    return straight


class StraightLine:
    """A function that makes the calls of graphs of one shape.

    Args:
        found: A graph of that shape.
        kept: Nodes whose values are kept after their last use (M21).
    """

    def __init__(self, found: Walk, kept: Container[LazyResult[Any]] = ()) -> None:
        self.tasks = [lazy.task for lazy in found.lazies]
        self.kept = kept
        # Operations of Param and Env are not called: their values are read before it is entered.
        called = [lazy.task for lazy in found.lazies if not isinstance(lazy, Source)]
        distinct = list({id(task): task for task in called}.values())
        #: Whether a call may reach ``asyncio.run``, as far as the code shows.
        self.may_start_loop = any(starts_loop(task) for task in distinct if task.plain)
        #: The functions that run in the event loop's thread until they were slow.
        self.movable = [task for task in distinct if task.plain]
        #: Whether it makes first steps of calls that may go on later, in an EarlyTurn.
        self.is_mixed = any(map(may_begin_early, found.lazies))
        #: Number of mentions of each node by the others, in a graph of this shape.
        self._mentions = mentions_of(found.lazies)
        #: Containers: the tuple inside one may belong to the user.
        self._containers = [at for at, lazy in enumerate(found.lazies) if lazy.task is GATHER]
        self._chunks, self._slots = chunks_of(found, kept, self._stopped_at)
        self._codes = {chunk.code: chunk for chunk in self._chunks}
        #: The only chunk; None if there are more.
        self._alone = self._chunks[0].run if len(self._chunks) == 1 else None

    def enter(self, context: Context, held: Held, turn: Limited, values: Sequence[Any]) -> Any:
        """The value of the graph's target, or one of ``STOPS``.

        Args:
            context: A copy of the caller's; a call that writes to it is the last (M12).
            held: The result of ``held_in`` for it.
            turn: The time until which there may be more calls.
            values: The graph's plain values.
        """
        if self._alone is None:
            entry = Entry(context, len(context), held, turn)
            return self._advance(self._steps(entry, values), entry)
        try:
            return context.run(self._alone, context, len(context), held, turn, values, None)
        except BaseException as error:
            return self._failed(error)

    def go_on(self, pause: Pause) -> Any:
        """The same from a pause, of which each is used once."""
        return self._advance(pause.steps, pause.entry)

    def took_long(self, placement: Placement, turn: Turn, outcome: Any) -> None:
        """Record that the last call took longer than the event loop's thread allows."""
        if turn.is_endless:
            return
        place = len(self.tasks) - 1
        if type(outcome) in STOPS:
            place = outcome.place - outcome.paused
        seconds, task = perf_counter() - turn.began, self.tasks[place]
        if not task.plain:
            return  # it stays in the event loop's thread
        placement.note_since(turn.began, seconds, task)
        code = getattr(task.func, "__code__", None)
        if seconds > PLAIN_THRESHOLD and code is not None and placement.is_slow(task):
            here = CallSite(code.co_filename, code.co_firstlineno)
            warn(task.name, BlockedStep(None, seconds, PLAIN_THRESHOLD, here, ""), "auto")

    def held_elsewhere(self, lazies: Sequence[LazyResult[Any]]) -> bool:
        """Whether other code may mention a node again that is not the target (M14).

        The reference count shows it: the references within the graph are known.
        """
        if any(
            references(lazies, place) > mentions for place, mentions in enumerate(self._mentions)
        ):
            return True
        # A tuple in the arguments may be the node's own tuple of inputs.
        return any(references([lazies[p]._dependencies], 0) > 1 for p in self._containers)

    def _steps(self, entry: Entry, values: Sequence[Any]) -> Steps:
        """Make the calls of all chunks."""
        slots: list[Any] = []
        outcome = None
        for chunk in self._chunks:
            outcome = yield from chunk.run(*entry, values, slots)
            if type(outcome) is Bailout:
                break
        return outcome

    def _advance(self, steps: Steps, entry: Entry) -> Any:
        """Make calls until the turn is over."""
        try:
            place: int = entry.context.run(next, steps)
        except StopIteration as end:
            return end.value
        except BaseException as error:
            return self._failed(error)
        return Pause(place, steps, entry, self._taken)

    def _taken(self, pause: Pause) -> list[Any]:
        """The results of the calls before a pause."""
        steps: Any = pause.steps
        found = steps.gi_yieldfrom.gi_frame.f_locals
        return self._done(found, found["base"], pause.place - found["base"])

    def _stopped_at(
        self, found: Mapping[str, Any], base: int, count: int, result: Any = UNSET
    ) -> Bailout:
        return Bailout(self._done(found, base, count), result)

    def _done(self, found: Mapping[str, Any], base: int, count: int) -> list[Any]:
        """The results of all nodes before one in a chunk that has these variables."""
        done: list[Any] = [RELEASED] * base
        if base:
            slots = found["slots"]
            for place, slot in self._slots.items():
                if place < base:
                    done[place] = slots[slot]
        done += [found[f"v{place}"] for place in range(count)]
        return done

    def _failed(self, error: BaseException) -> Bailout:
        """The stop at a call that has raised ``error``.

        Raises:
            BaseException: It was raised between two calls, such as that of Ctrl-C.
        """
        raised, trace = error, error.__traceback__
        while trace is not None and trace.tb_frame.f_code not in self._codes:
            trace = trace.tb_next
            if trace is None and type(raised) is RuntimeError:
                # A generator function replaces a StopIteration where that leaves it.
                cause = raised.__cause__
                if type(cause) is StopIteration:
                    raised, trace = cause, cause.__traceback__
        if trace is None:
            raise error
        place = self._codes[trace.tb_frame.f_code].calls.get(trace.tb_lineno)
        if place is None:
            raise error
        found = trace.tb_frame.f_locals
        return Bailout(self._done(found, found.get("base", 0), place), UNSET, raised)
