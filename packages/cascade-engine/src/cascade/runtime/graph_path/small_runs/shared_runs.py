"""Shared runs: small runs with plain calls, which a worker makes.

The event loop's thread makes the other calls meanwhile. ``small_run`` tells whether a run is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from time import perf_counter
from typing import Any

from cascade.runtime.execution.early_calls import EarlyCall, has_plain_tasks
from cascade.runtime.execution.event_loop_calls import MOMENT
from cascade.runtime.graph_path.small_runs.small_run import (
    WAITS,
    SmallRun,
    is_simple,
    is_value,
    rest_depends_on,
    uses_in,
)
from cascade.runtime.graph_path.small_runs.worker_batches import Batch
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.run import Run
from cascade.runtime.straightline.stops import Bailout, Stop
from cascade.spec.containers import GATHER
from cascade.spec.lazy_types import LazyResult


def small_run(run: Run, target: LazyResult[Any]) -> SmallRun | None:
    """The calls of a run of ``target``; None if the run needs a graph from the beginning."""
    if not (is_simple(run) and has_plain_tasks(run.loop)):
        return None
    uses = uses_in(target)
    if uses is None:
        return None
    lazies = [*uses] if len(uses) < 3 else sorted(uses, key=_number, reverse=True)
    lazies.reverse()
    for lazy in lazies:
        if lazy._plain and lazy.task is not GATHER:
            is_shared = _may_wait_for_worker(run, target)
            return SharedRun(run, lazies, uses) if is_shared else None
    return SmallRun(run, lazies, uses)


class SharedRun(SmallRun):
    """The calls of a run some of which a worker makes."""

    __slots__ = ("_shared",)

    def __init__(
        self, run: Run, lazies: Sequence[LazyResult[Any]], uses: dict[LazyResult[Any], int]
    ) -> None:
        super().__init__(run, lazies, uses)
        #: The calls that a worker makes at this moment.
        self._shared: Batch | None = None

    def _called_now(self) -> LazyResult[Any] | None:
        if self._run.is_own_thread(get_ident()):
            return self._at
        batch = self._shared
        return None if batch is None else batch.current

    def _begin(self) -> Any:
        target = self._lazies[-1]
        value, self._given = self._given, UNSET
        if value is not UNSET:
            if not is_value(self._waiting, value):
                return self._stopped([Stop(self._waiting, value, None)])
            self._keep(self._waiting, value)
            if self._is_over():
                return self._values[target] if target in self._values else self._stopped([])
        while target not in self._values:
            batch = self._batch()
            stop = self._early_calls()
            stops = [] if stop is None else [stop]
            if batch is not None:
                came = self._has_ended(batch)
                if not came:
                    batch.take()
                self._shared = None
                if batch.current is not None:
                    stops.append(Stop(batch.current, batch, None))
                elif batch.stopped is not None:
                    stops.append(batch.stopped)
                if not came and (stops or target not in self._values):
                    return self._stopped(stops)
            if stops:
                return WAITS if self._waits(stops[0]) else self._stopped(stops)
            is_over = self._turn.until < perf_counter() or self._run.constraints.any
            if is_over and target not in self._values:
                return self._stopped([])
        return self._values[target]

    def _has_ended(self, batch: Batch) -> bool:
        """Whether a worker makes its calls within a moment."""
        run = self._run
        if getattr(run.threads, "is_short", True):
            return batch.has_ended(0.0)
        came = batch.has_ended(MOMENT)
        assert run.patience is not None
        run.patience.note(self._lazies[-1].task, came)
        if not came:
            run.patience = None
        return came

    def _batch(self) -> Batch | None:
        """The plain calls, given to a worker; None if none is ready."""
        values = self._values
        todo = [z for z in self._lazies if z._plain and z.task is not GATHER and z not in values]
        for lazy in todo:
            if all(map(values.__contains__, lazy._dependencies)):
                break
        else:
            return None
        batch = self._shared = Batch(self._run, todo, values, self._release)
        return batch if batch.start() else None  # until it has ended: it refers to this

    def _early_calls(self) -> Stop | None:
        """Make the calls of this thread that have their inputs, while they return values."""
        values = self._values
        for lazy in self._lazies:
            if lazy in values or (lazy._plain and lazy.task is not GATHER):
                continue
            if not all(map(values.__contains__, lazy._dependencies)):
                continue
            try:
                value = self._made(lazy)
            except BaseException as error:
                return Stop(lazy, UNSET, error)
            if not is_value(lazy, value):
                return Stop(lazy, value, None)
            self._keep(lazy, value)
            if self._is_over():
                return None
        return None

    def _waits(self, stop: Stop) -> bool:
        """Whether the call of ``stop`` waits while nothing else could run."""
        call = stop.result
        left = [lazy for lazy in self._lazies if lazy not in self._values and lazy is not stop.lazy]
        if type(call) is not EarlyCall or not rest_depends_on([stop.lazy, *left], 0):
            return False
        self._waiting, self._call = stop.lazy, call
        return True

    def _stopped(self, stops: list[Stop]) -> Bailout:
        """The point at which the graph goes on: with these calls, which have no value."""
        called = {stop.lazy: None for stop in stops}
        done = [lazy for lazy in self._lazies if lazy in self._values]
        rest = [z for z in self._lazies if z not in self._values and z not in called]
        self._lazies = [*done, *called, *rest]
        self._others = stops[1:]
        first = stops[0] if stops else Stop(self._lazies[-1], UNSET, None)
        return Bailout(self._done(len(done)), first.result, first.error)

    def _failed(self, error: BaseException) -> Bailout:
        return self._stopped([Stop(self._waiting, UNSET, error)])


def _may_wait_for_worker(run: Run, target: LazyResult[Any]) -> bool:
    """Whether a run should wait a moment for a worker that makes its plain calls."""
    patience = run.patience
    if patience is None or run.scope is not None or getattr(run.threads, "is_short", True):
        return False
    if patience.is_worth_it(target.task):
        return True
    run.patience = None  # it is asked once for each run
    return False


def _number(lazy: LazyResult[Any]) -> int:
    return lazy.number
