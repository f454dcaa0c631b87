"""Worker batches: the plain calls of a small run, which one worker makes one after the other.

Most such runs end while the event loop's thread waits a moment for them. Then they need no graph,
no pool of workers and no turn of the event loop. Otherwise the loop's thread takes the batch over:
the worker makes no further call of it, and a call that it is in becomes one of the graph that now
begins, whose pool takes the thread in.

Terms:

- *current*: the node that the worker calls now;
- *taken*: whether the loop's thread has taken the batch over;
- *stopped*: the node whose call has returned something other than a value, or has failed.

All of this is changed under one lock, together with the values of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Lock, get_ident
from typing import Any

from cascade.runtime.execution.contexts import is_written
from cascade.runtime.execution.event_loop_calls import MOMENT
from cascade.runtime.execution.worker_calls import WorkerCall
from cascade.runtime.graph_path.lanes.fast_lane import arguments
from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.segments import Work
from cascade.runtime.loops.protocol import UNSET
from cascade.runtime.run import Run
from cascade.runtime.straightline.chunks import GOES_ON, continues
from cascade.runtime.straightline.stops import Stop
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult


class Batch:
    """Calls for one worker.

    Args:
        run: The run.
        lazies: The plain nodes without a value, inputs before their users.
        values: The values of the run's nodes.
        release: Called with a node whose call has returned, to release its inputs.

    Attributes:
        current, stopped: See above.
    """

    __slots__ = (
        "_call",
        "_ended",
        "_graph",
        "_is_taken",
        "_joins",
        "_lock",
        "_release",
        "_run",
        "_thread",
        "_todo",
        "_values",
        "_work",
        "current",
        "stopped",
    )

    def __init__(
        self,
        run: Run,
        lazies: Sequence[LazyResult[Any]],
        values: dict[LazyResult[Any], Any],
        release: Callable[[LazyResult[Any]], None],
    ) -> None:
        self._run = run
        self._todo = [*lazies]
        self._values = values
        self._release = release
        self._lock = Lock()
        self._is_taken = False
        self.current: LazyResult[Any] | None = None
        self.stopped: Stop | None = None
        #: Locked until the worker has made all calls that it can make.
        self._ended = Lock()
        #: Locked until the graph has taken the thread in; ``_graph`` is None if it has not.
        self._joins = Lock()
        self._graph: tuple[RunParts, Work] | None = None
        self._thread = 0
        self._work: WorkerCall[None] | None = None
        self._call: Future[None] | None = None

    # -- in the event loop's thread -----------------------------------------------------------

    def start(self) -> bool:
        """Give the batch to a worker; False if the executor refuses."""
        run = self._run
        self._ended.acquire()
        self._joins.acquire()
        self._work = work = WorkerCall(self._make)
        work.cascade_priority = run.priority
        try:
            self._call = run.submit(run.threads, "plain tasks", work)
        except RuntimeError:  # the graph tries again, and reports it
            return not work.withdrawn
        return True

    def has_ended(self, seconds: float = MOMENT) -> bool:
        """Wait for the worker, so many seconds; whether it has made all calls that it can make."""
        came = self._ended.acquire(timeout=seconds) if seconds else self._ended.acquire(False)
        if came:
            self._work = self._call = None  # no cycle keeps the values
        return came

    def take(self) -> None:
        """Take the batch over. If the worker is in a call, that is ``current``."""
        assert self._work is not None
        if not self._work.withdraw():
            with self._lock:
                self._is_taken = True
        if self.current is None:
            self._work = self._call = None

    def joins(self, parts: RunParts, work: Work) -> None:
        """Let the worker, which is in a call, belong to the pool of a graph.

        Args:
            parts: The parts of the graph run.
            work: The work of the node that is called.
        """
        call, self._work = self._work, None
        assert call is not None
        parts.dispatch.pool.adopt(self._thread, (work.segment, work), call, self._call)
        self._graph, self._call = (parts, work), None
        self._joins.release()

    def drop(self) -> None:
        """Let the worker end after its present call, unless it belongs to a graph."""
        if self._work is not None:
            self._work = self._call = None
            self._joins.release()

    # -- in the worker's thread ---------------------------------------------------------------

    def _make(self) -> None:
        """Make the calls."""
        self._thread = get_ident()
        try:
            late = [stop for stop in (self._make_calls(),) if stop is not None]
        finally:
            self._ended.release()
        if late:
            self._go_on(late)

    def _make_calls(self) -> Stop | None:
        """The same; returns the last one if the batch was taken over while it lasted."""
        run, values = self._run, self._values
        context = run.context.copy()
        args: Any
        kwargs: Any
        while (lazy := self._next()) is not None:
            try:
                if lazy._dependencies:
                    args, kwargs = arguments(lazy, values.__getitem__)
                else:
                    args, kwargs = lazy.args, lazy.kwargs
                value = context.run(lazy.task.func, *args, **kwargs)
            except BaseException as error:
                args = kwargs = None  # this frame lives as long as the error does
                return self._stop(Stop(lazy, UNSET, error))
            args = kwargs = None
            kind = type(value)
            if kind not in ATOMS and (
                issubclass(kind, GOES_ON) if lazy.task.structural else continues(value)
            ):
                return self._stop(Stop(lazy, value, None))
            with self._lock:
                if self._is_taken:
                    return Stop(lazy, value, None)
                self.current = None
                values[lazy], value = value, None
                self._release(lazy)
            if is_written(context, len(run.context), run.held):
                context = run.context.copy()  # other calls must not see what it has set (M12)
        return None

    def _next(self) -> LazyResult[Any] | None:
        """The next node that has its inputs, and is now ``current``."""
        has_value = self._values.__contains__
        with self._lock:
            if self._is_taken or self._run.constraints.any:  # set by one of these calls
                return None
            for place, lazy in enumerate(self._todo):
                if all(map(has_value, lazy._dependencies)):
                    self.current = self._todo.pop(place)
                    return lazy
        return None

    def _stop(self, stop: Stop) -> Stop | None:
        with self._lock:
            if self._is_taken:
                return stop
            self.stopped, self.current = stop, None
        return None

    def _go_on(self, late: list[Stop]) -> None:
        """Go on as a worker of the graph."""
        with self._joins:
            graph, self._graph = self._graph, None
        if graph is None:
            return
        parts, work = graph
        parts.dispatch.pool.work_on(partial(_settled, parts, work, late))


def _settled(parts: RunParts, work: Work, late: list[Stop]) -> bool:
    """Settle the node of a call that has ended; whether the thread has to leave at once.

    The result is taken out of ``late``: the thread may live longer than it.
    """
    _, result, error = late.pop()
    try:
        if error is not None:
            parts.slow_lane.fail_attempt(work, error)
            return False
        work.handed, result = result, None
        return parts.slow_lane.go_on(work)
    finally:
        del error
